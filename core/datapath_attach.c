/* SPDX-License-Identifier: GPL-2.0-only */
/* The datapath's links: attaching to devices, adopting, detaching (see datapath.h). */
#include "datapath.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <dirent.h>
#include <errno.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* bpffs reserves names with dots, which devices may have; they can't have colons. */
static void replace_char(char *text, char from, char to)
{
	for (; *text; text++)
		if (*text == from)
			*text = to;
}

void tg_datapath_link_path(const struct tg_datapath *dp, const char *device, char path[256])
{
	char name[IF_NAMESIZE];

	snprintf(name, sizeof(name), "%s", device);
	replace_char(name, '.', ':');
	snprintf(path, 256, "%s/links/%s", dp->dir, name);
}

/* The device that a link is on; 0 when that is gone. */
static unsigned int ifindex_of(int link)
{
	struct bpf_link_info info = { 0 };
	__u32 size = sizeof(info);

	return bpf_obj_get_info_by_fd(link, &info, &size) ? 0 : info.xdp.ifindex;
}

int tg_datapath_links(const struct tg_datapath *dp,
	void (*fn)(void *user, const char *device, unsigned int ifindex), void *user)
{
	char path[256], device[IF_NAMESIZE];
	struct dirent *entry;
	DIR *dir;
	int link;

	snprintf(path, sizeof(path), "%s/links", dp->dir);
	dir = opendir(path);
	if (!dir)
		return errno == ENOENT ? 0 : -errno;
	while ((entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(device, sizeof(device), "%.15s", entry->d_name);
		replace_char(device, ':', '.');
		tg_datapath_link_path(dp, device, path);
		link = bpf_obj_get(path);
		if (link < 0)
			continue;
		fn(user, device, ifindex_of(link));
		close(link);
	}
	closedir(dir);
	return 0;
}

/* How the device carries an XDP program now: one that we attached is native or generic. */
static enum tg_xdp_mode mode_of(unsigned int ifindex)
{
	LIBBPF_OPTS(bpf_xdp_query_opts, query);

	if (bpf_xdp_query(ifindex, 0, &query))
		return TG_XDP_AUTO;
	return query.attach_mode == XDP_ATTACHED_SKB ? TG_XDP_GENERIC : TG_XDP_NATIVE;
}

static int create_link(struct tg_datapath *dp, unsigned int ifindex, enum tg_xdp_mode mode)
{
	LIBBPF_OPTS(bpf_link_create_opts, options,
		.flags = mode == TG_XDP_GENERIC ? XDP_FLAGS_SKB_MODE : XDP_FLAGS_DRV_MODE);
	int link = bpf_link_create(dp->program, ifindex, BPF_XDP, &options);

	return link < 0 ? -errno : link;
}

/* Native, or generic with the reason why not native. */
static int create_best_link(
	struct tg_datapath *dp, enum tg_xdp_mode mode, struct tg_attachment *out)
{
	int link = -1;

	out->mode = TG_XDP_NATIVE;
	if (mode != TG_XDP_GENERIC)
		link = create_link(dp, out->ifindex, TG_XDP_NATIVE);
	if (link >= 0 || link == -EBUSY || link == -EEXIST || mode == TG_XDP_NATIVE)
		return link;
	if (mode == TG_XDP_AUTO)
		snprintf(out->why, sizeof(out->why), "native XDP refused by the driver: %s",
			strerror(-link));
	else
		snprintf(out->why, sizeof(out->why), "asked for");
	out->mode = TG_XDP_GENERIC;
	return create_link(dp, out->ifindex, TG_XDP_GENERIC);
}

/* A link that is pinned already: kept if it is on this device in an acceptable mode, else removed. */
static bool adopt(
	struct tg_datapath *dp, const char *path, enum tg_xdp_mode mode, struct tg_attachment *out)
{
	int link = bpf_obj_get(path);
	bool keep;

	if (link < 0)
		return false;
	out->mode = mode_of(out->ifindex);
	keep = ifindex_of(link) == out->ifindex && (mode == TG_XDP_AUTO || mode == out->mode);
	if (!keep) {
		bpf_link_detach(link);
		unlink(path);
	}
	close(link);
	return keep;
}

static int attach_error(int code, const char *device, struct tg_error *error)
{
	if (code == -EBUSY || code == -EEXIST)
		return tg_fail(error, code,
			"port %s: another XDP program is attached; detach it first (`ip link set "
			"%s xdp off`)",
			device, device);
	return tg_fail(error, code, "port %s: XDP can't be attached: %s", device, strerror(-code));
}

int tg_datapath_attach(struct tg_datapath *dp, const char *device, enum tg_xdp_mode mode,
	struct tg_attachment *out, struct tg_error *error)
{
	char path[256];
	int link;

	memset(out, 0, sizeof(*out));
	out->ifindex = if_nametoindex(device);
	if (!out->ifindex)
		return tg_fail(error, -ENODEV, "port %s: no such device in this network namespace",
			device);
	tg_datapath_link_path(dp, device, path);
	out->adopted = adopt(dp, path, mode, out);
	if (out->adopted)
		return 0;
	link = create_best_link(dp, mode, out);
	if (link < 0)
		return attach_error(link, device, error);
	if (bpf_obj_pin(link, path)) {
		int code = -errno;

		bpf_link_detach(link);
		close(link);
		return tg_fail(
			error, code, "port %s: can't pin %s: %s", device, path, strerror(-code));
	}
	close(link);
	return 0;
}

int tg_datapath_detach(struct tg_datapath *dp, const char *device, struct tg_error *error)
{
	char path[256];
	int link, code = 0;

	tg_datapath_link_path(dp, device, path);
	link = bpf_obj_get(path);
	if (link < 0)
		return errno == ENOENT ? 0
				       : tg_fail(error, -errno, "port %s: can't open %s: %s",
						 device, path, strerror(errno));
	if (bpf_link_detach(link))
		code = tg_fail(error, -errno, "port %s: can't detach: %s", device, strerror(errno));
	close(link);
	if (!code)
		unlink(path);
	return code;
}
