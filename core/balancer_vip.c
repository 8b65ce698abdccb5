/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Endpoints: VIPs, and nat's way back from a backend's endpoint to its VIP (see balancer.h). What the
 * hash maps hold is known here, so that only what changes is written. An endpoint belongs to one
 * service; another one that wants it takes it over in one write.
 */
#include "balancer_internal.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdlib.h>

static const struct {
	const char *name; /* for messages */
	enum tg_map map;
	int family;
	size_t key, value;
	uint32_t max;
} kinds[] = {
	[TG_ENDPOINT_VIP4] = { "IPv4 VIPs", TG_MAP_VIPS4, AF_INET, sizeof(struct tg_vip4_key),
		sizeof(struct tg_vip), TG_MAX_VIPS },
	[TG_ENDPOINT_VIP6] = { "IPv6 VIPs", TG_MAP_VIPS6, AF_INET6, sizeof(struct tg_vip6_key),
		sizeof(struct tg_vip), TG_MAX_VIPS },
	[TG_ENDPOINT_REVERSE4] = { "IPv4 endpoints of nat's backends", TG_MAP_REVERSE4, AF_INET,
		sizeof(struct tg_vip4_key), sizeof(struct tg_reverse4), TG_MAX_REVERSE },
	[TG_ENDPOINT_REVERSE6] = { "IPv6 endpoints of nat's backends", TG_MAP_REVERSE6, AF_INET6,
		sizeof(struct tg_vip6_key), sizeof(struct tg_reverse6), TG_MAX_REVERSE },
};

#define FIRST_KIND TG_ENDPOINT_VIP4
#define LAST_KIND  TG_ENDPOINT_REVERSE6

static enum tg_endpoint_kind vip_kind(const struct tg_addr *addr)
{
	return is_v6(addr) ? TG_ENDPOINT_VIP6 : TG_ENDPOINT_VIP4;
}

static enum tg_endpoint_kind reverse_kind(const struct tg_addr *addr)
{
	return is_v6(addr) ? TG_ENDPOINT_REVERSE6 : TG_ENDPOINT_REVERSE4;
}

static bool is_vip(enum tg_endpoint_kind kind)
{
	return kind == TG_ENDPOINT_VIP4 || kind == TG_ENDPOINT_VIP6;
}

static union endpoint_key key_of(const struct tg_addr *addr, uint16_t port, uint8_t proto)
{
	union endpoint_key key = { 0 };

	if (!is_v6(addr)) {
		key.v4 = (struct tg_vip4_key){ addr->word[0], htons(port), proto, 0 };
		return key;
	}
	memcpy(key.v6.addr, addr->word, sizeof(key.v6.addr));
	key.v6.port = htons(port);
	key.v6.proto = proto;
	return key;
}

/* ---- the index of endpoints ---- */

static void on_settled(uv_timer_t *settle)
{
	struct tg_balancer *balancer = settle->data;
	const int *maps = balancer->dp->maps;

	tg_endpoints_publish(
		&balancer->index, (int[]){ maps[TG_MAP_VIPS4], maps[TG_MAP_VIPS6],
					  maps[TG_MAP_REVERSE4], maps[TG_MAP_REVERSE6] });
}

void tg_index_changing(struct tg_balancer *balancer)
{
	tg_endpoints_forget(&balancer->index);
	uv_update_time(balancer->loop);
	uv_timer_start(&balancer->settle, on_settled, TG_ENDPOINTS_REST_MS, 0);
}

/* Opens the index of endpoints, and has it made if a daemon ended before it did. */
int tg_index_open(struct tg_balancer *balancer)
{
	const int *maps = balancer->dp->maps;
	int result = tg_endpoints_open(&balancer->index, maps[TG_MAP_CLOCK],
		maps[TG_MAP_ENDPOINT_LINES], maps[TG_MAP_ENDPOINTS]);

	if (!result && !balancer->index.clock->index_lines)
		tg_index_changing(balancer);
	return result;
}

/* ---- the table ---- */

static uint32_t hash_of(enum tg_endpoint_kind kind, const union endpoint_key *key)
{
	return tg_hash(key, sizeof(*key)) ^ kind * 0x9e3779b9u;
}

static struct endpoint *find(
	struct tg_balancer *balancer, enum tg_endpoint_kind kind, const union endpoint_key *key)
{
	struct tg_table_node *node = tg_table_first(&balancer->endpoints, hash_of(kind, key));

	for (; node; node = tg_table_next(node)) {
		struct endpoint *endpoint = tg_container(node, struct endpoint, node);

		if (endpoint->kind == kind && !memcmp(&endpoint->key, key, sizeof(*key)))
			return endpoint;
	}
	return NULL;
}

