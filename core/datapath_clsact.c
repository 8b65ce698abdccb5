/* SPDX-License-Identifier: GPL-2.0-only */
#include "datapath_clsact.h"

#include <bpf/libbpf.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/pkt_cls.h>
#include <linux/rtnetlink.h>
#include <string.h>

#define HANDLE 1 /* of our filters: one a priority */

static const enum bpf_tc_attach_point points[TG_DIRECTIONS] = { BPF_TC_INGRESS, BPF_TC_EGRESS };

/* --- our filters ------------------------------------------------------------------------------------------- */

static struct bpf_tc_hook hook_of(unsigned int ifindex, enum tg_direction direction)
{
	return (struct bpf_tc_hook){ .sz = sizeof(struct bpf_tc_hook),
		.ifindex = ifindex,
		.attach_point = points[direction] };
}

static struct bpf_tc_opts options_of(__u32 priority)
{
	return (struct bpf_tc_opts){
		.sz = sizeof(struct bpf_tc_opts), .handle = HANDLE, .priority = priority
	};
}

/* The program at a priority; 0: none. */
static __u32 program_at(unsigned int ifindex, enum tg_direction direction, __u32 priority)
{
	struct bpf_tc_hook hook = hook_of(ifindex, direction);
	struct bpf_tc_opts options = options_of(priority);

	return bpf_tc_query(&hook, &options) ? 0 : options.prog_id;
}

static bool is_ours(const struct tg_clsact_ours *ours, enum tg_direction direction, __u32 program)
{
	for (int i = 0; program && i < TG_CLSACT_OURS; i++)
		if (ours->ids[direction][i] == program)
			return true;
	return false;
}

/* The priority of our filter, or 0; *place: the first that nobody has, or 0. */
static __u32 find(unsigned int ifindex, enum tg_direction direction,
	const struct tg_clsact_ours *ours, __u32 *place)
{
	*place = 0;
	for (__u32 i = 0; i < TG_CLSACT_PLACES; i++) {
		__u32 priority = TG_CLSACT_PRIORITY + i,
		      program = program_at(ifindex, direction, priority);

		if (is_ours(ours, direction, program))
			return priority;
		if (!program && !*place)
			*place = priority;
	}
	return 0;
}

bool tg_clsact_has(
	unsigned int ifindex, enum tg_direction direction, const struct tg_clsact_ours *ours)
{
	__u32 place;

	return find(ifindex, direction, ours, &place);
}

static int set_filter(unsigned int ifindex, enum tg_direction direction, int program,
	const struct tg_clsact_ours *ours)
{
	struct bpf_tc_hook hook = hook_of(ifindex, direction);
	__u32 place, priority = find(ifindex, direction, ours, &place);
	struct bpf_tc_opts options = options_of(priority ? priority : place);

	if (!options.priority)
		return -EBUSY;
	options.prog_fd = program;
	options.flags = priority ? BPF_TC_F_REPLACE : 0;
	return bpf_tc_attach(&hook, &options);
}

static int remove_filter(
	unsigned int ifindex, enum tg_direction direction, const struct tg_clsact_ours *ours)
{
	struct bpf_tc_hook hook = hook_of(ifindex, direction);
	__u32 place, priority = find(ifindex, direction, ours, &place);
	struct bpf_tc_opts options = options_of(priority);

	return priority ? bpf_tc_detach(&hook, &options) : 0;
}

/* --- the qdisc --------------------------------------------------------------------------------------------- */

static struct bpf_tc_hook qdisc_of(unsigned int ifindex)
{
	return (struct bpf_tc_hook){ .sz = sizeof(struct bpf_tc_hook),
		.ifindex = ifindex,
		.attach_point = BPF_TC_INGRESS | BPF_TC_EGRESS };
}

static int on_filter(const struct nlmsghdr *message, void *found)
{
	if (message->nlmsg_type == RTM_NEWTFILTER)
		*(bool *)found = true;
	return MNL_CB_OK;
}

static int ask_filters(struct mnl_socket *socket, unsigned int ifindex, __u32 parent, bool *found)
{
	char buffer[8192];
	struct nlmsghdr *message = mnl_nlmsg_put_header(buffer);
	struct tcmsg *tc;
	ssize_t size;
	int more;

	message->nlmsg_type = RTM_GETTFILTER;
	message->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	message->nlmsg_seq = parent;
	tc = mnl_nlmsg_put_extra_header(message, sizeof(*tc));
	tc->tcm_ifindex = ifindex;
	tc->tcm_parent = TC_H_MAKE(TC_H_CLSACT, parent);
	if (mnl_socket_sendto(socket, message, message->nlmsg_len) < 0)
		return -errno;
	do {
		size = mnl_socket_recvfrom(socket, buffer, sizeof(buffer));
		more = size < 0 ? MNL_CB_ERROR
				: mnl_cb_run(buffer, size, parent, 0, on_filter, found);
	} while (more == MNL_CB_OK);
	return more == MNL_CB_STOP ? 0 : -errno;
}

/* Who can't be asked has some. */
static bool has_filters(unsigned int ifindex)
{
	struct mnl_socket *socket = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
	bool found = false;
	int result = -1;

	if (!socket)
		return true;
	if (mnl_socket_bind(socket, 0, MNL_SOCKET_AUTOPID) == 0)
		result = ask_filters(socket, ifindex, TC_H_MIN_INGRESS, &found);
	if (!result)
		result = ask_filters(socket, ifindex, TC_H_MIN_EGRESS, &found);
	mnl_socket_close(socket);
	return result || found;
}

static int remove_qdisc(unsigned int ifindex)
{
	struct bpf_tc_hook qdisc = qdisc_of(ifindex);

	return has_filters(ifindex) ? 0 : bpf_tc_hook_destroy(&qdisc);
}

/* --- together ------------------------------------------------------------------------------------------------ */

static int refuse(int code, const char *device, struct tg_error *error)
{
	if (code == -EBUSY)
		return tg_fail(error, code,
			"port %s: others' filters have the TC priorities from %d to %d", device,
			TG_CLSACT_PRIORITY, TG_CLSACT_PRIORITY + TG_CLSACT_PLACES - 1);
	return tg_fail(error, code, "port %s: TC can't be attached by clsact: %s", device,
		strerror(-code));
}

int tg_clsact_attach(unsigned int ifindex, const char *device, const int programs[TG_DIRECTIONS],
	const struct tg_clsact_ours *ours, bool *made, struct tg_error *error)
{
	struct bpf_tc_hook qdisc = qdisc_of(ifindex);
	int result = bpf_tc_hook_create(&qdisc);
	bool had = tg_clsact_has(ifindex, TG_INGRESS, ours);

	*made = !result;
	if (result == -EEXIST)
		result = 0;
	if (!result)
		result = set_filter(ifindex, TG_INGRESS, programs[TG_INGRESS], ours);
	if (!result) {
		result = set_filter(ifindex, TG_EGRESS, programs[TG_EGRESS], ours);
		if (result && !had)
			remove_filter(ifindex, TG_INGRESS, ours);
	}
	if (result && *made)
		remove_qdisc(ifindex);
	return result ? refuse(result, device, error) : 0;
}

int tg_clsact_detach(unsigned int ifindex, const struct tg_clsact_ours *ours, bool qdisc)
{
	int result = 0;

	for (int i = 0; i < TG_DIRECTIONS; i++) {
		int code = remove_filter(ifindex, i, ours);

		result = result ? result : code;
	}
	return !result && qdisc ? remove_qdisc(ifindex) : result;
}
