/* SPDX-License-Identifier: GPL-2.0-only */
#include "netlink.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/neighbour.h>
#include <string.h>

#define EVENT_BUFFER_BYTES (4 << 20)
#define DUMP_TRIES 5	/* a dump that something changed under is read again */

static int set_option(struct mnl_socket *socket, int option, int value)
{
	return mnl_socket_setsockopt(socket, option, &value, sizeof(value)) < 0 ? -errno : 0;
}

static struct mnl_socket *open_socket(int flags)
{
	struct mnl_socket *socket = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC | flags);

	if (socket && mnl_socket_bind(socket, 0, MNL_SOCKET_AUTOPID) < 0) {
		mnl_socket_close(socket);
		return NULL;
	}
	return socket;
}

static void close_socket(struct mnl_socket **socket)
{
	if (*socket)
		mnl_socket_close(*socket);
	*socket = NULL;
}

/* Strict checking makes the kernel honour the filters of a dump. */
static int open_ask(struct tg_netlink *nl)
{
	if (nl->ask)
		return 0;
	nl->ask = open_socket(0);
	return nl->ask ? set_option(nl->ask, NETLINK_GET_STRICT_CHK, 1) : -errno;
}

static void enlarge(const struct mnl_socket *socket)
{
	int fd = mnl_socket_get_fd(socket), bytes = EVENT_BUFFER_BYTES;

	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)) < 0)
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
}

static int open_events(struct tg_netlink *nl)
{
	static const int groups[] = {
		RTNLGRP_LINK, RTNLGRP_NEIGH, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR,
		RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE, RTNLGRP_IPV4_RULE, RTNLGRP_IPV6_RULE,
		RTNLGRP_NEXTHOP,
	};
	int error = 0;

	nl->events = open_socket(SOCK_NONBLOCK);
	if (!nl->events)
		return -errno;
	enlarge(nl->events);
	for (size_t i = 0; i < MNL_ARRAY_SIZE(groups) && !error; i++)
		error = set_option(nl->events, NETLINK_ADD_MEMBERSHIP, groups[i]);
	return error;
}

int tg_netlink_open(struct tg_netlink *nl, struct tg_error *error)
{
	int code;

	memset(nl, 0, sizeof(*nl));
	code = open_events(nl);
	if (!code)
		code = open_ask(nl);
	if (!code)
		return 0;
	tg_netlink_close(nl);
	return tg_fail(error, code, "netlink socket for routes and neighbours: %s", strerror(-code));
}

void tg_netlink_close(struct tg_netlink *nl)
{
	close_socket(&nl->events);
	close_socket(&nl->ask);
}

int tg_netlink_fd(const struct tg_netlink *nl)
{
	return mnl_socket_get_fd(nl->events);
}

/* ---- messages in ---- */

struct handler {
	tg_netlink_fn fn;
	void *user;
	int result;
};

static int on_message(const struct nlmsghdr *message, void *data)
{
	struct handler *handler = data;

	handler->result = handler->fn(handler->user, message);
	return handler->result ? MNL_CB_STOP : MNL_CB_OK;
}

int tg_netlink_read(struct tg_netlink *nl, tg_netlink_fn fn, void *user)
{
	struct handler handler = { fn, user, 0 };
	ssize_t size = mnl_socket_recvfrom(nl->events, nl->buffer, sizeof(nl->buffer));

	if (size < 0)
		return errno == EINTR ? 0 : errno == EAGAIN ? -EAGAIN : -ENOBUFS;
	mnl_cb_run(nl->buffer, size, 0, 0, on_message, &handler);
	return 0;
}

/* ---- questions and answers ---- */

static void *start(struct nlmsghdr **message, void *buffer, int type, int flags, size_t header)
{
	*message = mnl_nlmsg_put_header(buffer);
	(*message)->nlmsg_type = type;
	(*message)->nlmsg_flags = NLM_F_REQUEST | flags;
	return mnl_nlmsg_put_extra_header(*message, header);
}

/* Reads until the answer is complete, or `fn` stops. What that leaves unread is for the caller. */
static int answer(struct tg_netlink *nl, struct handler *handler)
{
	unsigned int port = mnl_socket_get_portid(nl->ask);
	ssize_t size;
	int more;

	do {
		size = mnl_socket_recvfrom(nl->ask, nl->buffer, sizeof(nl->buffer));
		if (size < 0)
			return -errno;
		more = mnl_cb_run(nl->buffer, size, nl->seq, port, on_message, handler);
	} while (more == MNL_CB_OK);
	return more == MNL_CB_STOP ? 0 : -errno;
}

