/* SPDX-License-Identifier: GPL-2.0-only */
/* VIPs, and nat's way back from a backend's endpoint to its VIP (see balancer.h). */
#include "balancer_internal.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <search.h>
#include <stdlib.h>

union vip_key {
	struct tg_vip4_key v4;
	struct tg_vip6_key v6;
};

/* Fills the key of an endpoint for the maps of its family. */
static void make_key(union vip_key *key, const struct tg_addr *addr, uint16_t port, uint8_t proto)
{
	memset(key, 0, sizeof(*key));
	if (addr->family == AF_INET) {
		key->v4 = (struct tg_vip4_key){ addr->word[0], htons(port), proto, 0 };
		return;
	}
	memcpy(key->v6.addr, addr->word, sizeof(key->v6.addr));
	key->v6.port = htons(port);
	key->v6.proto = proto;
}

static int vip_map(const struct tg_balancer *balancer, int family)
{
	return balancer->dp->maps[family == AF_INET ? TG_MAP_VIPS4 : TG_MAP_VIPS6];
}

static void on_settled(uv_timer_t *settle)
{
	struct tg_balancer *balancer = settle->data;
	const int *maps = balancer->dp->maps;

	tg_endpoints_publish(&balancer->endpoints, (int[]){ maps[TG_MAP_VIPS4], maps[TG_MAP_VIPS6],
		maps[TG_MAP_REVERSE4], maps[TG_MAP_REVERSE6] });
}

/* A VIP or a way back is about to change: until that has settled, the hash maps are asked. */
static void changing(struct tg_balancer *balancer)
{
	tg_endpoints_forget(&balancer->endpoints);
	uv_update_time(balancer->loop);
	uv_timer_start(&balancer->settle, on_settled, TG_ENDPOINTS_REST_MS, 0);
}

/* Opens the index of endpoints, and has it made if a daemon ended before it did. */
int tg_index_open(struct tg_balancer *balancer)
{
	const int *maps = balancer->dp->maps;
	int result = tg_endpoints_open(&balancer->endpoints, maps[TG_MAP_CLOCK],
		maps[TG_MAP_ENDPOINT_LINES], maps[TG_MAP_ENDPOINTS]);

	if (!result && !balancer->endpoints.clock->index_lines)
		changing(balancer);
	return result;
}

/* Sets an entry, unless it says the same already. */
static void put(struct tg_balancer *balancer, int map, const void *key, const void *value, size_t size)
{
	char now[64];

	if (!bpf_map_lookup_elem(map, key, now) && !memcmp(now, value, size))
		return;
	changing(balancer);
	bpf_map_update_elem(map, key, value, BPF_ANY);
}

static void take_out(struct tg_balancer *balancer, int map, const void *key)
{
	changing(balancer);
	bpf_map_delete_elem(map, key);
}

/* Writes the service's VIPs. */
void tg_vips_put(struct service *service)
{
	for (size_t i = 0; i < service->vip_count; i++) {
		const struct tg_vip_spec *vip = &service->vips[i];
		const struct tg_ring *ring = &service->ring[vip->addr.family == AF_INET6];
		struct tg_vip want = { .ring = ring->index, .slots = ring->size,
			.service = service->index, .mode = service->mode, .fail = service->fail };
		int map = vip_map(service->balancer, vip->addr.family);
		union vip_key key;

		make_key(&key, &vip->addr, vip->port, vip->proto);
		put(service->balancer, map, &key, &want, sizeof(want));
	}
}

static bool keeps(const struct service *service, const struct tg_vip_spec *vip)
{
	for (size_t i = 0; i < service->vip_count; i++)
		if (service->vips[i].port == vip->port && service->vips[i].proto == vip->proto &&
			tg_addr_equal(&service->vips[i].addr, &vip->addr))
			return true;
	return false;
}

/* Removes those of `vips` that the service no longer has, and that no other service took over. */
void tg_vips_drop(struct service *service, const struct tg_vip_spec *vips, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		int map = vip_map(service->balancer, vips[i].addr.family);
		union vip_key key;
		struct tg_vip now;

		if (keeps(service, &vips[i]))
			continue;
		make_key(&key, &vips[i].addr, vips[i].port, vips[i].proto);
		if (!bpf_map_lookup_elem(map, &key, &now) && now.service == service->index)
			take_out(service->balancer, map, &key);
	}
}

static struct service *service_at(struct tg_balancer *balancer, uint32_t index)
{
	struct service *service = balancer->services;

	while (service && service->index != index)
		service = service->next;
	return service;
}

static int adopt_vip(struct tg_balancer *balancer, int family, const union vip_key *key,
	const struct tg_vip *vip)
{
	struct service *service = service_at(balancer, vip->service);
	struct tg_vip_spec *vips, *fresh;

	if (!service)
		return 0;
	vips = realloc(service->vips, (service->vip_count + 1) * sizeof(*vips));
	if (!vips)
		return -ENOMEM;
	service->vips = vips;
	fresh = &vips[service->vip_count++];
	*fresh = (struct tg_vip_spec){
		.addr = tg_addr_from_bytes(family, family == AF_INET ? (void *)&key->v4.addr : (void *)key->v6.addr),
		.port = ntohs(family == AF_INET ? key->v4.port : key->v6.port),
		.proto = family == AF_INET ? key->v4.proto : key->v6.proto,
	};
	return 0;
}

