/* SPDX-License-Identifier: GPL-2.0-only */
/* Services and backends as objects, in memory and in the datapath (see balancer.h). */
#include "balancer_internal.h"
#include "log.h"
#include "maglev.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* ---- indexes of backends ---- */

static bool has_rested(
	const struct tg_balancer *balancer, const struct resting *resting, uint64_t now)
{
	return !resting->since || (now - resting->since >= TG_INDEX_REST_NS &&
					  balancer->sweep->done > resting->sweep);
}

static uint32_t take_index(struct tg_balancer *balancer)
{
	struct resting *first = &balancer->resting[balancer->resting_first];

	if (!balancer->resting_count || !has_rested(balancer, first, uv_hrtime()))
		return 0;
	balancer->resting_first = (balancer->resting_first + 1) % TG_MAX_BACKENDS;
	balancer->resting_count--;
	return first->index;
}

void tg_index_rest(struct tg_balancer *balancer, uint32_t index, uint64_t since)
{
	uint32_t last = (balancer->resting_first + balancer->resting_count++) % TG_MAX_BACKENDS;

	balancer->resting[last] = (struct resting){ index, since, balancer->sweep->begun };
	balancer->gone[index] = true;
	if (since)
		tg_sweep_soon(balancer);
}

uint32_t tg_index_free(const struct tg_balancer *balancer)
{
	uint64_t now = uv_hrtime();
	uint32_t count = 0, at = balancer->resting_first;

	while (count < balancer->resting_count && has_rested(balancer, &balancer->resting[at], now)) {
		at = (at + 1) % TG_MAX_BACKENDS;
		count++;
	}
	return count;
}

/* ---- backends ---- */

struct endpoint_bytes {
	struct tg_addr addr;
	uint32_t port;
};

static uint64_t maglev_key(const struct tg_addr *addr, uint16_t port)
{
	struct endpoint_bytes bytes = { *addr, port };

	return tg_maglev_key(&bytes, sizeof(bytes));
}

static uint32_t backend_hash(
	const struct service *service, const struct tg_addr *addr, uint16_t port)
{
	struct endpoint_bytes bytes = { *addr, service->index << 16 | port };

	return tg_hash(&bytes, sizeof(bytes));
}

struct backend *tg_backend_new(
	struct service *service, const struct tg_addr *addr, uint16_t port, uint32_t index)
{
	struct backend *backend = calloc(1, sizeof(*backend));

	if (!backend)
		return NULL;
	if (tg_table_insert(&service->balancer->backends, &backend->node,
		    backend_hash(service, addr, port))) {
		free(backend);
		return NULL;
	}
	backend->service = service;
	backend->addr = *addr;
	backend->port = port;
	backend->index = index;
	backend->key = maglev_key(addr, port);
	backend->since = time(NULL);
	tg_list_init(&backend->of_check);
	tg_list_init(&backend->changed);
	tg_list_add(&service->backends, &backend->of_service);
	return backend;
}

struct backend *tg_backend_find(struct service *service, const struct tg_addr *addr, uint16_t port)
{
	struct tg_table_node *node =
		tg_table_first(&service->balancer->backends, backend_hash(service, addr, port));

	for (; node; node = tg_table_next(node)) {
		struct backend *backend = tg_container(node, struct backend, node);

		if (backend->service == service && backend->port == port &&
			tg_addr_equal(&backend->addr, addr))
			return backend;
	}
	return NULL;
}

static void write_entry(struct tg_datapath *dp, const struct backend *backend)
{
	struct tg_backend entry = { .port = htons(backend->port),
		.flags = is_v6(&backend->addr) ? TG_BACKEND_V6 : 0 };

	memcpy(entry.addr, backend->addr.word, sizeof(entry.addr));
	dp->backends[backend->index] = entry;
	tg_datapath_reset_counter(dp, TG_MAP_BACKEND_COUNTERS, backend->index);
	tg_datapath_reset_counter(dp, TG_MAP_REPLY_COUNTERS, backend->index);
}

struct backend *tg_backend_make(struct service *service, const struct tg_addr *addr, uint16_t port)
{
	struct tg_balancer *balancer = service->balancer;
	uint32_t index = take_index(balancer);
	struct backend *backend = index ? tg_backend_new(service, addr, port, index) : NULL;

	if (backend) {
		balancer->gone[index] = false;
		write_entry(balancer->dp, backend);
		return backend;
	}
	if (index)
		tg_index_rest(balancer, index, uv_hrtime());
	tg_log(TG_LOG_ERROR, "service %s: no memory for a backend: it is left out", service->name);
	return NULL;
}

void tg_backend_free(struct backend *backend, bool for_good)
{
	struct tg_balancer *balancer = backend->service->balancer;
	struct tg_backend_owner nobody = { 0 };

	tg_check_leave(backend);
	tg_hop_unfollow(backend);
	if (for_good)
		tg_quic_forget(backend);
	tg_list_remove(&backend->changed);
	tg_list_remove(&backend->of_service);
	tg_table_remove(&balancer->backends, &backend->node);
	if (for_good) {
		__atomic_fetch_or(&balancer->dp->backends[backend->index].flags, TG_BACKEND_DEAD,
			__ATOMIC_RELEASE);
		tg_datapath_set(balancer->dp, TG_MAP_BACKEND_OWNERS, &backend->index, &nobody);
		tg_index_rest(balancer, backend->index, uv_hrtime());
	}
	free(backend);
}

