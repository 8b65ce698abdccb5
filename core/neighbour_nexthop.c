/* SPDX-License-Identifier: GPL-2.0-only */
/* The next hops of neighbour.h: a target for each watched address, shared by its watches. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "neighbour_private.h"

#define REFRESH_NS (10 * (uint64_t)TG_SECOND_NS)
#define RETRY_NS   (1 * (uint64_t)TG_SECOND_NS)

struct tg_target {
	struct tg_table_node node;	/* by address */
	struct tg_list list;		/* on n->dirty or n->refresh */
	struct tg_list by_hop;		/* on hop->targets */
	struct tg_list watches;
	struct tg_addr addr;
	struct tg_neigh *hop;		/* the neighbour that packets go to; NULL if there is no route */
	struct tg_nexthop nexthop;
	uint64_t due;
	bool telling;			/* not to be freed now */
};

struct tg_nexthop_watch {
	struct tg_list list;
	struct tg_neighbour *n;
	struct tg_target *target;
	void (*on_change)(void *user, const struct tg_nexthop *nexthop);
	void *user;
	bool told;
};

const char *tg_nexthop_state_name(enum tg_nexthop_state state)
{
	static const char *const names[] = {
		[TG_NEXTHOP_RESOLVED] = "resolved",
		[TG_NEXTHOP_LOCAL] = "local address",
		[TG_NEXTHOP_NO_ROUTE] = "no route",
		[TG_NEXTHOP_UNREACHABLE] = "unreachable",
		[TG_NEXTHOP_BLACKHOLE] = "blackhole",
		[TG_NEXTHOP_PROHIBIT] = "prohibited",
		[TG_NEXTHOP_LINK_DOWN] = "link down",
		[TG_NEXTHOP_NO_NEIGHBOUR] = "no neighbour",
		[TG_NEXTHOP_ASK_KERNEL] = "left to the kernel",
	};

	return names[state];
}

bool tg_nexthop_is_sent(const struct tg_nexthop *nexthop)
{
	static const char *const kinds[] = { "bridge", "vlan", "macvlan", "ipvlan", "vxlan", "wireguard" };

	for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++)
		if (!strcmp(nexthop->kind, kinds[i]))
			return false;
	return true;
}

/* ---- from a route to a next hop ---- */

static enum tg_nexthop_state link_state(const struct tg_link *link, const struct tg_neigh *hop)
{
	if (!link)
		return TG_NEXTHOP_LINK_DOWN;
	if (link->loopback)
		return TG_NEXTHOP_LOCAL;
	if (!link->ethernet)
		return TG_NEXTHOP_ASK_KERNEL;
	if (!link->up || !link->carrier)
		return TG_NEXTHOP_LINK_DOWN;
	return hop && tg_neigh_usable(hop) ? TG_NEXTHOP_RESOLVED : TG_NEXTHOP_NO_NEIGHBOUR;
}

static enum tg_nexthop_state route_state(const struct tg_nl_route *route, const struct tg_link *link,
	const struct tg_neigh *hop)
{
	switch (route->type) {
	case RTN_UNICAST:
		return route->plural ? TG_NEXTHOP_ASK_KERNEL : link_state(link, hop);
	case RTN_LOCAL:
		return TG_NEXTHOP_LOCAL;
	case RTN_UNREACHABLE:
		return TG_NEXTHOP_UNREACHABLE;
	case RTN_BLACKHOLE:
		return TG_NEXTHOP_BLACKHOLE;
	case RTN_PROHIBIT:
		return TG_NEXTHOP_PROHIBIT;
	case RTN_UNSPEC:
		return TG_NEXTHOP_NO_ROUTE;
	default:
		return TG_NEXTHOP_ASK_KERNEL;
	}
}

void tg_nexthop_compute(const struct tg_neighbour *n, const struct tg_nl_route *route,
	const struct tg_neigh *hop, struct tg_nexthop *nexthop)
{
	const struct tg_link *link = tg_link_by_index(n, route->ifindex);

	memset(nexthop, 0, sizeof(*nexthop));
	nexthop->state = route_state(route, link, hop);
	nexthop->gateway = route->gateway;
	nexthop->routed = route->gateway.family != 0;
	if (link) {
		nexthop->device = link->ifindex;
		nexthop->mtu = route->mtu && route->mtu < link->mtu ? route->mtu : link->mtu;
		memcpy(nexthop->kind, link->kind, sizeof(nexthop->kind));
	}
	if (nexthop->state == TG_NEXTHOP_RESOLVED) {
		nexthop->ifindex = link->ifindex;
		memcpy(nexthop->smac, link->mac, sizeof(nexthop->smac));
		memcpy(nexthop->dmac, hop->mac, sizeof(nexthop->dmac));
	}
}

