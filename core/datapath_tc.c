/* SPDX-License-Identifier: GPL-2.0-only */
#include "datapath_tc.h"

#include "datapath_clsact.h"
#include "datapath_links.h"
#include "datapath_ports.h"
#include "netns.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Of kernel 6.6, newer than the headers here. */
#define TCX_INGRESS 46
#define TCX_EGRESS  47

static const struct {
	const char *kind; /* of links */
	const char *pin;  /* of the program */
	int attach_type;
} sides[TG_DIRECTIONS] = {
	[TG_INGRESS] = { "ingress", "tc_ingress", TCX_INGRESS },
	[TG_EGRESS] = { "egress", "tc_egress", TCX_EGRESS },
};

static __u32 id_of(int program)
{
	struct bpf_prog_info info = { 0 };
	__u32 size = sizeof(info);

	return program < 0 || bpf_obj_get_info_by_fd(program, &info, &size) ? 0 : info.id;
}

static __u32 id_of_pin(const char *dir, const char *name, const char *suffix)
{
	char path[192];
	int program;
	__u32 id;

	snprintf(path, sizeof(path), "%s/%s%s", dir, name, suffix);
	program = bpf_obj_get(path);
	id = id_of(program);
	if (program >= 0)
		close(program);
	return id;
}

/* Also those that were about to be in force when a daemon died. */
static struct tg_clsact_ours ours_in(const char *dir)
{
	struct tg_clsact_ours ours;

	for (int i = 0; i < TG_DIRECTIONS; i++) {
		ours.ids[i][0] = id_of_pin(dir, sides[i].pin, "");
		ours.ids[i][1] = id_of_pin(dir, sides[i].pin, "-new");
	}
	return ours;
}

/* --- TCX --------------------------------------------------------------------------------------------------- */

/* Is the pinned link on this device? If so, it runs our program. */
static bool adopt_link(const struct tg_datapath *dp, enum tg_direction direction,
	const char *device, unsigned int ifindex)
{
	int link = tg_link_open(dp, sides[direction].kind, device);
	struct bpf_link_info info = { 0 };
	__u32 size = sizeof(info);
	bool there;

	if (link < 0)
		return false;
	there = tg_link_ifindex(link) == ifindex;
	if (there && !bpf_obj_get_info_by_fd(link, &info, &size) &&
		info.prog_id != id_of(dp->tc[direction]))
		there = !bpf_link_update(link, dp->tc[direction], NULL);
	close(link);
	return there;
}

static int add_link(const struct tg_datapath *dp, enum tg_direction direction, const char *device,
	unsigned int ifindex, struct tg_error *error)
{
	int link;

	if (adopt_link(dp, direction, device, ifindex))
		return 0;
	tg_link_remove(dp, sides[direction].kind, device, NULL); /* of a device that went */
	link = bpf_link_create(dp->tc[direction], ifindex, sides[direction].attach_type, NULL);
	if (link < 0)
		return tg_fail(error, -errno, "port %s: TC can't be attached by TCX: %s", device,
			strerror(errno));
	return tg_link_keep(dp, sides[direction].kind, device, link, error);
}

static int remove_links(const struct tg_datapath *dp, const char *device, struct tg_error *error)
{
	int result = 0;

	for (int i = 0; !result && i < TG_DIRECTIONS; i++)
		result = tg_link_remove(dp, sides[i].kind, device, error);
	return result;
}

static int add_links(const struct tg_datapath *dp, const char *device, unsigned int ifindex,
	struct tg_error *error)
{
	int result = 0;

	for (int i = 0; !result && i < TG_DIRECTIONS; i++)
		result = add_link(dp, i, device, ifindex, error);
	if (result)
		remove_links(dp, device, NULL);
	return result;
}

/* --- attaching ----------------------------------------------------------------------------------------------- */

/* How both programs are on the device; AUTO: they are not. */
static enum tg_tc_how adopted_how(const struct tg_datapath *dp, const char *device,
	unsigned int ifindex, const struct tg_port *was)
{
	struct tg_clsact_ours ours;

	if (!(was->flags & TG_PORT_TC))
		return TG_TC_AUTO;
	if (!(was->flags & TG_PORT_CLSACT))
		return adopt_link(dp, TG_INGRESS, device, ifindex) &&
				       adopt_link(dp, TG_EGRESS, device, ifindex)
			       ? TG_TC_TCX
			       : TG_TC_AUTO;
	ours = ours_in(dp->dir);
	return tg_clsact_has(ifindex, TG_INGRESS, &ours) && tg_clsact_has(ifindex, TG_EGRESS, &ours)
		       ? TG_TC_CLSACT
		       : TG_TC_AUTO;
}

