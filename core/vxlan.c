/* SPDX-License-Identifier: GPL-2.0-only */
#include "vxlan.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/bpf.h>
#include <linux/if_link.h>
#include <linux/pkt_cls.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define NAMES	    1000 /* tgvx0 … */
#define ALIAS_BYTES 256
#define OUTER_TTL   64

/* --- netlink ------------------------------------------------------------------------------------------------ */

struct ask {
	struct mnl_socket *socket;
	char buffer[32768];
};

static int ask_open(struct ask *ask)
{
	ask->socket = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
	if (!ask->socket)
		return -errno;
	if (mnl_socket_bind(ask->socket, 0, MNL_SOCKET_AUTOPID) >= 0)
		return 0;
	mnl_socket_close(ask->socket);
	return -errno;
}

/* Sends the message in the buffer and reads what comes back. 0, what the kernel says, or what fn stops with. */
static int transact(struct ask *ask, mnl_cb_t fn, void *user)
{
	struct nlmsghdr *message = (void *)ask->buffer;
	unsigned int port = mnl_socket_get_portid(ask->socket);
	ssize_t size;
	int more;

	message->nlmsg_seq = 1;
	if (mnl_socket_sendto(ask->socket, message, message->nlmsg_len) < 0)
		return -errno;
	do {
		size = mnl_socket_recvfrom(ask->socket, ask->buffer, sizeof(ask->buffer));
		if (size < 0)
			return -errno;
		more = mnl_cb_run(ask->buffer, size, 1, port, fn, user);
	} while (more > MNL_CB_STOP);
	return more < 0 ? -errno : 0;
}

static struct nlmsghdr *link_message(struct ask *ask, int type, int flags, unsigned int ifindex)
{
	struct nlmsghdr *message = mnl_nlmsg_put_header(ask->buffer);
	struct ifinfomsg *link;

	message->nlmsg_type = type;
	message->nlmsg_flags = NLM_F_REQUEST | flags;
	link = mnl_nlmsg_put_extra_header(message, sizeof(*link));
	link->ifi_index = ifindex;
	return message;
}

/* --- those that are there ----------------------------------------------------------------------------------- */

#define FOUND 64

struct search {
	const char *alias;
	bool begins; /* aliases that begin with it */
	size_t count;
	struct found {
		unsigned int ifindex;
		char device[IF_NAMESIZE];
	} found[FOUND];
};

static bool fits(const struct search *search, const char *alias)
{
	size_t length = strlen(search->alias);

	if (!search->begins)
		return !strcmp(alias, search->alias);
	return !strncmp(alias, search->alias, length) && alias[length] == ' ';
}

static int on_link(const struct nlmsghdr *message, void *user)
{
	const struct ifinfomsg *link = mnl_nlmsg_get_payload(message);
	const char *name = NULL, *alias = NULL;
	struct search *search = user;
	const struct nlattr *attr;

	if (message->nlmsg_type != RTM_NEWLINK)
		return MNL_CB_OK;
	mnl_attr_for_each(attr, message, sizeof(*link)) {
		if (mnl_attr_get_type(attr) == IFLA_IFNAME)
			name = mnl_attr_get_str(attr);
		if (mnl_attr_get_type(attr) == IFLA_IFALIAS)
			alias = mnl_attr_get_str(attr);
	}
	if (name && alias && search->count < FOUND && fits(search, alias)) {
		search->found[search->count].ifindex = link->ifi_index;
		snprintf(search->found[search->count].device, IF_NAMESIZE, "%s", name);
		search->count++;
	}
	return MNL_CB_OK;
}

static int find(struct ask *ask, struct search *search)
{
	search->count = 0;
	link_message(ask, RTM_GETLINK, NLM_F_DUMP, 0);
	return transact(ask, on_link, search);
}

void tg_vxlan_owner(const char *instance, char owner[TG_VXLAN_OWNER])
{
	snprintf(owner, TG_VXLAN_OWNER, "tidegate %s", instance);
}

static void alias_of(const struct tg_vxlan *vxlan, char alias[ALIAS_BYTES])
{
	char text[TG_ADDR_TEXT];

	snprintf(alias, ALIAS_BYTES, "%s vxlan %s vni %u port %u", vxlan->owner,
		tg_addr_print(&vxlan->to, text), vxlan->vni, vxlan->port);
}

/* --- making one --------------------------------------------------------------------------------------------- */

static int create(struct ask *ask, const struct tg_vxlan *vxlan, const char *device)
{
	const bool v6 = vxlan->to.family == AF_INET6;
	struct nlmsghdr *message = link_message(
		ask, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK, 0);
	struct nlattr *info, *data;

	mnl_attr_put_strz(message, IFLA_IFNAME, device);
	info = mnl_attr_nest_start(message, IFLA_LINKINFO);
	mnl_attr_put_str(message, IFLA_INFO_KIND, "vxlan");
	data = mnl_attr_nest_start(message, IFLA_INFO_DATA);
	mnl_attr_put_u32(message, IFLA_VXLAN_ID, vxlan->vni);
	mnl_attr_put(message, v6 ? IFLA_VXLAN_GROUP6 : IFLA_VXLAN_GROUP, tg_addr_size(&vxlan->to),
		vxlan->to.word);
	mnl_attr_put_u16(message, IFLA_VXLAN_PORT, htons(vxlan->port));
	mnl_attr_put_u8(message, IFLA_VXLAN_LEARNING, 0);
	mnl_attr_put_u8(message, IFLA_VXLAN_TTL, OUTER_TTL);
	mnl_attr_nest_end(message, data);
	mnl_attr_nest_end(message, info);
	return transact(ask, NULL, NULL);
}