/* Nobody knows what is left to read: a dump ended early, or an answer to another question. */
static bool out_of_step(const struct nlmsghdr *message, const struct handler *handler, int error)
{
	if (message->nlmsg_flags & NLM_F_DUMP)
		return error || handler->result;
	return error == -EPROTO || error == -ESRCH || error == -ENOBUFS || error == -ENOSPC;
}

/*
 * Sends a question and reads the answer. 0, with what `fn` stopped with in the handler; or the
 * kernel's error.
 */
static int transact(struct tg_netlink *nl, struct nlmsghdr *message, struct handler *handler)
{
	int error = open_ask(nl);

	if (error)
		return error;
	message->nlmsg_seq = ++nl->seq;
	if (mnl_socket_sendto(nl->ask, message, message->nlmsg_len) < 0)
		error = -errno;
	else
		error = answer(nl, handler);
	if (out_of_step(message, handler, error))
		close_socket(&nl->ask);
	return error;
}

static struct nlmsghdr *dump_question(void *buffer, int type, int family, uint32_t table)
{
	struct nlmsghdr *message;
	struct rtmsg *route;

	switch (type) {
	case RTM_GETROUTE:
		route = start(&message, buffer, type, NLM_F_DUMP, sizeof(*route));
		mnl_attr_put_u32(message, RTA_TABLE, table);
		break;
	case RTM_GETNEIGH:
		start(&message, buffer, type, NLM_F_DUMP, sizeof(struct ndmsg));
		break;
	case RTM_GETRULE:
		start(&message, buffer, type, NLM_F_DUMP, sizeof(struct rtmsg));
		break;
	default:
		start(&message, buffer, type, NLM_F_DUMP, sizeof(struct ifinfomsg));
	}
	*(uint8_t *)mnl_nlmsg_get_payload(message) = family;
	return message;
}

int tg_netlink_dump(struct tg_netlink *nl, int type, int family, uint32_t table,
	tg_netlink_fn fn, void *user)
{
	char buffer[256];
	int error = -EINTR;

	for (int try = 0; try < DUMP_TRIES && error == -EINTR; try++) {
		struct handler handler = { fn, user, 0 };

		error = transact(nl, dump_question(buffer, type, family, table), &handler);
	}
	/* A table that nobody has put a route in, or a kernel without IPv6. */
	return error == -ENOENT || error == -EAFNOSUPPORT || error == -EOPNOTSUPP ? 0 : error;
}

static int take_route(void *user, const struct nlmsghdr *message)
{
	return tg_nl_route(message, user) ? 1 : -EPROTO;
}

int tg_netlink_route_to(struct tg_netlink *nl, const struct tg_addr *dst, struct tg_nl_route *route)
{
	struct handler handler = { take_route, route, 0 };
	struct nlmsghdr *message;
	char buffer[256];
	struct rtmsg *body;
	int error;

	body = start(&message, buffer, RTM_GETROUTE, 0, sizeof(*body));
	body->rtm_family = dst->family;
	body->rtm_dst_len = tg_addr_size(dst) * 8;
	mnl_attr_put(message, RTA_DST, tg_addr_size(dst), dst->word);
	error = transact(nl, message, &handler);
	return error ? error : handler.result < 0 ? handler.result : 0;
}

static struct nlmsghdr *neigh_question(void *buffer, int type, int flags, uint32_t ifindex,
	const struct tg_addr *addr)
{
	struct nlmsghdr *message;
	struct ndmsg *body = start(&message, buffer, type, flags, sizeof(*body));

	body->ndm_family = addr->family;
	body->ndm_ifindex = ifindex;
	mnl_attr_put(message, NDA_DST, tg_addr_size(addr), addr->word);
	return message;
}

static int ignore(void *user, const struct nlmsghdr *message)
{
	return 0;
}

int tg_netlink_use_neigh(struct tg_netlink *nl, uint32_t ifindex, const struct tg_addr *addr)
{
	int flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
	struct handler handler = { ignore, NULL, 0 };
	struct nlmsghdr *message;
	char buffer[256];

	message = neigh_question(buffer, RTM_NEWNEIGH, flags, ifindex, addr);
	((struct ndmsg *)mnl_nlmsg_get_payload(message))->ndm_flags = NTF_USE;
	return transact(nl, message, &handler);
}

static int take_neigh(void *user, const struct nlmsghdr *message)
{
	return tg_nl_neigh(message, user) ? 1 : -EPROTO;
}

int tg_netlink_get_neigh(struct tg_netlink *nl, uint32_t ifindex, const struct tg_addr *addr,
	struct tg_nl_neigh *neigh)
{
	struct handler handler = { take_neigh, neigh, 0 };
	char buffer[256];
	int error;

	error = transact(nl, neigh_question(buffer, RTM_GETNEIGH, 0, ifindex, addr), &handler);
	return error ? error : handler.result < 0 ? handler.result : 0;
}