/* Gives adopted services the VIPs that the maps hold for them. */
int tg_vips_adopt(struct tg_balancer *balancer)
{
	static const int families[] = { AF_INET, AF_INET6 };
	int result = 0;

	for (int i = 0; i < 2; i++) {
		int map = vip_map(balancer, families[i]);
		union vip_key key, *last = NULL;
		struct tg_vip vip;

		while (!result && !bpf_map_get_next_key(map, last, &key)) {
			last = &key;
			if (!bpf_map_lookup_elem(map, &key, &vip))
				result = adopt_vip(balancer, families[i], &key, &vip);
		}
	}
	return result;
}

/* An entry of `reverse4` or `reverse6` that is in force. */
struct reverse {
	union vip_key key;
	int family;
	bool wanted;
};

static int by_key(const void *a, const void *b)
{
	const struct reverse *x = a, *y = b;

	return memcmp(&x->key, &y->key, sizeof(x->key));
}

static struct reverse *reverse_new(struct service *service, int family, const union vip_key *key)
{
	struct reverse *entry = calloc(1, sizeof(*entry)), **found;

	if (!entry)
		return NULL;
	entry->family = family;
	entry->key = *key;
	found = tsearch(entry, &service->reverse, by_key);
	if (!found || *found != entry)
		free(entry);
	return found ? *found : NULL;
}

static int adopt_reverse(struct tg_balancer *balancer, int family)
{
	int map = balancer->dp->maps[family == AF_INET ? TG_MAP_REVERSE4 : TG_MAP_REVERSE6];
	union vip_key key = { 0 }, *last = NULL;
	struct service *service;
	union {
		struct tg_reverse4 v4;
		struct tg_reverse6 v6;
	} value;

	while (map >= 0 && !bpf_map_get_next_key(map, last, &key)) {
		last = &key;
		if (bpf_map_lookup_elem(map, &key, &value))
			continue;
		service = service_at(balancer, family == AF_INET ? value.v4.service : value.v6.service);
		if (service && !reverse_new(service, family, &key))
			return -ENOMEM;
	}
	return 0;
}

/* Gives adopted services the ways back that the maps hold for them. */
int tg_reverse_adopt(struct tg_balancer *balancer)
{
	int result = adopt_reverse(balancer, AF_INET);

	return result ? result : adopt_reverse(balancer, AF_INET6);
}

static int reverse_map(const struct service *service, int family)
{
	return service->balancer->dp->maps[family == AF_INET ? TG_MAP_REVERSE4 : TG_MAP_REVERSE6];
}

static void write_reverse(struct service *service, const union vip_key *key,
	const struct tg_vip_spec *vip, const struct backend *backend)
{
	struct tg_reverse4 v4 = { .addr = vip->addr.word[0], .port = htons(vip->port),
		.service = service->index, .backend = backend->index };
	struct tg_reverse6 v6 = { .port = htons(vip->port), .service = service->index,
		.backend = backend->index };
	bool is_v4 = vip->addr.family == AF_INET;

	memcpy(v6.addr, vip->addr.word, sizeof(v6.addr));
	put(service->balancer, reverse_map(service, vip->addr.family), key,
		is_v4 ? (void *)&v4 : (void *)&v6, is_v4 ? sizeof(v4) : sizeof(v6));
}

static void want_reverse(struct service *service, const struct tg_vip_spec *vip,
	const struct backend *backend)
{
	struct reverse *entry;
	union vip_key key;

	make_key(&key, &backend->addr, backend->port ? backend->port : vip->port, vip->proto);
	entry = reverse_new(service, vip->addr.family, &key);
	if (!entry)
		return;
	entry->wanted = true;
	write_reverse(service, &entry->key, vip, backend);
}

struct unwanted {
	struct reverse **list;
	size_t count;
};

static void collect_unwanted(const void *node, VISIT visit, void *arg)
{
	struct reverse *entry = *(struct reverse *const *)node;
	struct unwanted *unwanted = arg;
	struct reverse **list;

	if (visit != postorder && visit != leaf)
		return;
	if (!entry->wanted) {
		list = realloc(unwanted->list, (unwanted->count + 1) * sizeof(*list));
		if (!list)
			return;
		unwanted->list = list;
		list[unwanted->count++] = entry;
	}
	entry->wanted = false;
}

static bool belongs(int map, const struct reverse *entry, uint32_t service)
{
	union {
		struct tg_reverse4 v4;
		struct tg_reverse6 v6;
	} now;

	if (bpf_map_lookup_elem(map, &entry->key, &now))
		return false;
	return (entry->family == AF_INET ? now.v4.service : now.v6.service) == service;
}

static void drop_unwanted(struct service *service)
{
	struct unwanted unwanted = { 0 };

	twalk_r(service->reverse, collect_unwanted, &unwanted);
	for (size_t i = 0; i < unwanted.count; i++) {
		struct reverse *entry = unwanted.list[i];
		int map = reverse_map(service, entry->family);

		if (belongs(map, entry, service->index)) /* another service may have taken it over */
			take_out(service->balancer, map, &entry->key);
		tdelete(entry, &service->reverse, by_key);
		free(entry);
	}
	free(unwanted.list);
}

/* Makes the way back that of the service's VIPs and backends; without nat, none. */
void tg_reverse_sync(struct service *service)
{
	for (size_t i = 0; service->mode == TG_MODE_NAT && i < service->vip_count; i++)
		for (struct backend *b = service->backends; b; b = b->next)
			if (b->addr.family == service->vips[i].addr.family)
				want_reverse(service, &service->vips[i], b);
	drop_unwanted(service);
}

void tg_reverse_drop(struct service *service)
{
	drop_unwanted(service); /* between two syncs nothing is marked as wanted */
}
