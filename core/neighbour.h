/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Where packets go, as the kernel sees it: links, next hops and routes, followed by netlink.
 *
 * XDP forwards past the kernel, so somebody has to know the egress port and both MAC addresses for
 * every packet. One struct tg_neighbour follows links, addresses, routes, rules and neighbours of
 * one network namespace, the one the opening thread is in (that thread has to stay in it: sockets
 * are reopened now and then), and tells what its users watch:
 *
 *	tg_nexthop_watch()  the next hop of one address; for backends
 *	tg_routes_watch()   all routes with their next hops, as a table to look clients up in
 *	tg_link_watch()     links that appear, change and vanish; for ports
 *
 * It lives on one uv loop and belongs to that loop's thread. All callbacks come from the loop, never
 * from within a function called here, and may call any function here: unwatch (themselves or
 * others), watch more, close.
 *
 * Neighbours in use are kept warm: packets forwarded by XDP neither start address resolution nor
 * confirm an entry, so each one is asked for (NTF_USE) at once and every second while it is
 * unresolved, and every six to eight seconds when it is; at once when the kernel begins to doubt it
 * (stale), so that a MAC that changed unannounced is found soon. More neighbours than
 * net.ipv4.neigh.default.gc_thresh3 (1,024 on most systems; the same for ipv6) stay unresolved: the
 * kernel refuses to hold them.
 *
 * Work is bounded: a change of routes, links or addresses is acted on after 5 ms for all of a
 * burst, and not before twice the time that the last round took has passed; at most 256 addresses
 * are looked at per loop iteration. Whatever was missed (a full socket buffer) is read anew; what
 * the kernel does not announce is found within ten seconds, as every watched address is asked for
 * again that often.
 */
#ifndef TG_NEIGHBOUR_H
#define TG_NEIGHBOUR_H

#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "addr.h"
#include "error.h"

struct tg_neighbour;

/* Reads links and neighbours before it returns. 0 or a negative errno with a text in `error`. */
int tg_neighbour_open(uv_loop_t *loop, struct tg_neighbour **out, struct tg_error *error);
/*
 * Ends all watches: no callback comes after this call, and what watch functions returned may no
 * longer be used. `closed` (may be NULL) is called from the loop when all memory is freed.
 */
void tg_neighbour_close(struct tg_neighbour *n, void (*closed)(void *user), void *user);

struct tg_neighbour_stats {
	uint64_t events;	/* netlink messages about changes */
	uint64_t overruns;	/* times that some were lost and everything was read anew */
	uint64_t queries;	/* routes asked for */
	uint64_t asks;		/* neighbours asked for */
	uint64_t dumps;		/* times the routes were read */
};

const struct tg_neighbour_stats *tg_neighbour_stats(const struct tg_neighbour *n);

/* ---- links ---- */

struct tg_link {
	uint32_t ifindex;
	uint32_t master;	/* ifindex of its bridge, bond or VRF, or 0 */
	uint32_t lower;		/* ifindex of the link below (VLAN, macvlan), or a veth's peer; 0 if none here */
	uint32_t mtu;
	uint8_t mac[6];
	bool ethernet;		/* has a MAC address; loopback does not count */
	bool loopback;
	bool up;		/* administratively */
	bool carrier;
	char name[IFNAMSIZ];
	char kind[16];		/* "veth", "bridge", "vlan", …; "" for a physical device */
};

enum tg_link_event {
	TG_LINK_APPEARED,
	TG_LINK_VANISHED,
	TG_LINK_UP,		/* is up and has carrier now */
	TG_LINK_DOWN,
	TG_LINK_CHANGED,	/* name, MAC, MTU or master */
};

struct tg_link_watch;

/* Valid until the loop runs again. NULL if there is no such link. */
const struct tg_link *tg_link_by_name(const struct tg_neighbour *n, const char *name);
const struct tg_link *tg_link_by_index(const struct tg_neighbour *n, uint32_t ifindex);

/*
 * `on_link` is told of changes from now on; links that are there already are not reported. A name
 * that comes back with another ifindex is a VANISHED and an APPEARED. NULL if out of memory.
 */
struct tg_link_watch *tg_link_watch(struct tg_neighbour *n,
	void (*on_link)(void *user, enum tg_link_event event, const struct tg_link *link), void *user);