static struct endpoint *add(
	struct service *service, enum tg_endpoint_kind kind, const union endpoint_key *key)
{
	struct tg_balancer *balancer = service->balancer;
	struct endpoint *endpoint = calloc(1, sizeof(*endpoint));

	if (!endpoint ||
		tg_table_insert(&balancer->endpoints, &endpoint->node, hash_of(kind, key))) {
		free(endpoint);
		return NULL;
	}
	endpoint->kind = kind;
	endpoint->key = *key;
	if (is_vip(kind) && tg_address_hold(balancer, kind == TG_ENDPOINT_VIP6, key)) {
		tg_table_remove(&balancer->endpoints, &endpoint->node);
		free(endpoint);
		return NULL;
	}
	tg_list_add(&service->endpoints, &endpoint->of_service);
	balancer->endpoint_count[kind]++;
	return endpoint;
}

/* Frees what is in memory; `for_good`: the maps have it no more. */
static void forget(struct tg_balancer *balancer, struct endpoint *endpoint, bool for_good)
{
	if (is_vip(endpoint->kind))
		tg_address_release(
			balancer, endpoint->kind == TG_ENDPOINT_VIP6, &endpoint->key, for_good);
	balancer->endpoint_count[endpoint->kind]--;
	tg_list_remove(&endpoint->of_service);
	tg_table_remove(&balancer->endpoints, &endpoint->node);
	free(endpoint);
}

/* The service wants this endpoint with this value: it gets it, from another service if need be. */
static void put(struct service *service, enum tg_endpoint_kind kind, const union endpoint_key *key,
	const union endpoint_value *value)
{
	struct tg_balancer *balancer = service->balancer;
	struct endpoint *endpoint = find(balancer, kind, key);
	bool write = !endpoint || memcmp(&endpoint->value, value, sizeof(*value));

	if (!endpoint)
		endpoint = add(service, kind, key);
	if (write)
		tg_index_changing(balancer);
	if (write && tg_datapath_set(balancer->dp, kinds[kind].map, key, value))
		write = false; /* logged; there may be an older value that is still ours */
	if (!endpoint)
		return;
	if (write)
		endpoint->value = *value;
	endpoint->wanted = true;
	tg_list_remove(&endpoint->of_service);
	tg_list_add(&service->endpoints, &endpoint->of_service);
}

union endpoint_value tg_vip_value(const struct service *service, bool v6, uint8_t proto)
{
	const struct tg_ring *ring = &service->ring[v6];
	union endpoint_value value = { 0 };

	value.vip = (struct tg_vip){ .ring = ring->index,
		.slots = ring->size,
		.service = service->index,
		.mode = service->mode,
		.fail = service->fail,
		.flags = service->flags |
			 (service->quic.length && proto == IPPROTO_UDP ? TG_VIP_QUIC : 0) };
	return value;
}

static void put_vip(struct service *service, const struct tg_vip_spec *vip)
{
	union endpoint_key key = key_of(&vip->addr, vip->port, vip->proto);
	union endpoint_value value = tg_vip_value(service, is_v6(&vip->addr), vip->proto);

	put(service, vip_kind(&vip->addr), &key, &value);
}

/* Where a backend's answers come from. */
static union endpoint_key reverse_key(
	const struct tg_vip_spec *vip, const struct tg_addr *addr, uint16_t port)
{
	return key_of(addr, port ? port : vip->port, vip->proto);
}

/* Has another service taken the endpoint of a backend that leaves this one? */
static bool is_taken(const struct backend *backend, enum tg_endpoint_kind kind,
	const union endpoint_key *key)
{
	struct endpoint *endpoint = find(backend->service->balancer, kind, key);
	uint32_t owner = !endpoint ? 0
			 : kind == TG_ENDPOINT_REVERSE6
				 ? endpoint->value.reverse6.service
				 : endpoint->value.reverse4.service;

	return backend->leaves && endpoint && owner != backend->service->index;
}

/* Has a range of another service taken it? */
static bool is_taken_by_range(const struct backend *backend, const struct tg_vip_spec *vip)
{
	return backend->leaves &&
	       tg_range_has_way(backend->service->balancer, backend->service, &backend->addr,
		       backend->port ? backend->port : vip->port, vip->proto);
}

static void put_reverse(
	struct service *service, const struct tg_vip_spec *vip, const struct backend *backend)
{
	union endpoint_key key = reverse_key(vip, &backend->addr, backend->port);
	union endpoint_value value = { 0 };

