/* SPDX-License-Identifier: GPL-2.0-only */
#include "decap.h"

#include "instance.h"

#include "decap.skel.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <ifaddrs.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int tg_decap_add(struct tg_decap_list *list, const struct tg_addr *addr)
{
	if (list->count == sizeof(list->addr) / sizeof(*list->addr))
		return -ENOSPC;
	list->addr[list->count++] = *addr;
	return 0;
}

/* ---- addresses of this host ---- */

static bool is_loopback(const struct tg_addr *addr)
{
	if (addr->family == AF_INET)
		return ntohl(addr->word[0]) >> 24 == 127;
	return IN6_IS_ADDR_LOOPBACK((const struct in6_addr *)addr->word);
}

static struct tg_addr addr_of(const struct sockaddr *sa)
{
	return sa->sa_family == AF_INET
		       ? tg_addr_from_bytes(AF_INET, &((const struct sockaddr_in *)sa)->sin_addr)
		       : tg_addr_from_bytes(
				 AF_INET6, &((const struct sockaddr_in6 *)sa)->sin6_addr);
}

/* Calls fn for each address of `device` (NULL: of all), until it says otherwise than 0. */
static int each_address(
	const char *device, int (*fn)(void *user, const struct tg_addr *), void *user)
{
	struct ifaddrs *all = NULL;
	int result = 0;

	if (getifaddrs(&all))
		return -errno;
	for (struct ifaddrs *at = all; !result && at; at = at->ifa_next) {
		int family = at->ifa_addr ? at->ifa_addr->sa_family : AF_UNSPEC;

		if ((device && strcmp(at->ifa_name, device)) ||
			(family != AF_INET && family != AF_INET6))
			continue;
		struct tg_addr addr = addr_of(at->ifa_addr);

		result = fn(user, &addr);
	}
	freeifaddrs(all);
	return result;
}

static int add_address(void *user, const struct tg_addr *addr)
{
	return is_loopback(addr) ? 0 : tg_decap_add(user, addr);
}

static int fill_lists(struct tg_decap *decap, const char *device, struct tg_error *error)
{
	if (!decap->to.count)
		each_address(device, add_address, &decap->to);
	if (!decap->to.count)
		return tg_fail(error, -EADDRNOTAVAIL,
			"%s has no address that a tunnel could lead to: give it one, or name it: "
			"--to ADDR",
			device);
	if (!decap->vips.count)
		each_address("lo", add_address, &decap->vips);
	if (!decap->vips.count)
		return tg_fail(error, -EADDRNOTAVAIL,
			"no VIP: lo has only the loopback addresses. `ip addr add VIP/32 dev lo`, "
			"or "
			"name it: --vip ADDR");
	return 0;
}

/* ---- pins ---- */

struct place {
	unsigned int ifindex;
	char dir[160], link[192], counters[192], map[192];
};

static int find_place(struct place *place, const char *device, struct tg_error *error)
{
	char name[IF_NAMESIZE];
	struct stat st;
	int result = tg_instance_need_bpffs(error);

	if (result)
		return result;
	if (strlen(device) >= IF_NAMESIZE || strchr(device, '/') || !*device)
		return tg_fail(error, -ENODEV, "\"%s\" is no name of a device", device);
	if (stat("/proc/thread-self/ns/net", &st))
		return tg_fail(error, -errno, "/proc is not mounted: %s", strerror(errno));
	strcpy(name, device);
	for (char *at = name; *at; at++)
		*at = *at == '.' ? ':' : *at; /* bpffs reserves names with dots */
	place->ifindex = if_nametoindex(device);
	snprintf(place->dir, sizeof(place->dir), TG_DECAP_DIR "/%s-%llu", name,
		(unsigned long long)st.st_ino);
	snprintf(place->link, sizeof(place->link), "%s/link", place->dir);
	snprintf(place->counters, sizeof(place->counters), "%s/counters", place->dir);
	snprintf(place->map, sizeof(place->map), "%s/addresses", place->dir);
	return 0;
}

static int make_dir(const char *dir, struct tg_error *error)
{
	if (!mkdir(dir, 0700) || errno == EEXIST)
		return 0;
	return tg_fail(error, -errno, "can't make %s: %s", dir, strerror(errno));
}

/* In the place of what may be pinned there. */
static int pin(int fd, const char *path, struct tg_error *error)
{
	unlink(path);
	return bpf_obj_pin(fd, path)
		       ? tg_fail(error, -errno, "can't pin %s: %s", path, strerror(errno))
		       : 0;
}