/* ---- targets ---- */

static struct tg_target *target_find(const struct tg_neighbour *n, const struct tg_addr *addr)
{
	struct tg_table_node *node = tg_table_first(&n->targets, tg_hash(addr, sizeof(*addr)));

	for (; node; node = tg_table_next(node)) {
		struct tg_target *target = tg_container(node, struct tg_target, node);

		if (tg_addr_equal(&target->addr, addr))
			return target;
	}
	return NULL;
}

static struct tg_target *target_create(struct tg_neighbour *n, const struct tg_addr *addr)
{
	struct tg_target *target = calloc(1, sizeof(*target));

	if (!target || tg_table_insert(&n->targets, &target->node, tg_hash(addr, sizeof(*addr)))) {
		free(target);
		return NULL;
	}
	target->addr = *addr;
	tg_list_init(&target->list);
	tg_list_init(&target->by_hop);
	tg_list_init(&target->watches);
	return target;
}

static void set_hop(struct tg_neighbour *n, struct tg_target *target, struct tg_neigh *hop)
{
	struct tg_neigh *old = target->hop;

	if (old == hop)
		return;
	tg_list_remove(&target->by_hop);
	target->hop = hop;
	if (hop) {
		tg_list_add(&hop->targets, &target->by_hop);
		tg_neigh_used(n, hop);
	}
	if (old)
		tg_neigh_used(n, old);
}

static void target_free(struct tg_neighbour *n, struct tg_target *target)
{
	set_hop(n, target, NULL);
	tg_list_remove(&target->list);
	tg_table_remove(&n->targets, &target->node);
	free(target);
}

static void mark(struct tg_neighbour *n, struct tg_target *target)
{
	tg_list_remove(&target->list);
	tg_list_add(&n->dirty, &target->list);
	tg_neighbour_work(n);
}

/* ---- looking up ---- */

/* The kernel's answer to a question for a route that is not one, as the type of route that it is. */
static uint8_t type_of_error(int error)
{
	switch (error) {
	case -EINVAL:
		return RTN_BLACKHOLE;
	case -EACCES:
		return RTN_PROHIBIT;
	case -EHOSTUNREACH:
		return RTN_UNREACHABLE;
	default:
		return RTN_UNSPEC;
	}
}

/* We could not ask, which says nothing about routes. */
static bool no_answer(int error)
{
	return error == -EMFILE || error == -ENFILE || error == -ENOMEM || error == -ENOBUFS ||
	       error == -EPROTO;
}

static struct tg_neigh *find_hop(struct tg_neighbour *n, const struct tg_addr *dst,
	const struct tg_nl_route *route)
{
	const struct tg_link *link = tg_link_by_index(n, route->ifindex);

	if (route->type != RTN_UNICAST || route->plural || !link || !link->ethernet)
		return NULL;
	return tg_neigh_obtain(n, route->ifindex, route->gateway.family ? &route->gateway : dst);
}

static void tell(struct tg_neighbour *n, struct tg_target *target, bool changed)
{
	struct tg_list todo, *position;

	tg_list_init(&todo);
	tg_list_splice(&todo, &target->watches);
	target->telling = true;
	while ((position = tg_list_take(&todo))) {
		struct tg_nexthop_watch *watch = tg_container(position, struct tg_nexthop_watch, list);

		tg_list_add(&target->watches, position);
		if (n->closing || (watch->told && !changed))
			continue;
		watch->told = true;
		watch->on_change(watch->user, &target->nexthop);
	}
	target->telling = false;
	if (!n->closing && tg_list_empty(&target->watches))
		target_free(n, target);
}

static void refresh_later(struct tg_neighbour *n, struct tg_target *target, uint64_t delay)
{
	target->due = uv_hrtime() + delay;
	tg_list_add(&n->refresh, &target->list);
	tg_neighbour_tick(n);
}