	if (is_v6(&vip->addr)) {
		value.reverse6 = (struct tg_reverse6){ .port = htons(vip->port),
			.service = service->index,
			.backend = backend->index };
		memcpy(value.reverse6.addr, vip->addr.word, sizeof(value.reverse6.addr));
	} else {
		value.reverse4 = (struct tg_reverse4){ .addr = vip->addr.word[0],
			.port = htons(vip->port),
			.service = service->index,
			.backend = backend->index };
	}
	if (!is_taken(backend, reverse_kind(&vip->addr), &key) && !is_taken_by_range(backend, vip))
		put(service, reverse_kind(&vip->addr), &key, &value);
}

static bool needs_reverse(
	enum tg_mode mode, const struct tg_vip_spec *vip, const struct tg_addr *backend)
{
	return mode == TG_MODE_NAT && backend->family == vip->addr.family;
}

/* Puts the service's ways back and then its VIPs in the maps; what it has no more goes in tg_vips_drop. */
void tg_vips_put(struct service *service)
{
	for (size_t i = 0; i < service->vip_count; i++)
		tg_list_each(position, &service->backends)
			if (!has_left(backend_of_list(position)) &&
				!tg_vip_is_range(&service->vips[i]) &&
				needs_reverse(service->mode, &service->vips[i],
					&backend_of_list(position)->addr))
				put_reverse(service, &service->vips[i], backend_of_list(position));
	for (size_t i = 0; i < service->vip_count; i++)
		if (!tg_vip_is_range(&service->vips[i]))
			put_vip(service, &service->vips[i]);
}

/* Removes what the service has and did not put since the last time. */
void tg_vips_drop(struct service *service)
{
	struct tg_balancer *balancer = service->balancer;
	struct tg_list *next;

	for (struct tg_list *at = service->endpoints.next; at != &service->endpoints; at = next) {
		struct endpoint *endpoint = endpoint_of_list(at);

		next = at->next;
		if (!endpoint->wanted) {
			tg_index_changing(balancer);
			bpf_map_delete_elem(
				balancer->dp->maps[kinds[endpoint->kind].map], &endpoint->key);
			forget(balancer, endpoint, true);
		} else {
			endpoint->wanted = false;
		}
	}
}

void tg_vips_yield(struct tg_balancer *balancer)
{
	tg_list_each(at, &balancer->services) {
		struct service *service = service_of_list(at);
		bool leaves = false;

		tg_list_each(position, &service->backends)
			leaves |= backend_of_list(position)->leaves;
		if (!leaves || service->mode != TG_MODE_NAT)
			continue;
		tg_vips_put(service);
		tg_vips_drop(service);
	}
}

/* Frees what is in memory. */
void tg_vips_forget(struct service *service)
{
	while (!tg_list_empty(&service->endpoints))
		forget(service->balancer, endpoint_of_list(service->endpoints.next), false);
}

struct service *tg_vip_owner(struct tg_balancer *balancer, const struct tg_vip_spec *vip)
{
	union endpoint_key key = key_of(&vip->addr, vip->port, vip->proto);
	struct endpoint *endpoint = find(balancer, vip_kind(&vip->addr), &key);

	if (endpoint)
		return balancer->by_index[endpoint->value.vip.service];
	return tg_range_owner(balancer, vip);
}

/* ---- room ---- */

/* Counts what the service that comes needs and is not there yet. */
static void count_new(
	struct tg_balancer *balancer, const struct tg_service_spec *spec, uint32_t *count)
{
	for (size_t i = 0; i < spec->vip_count; i++) {
		const struct tg_vip_spec *vip = &spec->vips[i];
		enum tg_endpoint_kind kind = reverse_kind(&vip->addr);
		union endpoint_key key = key_of(&vip->addr, vip->port, vip->proto);

		if (tg_vip_is_range(vip))
			continue;
		count[vip_kind(&vip->addr)] += !find(balancer, vip_kind(&vip->addr), &key);
		for (size_t j = 0; j < spec->backend_count; j++) {
			const struct tg_backend_spec *b = &spec->backends[j];

			if (!needs_reverse(spec->mode, vip, &b->addr))
				continue;
			key = reverse_key(vip, &b->addr, b->port);
			count[kind] += !find(balancer, kind, &key);
		}
	}
}

int tg_vips_check(struct tg_balancer *balancer, struct tg_error *error)
{
	uint32_t count[LAST_KIND + 1];

	memcpy(count, balancer->endpoint_count, sizeof(count));
	tg_list_each(position, &balancer->services) {
		if (service_of_list(position)->next_spec)
			count_new(balancer, service_of_list(position)->next_spec, count);
		tg_ranges_count(service_of_list(position), &count[TG_ENDPOINT_VIP4]);
	}
	for (int kind = FIRST_KIND; kind <= LAST_KIND; kind++) {
		if (count[kind] > kinds[kind].max)
			return tg_fail(error, -ENOSPC,
				"%u %s, those that go in the same step included: there is room for "
				"%u",
				count[kind], kinds[kind].name, kinds[kind].max);
		if (count[kind] > balancer->endpoint_count[kind] &&
			balancer->dp->maps[kinds[kind].map] < 0)
			return tg_fail(error, -EINVAL,
				"the program has no feature for %s: specialise it first",
				kinds[kind].name);
	}
	return 0;
}

