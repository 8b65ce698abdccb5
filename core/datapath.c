/* SPDX-License-Identifier: GPL-2.0-only */
#include "datapath.h"

#include "datapath_load.h"
#include "datapath_pins.h"
#include "datapath_ports.h"
#include "datapath_tc.h"
#include "log.h"
#include "netns.h"
#include "rule_counters.h"
#include "vxlan.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static int read_instance(int fd, struct tg_instance_record *info)
{
	struct bpf_map_info map_info = { 0 };
	__u32 size = sizeof(map_info), zero = 0;

	if (bpf_obj_get_info_by_fd(fd, &map_info, &size))
		return -errno;
	if (map_info.value_size != sizeof(*info))
		return -EPROTO; /* another version's */
	return bpf_map_lookup_elem(fd, &zero, info) ? -errno : 0;
}

/* Tells what is pinned: 0 ours, -ENOENT nothing, -EPROTO another ABI's, -EEXIST not ours. */
static int inspect_pins(const char *dir, const char *instance, struct tg_instance_record *info)
{
	char path[192];
	int fd, result;

	if (access(dir, F_OK))
		return errno == ENOENT ? -ENOENT : -errno;
	snprintf(path, sizeof(path), "%s/maps/instance", dir);
	fd = bpf_obj_get(path);
	if (fd < 0)
		return errno == ENOENT ? (tg_pins_empty(dir) ? -ENOENT : -EEXIST) : -errno;
	result = read_instance(fd, info);
	close(fd);
	if (result)
		return result;
	if (info->abi == 0)
		return -ENOENT; /* a daemon died between making the maps and owning them */
	if (info->abi != TG_ABI_VERSION)
		return -EPROTO;
	return strncmp(info->name, instance, sizeof(info->name)) ? -EEXIST : 0;
}

static int not_ours(const char *dir, struct tg_error *error)
{
	return tg_fail(error, -EEXIST,
		"%s holds pins that are not this instance's: remove them or name another "
		"--instance",
		dir);
}

static int draw_seed(__u64 seed[2])
{
	return getrandom(seed, 2 * sizeof(*seed), 0) == 2 * sizeof(*seed) ? 0 : -EIO;
}

/* The seed is a constant of the program, which its tag doesn't cover: the pinned one is not ours then. */
static int set_seed(struct tg_datapath *dp, const __u64 seed[2])
{
	if (!memcmp(dp->info.seed, seed, sizeof(dp->info.seed)))
		return 0;
	memcpy(dp->info.seed, seed, sizeof(dp->info.seed));
	memset(dp->info.program_tag, 0, sizeof(dp->info.program_tag));
	memset(dp->info.tc_tag, 0, sizeof(dp->info.tc_tag));
	return 0;
}

/* How many lines the pinned table has; 0: there is none. It keeps its size, and the flows in it. */
static size_t pinned_lines(const struct tg_datapath *dp)
{
	struct bpf_map_info info = { 0 };
	__u32 size = sizeof(info);
	char path[192];
	int fd;

	snprintf(path, sizeof(path), "%s/maps/lines", dp->dir);
	fd = bpf_obj_get(path);
	if (fd < 0)
		return 0;
	if (bpf_obj_get_info_by_fd(fd, &info, &size))
		info.max_entries = 0;
	close(fd);
	return info.max_entries;
}

void tg_datapath_size(struct tg_datapath *dp, size_t flows)
{
	if (!dp->lines_pinned)
		dp->line_count =
			flows ? (flows + TG_LINE_ENTRIES - 1) / TG_LINE_ENTRIES : TG_DEFAULT_LINES;
}

static int open_map(const struct tg_datapath *dp, const char *name)
{
	char path[192];

	snprintf(path, sizeof(path), "%s/maps/%s", dp->dir, name);
	return bpf_obj_get(path);
}

static void close_map(int map)
{
	if (map >= 0)
		close(map);
}

