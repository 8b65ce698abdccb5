/* SPDX-License-Identifier: GPL-2.0-only */
/* The datapath's links: attaching to devices, adopting, detaching (see datapath.h). */
#include "datapath.h"

#include "datapath_links.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct links_call {
	void (*fn)(void *user, const char *device, unsigned int ifindex);
	void *user;
};

static void tell_link(void *user, const char *device, unsigned int ifindex, int link)
{
	struct links_call *call = user;

	call->fn(call->user, device, ifindex);
}

int tg_datapath_links(const struct tg_datapath *dp,
	void (*fn)(void *user, const char *device, unsigned int ifindex), void *user)
{
	struct links_call call = { fn, user };

	return tg_links_each(dp, "links", tell_link, &call);
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

/* Lets the TC programs know that generic XDP is at work (bpf/headless.h): before it is. */
static void tell_generic(struct tg_datapath *dp)
{
	__atomic_store_n(&dp->clock->generic, 1, __ATOMIC_RELEASE);
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
	tell_generic(dp);
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
	keep = tg_link_ifindex(link) == out->ifindex && (mode == TG_XDP_AUTO || mode == out->mode);
	if (!keep) {
		bpf_link_detach(link);
		unlink(path);
	}
	if (keep && out->mode == TG_XDP_GENERIC)
		tell_generic(dp);
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
	tg_link_path(dp, "links", device, path);
	out->adopted = adopt(dp, path, mode, out);
	if (out->adopted)
		return 0;
	link = create_best_link(dp, mode, out);
	if (link < 0)
		return attach_error(link, device, error);
	return tg_link_keep(dp, "links", device, link, error);
}

int tg_datapath_detach(struct tg_datapath *dp, const char *device, struct tg_error *error)
{
	return tg_link_remove(dp, "links", device, error);
}