/* Its alias, and up, without ARP. */
static int finish(struct ask *ask, unsigned int ifindex, const char *alias)
{
	struct nlmsghdr *message = link_message(ask, RTM_NEWLINK, NLM_F_ACK, ifindex);
	struct ifinfomsg *link = mnl_nlmsg_get_payload(message);

	link->ifi_flags = link->ifi_change = IFF_UP | IFF_NOARP;
	mnl_attr_put_strz(message, IFLA_IFALIAS, alias);
	return transact(ask, NULL, NULL);
}

static int delete(struct ask *ask, unsigned int ifindex)
{
	int result;

	link_message(ask, RTM_DELLINK, NLM_F_ACK, ifindex);
	result = transact(ask, NULL, NULL);
	return result == -ENODEV ? 0 : result;
}

/* Nothing of the stack's own leaves by it. */
static void without_ipv6(const char *device)
{
	char path[96];
	FILE *file;

	snprintf(path, sizeof(path), "/proc/sys/net/ipv6/conf/%s/disable_ipv6", device);
	file = fopen(path, "w");
	if (!file)
		return; /* a host without IPv6 */
	fputs("1\n", file);
	fclose(file);
}

/* Whatever comes in by it is dropped: by a filter, which goes with the device. */
static int deafen(unsigned int ifindex)
{
	const struct bpf_insn drop[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = TC_ACT_SHOT },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = ifindex, .attach_point = BPF_TC_INGRESS);
	LIBBPF_OPTS(bpf_tc_opts, options);
	int program = bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "tidegate_deaf", "GPL", drop,
		    sizeof(drop) / sizeof(*drop), NULL),
	    result;

	if (program < 0)
		return -errno;
	options.prog_fd = program;
	result = bpf_tc_hook_create(&hook);
	if (!result || result == -EEXIST)
		result = bpf_tc_attach(&hook, &options);
	close(program);
	return result;
}

/* A device of the first name that is free. */
static int make(struct ask *ask, const struct tg_vxlan *vxlan, char device[IF_NAMESIZE])
{
	char alias[ALIAS_BYTES];
	unsigned int ifindex;
	int result = -EEXIST;

	for (int i = 0; i < NAMES && result == -EEXIST; i++) {
		snprintf(device, IF_NAMESIZE, "tgvx%d", i);
		if (!if_nametoindex(device)) {
			result = create(ask, vxlan, device);
			break;
		}
	}
	ifindex = result ? 0 : if_nametoindex(device);
	if (!ifindex)
		return result ? result : -ENODEV;
	alias_of(vxlan, alias);
	without_ipv6(device);
	result = deafen(ifindex);
	if (!result)
		result = finish(ask, ifindex, alias);
	if (result)
		delete(ask, ifindex);
	return result;
}

static int make_error(const struct tg_vxlan *vxlan, int code, struct tg_error *error)
{
	char text[TG_ADDR_TEXT];

	tg_addr_print(&vxlan->to, text);
	if (code == -EEXIST)
		return tg_fail(error, code,
			"vxlan %s: another device of this host has vni %u on port %u already: choose another vni",
			text, vxlan->vni, vxlan->port);
	if (code == -EOPNOTSUPP)
		return tg_fail(error, code, "vxlan %s: the kernel has no vxlan (CONFIG_VXLAN)", text);
	return tg_fail(error, code, "vxlan %s: the device can't be made: %s", text, strerror(-code));
}

int tg_vxlan_make(const struct tg_vxlan *vxlan, char device[IF_NAMESIZE], struct tg_error *error)
{
	char alias[ALIAS_BYTES];
	struct search search = { .alias = alias };
	struct ask ask;
	int result = ask_open(&ask);

	if (result)
		return make_error(vxlan, result, error);
	alias_of(vxlan, alias);
	result = find(&ask, &search);
	if (!result && search.count)
		snprintf(device, IF_NAMESIZE, "%s", search.found[0].device);
	else if (!result)
		result = make(&ask, vxlan, device);
	mnl_socket_close(ask.socket);
	return result ? make_error(vxlan, result, error) : 0;
}

/* --- removing them ------------------------------------------------------------------------------------------ */

static int remove_found(const char *alias, bool begins)
{
	struct search search = { .alias = alias, .begins = begins };
	struct ask ask;
	int result = ask_open(&ask);

	if (result)
		return result;
	result = find(&ask, &search);
	for (size_t i = 0; !result && i < search.count; i++)
		result = delete(&ask, search.found[i].ifindex);
	mnl_socket_close(ask.socket);
	return result;
}

int tg_vxlan_remove(const struct tg_vxlan *vxlan, struct tg_error *error)
{
	char alias[ALIAS_BYTES];
	int result;

	alias_of(vxlan, alias);
	result = remove_found(alias, false);
	return result ? tg_fail(error, result, "%s: the device can't be removed: %s", alias,
				strerror(-result))
		      : 0;
}

void tg_vxlan_remove_all(const char *owner)
{
	remove_found(owner, true);
}