/* What an earlier daemon knew of ports, policies and their counters. */
static void adopt_policies(struct tg_datapath *dp)
{
	int names = open_map(dp, "port_names"), ports = open_map(dp, "ports");
	struct tg_rule_key *keys;

	dp->policy_pages = open_map(dp, "policy_pages");
	if (names >= 0)
		tg_port_slots_adopt(dp->slots, names, ports);
	close_map(names);
	close_map(ports);
	dp->maps[TG_MAP_RULE_KEYS] = open_map(dp, "rule_keys");
	if (dp->maps[TG_MAP_RULE_KEYS] < 0)
		return;
	keys = tg_datapath_read(dp, TG_MAP_RULE_KEYS, sizeof(*keys), TG_MAX_RULE_COUNTERS);
	if (keys)
		tg_rule_counters_adopt(dp->counters, keys);
	free(keys);
}

static int make_registries(struct tg_datapath *dp, struct tg_error *error)
{
	dp->slots = tg_port_slots_new();
	dp->counters = tg_rule_counters_new();
	if (!dp->slots || !dp->counters)
		return tg_fail(error, -ENOMEM, "no memory for the datapath");
	if (dp->adopted)
		adopt_policies(dp);
	return 0;
}

static void forget_registries(struct tg_datapath *dp)
{
	tg_port_slots_free(dp->slots);
	tg_rule_counters_free(dp->counters);
	dp->slots = NULL;
	dp->counters = NULL;
}

int tg_datapath_open(struct tg_datapath *dp, const char *instance, const __u64 seed[2],
	bool *replaced, struct tg_error *error)
{
	struct tg_instance_record info;
	int result;

	memset(dp, 0, sizeof(*dp));
	memset(dp->maps, 0xff, sizeof(dp->maps));
	dp->program = dp->policy_pages = dp->tc[TG_INGRESS] = dp->tc[TG_EGRESS] = -1;
	*replaced = false;
	tg_load_listen();
	snprintf(dp->dir, sizeof(dp->dir), TG_PIN_DIR "/%s", instance);
	result = tg_instance_need_bpffs(error);
	if (result)
		return result;
	result = inspect_pins(dp->dir, instance, &info);
	if (result == -EEXIST)
		return not_ours(dp->dir, error);
	if (result == -EPROTO) {
		*replaced = true;
		tg_pins_remove(dp->dir, 0);
	} else if (result && result != -ENOENT) {
		return tg_fail(
			error, result, "can't read the pins in %s: %s", dp->dir, strerror(-result));
	}
	dp->adopted = result == 0;
	dp->line_count = dp->adopted ? pinned_lines(dp) : 0;
	dp->lines_pinned = dp->line_count != 0;
	tg_datapath_size(dp, 0);
	dp->info = (struct tg_instance_record){ .abi = TG_ABI_VERSION };
	if (dp->adopted)
		dp->info = info;
	snprintf(dp->info.name, sizeof(dp->info.name), "%s", instance);
	dp->info.netns = tg_netns_current();
	result = make_registries(dp, error);
	if (!result && (seed[0] || seed[1]))
		result = set_seed(dp, seed);
	else if (!result && !dp->adopted)
		result = draw_seed(dp->info.seed);
	if (result)
		tg_datapath_close(dp);
	return result;
}

int tg_datapath_set(
	const struct tg_datapath *dp, enum tg_map map, const void *key, const void *value)
{
	static _Thread_local time_t logged;
	time_t now = time(NULL);
	int result;

	if (!bpf_map_update_elem(dp->maps[map], key, value, BPF_ANY))
		return 0;
	result = -errno;
	if (logged != now)
		tg_log(TG_LOG_ERROR, "map %s can't be written: %s", tg_load_map_name(map),
			strerror(-result));
	logged = now;
	return result;
}

void *tg_datapath_read(
	const struct tg_datapath *dp, enum tg_map map, size_t value_size, __u32 count)
{
	__u32 *keys = calloc(count, sizeof(*keys)), position = 0, got = count;
	void *values = calloc(count, value_size);
	bool failed = !keys || !values;

	if (!failed &&
		bpf_map_lookup_batch(dp->maps[map], NULL, &position, keys, values, &got, NULL))
		failed = errno != ENOENT; /* which says that these were the last */
	free(keys);
	if (!failed && got == count)
		return values;
	free(values);
	return NULL;
}