static void remove_pins(const struct place *place)
{
	unlink(place->link);
	unlink(place->counters);
	unlink(place->map);
	rmdir(place->dir);
	rmdir(TG_DECAP_DIR); /* unless there are others */
}

/* The link that is pinned, if it still is one on the device; else -1. */
static int open_link(const struct place *place)
{
	struct bpf_link_info info = { 0 };
	__u32 size = sizeof(info);
	int link = bpf_obj_get(place->link);

	if (link < 0)
		return -1;
	if (!bpf_obj_get_info_by_fd(link, &info, &size) && info.xdp.ifindex == place->ifindex)
		return link;
	close(link);
	return -1;
}

/* ---- attaching ---- */

static int quiet(enum libbpf_print_level level, const char *format, va_list args)
{
	return 0;
}

static int put_addresses(int map, const struct tg_decap_list *list, bool inner)
{
	__u32 there = 1;

	for (size_t i = 0; i < list->count; i++) {
		struct tg_decap_address key = { .v6 = list->addr[i].family == AF_INET6,
			.inner = inner };

		memcpy(key.addr, list->addr[i].word, sizeof(key.addr));
		if (bpf_map_update_elem(map, &key, &there, BPF_ANY))
			return -errno;
	}
	return 0;
}

static struct decap_bpf *load(
	const struct place *place, const struct tg_decap *decap, struct tg_error *error)
{
	int counters = bpf_obj_get(place->counters), result;
	struct decap_bpf *skeleton;

	libbpf_set_print(quiet);
	skeleton = decap_bpf__open();
	if (skeleton && decap->gue_port)
		skeleton->rodata->gue_port = htons(decap->gue_port);
	if (skeleton && counters >= 0)
		bpf_map__reuse_fd(skeleton->maps.decap_counters, counters);
	result = skeleton ? decap_bpf__load(skeleton) : -errno;
	if (!result)
		result = put_addresses(bpf_map__fd(skeleton->maps.addresses), &decap->to, false);
	if (!result)
		result = put_addresses(bpf_map__fd(skeleton->maps.addresses), &decap->vips, true);
	if (counters >= 0)
		close(counters);
	if (!result)
		return skeleton;
	tg_fail(error, result, "the program can't be loaded: %s%s", strerror(-result),
		result == -EPERM ? " (it takes root, or CAP_BPF and CAP_NET_ADMIN)" : "");
	decap_bpf__destroy(skeleton);
	errno = -result;
	return NULL;
}

static int create_link(int program, unsigned int ifindex, __u32 flags)
{
	LIBBPF_OPTS(bpf_link_create_opts, options, .flags = flags);
	int link = bpf_link_create(program, ifindex, BPF_XDP, &options);

	return link < 0 ? -errno : link;
}

/* Native where the driver can, unless asked otherwise. */
static int attach(struct tg_decap *decap, int program, const char *device, unsigned int ifindex,
	struct tg_error *error)
{
	int link = -EOPNOTSUPP;

	if (strcmp(decap->xdp, "generic"))
		link = create_link(program, ifindex, XDP_FLAGS_DRV_MODE);
	if (link < 0 && link != -EBUSY && link != -EEXIST && strcmp(decap->xdp, "native")) {
		link = create_link(program, ifindex, XDP_FLAGS_SKB_MODE);
		decap->generic = link >= 0;
	}
	if (link == -EBUSY || link == -EEXIST)
		tg_fail(error, link,
			"%s: another XDP program is attached; detach it first (`ip link set "
			"%s xdp off`)",
			device, device);
	else if (link < 0)
		tg_fail(error, link, "%s: XDP can't be attached: %s", device, strerror(-link));
	return link;
}

static int pin_all(const struct place *place, const struct decap_bpf *skeleton, int link,
	bool fresh, struct tg_error *error)
{
	int result = pin(bpf_map__fd(skeleton->maps.addresses), place->map, error);

	if (!result)
		result = pin(bpf_map__fd(skeleton->maps.decap_counters), place->counters, error);
	if (!result && fresh)
		result = pin(link, place->link, error);
	return result;
}