static void look_up(struct tg_neighbour *n, struct tg_target *target)
{
	struct tg_nexthop before = target->nexthop;
	struct tg_nl_route route;
	int error;

	n->stats.queries++;
	error = tg_netlink_route_to(&n->netlink, &target->addr, &route);
	if (no_answer(error)) {
		refresh_later(n, target, RETRY_NS);
		return;
	}
	if (error) {
		memset(&route, 0, sizeof(route));
		route.type = type_of_error(error);
	}
	set_hop(n, target, find_hop(n, &target->addr, &route));
	tg_nexthop_compute(n, &route, target->hop, &target->nexthop);
	refresh_later(n, target, REFRESH_NS);
	tell(n, target, memcmp(&before, &target->nexthop, sizeof(before)));
}

void tg_targets_work(struct tg_neighbour *n)
{
	struct tg_list *position;

	for (int i = 0; i < TG_WORK_SLICE && !n->closing && (position = tg_list_take(&n->dirty)); i++)
		look_up(n, tg_container(position, struct tg_target, list));
}

/* ---- what has to be looked up ---- */

void tg_targets_init(struct tg_neighbour *n)
{
	tg_list_init(&n->dirty);
	tg_list_init(&n->refresh);
}

void tg_targets_mark_all(struct tg_neighbour *n)
{
	tg_list_splice(&n->dirty, &n->refresh);
	tg_neighbour_work(n);
}

void tg_targets_mark_due(struct tg_neighbour *n, uint64_t now)
{
	for (int i = 0; i < TG_WORK_SLICE && !tg_list_empty(&n->refresh); i++) {
		struct tg_target *target = tg_container(n->refresh.next, struct tg_target, list);

		if (target->due > now)
			break;
		mark(n, target);
	}
}

void tg_targets_mark_hop(struct tg_neighbour *n, struct tg_neigh *neigh)
{
	tg_list_each(position, &neigh->targets)
		mark(n, tg_container(position, struct tg_target, by_hop));
}

/* ---- watches ---- */

struct tg_nexthop_watch *tg_nexthop_watch(struct tg_neighbour *n, const struct tg_addr *dst,
	void (*on_change)(void *user, const struct tg_nexthop *nexthop), void *user)
{
	struct tg_nexthop_watch *watch = calloc(1, sizeof(*watch));

	if (!watch)
		return NULL;
	watch->target = target_find(n, dst);
	if (!watch->target)
		watch->target = target_create(n, dst);
	if (!watch->target) {
		free(watch);
		return NULL;
	}
	watch->n = n;
	watch->on_change = on_change;
	watch->user = user;
	tg_list_add(&watch->target->watches, &watch->list);
	mark(n, watch->target);
	return watch;
}

void tg_nexthop_unwatch(struct tg_nexthop_watch *watch)
{
	struct tg_target *target = watch->target;

	tg_list_remove(&watch->list);
	if (tg_list_empty(&target->watches) && !target->telling)
		target_free(watch->n, target);
	free(watch);
}

struct question {
	struct tg_nexthop_watch *watch;
	void (*done)(void *user, const struct tg_nexthop *nexthop);
	void *user;
};

static void on_answer(void *user, const struct tg_nexthop *nexthop)
{
	struct question question = *(struct question *)user;

	tg_nexthop_unwatch(question.watch);
	free(user);
	question.done(question.user, nexthop);
}

int tg_nexthop_ask(struct tg_neighbour *n, const struct tg_addr *dst,
	void (*done)(void *user, const struct tg_nexthop *nexthop), void *user)
{
	struct question *question = malloc(sizeof(*question));

	if (!question)
		return -ENOMEM;
	*question = (struct question){ .done = done, .user = user };
	question->watch = tg_nexthop_watch(n, dst, on_answer, question);
	if (question->watch)
		return 0;
	free(question);
	return -ENOMEM;
}

static void free_all(struct tg_list *targets)
{
	struct tg_list *position, *watch;

	while ((position = tg_list_take(targets))) {
		struct tg_target *target = tg_container(position, struct tg_target, list);

		while ((watch = tg_list_take(&target->watches)))
			free(tg_container(watch, struct tg_nexthop_watch, list));
		free(target);
	}
}

void tg_targets_free(struct tg_neighbour *n)
{
	free_all(&n->dirty);
	free_all(&n->refresh);
	tg_table_free(&n->targets);
}
