/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * VIPs that are a range of ports, and in nat the ways back from their backends (see balancer.h).
 * Ranges of one address and protocol lie within each other or apart: where they lie within, the
 * narrowest one has the port. They are flattened to disjoint intervals, all of them at each apply,
 * and published in one store (ranges.h), when every service's rings, backends and single ports are
 * in place and before any that left is taken away. So a packet for a port finds its old service or
 * its new one. An interval remembers the range that was declared: a later daemon reads that.
 */
#include "balancer_internal.h"
#include "log.h"

#include <errno.h>
#include <stdlib.h>

/* A service's VIP that is a range. */
struct claim {
	const struct tg_vip_spec *vip;
	struct service *service;
};

/* Ports of which one claim has all. */
struct interval {
	const struct claim *claim;
	struct tg_ports ports;
};

/* ---- flattening ---- */

static int compare_owner(const struct tg_vip_spec *a, const struct tg_vip_spec *b)
{
	int order = memcmp(&a->addr, &b->addr, sizeof(a->addr));

	return order ? order : a->proto - b->proto;
}

/* By address and protocol, then by the first port, of two that begin together the wider first. */
static int compare_claims(const void *a, const void *b)
{
	const struct tg_vip_spec *x = ((const struct claim *)a)->vip;
	const struct tg_vip_spec *y = ((const struct claim *)b)->vip;
	int order = compare_owner(x, y);

	if (!order)
		order = x->port - y->port;
	return order ? order : y->last - x->last;
}

/* A walk from port to port over the claims in their order. */
struct walk {
	const struct claim **open; /* that the port is in, the narrowest last */
	size_t depth;
	uint32_t port; /* from here on nobody has been given a port yet */
	struct interval *intervals;
	size_t count;
};

static void give(struct walk *walk, const struct claim *claim, uint32_t last)
{
	if (walk->port > last)
		return;
	walk->intervals[walk->count++] = (struct interval){ claim, { walk->port, last } };
	walk->port = last + 1;
}

/* Leaves the claims that end before `port`. */
static void leave(struct walk *walk, uint32_t port)
{
	while (walk->depth && walk->open[walk->depth - 1]->vip->last < port) {
		const struct claim *claim = walk->open[--walk->depth];

		give(walk, claim, claim->vip->last);
	}
}

/* -EINVAL: it is partly within another, or the same. */
static int enter(struct walk *walk, const struct claim *claim)
{
	const struct tg_vip_spec *vip = claim->vip, *outer;

	if (walk->depth && compare_owner(walk->open[0]->vip, vip))
		leave(walk, UINT16_MAX + 1);
	leave(walk, vip->port);
	outer = walk->depth ? walk->open[walk->depth - 1]->vip : NULL;
	if (outer &&
		(vip->last > outer->last || (vip->port == outer->port && vip->last == outer->last)))
		return -EINVAL;
	if (outer)
		give(walk, walk->open[walk->depth - 1], vip->port - 1);
	walk->open[walk->depth++] = claim;
	walk->port = vip->port;
	return 0;
}

/* Fills `intervals`, of which there are less than twice as many as claims: how many, or -errno. */
static ssize_t flatten(struct claim *claims, size_t count, struct interval *intervals)
{
	struct walk walk = { .open = calloc(count + 1, sizeof(*walk.open)),
		.intervals = intervals };
	int result = walk.open ? 0 : -ENOMEM;

	qsort(claims, count, sizeof(*claims), compare_claims);
	for (size_t i = 0; !result && i < count; i++)
		result = enter(&walk, &claims[i]);
	leave(&walk, UINT16_MAX + 1);
	free(walk.open);
	return result ? result : (ssize_t)walk.count;
}

/* ---- what services claim ---- */

static size_t claims_of(struct service *service, struct claim *claims)
{
	const struct tg_service_spec *next = service->next_spec;
	const struct tg_vip_spec *vips = next ? next->vips : service->vips;
	size_t vip_count = next ? next->vip_count : service->vip_count, count = 0;

	for (size_t i = 0; i < vip_count; i++)
		if (tg_vip_is_range(&vips[i]))
			claims[count++] = (struct claim){ &vips[i], service };
	return count;
}