struct tg_counter tg_datapath_counter(const struct tg_datapath *dp, enum tg_map map, __u32 index)
{
	struct tg_counter sum = { 0 },
			  *values = calloc(libbpf_num_possible_cpus(), sizeof(*values));

	if (!values || dp->maps[map] < 0 || bpf_map_lookup_elem(dp->maps[map], &index, values))
		goto out;
	for (int i = 0; i < libbpf_num_possible_cpus(); i++) {
		sum.packets += values[i].packets;
		sum.bytes += values[i].bytes;
	}
out:
	free(values);
	return sum;
}

/* Sums an element of a per-CPU array of __u64. */
static __u64 sum_of(const struct tg_datapath *dp, enum tg_map map, __u32 index)
{
	__u64 sum = 0, *values = calloc(libbpf_num_possible_cpus(), sizeof(*values));

	if (values && dp->maps[map] >= 0 && !bpf_map_lookup_elem(dp->maps[map], &index, values))
		for (int i = 0; i < libbpf_num_possible_cpus(); i++)
			sum += values[i];
	free(values);
	return sum;
}

__u64 tg_datapath_reason(const struct tg_datapath *dp, enum tg_reason reason)
{
	return sum_of(dp, TG_MAP_REASONS, reason);
}

__u64 tg_datapath_flows(const struct tg_datapath *dp, enum tg_flow_count what)
{
	return sum_of(dp, TG_MAP_FLOW_COUNTERS, what);
}

void tg_datapath_reset_counter(const struct tg_datapath *dp, enum tg_map map, __u32 index)
{
	struct tg_counter *zeros = calloc(libbpf_num_possible_cpus(), sizeof(*zeros));

	if (zeros && dp->maps[map] >= 0)
		bpf_map_update_elem(dp->maps[map], &index, zeros, BPF_ANY);
	free(zeros);
}

void tg_datapath_remove_map(struct tg_datapath *dp, enum tg_map map)
{
	char path[192];

	if (dp->maps[map] < 0)
		return;
	snprintf(path, sizeof(path), "%s/maps/%s", dp->dir, tg_load_map_name(map));
	unlink(path);
	close(dp->maps[map]);
	dp->maps[map] = -1;
}

void tg_datapath_close(struct tg_datapath *dp)
{
	tg_load_unmap(dp);
	for (int i = 0; i < TG_MAP_COUNT; i++)
		if (dp->maps[i] >= 0)
			close(dp->maps[i]);
	close_map(dp->program);
	close_map(dp->policy_pages);
	for (int i = 0; i < TG_DIRECTIONS; i++)
		close_map(dp->tc[i]);
	memset(dp->maps, 0xff, sizeof(dp->maps));
	dp->program = dp->policy_pages = dp->tc[TG_INGRESS] = dp->tc[TG_EGRESS] = -1;
	forget_registries(dp);
}

static void remove_vxlan(void *owner)
{
	tg_vxlan_remove_all(owner);
}

int tg_datapath_unload(const char *instance, struct tg_error *error)
{
	struct tg_instance_record info;
	char dir[128], owner[TG_VXLAN_OWNER];
	int result;

	snprintf(dir, sizeof(dir), TG_PIN_DIR "/%s", instance);
	result = inspect_pins(dir, instance, &info);
	if (result == -EEXIST)
		return not_ours(dir, error);
	if (result == -ENOENT && access(dir, F_OK))
		return tg_fail(error, -ENOENT, "nothing is loaded for instance %s", instance);
	if (result && result != -EPROTO && result != -ENOENT)
		return tg_fail(
			error, result, "can't read the pins in %s: %s", dir, strerror(-result));
	tg_vxlan_owner(instance, owner);
	tg_netns_call(result ? 0 : info.netns, remove_vxlan, owner);
	result = tg_pins_remove(dir, result ? 0 : info.netns);
	return result ? tg_fail(error, result, "can't remove %s: %s", dir, strerror(-result)) : 0;
}