int tg_decap_attach(struct tg_decap *decap, const char *device, struct tg_error *error)
{
	struct decap_bpf *skeleton;
	struct place place;
	int link, program, result = find_place(&place, device, error);
	bool fresh;

	if (result)
		return result;
	if (!place.ifindex)
		return tg_fail(
			error, -ENODEV, "%s: no such device in this network namespace", device);
	result = fill_lists(decap, device, error);
	if (result)
		return result;
	skeleton = load(&place, decap, error);
	if (!skeleton)
		return -errno;
	program = bpf_program__fd(skeleton->progs.tidegate_decap);
	link = open_link(&place);
	fresh = link < 0;
	if (fresh)
		link = attach(decap, program, device, place.ifindex, error);
	else if (bpf_link_update(link, program, NULL))
		result = tg_fail(error, -errno, "%s: the program can't be replaced: %s", device,
			strerror(errno));
	result = link < 0 ? link : result;
	if (!result)
		result = make_dir(TG_DECAP_DIR, error);
	if (!result)
		result = make_dir(place.dir, error);
	if (!result)
		result = pin_all(&place, skeleton, link, fresh, error);
	if (result && fresh)
		remove_pins(&place);
	if (link >= 0)
		close(link); /* not pinned: that detaches */
	decap_bpf__destroy(skeleton);
	return result;
}

int tg_decap_detach(const char *device, struct tg_error *error)
{
	struct place place;
	int link, result = find_place(&place, device, error);

	if (result)
		return result;
	link = bpf_obj_get(place.link);
	if (link < 0 && errno == ENOENT)
		return tg_fail(
			error, -ENOENT, "%s: nothing is attached by `tidegate decap`", device);
	if (link < 0)
		return tg_fail(error, -errno, "can't open %s: %s", place.link, strerror(errno));
	bpf_link_detach(link); /* fails if the device is gone: so is the attachment */
	close(link);
	remove_pins(&place);
	return 0;
}

int tg_decap_read(const char *device, struct tg_counter counters[TG_DECAP_COUNTER_COUNT],
	struct tg_error *error)
{
	int cpus = libbpf_num_possible_cpus(), map, link;
	struct tg_counter *values;
	struct place place;
	int result = find_place(&place, device, error);

	if (result)
		return result;
	link = open_link(&place);
	map = bpf_obj_get(place.counters);
	values = calloc(cpus, sizeof(*values));
	if (link < 0 || map < 0)
		result = tg_fail(
			error, -ENOENT, "%s: nothing is attached by `tidegate decap`", device);
	memset(counters, 0, TG_DECAP_COUNTER_COUNT * sizeof(*counters));
	for (__u32 i = 0; !result && values && i < TG_DECAP_COUNTER_COUNT; i++) {
		if (bpf_map_lookup_elem(map, &i, values))
			continue;
		for (int cpu = 0; cpu < cpus; cpu++) {
			counters[i].packets += values[cpu].packets;
			counters[i].bytes += values[cpu].bytes;
		}
	}
	free(values);
	if (link >= 0)
		close(link);
	if (map >= 0)
		close(map);
	return result;
}

/* ---- advice ---- */

static int is_that(void *user, const struct tg_addr *addr)
{
	return tg_addr_equal(user, addr) ? 1 : 0;
}

static int read_setting(const char *of)
{
	char path[96];
	int value = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/sys/net/ipv4/conf/%s/rp_filter", of);
	file = fopen(path, "re");
	if (file && fscanf(file, "%d", &value) != 1)
		value = 0;
	if (file)
		fclose(file);
	return value;
}

void tg_decap_advise(const struct tg_decap *decap, const char *device,
	void (*tell)(void *user, const char *text), void *user)
{
	int all = read_setting("all"), own = read_setting(device);
	char text[256], addr[TG_ADDR_TEXT];

	for (size_t i = 0; i < decap->vips.count; i++) {
		struct tg_addr vip = decap->vips.addr[i];

		if (each_address(NULL, is_that, &vip))
			continue;
		tg_addr_print(&vip, addr);
		snprintf(text, sizeof(text),
			"%s is no address of this host: `ip addr add %s/%d dev lo`", addr, addr,
			vip.family == AF_INET ? 32 : 128);
		tell(user, text);
	}
	if ((all > own ? all : own) != 1)
		return;
	snprintf(text, sizeof(text),
		"rp_filter of %s is strict: clients that are not reached by %s are dropped "
		"(`sysctl -w net.ipv4.conf.%s.rp_filter=2`)",
		device, device, device);
	tell(user, text);
}
