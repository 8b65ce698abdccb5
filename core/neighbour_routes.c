/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The view of all routes of neighbour.h.
 *
 * The kernel's tables are read as a whole whenever something about routes changed, because not all
 * changes are announced (IPv4 routes vanish silently with their device). publish() then works out
 * what one prefix should be in the view and reports the difference; it is called for every prefix
 * after the routes were read, and for the few that a neighbour is the next hop of when that changed.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "neighbour_private.h"

#define V4 0
#define V6 1

/* The best route for a prefix in its table. */
struct tg_route {
	struct tg_table_node node;	/* by prefix */
	struct tg_list all;
	struct tg_list by_hop;		/* on hop->routes */
	struct tg_neigh *hop;		/* its gateway, or NULL */
	uint32_t generation;
	struct tg_nl_route route;
};

struct route_set {
	struct tg_table table;
	struct tg_list all;
	uint32_t lengths[2][129];	/* how many routes have that prefix length, per family */
};

/* What was reported. */
struct entry {
	struct tg_table_node node;
	struct tg_list all;
	uint32_t generation;		/* when it was last found to be right */
	struct tg_prefix prefix;
	struct tg_nexthop nexthop;
};

struct mode {
	const char *incomplete;
	bool told;
};

struct tg_mirror {
	struct tg_neighbour *n;
	struct tg_routes_user user;
	struct route_set local, main;
	struct tg_table entries;
	struct tg_list all_entries;
	struct mode mode[2];
	uint32_t generation;
	bool reporting;			/* callbacks are being called: not to be freed now */
	bool ended;			/* unwatched: no more callbacks */
};

static int family_index(const struct tg_addr *addr)
{
	return addr->family == AF_INET6 ? V6 : V4;
}

/* ---- prefixes ---- */

static struct tg_prefix prefix_of(const struct tg_addr *addr, uint32_t len)
{
	struct tg_prefix prefix = { .addr = *addr, .len = len };
	uint8_t *byte = (uint8_t *)prefix.addr.word;

	for (uint32_t i = len / 8; i < tg_addr_size(addr); i++)
		byte[i] &= i == len / 8 ? 0xff00 >> len % 8 : 0;
	return prefix;
}

static uint32_t host_len(const struct tg_addr *addr)
{
	return tg_addr_size(addr) * 8;
}

static uint32_t prefix_hash(const struct tg_prefix *prefix)
{
	return tg_hash(prefix, sizeof(*prefix));
}

static bool prefix_equal(const struct tg_prefix *a, const struct tg_prefix *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}

/* ---- the kernel's routes ---- */

static struct tg_route *route_find(const struct route_set *set, const struct tg_prefix *prefix)
{
	struct tg_table_node *node = tg_table_first(&set->table, prefix_hash(prefix));

	for (; node; node = tg_table_next(node)) {
		struct tg_route *route = tg_container(node, struct tg_route, node);

		if (prefix_equal(&route->route.prefix, prefix))
			return route;
	}
	return NULL;
}

/* The longest prefix of at most `len` that covers `addr`. */
static struct tg_route *route_match(const struct route_set *set, const struct tg_addr *addr, uint32_t len)
{
	const uint32_t *lengths = set->lengths[family_index(addr)];

	for (int64_t i = len; i >= 0; i--) {
		struct tg_prefix prefix;
		struct tg_route *route;

		if (!lengths[i])
			continue;
		prefix = prefix_of(addr, i);
		route = route_find(set, &prefix);
		if (route)
			return route;
	}
	return NULL;
}

static struct tg_route *route_create(struct route_set *set, const struct tg_prefix *prefix)
{
	struct tg_route *route = calloc(1, sizeof(*route));

	if (!route || tg_table_insert(&set->table, &route->node, prefix_hash(prefix))) {
		free(route);
		return NULL;
	}
	route->route.prefix = *prefix;
	tg_list_init(&route->by_hop);
	tg_list_add(&set->all, &route->all);
	set->lengths[family_index(&prefix->addr)][prefix->len]++;
	return route;
}

static void set_hop(struct tg_neighbour *n, struct tg_route *route, struct tg_neigh *hop)
{
	struct tg_neigh *old = route->hop;

	if (old == hop)
		return;
	tg_list_remove(&route->by_hop);
	route->hop = hop;
	if (hop) {
		tg_list_add(&hop->routes, &route->by_hop);
		tg_neigh_used(n, hop);
	}
	if (old)
		tg_neigh_used(n, old);
}

