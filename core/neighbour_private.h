/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the parts of neighbour.h share: neighbour.c (events, neighbours, timers), neighbour_link.c (links),
 * neighbour_nexthop.c (watched addresses) and neighbour_routes.c (all routes). No one else includes this.
 *
 * Events only update the tables here and put what they touch on a list (`changed` neighbours, `dirty`
 * targets); the idle handler works the lists off, at most TG_WORK_SLICE of each per iteration. All
 * callbacks but those of link watches come from there, or from the sweep that reads all routes. Links'
 * come from within an event: nothing may be asked of the kernel before that returns.
 */
#ifndef TG_NEIGHBOUR_PRIVATE_H
#define TG_NEIGHBOUR_PRIVATE_H

#include "list.h"
#include "netlink.h"
#include "table.h"

#define TG_WORK_SLICE 256
#define TG_SECOND_NS  1000000000u

/* A neighbour that the kernel knows, or that we want it to know, or both. */
struct tg_neigh {
	struct tg_table_node node;	/* by ifindex and address */
	struct tg_list all;
	struct tg_list changed;		/* on n->changed: users to be told */
	struct tg_list queue;		/* while in use, on n->cold or n->warm: ordered by `due` */
	struct tg_list targets;		/* struct tg_target.by_hop */
	struct tg_list routes;		/* struct tg_route.by_hop */
	uint64_t due;			/* when to ask for it again */
	uint32_t ifindex;
	uint32_t generation;		/* of the last dump that had it */
	struct tg_addr addr;
	uint16_t state;			/* NUD_*; 0: the kernel doesn't know it */
	bool has_mac;
	uint8_t mac[6];
};

struct tg_neighbour {
	uv_loop_t *loop;
	uv_poll_t poll;
	uv_timer_t sweep;		/* debounces changes of the topology */
	uv_timer_t tick;		/* neighbours and targets that are due */
	uv_idle_t work;			/* works off the lists */
	uint32_t handles;		/* still open */
	bool closing;
	void (*closed)(void *user);
	void *closed_user;
	struct tg_netlink netlink;
	struct tg_neighbour_stats stats;
	uint32_t generation;		/* of dumps of links and neighbours */
	bool lost;			/* announcements were: dump again */

	uint64_t quiet_until;		/* no sweep before: the last ones took their share of time */
	uint64_t sweep_cost;		/* time spent on the present one */
	bool sweep_again;		/* a link changed: look once more, see neighbour.c */

	struct tg_table links;		/* struct link_entry, in neighbour_link.c */
	struct tg_list all_links, link_watches;

	struct tg_table neighs;
	struct tg_list all_neighs, changed, cold, warm;

	struct tg_table targets;	/* struct tg_target, in neighbour_nexthop.c */
	struct tg_list dirty, refresh;	/* targets to look up; the others, longest ago first */

	struct tg_mirror *mirror;	/* in neighbour_routes.c; NULL unless watched */
};

/* neighbour.c */
bool tg_neigh_usable(const struct tg_neigh *neigh);
/* The one neighbour of that key; created if need be by the second. NULL: none, or no memory. */
struct tg_neigh *tg_neigh_find(struct tg_neighbour *n, uint32_t ifindex, const struct tg_addr *addr);
struct tg_neigh *tg_neigh_obtain(struct tg_neighbour *n, uint32_t ifindex, const struct tg_addr *addr);
/* After an entry was put on, or taken off, `targets` or `routes`: keep warm, or leave alone, or free. */
void tg_neigh_used(struct tg_neighbour *n, struct tg_neigh *neigh);
/* Routes, links or addresses changed: look everything up again, soon. */
void tg_neighbour_disturb(struct tg_neighbour *n);
/* There is something on `changed`, `dirty` or at the head of `cold`. */
void tg_neighbour_work(struct tg_neighbour *n);
/* There is something on `cold`, `warm` or `refresh`. */
void tg_neighbour_tick(struct tg_neighbour *n);

/* neighbour_link.c */
void tg_link_init(struct tg_neighbour *n);
void tg_link_message(struct tg_neighbour *n, const struct nlmsghdr *message);
void tg_link_forget_older(struct tg_neighbour *n);
void tg_link_free(struct tg_neighbour *n);

/* neighbour_nexthop.c */
void tg_targets_init(struct tg_neighbour *n);
void tg_targets_mark_all(struct tg_neighbour *n);
void tg_targets_mark_due(struct tg_neighbour *n, uint64_t now);
/* Puts the users of a neighbour on `dirty`. */
void tg_targets_mark_hop(struct tg_neighbour *n, struct tg_neigh *neigh);
void tg_targets_work(struct tg_neighbour *n);
void tg_targets_free(struct tg_neighbour *n);
/*
 * The next hop by a route, given the neighbour that the packets go to: the gateway, or the
 * destination itself; NULL if unknown.
 */
void tg_nexthop_compute(const struct tg_neighbour *n, const struct tg_nl_route *route,
	const struct tg_neigh *hop, struct tg_nexthop *nexthop);

/* neighbour_routes.c */
void tg_mirror_read(struct tg_neighbour *n);
void tg_mirror_neigh(struct tg_neighbour *n, struct tg_neigh *neigh);
void tg_mirror_free(struct tg_neighbour *n);

#endif