bool tg_backend_lives(const struct backend *backend)
{
	return backend->health == TG_HEALTH_UP ||
	       (backend->health == TG_HEALTH_UNKNOWN && backend->presumed);
}

bool tg_backend_serves(const struct backend *backend)
{
	return tg_backend_lives(backend) && backend->admin != TG_ADMIN_MAINT && !backend->cut;
}

/* What a later daemon presumes of the backend is what this one does. */
static enum tg_health recorded_health(const struct backend *backend)
{
	return tg_backend_lives(backend) ? TG_HEALTH_UP : backend->health;
}

/* Keeps what a later daemon has to know of the backend beside the datapath's entry. */
void tg_backend_record(struct backend *backend)
{
	struct tg_backend_owner owner = {
		.service = backend->service->index + 1,
		.weight = backend->weight,
		.admin = backend->admin,
		.health = recorded_health(backend),
		.backup = backend->backup,
		.flags = (backend->leaves ? TG_OWNER_LEAVES : 0) |
			 (backend->cut ? TG_OWNER_CUT : 0) |
			 (backend->drained ? TG_OWNER_EMPTY : 0),
		.drains = backend->drains / 1000,
		.since = backend->since,
	};

	if (!memcmp(&owner, &backend->recorded, sizeof(owner)))
		return;
	backend->recorded = owner;
	tg_datapath_set(
		backend->service->balancer->dp, TG_MAP_BACKEND_OWNERS, &backend->index, &owner);
}

/* ---- services ---- */

static uint32_t name_hash(const char *name)
{
	return tg_hash(name, strlen(name));
}

struct service *tg_service_new(struct tg_balancer *balancer, uint32_t index, const char *name)
{
	struct service *service = calloc(1, sizeof(*service));

	if (!service)
		return NULL;
	if (tg_table_insert(&balancer->by_name, &service->node, name_hash(name))) {
		free(service);
		return NULL;
	}
	service->balancer = balancer;
	service->index = index;
	service->drain = TG_DRAIN_FOREVER;
	snprintf(service->name, sizeof(service->name), "%s", name);
	tg_list_init(&service->backends);
	tg_list_init(&service->endpoints);
	tg_list_add(&balancer->services, &service->all);
	balancer->by_index[index] = service;
	return service;
}

struct service *tg_service_make(
	struct tg_balancer *balancer, const char *name, struct tg_error *error)
{
	struct service *service;
	uint32_t index = 0;

	while (index < TG_MAX_SERVICES && balancer->by_index[index])
		index++;
	if (index == TG_MAX_SERVICES) {
		tg_fail(error, -ENOSPC,
			"service \"%s\": there is room for %d services, those that go in the same "
			"step included",
			name, TG_MAX_SERVICES);
		return NULL;
	}
	service = tg_service_new(balancer, index, name);
	if (!service) {
		tg_fail(error, -ENOMEM, "service \"%s\": out of memory", name);
		return NULL;
	}
	service->fresh = true;
	tg_datapath_reset_counter(balancer->dp, TG_MAP_SERVICE_COUNTERS, index);
	return service;
}

struct service *tg_service_find(struct tg_balancer *balancer, const char *name)
{
	struct tg_table_node *node = tg_table_first(&balancer->by_name, name_hash(name));

	for (; node; node = tg_table_next(node)) {
		struct service *service = tg_container(node, struct service, node);

		if (!strcmp(service->name, name))
			return service;
	}
	return NULL;
}

void tg_service_record(struct service *service)
{
	struct tg_service_info info = {
		.slots = service->slots,
		.mode = service->mode,
		.fail = service->fail,
		.flags = service->flags,
	};

	for (int v6 = 0; v6 < 2; v6++)
		info.ring[v6] = service->ring[v6].slots ? service->ring[v6].index + 1 : 0;
	memcpy(info.name, service->name, sizeof(info.name));
	if (!memcmp(&info, &service->recorded, sizeof(info)))
		return;
	service->recorded = info;
	tg_datapath_set(service->balancer->dp, TG_MAP_SERVICES, &service->index, &info);
}

void tg_spec_clear(struct tg_service_spec *spec)
{
	for (size_t i = 0; i < spec->backend_count; i++) {
		free(spec->backends[i].check_key);
		free((char *)spec->backends[i].check.request);
	}
	free(spec->backends);
	free(spec->vips);
	memset(spec, 0, sizeof(*spec));
}

/* The maps forget it: VIPs first, so that no packet meets half of a service. */
static void remove_from_maps(struct service *service)
{
	static const struct tg_service_info nothing;

	tg_vips_drop(service);
	tg_ring_drop_all(service);
	if (service->recorded.name[0])
		tg_datapath_set(service->balancer->dp, TG_MAP_SERVICES, &service->index, &nothing);
}

void tg_service_free(struct service *service, bool for_good)
{
	struct tg_balancer *balancer = service->balancer;

	if (for_good)
		remove_from_maps(service);
	while (!tg_list_empty(&service->backends))
		tg_backend_free(backend_of_list(service->backends.next), for_good);
	tg_vips_forget(service);
	for (int v6 = 0; v6 < 2; v6++)
		tg_ring_release(NULL, &service->ring[v6]);
	balancer->by_index[service->index] = NULL;
	tg_table_remove(&balancer->by_name, &service->node);
	tg_list_remove(&service->all);
	tg_spec_clear(&service->spec);
	free(service->vips);
	free(service);
}