static void route_free(struct tg_neighbour *n, struct route_set *set, struct tg_route *route)
{
	const struct tg_prefix *prefix = &route->route.prefix;

	set_hop(n, route, NULL);
	set->lengths[family_index(&prefix->addr)][prefix->len]--;
	tg_table_remove(&set->table, &route->node);
	tg_list_remove(&route->all);
	free(route);
}

/* ---- reading them ---- */

struct reading {
	struct tg_mirror *mirror;
	struct route_set *set;
	int family;
	uint32_t count;
};

/*
 * Another route for the same prefix: the lower metric counts. Equal ones are the kernel's choice (IPv6
 * default routers), and where some packets go another way each has to be asked about.
 */
static void merge(struct tg_nl_route *best, const struct tg_nl_route *other)
{
	bool selective = best->selective || other->selective;

	if (other->metric < best->metric)
		*best = *other;
	else if (other->metric == best->metric)
		best->plural = true;
	best->selective = selective;
}

static int on_route(void *user, const struct nlmsghdr *message)
{
	struct reading *reading = user;
	struct tg_nl_route now;
	struct tg_route *route;

	if (!tg_nl_route(message, &now) || now.dead || now.prefix.addr.family != reading->family)
		return 0;
	if (++reading->count > TG_ROUTES_MAX)
		return 1;
	route = route_find(reading->set, &now.prefix);
	if (!route)
		route = route_create(reading->set, &now.prefix);
	if (!route)
		return -ENOMEM;
	if (route->generation == reading->mirror->generation)
		merge(&route->route, &now);
	else
		route->route = now;
	route->generation = reading->mirror->generation;
	return 0;
}

static int on_any_route(void *user, const struct nlmsghdr *message)
{
	struct reading *reading = user;

	reading->count++;
	return 1;
}

static int on_rule(void *user, const struct nlmsghdr *message)
{
	struct reading *reading = user;

	reading->count += !tg_nl_rule_is_default(message);
	return 0;
}

/* Reads rules and tables of a family; `reason` is why the view is incomplete, or NULL. */
static int read_family(struct tg_mirror *m, int family, const char **reason)
{
	struct reading rules = { .mirror = m }, other = { .mirror = m };
	struct reading local = { m, &m->local, family, 0 }, main = { m, &m->main, family, 0 };
	struct tg_netlink *nl = &m->n->netlink;
	int error;

	error = tg_netlink_dump(nl, RTM_GETRULE, family, 0, on_rule, &rules);
	if (!error && !rules.count)
		error = tg_netlink_dump(nl, RTM_GETROUTE, family, RT_TABLE_DEFAULT, on_any_route, &other);
	if (!error && !rules.count && !other.count)
		error = tg_netlink_dump(nl, RTM_GETROUTE, family, RT_TABLE_LOCAL, on_route, &local);
	if (!error && !rules.count && !other.count && local.count <= TG_ROUTES_MAX)
		error = tg_netlink_dump(nl, RTM_GETROUTE, family, RT_TABLE_MAIN, on_route, &main);
	*reason = rules.count ? "policy routing rules are in use"
		: other.count ? "table default has routes"
		: local.count > TG_ROUTES_MAX ? "more than 4096 local routes"
		: main.count > TG_ROUTES_MAX ? "more than 4096 routes"
		: NULL;
	return error;
}

static void forget_older(struct tg_mirror *m, struct route_set *set)
{
	struct tg_list all, *position;

	tg_list_init(&all);
	tg_list_splice(&all, &set->all);
	while ((position = tg_list_take(&all))) {
		struct tg_route *route = tg_container(position, struct tg_route, all);

		tg_list_add(&set->all, position);
		if (route->generation != m->generation ||
			m->mode[family_index(&route->route.prefix.addr)].incomplete)
			route_free(m->n, set, route);
	}
}

/* Puts every route with one gateway among the users of that neighbour, which keeps it warm. */
static void bind_gateways(struct tg_mirror *m)
{
	tg_list_each(position, &m->main.all) {
		struct tg_route *route = tg_container(position, struct tg_route, all);
		const struct tg_nl_route *r = &route->route;
		const struct tg_link *link = tg_link_by_index(m->n, r->ifindex);
		bool single = r->type == RTN_UNICAST && !r->plural && !r->selective &&
			      r->gateway.family && link && link->ethernet;

		set_hop(m->n, route, single ? tg_neigh_obtain(m->n, r->ifindex, &r->gateway) : NULL);
	}
}

/* ---- the view ---- */

static void compute(const struct tg_mirror *m, const struct tg_route *route, const struct tg_neigh *hop,
	struct tg_nexthop *nexthop)
{
	struct tg_nl_route r = route->route;