/* As `flags` say; in `ports` before and, as it came to be, after. */
static int attach_clsact(struct tg_datapath *dp, const char *device, const struct tg_port *was,
	struct tg_tc_attachment *out, struct tg_error *error)
{
	struct tg_clsact_ours ours = ours_in(dp->dir);
	__u32 flags = TG_PORT_TC | TG_PORT_CLSACT | (was->flags & TG_PORT_QDISC);
	bool made;
	int result = tg_port_enter(dp, out->ifindex, device, flags, error);

	if (!result)
		result = tg_clsact_attach(out->ifindex, device, dp->tc, &ours, &made, error);
	if (!result && made)
		result = tg_port_enter(dp, out->ifindex, device, flags | TG_PORT_QDISC, error);
	out->how = TG_TC_CLSACT;
	return result;
}

static int attach_tcx(struct tg_datapath *dp, const char *device, struct tg_tc_attachment *out,
	struct tg_error *error)
{
	int result = tg_port_enter(dp, out->ifindex, device, TG_PORT_TC, error);

	out->how = TG_TC_TCX;
	return result ? result : add_links(dp, device, out->ifindex, error);
}

/* Removes what the device had by the other way. */
static void remove_other(
	struct tg_datapath *dp, const char *device, enum tg_tc_how how, const struct tg_port *was)
{
	struct tg_clsact_ours ours;
	unsigned int ifindex = if_nametoindex(device);

	if (how == TG_TC_CLSACT)
		remove_links(dp, device, NULL);
	if (how == TG_TC_CLSACT || !(was->flags & TG_PORT_CLSACT))
		return;
	ours = ours_in(dp->dir);
	tg_clsact_detach(ifindex, &ours, was->flags & TG_PORT_QDISC);
}

/* EINVAL: before 6.6 the kernel knows no such attachment. */
static int attach_best(struct tg_datapath *dp, const char *device, enum tg_tc_how how,
	const struct tg_port *was, struct tg_tc_attachment *out, struct tg_error *error)
{
	int result = -EINVAL;

	if (how == TG_TC_CLSACT)
		snprintf(out->why, sizeof(out->why), "asked for");
	else
		result = attach_tcx(dp, device, out, error);
	if (how == TG_TC_TCX || result != -EINVAL)
		return result;
	if (how == TG_TC_AUTO)
		snprintf(out->why, sizeof(out->why), "the kernel has no TCX");
	return attach_clsact(dp, device, was, out, error);
}

int tg_tc_attach(struct tg_datapath *dp, const char *device, enum tg_tc_how how,
	struct tg_tc_attachment *out, struct tg_error *error)
{
	struct tg_port was = { 0 };
	int result;

	memset(out, 0, sizeof(*out));
	out->ifindex = if_nametoindex(device);
	if (!out->ifindex)
		return tg_fail(error, -ENODEV, "port %s: no such device in this network namespace",
			device);
	if (dp->tc[TG_INGRESS] < 0)
		return tg_fail(error, -EAGAIN, "port %s: no TC program is in force", device);
	tg_port_entered(dp, out->ifindex, &was);
	out->how = adopted_how(dp, device, out->ifindex, &was);
	out->adopted = out->how != TG_TC_AUTO && (how == TG_TC_AUTO || how == out->how);
	if (out->adopted)
		return tg_port_enter(dp, out->ifindex, device, was.flags, error);
	result = attach_best(dp, device, how, &was, out, error);
	if (!result)
		remove_other(dp, device, out->how, &was);
	else if (was.flags)
		tg_port_enter(dp, out->ifindex, device, was.flags, NULL);
	else
		tg_port_leave(dp, device);
	return result;
}

int tg_tc_detach(struct tg_datapath *dp, const char *device, struct tg_error *error)
{
	unsigned int ifindex = if_nametoindex(device);
	struct tg_port port = { 0 };
	struct tg_clsact_ours ours;
	int result = remove_links(dp, device, error);

	if (result)
		return result;
	if (ifindex && tg_port_entered(dp, ifindex, &port) && port.flags & TG_PORT_CLSACT) {
		ours = ours_in(dp->dir);
		result = tg_clsact_detach(ifindex, &ours, port.flags & TG_PORT_QDISC);
	}
	if (result)
		return tg_fail(error, result, "port %s: the TC filters can't be removed: %s",
			device, strerror(-result));
	tg_port_leave(dp, device);
	return 0;
}