/* ---- adoption ---- */

int tg_service_add_vip(struct service *service, const struct tg_vip_spec *vip)
{
	struct tg_vip_spec *vips = realloc(service->vips, (service->vip_count + 1) * sizeof(*vips));

	if (!vips)
		return -ENOMEM;
	service->vips = vips;
	vips[service->vip_count++] = *vip;
	return 0;
}

static int adopt_vip(struct service *service, int family, const union endpoint_key *key)
{
	struct tg_vip_spec vip = {
		.addr = tg_addr_from_bytes(
			family, family == AF_INET ? (void *)&key->v4.addr : (void *)key->v6.addr),
		.port = ntohs(family == AF_INET ? key->v4.port : key->v6.port),
		.proto = family == AF_INET ? key->v4.proto : key->v6.proto,
	};

	vip.last = vip.port;
	return tg_service_add_vip(service, &vip);
}

static uint32_t owner_of(enum tg_endpoint_kind kind, const union endpoint_value *value)
{
	if (kind == TG_ENDPOINT_REVERSE4)
		return value->reverse4.service;
	return kind == TG_ENDPOINT_REVERSE6 ? value->reverse6.service : value->vip.service;
}

/* A daemon that died between a service's record and its VIPs left them on a ring that is not its own. */
static void correct_vip(struct service *service, struct endpoint *endpoint)
{
	bool v6 = endpoint->kind == TG_ENDPOINT_VIP6;
	uint8_t proto = v6 ? endpoint->key.v6.proto : endpoint->key.v4.proto;
	union endpoint_value value = tg_vip_value(service, v6, proto);

	if (!value.vip.slots || !memcmp(&value, &endpoint->value, sizeof(value)))
		return;
	endpoint->value = value;
	tg_index_changing(service->balancer);
	tg_datapath_set(service->balancer->dp, kinds[endpoint->kind].map, &endpoint->key, &value);
}

static int adopt_one(struct tg_balancer *balancer, enum tg_endpoint_kind kind,
	const union endpoint_key *key, const union endpoint_value *value)
{
	uint32_t owner = owner_of(kind, value);
	struct service *service = owner < TG_MAX_SERVICES ? balancer->by_index[owner] : NULL;
	struct endpoint *endpoint = service ? add(service, kind, key) : NULL;

	if (!endpoint)
		return -ENOMEM;
	endpoint->value = *value;
	if (!is_vip(kind))
		return 0;
	correct_vip(service, endpoint);
	return adopt_vip(service, kinds[kind].family, key);
}

static bool is_orphan(
	struct tg_balancer *balancer, enum tg_endpoint_kind kind, const union endpoint_value *value)
{
	uint32_t owner = owner_of(kind, value);

	return owner >= TG_MAX_SERVICES || !balancer->by_index[owner];
}

/* Adopts the entries of a map; those of no service, which a daemon left that died in an apply, go. */
static int adopt_kind(struct tg_balancer *balancer, enum tg_endpoint_kind kind)
{
	int map = balancer->dp->maps[kinds[kind].map], result = 0;
	union endpoint_key key = { 0 }, next = { 0 };
	union endpoint_value value = { 0 };
	bool more = map >= 0 && !bpf_map_get_next_key(map, NULL, &key);

	while (more && !result) {
		more = !bpf_map_get_next_key(map, &key, &next);
		if (!bpf_map_lookup_elem(map, &key, &value) &&
			!(is_vip(kind) && tg_is_address(&value.vip))) {
			if (is_orphan(balancer, kind, &value))
				bpf_map_delete_elem(map, &key);
			else
				result = adopt_one(balancer, kind, &key, &value);
		}
		key = next;
	}
	return result;
}

/* Gives adopted services the endpoints that the maps hold for them. */
int tg_vips_adopt(struct tg_balancer *balancer)
{
	int result = 0;

	balancer->adopting = true;
	for (int kind = FIRST_KIND; !result && kind <= LAST_KIND; kind++)
		result = adopt_kind(balancer, kind);
	if (!result)
		result = tg_ranges_adopt(balancer);
	balancer->adopting = false;
	if (!result)
		tg_addresses_adopt(balancer);
	return result;
}