static size_t count_vips(const struct tg_balancer *balancer)
{
	size_t count = 0;

	tg_list_each(position, &balancer->services) {
		struct service *service = service_of_list(position);

		count += service->next_spec ? service->next_spec->vip_count : service->vip_count;
	}
	return count;
}

/* All claims, flattened; to be freed by the caller. The services of a spec that is not `partial` are those named. */
struct plan {
	struct claim *claims;
	struct interval *intervals;
	size_t count; /* of intervals */
};

static void plan_free(struct plan *plan)
{
	free(plan->claims);
	free(plan->intervals);
}

static int plan_make(struct tg_balancer *balancer, bool partial, struct plan *plan)
{
	size_t vips = count_vips(balancer), count = 0;
	ssize_t result;

	plan->claims = calloc(vips + 1, sizeof(*plan->claims));
	plan->intervals = calloc(2 * vips + 1, sizeof(*plan->intervals));
	plan->count = 0;
	if (!plan->claims || !plan->intervals)
		return -ENOMEM;
	tg_list_each(position, &balancer->services)
		if (partial || service_of_list(position)->named)
			count += claims_of(service_of_list(position), plan->claims + count);
	result = flatten(plan->claims, count, plan->intervals);
	plan->count = result > 0 ? result : 0;
	return result < 0 ? result : 0;
}

/* ---- room ---- */

/* How many backends may answer for it in nat, when what is being applied is in force: those that leave, too. */
static size_t count_ways_back(const struct claim *claim)
{
	const struct tg_service_spec *next = claim->service->next_spec;
	int family = claim->vip->addr.family;
	size_t count = 0;

	if ((next ? next->mode : claim->service->mode) != TG_MODE_NAT)
		return 0;
	for (size_t i = 0; next && i < next->backend_count; i++)
		count += next->backends[i].addr.family == family &&
			 !tg_backend_find(claim->service, &next->backends[i].addr,
				 next->backends[i].port);
	tg_list_each(position, &claim->service->backends)
		count += backend_of_list(position)->addr.family == family;
	return count;
}

static int check_room(struct tg_balancer *balancer, const struct plan *plan, struct tg_error *error)
{
	size_t count = plan->count;

	for (size_t i = 0; i < plan->count; i++)
		count += count_ways_back(plan->intervals[i].claim);
	if (count > TG_MAX_RANGES)
		return tg_fail(error, -ENOSPC,
			"%zu port ranges, in nat one more for each backend: there is room for %d",
			count, TG_MAX_RANGES);
	if (count && balancer->dp->maps[TG_MAP_RANGES] < 0)
		return tg_fail(error, -EINVAL,
			"the program has no feature for port ranges: specialise it first");
	return 0;
}

int tg_ranges_check(struct tg_balancer *balancer, bool partial, struct tg_error *error)
{
	struct plan plan;
	int result = plan_make(balancer, partial, &plan);

	if (result == -EINVAL)
		tg_fail(error, result, "two VIPs are the same range of ports, or overlap in part");
	else if (result)
		tg_fail(error, result, "out of memory");
	else
		result = check_room(balancer, &plan, error);
	plan_free(&plan);
	return result;
}

/* ---- writing ---- */

static struct tg_endpoint record(
	const struct interval *interval, enum tg_endpoint_kind kind, const struct tg_addr *addr)
{
	const struct tg_vip_spec *vip = interval->claim->vip;
	struct tg_endpoint record = { .proto = vip->proto,
		.kind = kind,
		.ports = interval->ports,
		.declared = { vip->port, vip->last } };

	memcpy(record.addr, addr->word, sizeof(record.addr));
	memset(&record.reverse, 0, sizeof(record.reverse));
	return record;
}

static struct tg_endpoint vip_record(const struct interval *interval)
{
	const struct tg_vip_spec *vip = interval->claim->vip;
	bool v6 = is_v6(&vip->addr);
	struct tg_endpoint out =
		record(interval, v6 ? TG_ENDPOINT_VIP6 : TG_ENDPOINT_VIP4, &vip->addr);

	out.vip = tg_vip_value(interval->claim->service, v6, vip->proto).vip;
	return out;
}