/* --- all that are attached ----------------------------------------------------------------------------------- */

struct each {
	const struct tg_datapath *dp;
	void (*fn)(void *user, const char *device, unsigned int ifindex, enum tg_tc_how how);
	void *user;
};

static void tell_link(void *user, const char *device, unsigned int ifindex, int link)
{
	struct each *each = user;

	each->fn(each->user, device, ifindex, TG_TC_TCX);
}

/* Of the two, the one that stands for both is ingress', which comes first and goes last. */
static void tell_filter(void *user, unsigned int ifindex, const struct tg_port *port)
{
	struct each *each = user;
	char device[TG_PORT_NAME];

	if (port->flags & TG_PORT_CLSACT && tg_port_device(each->dp, port->slot, device))
		each->fn(each->user, device, if_nametoindex(device) == ifindex ? ifindex : 0,
			TG_TC_CLSACT);
}

void tg_tc_each(const struct tg_datapath *dp,
	void (*fn)(void *user, const char *device, unsigned int ifindex, enum tg_tc_how how),
	void *user)
{
	struct each each = { dp, fn, user };

	tg_links_each(dp, sides[TG_INGRESS].kind, tell_link, &each);
	tg_ports_each(dp->maps[TG_MAP_PORTS], tell_filter, &each);
}

struct update {
	struct tg_datapath *dp;
	const int *programs;
	struct tg_clsact_ours ours;
	int result;
	bool go_on;
	struct tg_error *error;
};

static void update_filters(void *user, const char *device, unsigned int ifindex, enum tg_tc_how how)
{
	struct update *update = user;
	bool made;
	int result;

	if (how != TG_TC_CLSACT || !ifindex || (update->result && !update->go_on))
		return;
	result = tg_clsact_attach(
		ifindex, device, update->programs, &update->ours, &made, update->error);
	if (!result && made) /* someone had removed it */
		result = tg_port_enter(update->dp, ifindex, device,
			TG_PORT_TC | TG_PORT_CLSACT | TG_PORT_QDISC, update->error);
	update->result = update->result ? update->result : result;
}

int tg_tc_update(struct tg_datapath *dp, const int programs[TG_DIRECTIONS], struct tg_error *error)
{
	struct update update = { dp, programs, ours_in(dp->dir), 0, !error, error };
	struct each each = { dp, update_filters, &update };
	int result = 0;

	if (programs[TG_INGRESS] < 0 || programs[TG_EGRESS] < 0)
		return 0;
	for (int i = 0; (!result || !error) && i < TG_DIRECTIONS; i++)
		result = tg_links_update(dp, sides[i].kind, programs[i], error);
	if (!result || !error)
		tg_ports_each(dp->maps[TG_MAP_PORTS], tell_filter, &each);
	return result ? result : update.result;
}

/* --- unloading -------------------------------------------------------------------------------------------------- */

struct removal {
	const char *dir;
	struct tg_clsact_ours ours;
	int result;
};

static void remove_filters(void *user, unsigned int ifindex, const struct tg_port *port)
{
	struct removal *removal = user;
	char device[IF_NAMESIZE];
	int result;

	if (!(port->flags & TG_PORT_CLSACT) || !if_indextoname(ifindex, device))
		return;
	result = tg_clsact_detach(ifindex, &removal->ours, port->flags & TG_PORT_QDISC);
	removal->result = removal->result ? removal->result : result;
}

/* In the thread and network namespace of the filters. */
static void remove_here(void *user)
{
	struct removal *removal = user;
	char path[192];
	int ports;

	snprintf(path, sizeof(path), "%s/maps/ports", removal->dir);
	ports = bpf_obj_get(path);
	tg_ports_each(ports, remove_filters, removal);
	if (ports >= 0)
		close(ports);
}

int tg_tc_remove_filters(const char *dir, __u64 netns)
{
	struct removal removal = { dir, ours_in(dir), 0 };
	int result;

	if (!removal.ours.ids[TG_INGRESS][0] && !removal.ours.ids[TG_INGRESS][1])
		return 0;
	result = tg_netns_call(netns, remove_here, &removal);
	return result && result != -ENOENT ? result
					   : removal.result; /* with a namespace its filters went */
}