	r.plural = r.plural || r.selective;
	tg_nexthop_compute(m->n, &r, hop, nexthop);
	if (!r.gateway.family && nexthop->state == TG_NEXTHOP_NO_NEIGHBOUR)
		nexthop->state = TG_NEXTHOP_ASK_KERNEL;	/* an on-link prefix has no one neighbour */
}

static bool is_link_local(const struct tg_addr *addr)
{
	return addr->family == AF_INET6 && IN6_IS_ADDR_LINKLOCAL((const struct in6_addr *)addr->word);
}

/* Is `addr` a neighbour whom packets go to directly? */
static bool view_of_neighbour(const struct tg_mirror *m, const struct tg_addr *addr,
	struct tg_nexthop *nexthop)
{
	struct tg_route *route = route_match(&m->main, addr, host_len(addr));
	struct tg_neigh *neigh;

	if (!route || route->route.gateway.family || is_link_local(addr))
		return false;
	neigh = tg_neigh_find(m->n, route->route.ifindex, addr);
	if (!neigh)
		return false;
	compute(m, route, neigh, nexthop);
	return nexthop->state == TG_NEXTHOP_RESOLVED;
}

/*
 * What `prefix` should be in the view; false if it should not be there. As in the kernel, any match in
 * the local table comes before the longest match in the main table.
 */
static bool view(const struct tg_mirror *m, const struct tg_prefix *prefix, struct tg_nexthop *nexthop)
{
	struct tg_route *route;

	if (m->mode[family_index(&prefix->addr)].incomplete)
		return false;
	route = route_match(&m->local, &prefix->addr, prefix->len);
	if (route && route->route.prefix.len < prefix->len)
		return false;
	if (!route)
		route = route_find(&m->main, prefix);
	if ((!route || route->route.table == RT_TABLE_MAIN) && prefix->len == host_len(&prefix->addr) &&
		view_of_neighbour(m, &prefix->addr, nexthop))
		return true;
	if (!route)
		return false;
	compute(m, route, route->hop, nexthop);
	return true;
}

/* ---- reporting ---- */

static struct entry *entry_find(const struct tg_mirror *m, const struct tg_prefix *prefix)
{
	struct tg_table_node *node = tg_table_first(&m->entries, prefix_hash(prefix));

	for (; node; node = tg_table_next(node)) {
		struct entry *entry = tg_container(node, struct entry, node);

		if (prefix_equal(&entry->prefix, prefix))
			return entry;
	}
	return NULL;
}

static struct entry *entry_create(struct tg_mirror *m, const struct tg_prefix *prefix)
{
	struct entry *entry = calloc(1, sizeof(*entry));

	if (!entry || tg_table_insert(&m->entries, &entry->node, prefix_hash(prefix))) {
		free(entry);
		return NULL;
	}
	entry->prefix = *prefix;
	entry->nexthop.state = -1;	/* like none that can be reported */
	tg_list_add(&m->all_entries, &entry->all);
	return entry;
}

static void withdraw(struct tg_mirror *m, struct entry *entry)
{
	struct tg_prefix prefix = entry->prefix;

	tg_table_remove(&m->entries, &entry->node);
	tg_list_remove(&entry->all);
	free(entry);
	m->user.on_route(m->user.user, &prefix, NULL);
}

/* Reports what changed about a prefix, if anything. `prefix` may stand in what goes away meanwhile. */
static void publish(struct tg_mirror *m, const struct tg_prefix *prefix)
{
	struct entry *entry = entry_find(m, prefix);
	struct tg_nexthop nexthop;

	if (m->ended || m->n->closing)
		return;
	if (!view(m, prefix, &nexthop)) {
		if (entry)
			withdraw(m, entry);
		return;
	}
	if (!entry)
		entry = entry_create(m, prefix);
	if (!entry)
		return;
	entry->generation = m->generation;
	if (!memcmp(&entry->nexthop, &nexthop, sizeof(nexthop)))
		return;
	entry->nexthop = nexthop;
	m->user.on_route(m->user.user, &entry->prefix, &entry->nexthop);
}

static void publish_routes(struct tg_mirror *m, const struct route_set *set)
{
	tg_list_each(position, &set->all)
		publish(m, &tg_container(position, struct tg_route, all)->route.prefix);
}

static void publish_host(struct tg_mirror *m, const struct tg_addr *addr)
{
	struct tg_prefix prefix = prefix_of(addr, host_len(addr));

	publish(m, &prefix);
}