static struct tg_endpoint reverse_record(
	const struct interval *interval, const struct backend *backend)
{
	const struct tg_addr *vip = &interval->claim->vip->addr;
	struct tg_endpoint out = record(
		interval, is_v6(vip) ? TG_ENDPOINT_REVERSE6 : TG_ENDPOINT_REVERSE4, &backend->addr);

	memcpy(out.reverse.addr, vip->word, sizeof(out.reverse.addr));
	out.reverse.service = backend->service->index;
	out.reverse.backend = backend->index;
	return out;
}

static void append(struct tg_endpoint *records, size_t *count, struct tg_endpoint one)
{
	if (*count < TG_MAX_RANGES) /* as tg_ranges_check has seen to */
		records[(*count)++] = one;
}

static bool overlaps(const struct tg_endpoint *a, const struct tg_endpoint *b)
{
	return a->kind == b->kind && a->proto == b->proto &&
	       !memcmp(a->addr, b->addr, sizeof(a->addr)) && a->ports.first <= b->ports.last &&
	       b->ports.first <= a->ports.last;
}

/* What a backend that leaves answered for is another's now, if that one has a port of it. */
static bool is_taken(const struct tg_endpoint *way, const struct tg_endpoint *records, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (overlaps(way, &records[i]))
			return true;
	return false;
}

static size_t fill_ways(const struct interval *interval, bool leaving, struct tg_endpoint *records,
	size_t count)
{
	struct service *service = interval->claim->service;

	if (service->mode != TG_MODE_NAT)
		return count;
	tg_list_each(position, &service->backends) {
		struct backend *backend = backend_of_list(position);
		struct tg_endpoint way = reverse_record(interval, backend);

		if (has_left(backend) || backend->leaves != leaving ||
			backend->addr.family != interval->claim->vip->addr.family)
			continue;
		if (!leaving || !is_taken(&way, records, count))
			append(records, &count, way);
	}
	return count;
}

static size_t fill(const struct plan *plan, struct tg_endpoint *records)
{
	size_t count = 0;

	for (size_t i = 0; i < plan->count; i++)
		append(records, &count, vip_record(&plan->intervals[i]));
	for (int leaving = 0; leaving < 2; leaving++)
		for (size_t i = 0; i < plan->count; i++)
			count = fill_ways(&plan->intervals[i], leaving, records, count);
	return count;
}

static union endpoint_key address_key(const struct tg_addr *addr)
{
	union endpoint_key key = { 0 }; /* an IPv4 key is this one's beginning */

	memcpy(key.v6.addr, addr->word, sizeof(key.v6.addr));
	return key;
}

static struct tg_ranges *ranges_of(struct tg_balancer *balancer)
{
	balancer->ranges.table = __atomic_load_n(&balancer->dp->range_table, __ATOMIC_ACQUIRE);
	balancer->ranges.all = balancer->dp->ranges;
	return balancer->ranges.table ? &balancer->ranges : NULL;
}

/* ---- addresses ---- */

static void release_addresses(
	struct tg_balancer *balancer, struct tg_addr *addresses, size_t count, bool for_good)
{
	for (size_t i = 0; i < count; i++) {
		union endpoint_key key = address_key(&addresses[i]);

		tg_address_release(balancer, is_v6(&addresses[i]), &key, for_good);
	}
	free(addresses);
}

/* The addresses of what is planned are held from now on; `before` gets those held until now. */
static size_t hold_addresses(
	struct tg_balancer *balancer, const struct plan *plan, struct tg_addr **before)
{
	size_t count = balancer->range_address_count, held = 0;
	struct tg_addr *addresses = calloc(plan->count + 1, sizeof(*addresses));

	for (size_t i = 0; addresses && i < plan->count; i++) {
		const struct tg_addr *addr = &plan->intervals[i].claim->vip->addr;
		union endpoint_key key = address_key(addr);

		if (!tg_address_hold(balancer, is_v6(addr), &key))
			addresses[held++] = *addr;
	}
	*before = balancer->range_addresses;
	balancer->range_addresses = addresses;
	balancer->range_address_count = held;
	return count;
}

