/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * rtnetlink as neighbour.h needs it: one socket for announcements, one for questions (so that the
 * two never mix), and messages decoded into plain structs. Questions are answered before the
 * function returns: the kernel does so in microseconds, a dump of 4,096 routes takes milliseconds.
 */
#ifndef TG_NETLINK_H
#define TG_NETLINK_H

#include <linux/rtnetlink.h>

#include "neighbour.h"

struct mnl_socket;

#define TG_NETLINK_BUFFER 32768

struct tg_netlink {
	struct mnl_socket *events;	/* announcements, non-blocking */
	struct mnl_socket *ask;		/* questions and answers; NULL after an error: reopened */
	uint32_t seq;
	char buffer[TG_NETLINK_BUFFER];
};

/* A message handler: 0 goes on, anything else stops and is returned. */
typedef int (*tg_netlink_fn)(void *user, const struct nlmsghdr *message);

int tg_netlink_open(struct tg_netlink *nl, struct tg_error *error);
void tg_netlink_close(struct tg_netlink *nl);
int tg_netlink_fd(const struct tg_netlink *nl);

/* Hands on one datagram of announcements. 0, -EAGAIN when there is none, -ENOBUFS when some got lost. */
int tg_netlink_read(struct tg_netlink *nl, tg_netlink_fn fn, void *user);
/*
 * Hands on every object of a kind: RTM_GETLINK, RTM_GETNEIGH, RTM_GETRULE, or RTM_GETROUTE with the
 * routes of `table`. Stops early when `fn` says so. 0 or a negative errno.
 */
int tg_netlink_dump(struct tg_netlink *nl, int type, int family, uint32_t table,
	tg_netlink_fn fn, void *user);

struct tg_nl_route {
	struct tg_prefix prefix;
	struct tg_addr gateway;	/* family 0 if none */
	uint32_t table, ifindex, metric;
	uint32_t mtu;		/* 0 if the route sets none */
	uint8_t type;		/* RTN_UNICAST, RTN_LOCAL, … */
	bool plural;		/* multipath or encapsulation: the kernel decides */
	bool selective;		/* only for packets of some source or TOS */
	bool dead;		/* its device is down or has no carrier */
};

struct tg_nl_neigh {
	uint32_t ifindex;
	struct tg_addr addr;
	uint16_t state;		/* NUD_* */
	bool has_mac;
	uint8_t mac[6];
};

/* Decoders: false for messages that are not about such a thing (bridge FDB entries, proxies, …). */
bool tg_nl_link(const struct nlmsghdr *message, struct tg_link *link);
bool tg_nl_neigh(const struct nlmsghdr *message, struct tg_nl_neigh *neigh);
bool tg_nl_route(const struct nlmsghdr *message, struct tg_nl_route *route);
/* Is this one of the rules that every host has: table local, main, default, for all packets? */
bool tg_nl_rule_is_default(const struct nlmsghdr *message);

/* The route for packets to `dst`: 0, or the kernel's verdict as a negative errno (-ENETUNREACH, …). */
int tg_netlink_route_to(struct tg_netlink *nl, const struct tg_addr *dst, struct tg_nl_route *route);
/* Makes the kernel resolve or confirm a neighbour, as a packet to it would. */
int tg_netlink_use_neigh(struct tg_netlink *nl, uint32_t ifindex, const struct tg_addr *addr);
int tg_netlink_get_neigh(struct tg_netlink *nl, uint32_t ifindex, const struct tg_addr *addr,
	struct tg_nl_neigh *neigh);

#endif