void tg_link_unwatch(struct tg_link_watch *watch);

/* ---- next hops ---- */

enum tg_nexthop_state {
	TG_NEXTHOP_RESOLVED,	/* port and MACs are known */
	TG_NEXTHOP_LOCAL,	/* an address of this host, or through the loopback device */
	TG_NEXTHOP_NO_ROUTE,
	TG_NEXTHOP_UNREACHABLE,	/* routes of these types */
	TG_NEXTHOP_BLACKHOLE,
	TG_NEXTHOP_PROHIBIT,
	TG_NEXTHOP_LINK_DOWN,	/* the route's device is down, has no carrier or is gone */
	TG_NEXTHOP_NO_NEIGHBOUR, /* the route is known, the MAC is not */
	TG_NEXTHOP_ASK_KERNEL,	/* not for us to say: on-link prefix, multipath, tunnel, broadcast */
};

struct tg_nexthop {
	enum tg_nexthop_state state;
	uint32_t ifindex;	/* egress port; 0 unless RESOLVED */
	uint32_t device;	/* egress port also while unresolved, for messages; 0 if unknown */
	uint32_t mtu;		/* of the device, or of the route if smaller; 0 unless `device` */
	uint8_t dmac[6], smac[6];	/* zero unless RESOLVED */
	struct tg_addr gateway;	/* family 0 if on-link; may be IPv6 for an IPv4 address */
	bool routed;		/* has a gateway */
	uint8_t pad[3];		/* zero, so that next hops compare with memcmp */
	char kind[16];		/* of the device, as in struct tg_link: the user refuses what it can't send on */
};

/*
 * Can native XDP send by the device? Not by those that are made of others (bridges, VLANs …), as generic XDP
 * and the kernel can.
 */
bool tg_nexthop_is_sent(const struct tg_nexthop *nexthop);
/* "resolved", "no route", …: for messages. */
const char *tg_nexthop_state_name(enum tg_nexthop_state state);

struct tg_nexthop_watch;

/*
 * Follows the route and the neighbour for packets to `dst`. `on_change` comes first when that was
 * looked up (an iteration or two of the loop), whatever the result, and then whenever it changes.
 * Watches of the same address share all work. NULL if out of memory.
 */
struct tg_nexthop_watch *tg_nexthop_watch(struct tg_neighbour *n, const struct tg_addr *dst,
	void (*on_change)(void *user, const struct tg_nexthop *nexthop), void *user);
void tg_nexthop_unwatch(struct tg_nexthop_watch *watch);
/* Asks once: `done` is called with the first answer. 0 or -ENOMEM. */
int tg_nexthop_ask(struct tg_neighbour *n, const struct tg_addr *dst,
	void (*done)(void *user, const struct tg_nexthop *nexthop), void *user);

/* ---- routes ---- */

/* More prefixes than this in a family's main or local table are not followed. */
#define TG_ROUTES_MAX 4096

struct tg_prefix {
	struct tg_addr addr;	/* host bits zero */
	uint32_t len;
};

/*
 * The view a longest-prefix table needs: local addresses (LOCAL), neighbours on attached links as
 * host entries (RESOLVED; not link-local ones), routes of the main table with a gateway (RESOLVED,
 * or why not) and everything else as "ask the kernel", so that a longer prefix hides a shorter one
 * here just as it does in the kernel. Of several routes for one prefix the lowest metric counts,
 * and those without carrier do not.
 */
struct tg_routes_user {
	/* `nexthop` is NULL when the entry is gone. Only changes are reported. */
	void (*on_route)(void *user, const struct tg_prefix *prefix, const struct tg_nexthop *nexthop);
	/*
	 * `incomplete` says why the kernel has to be asked for every packet of this family (policy
	 * rules, too many routes, …), or is NULL: the view is complete. Called when that changes,
	 * and once after the first entries. While incomplete there are no entries: this call comes
	 * before their removal, and after their return.
	 */
	void (*on_mode)(void *user, int family, const char *incomplete);
	void *user;
};

/* One user at a time: -EBUSY if there is one. */
int tg_routes_watch(struct tg_neighbour *n, const struct tg_routes_user *user);
void tg_routes_unwatch(struct tg_neighbour *n);

#endif