void tg_ranges_forget(struct tg_balancer *balancer)
{
	release_addresses(
		balancer, balancer->range_addresses, balancer->range_address_count, false);
	balancer->range_addresses = NULL;
	balancer->range_address_count = 0;
}

void tg_ranges_put(struct tg_balancer *balancer, bool partial)
{
	struct tg_ranges *ranges = ranges_of(balancer);
	struct tg_endpoint *records = ranges ? calloc(TG_MAX_RANGES, sizeof(*records)) : NULL;
	struct plan plan = { 0 };
	int result = records ? plan_make(balancer, partial, &plan) : -ENOMEM;
	struct tg_addr *addresses;
	size_t count;

	if (!ranges)
		return;
	if (result) {
		tg_log(TG_LOG_ERROR, "port ranges stay as they were: %s", strerror(-result));
	} else {
		count = hold_addresses(balancer, &plan, &addresses);
		tg_ranges_publish(ranges, records, fill(&plan, records));
		release_addresses(balancer, addresses, count, true);
	}
	plan_free(&plan);
	free(records);
}

void tg_ranges_count(const struct service *service, uint32_t count[2])
{
	const struct tg_service_spec *next = service->next_spec;
	size_t vip_count = next ? next->vip_count : service->vip_count;

	for (size_t i = 0; i < vip_count; i++) {
		const struct tg_vip_spec *vip = next ? &next->vips[i] : &service->vips[i];

		count[is_v6(&vip->addr)] += tg_vip_is_range(vip);
	}
}

/* ---- questions, adoption ---- */

bool tg_range_has_way(struct tg_balancer *balancer, const struct service *except,
	const struct tg_addr *backend, uint16_t port, uint8_t proto)
{
	struct tg_ranges *ranges = ranges_of(balancer);
	const struct tg_endpoint *found =
		ranges ? tg_ranges_find(ranges,
				 is_v6(backend) ? TG_ENDPOINT_REVERSE6 : TG_ENDPOINT_REVERSE4,
				 backend->word, proto, port)
		       : NULL;

	return found && found->reverse.service != except->index;
}

struct service *tg_range_owner(struct tg_balancer *balancer, const struct tg_vip_spec *vip)
{
	struct tg_ranges *ranges = ranges_of(balancer);
	const struct tg_endpoint *found =
		ranges ? tg_ranges_find(ranges,
				 is_v6(&vip->addr) ? TG_ENDPOINT_VIP6 : TG_ENDPOINT_VIP4,
				 vip->addr.word, vip->proto, vip->port)
		       : NULL;

	return found ? balancer->by_index[found->vip.service] : NULL;
}

static bool has_vip(const struct service *service, const struct tg_vip_spec *vip)
{
	for (size_t i = 0; i < service->vip_count; i++)
		if (!memcmp(&service->vips[i], vip, sizeof(*vip)))
			return true;
	return false;
}

static int adopt_one(struct tg_balancer *balancer, const struct tg_endpoint *record)
{
	struct tg_vip_spec vip = { .port = record->declared.first,
		.last = record->declared.last,
		.proto = record->proto };
	struct service *service = record->vip.service < TG_MAX_SERVICES
					  ? balancer->by_index[record->vip.service]
					  : NULL;

	vip.addr = tg_addr_from_bytes(
		record->kind == TG_ENDPOINT_VIP4 ? AF_INET : AF_INET6, record->addr);
	if (!service || has_vip(service, &vip))
		return 0;
	return tg_service_add_vip(service, &vip);
}

int tg_ranges_adopt(struct tg_balancer *balancer)
{
	struct tg_ranges *ranges = ranges_of(balancer);
	const struct tg_endpoint *all;
	uint32_t count = 0;
	int result = 0;

	if (!ranges)
		return 0;
	all = tg_ranges_all(ranges, &count);
	for (uint32_t i = 0; !result && i < count; i++)
		if (all[i].kind == TG_ENDPOINT_VIP4 || all[i].kind == TG_ENDPOINT_VIP6)
			result = adopt_one(balancer, &all[i]);
	if (!result) /* without those of services that a daemon left that died in an apply */
		tg_ranges_put(balancer, true);
	return result;
}