/* Callbacks may free neighbours: they are taken one at a time, and not looked at afterwards. */
static void publish_neighbours(struct tg_mirror *m)
{
	struct tg_list todo, *position;

	tg_list_init(&todo);
	tg_list_splice(&todo, &m->n->all_neighs);
	while ((position = tg_list_take(&todo))) {
		tg_list_add(&m->n->all_neighs, position);
		publish_host(m, &tg_container(position, struct tg_neigh, all)->addr);
	}
}

static void withdraw_the_rest(struct tg_mirror *m)
{
	struct tg_list todo, *position;

	tg_list_init(&todo);
	tg_list_splice(&todo, &m->all_entries);
	while ((position = tg_list_take(&todo))) {
		struct entry *entry = tg_container(position, struct entry, all);

		tg_list_add(&m->all_entries, position);
		if (entry->generation != m->generation && !m->ended && !m->n->closing)
			withdraw(m, entry);
	}
}

/* Tells of families that are now incomplete, or of those that are complete. */
static void tell_mode(struct tg_mirror *m, bool incomplete)
{
	static const int family[] = { [V4] = AF_INET, [V6] = AF_INET6 };

	for (int i = V4; i <= V6; i++) {
		struct mode *mode = &m->mode[i];

		if (m->ended || m->n->closing || mode->told || incomplete != !!mode->incomplete)
			continue;
		mode->told = true;
		m->user.on_mode(m->user.user, family[i], mode->incomplete);
	}
}

static void report_all(struct tg_mirror *m)
{
	tell_mode(m, true);
	publish_routes(m, &m->local);
	publish_routes(m, &m->main);
	publish_neighbours(m);
	withdraw_the_rest(m);
	tell_mode(m, false);
}

/* ---- life ---- */

static void set_free(struct tg_neighbour *n, struct route_set *set)
{
	struct tg_list *position;

	while ((position = tg_list_take(&set->all)))
		route_free(n, set, tg_container(position, struct tg_route, all));
	tg_table_free(&set->table);
}

static void mirror_free(struct tg_mirror *m)
{
	struct tg_list *position;

	set_free(m->n, &m->local);
	set_free(m->n, &m->main);
	while ((position = tg_list_take(&m->all_entries)))
		free(tg_container(position, struct entry, all));
	tg_table_free(&m->entries);
	free(m);
}

static void reporting_ends(struct tg_mirror *m)
{
	m->reporting = false;
	if (m->ended)
		mirror_free(m);
}

static void set_mode(struct tg_mirror *m, int i, const char *incomplete)
{
	if (m->mode[i].incomplete != incomplete)
		m->mode[i].told = false;
	m->mode[i].incomplete = incomplete;
}

void tg_mirror_read(struct tg_neighbour *n)
{
	struct tg_mirror *m = n->mirror;
	const char *v4, *v6;

	if (!m)
		return;
	n->stats.dumps++;
	m->generation++;
	if (read_family(m, AF_INET, &v4) || read_family(m, AF_INET6, &v6)) {
		n->lost = true;		/* interrupted by yet another change: try again */
		tg_neighbour_tick(n);
		return;
	}
	set_mode(m, V4, v4);
	set_mode(m, V6, v6);
	forget_older(m, &m->local);
	forget_older(m, &m->main);
	bind_gateways(m);
	m->reporting = true;
	report_all(m);
	reporting_ends(m);
}

void tg_mirror_neigh(struct tg_neighbour *n, struct tg_neigh *neigh)
{
	struct tg_mirror *m = n->mirror;

	if (!m || !m->generation)
		return;
	m->reporting = true;
	publish_host(m, &neigh->addr);
	tg_list_each(position, &neigh->routes)
		publish(m, &tg_container(position, struct tg_route, by_hop)->route.prefix);
	reporting_ends(m);
}

int tg_routes_watch(struct tg_neighbour *n, const struct tg_routes_user *user)
{
	struct tg_mirror *m;

	if (n->mirror)
		return -EBUSY;
	m = calloc(1, sizeof(*m));
	if (!m)
		return -ENOMEM;
	m->n = n;
	m->user = *user;
	tg_list_init(&m->local.all);
	tg_list_init(&m->main.all);
	tg_list_init(&m->all_entries);
	n->mirror = m;
	tg_neighbour_disturb(n);
	return 0;
}

void tg_routes_unwatch(struct tg_neighbour *n)
{
	struct tg_mirror *m = n->mirror;

	n->mirror = NULL;
	if (!m)
		return;
	m->ended = true;
	if (!m->reporting)
		mirror_free(m);
}

void tg_mirror_free(struct tg_neighbour *n)
{
	tg_routes_unwatch(n);
}
