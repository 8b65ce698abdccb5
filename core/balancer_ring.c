/* SPDX-License-Identifier: GPL-2.0-only */
/* From backends to slots (see balancer.h). */
#include "balancer_internal.h"
#include "log.h"
#include "maglev.h"

#include <errno.h>
#include <stdlib.h>

/* ---- rings ---- */

static bool has_family(const struct tg_vip_spec *vips, size_t count, bool v6)
{
	for (size_t i = 0; i < count; i++)
		if (is_v6(&vips[i].addr) == v6)
			return true;
	return false;
}

/*
 * Another size moves flows, so a ring keeps its own until the slots are told otherwise or its backends
 * have become so many that each has less than a quarter of what a new ring would give it.
 */
static uint32_t wanted_size(
	const struct service *service, const struct tg_service_spec *spec, int v6)
{
	uint32_t size = spec->slots ? spec->slots : tg_maglev_default_size(spec->backend_count);
	uint32_t now = service->ring[v6].slots ? service->ring[v6].size : 0;

	return !spec->slots && now >= size / 4 ? now : size;
}

static int stage_one(struct service *service, uint32_t size, int v6, struct tg_error *error)
{
	struct tg_balancer *balancer = service->balancer;
	uint32_t index = 0;
	int result;

	while (index < TG_MAX_RINGS && balancer->ring_state[index] != RING_FREE)
		index++;
	if (index == TG_MAX_RINGS)
		return tg_fail(error, -ENOSPC,
			"service \"%s\": there is room for %d rings, those that go in the same "
			"step included",
			service->name, TG_MAX_RINGS);
	result = tg_ring_create(balancer->dp, index, size, &service->staged[v6], error);
	if (!result)
		balancer->ring_state[index] = RING_USED;
	return result;
}

/* Makes the rings that the next spec needs and the service has not, or not in that size. */
int tg_ring_stage(struct service *service, struct tg_error *error)
{
	const struct tg_service_spec *spec = service->next_spec;
	int result = 0;

	for (int v6 = 0; !result && v6 < 2; v6++) {
		uint32_t size = wanted_size(service, spec, v6);
		bool there = service->ring[v6].slots && service->ring[v6].size == size;

		if (has_family(spec->vips, spec->vip_count, v6) && !there)
			result = stage_one(service, size, v6, error);
	}
	return result;
}

void tg_ring_swap(struct service *service)
{
	for (int v6 = 0; v6 < 2; v6++) {
		if (!service->staged[v6].slots)
			continue;
		service->old[v6] = service->ring[v6];
		service->ring[v6] = service->staged[v6];
		service->staged[v6] = (struct tg_ring){ .fd = -1 };
	}
}

static void drop(struct service *service, struct tg_ring *ring)
{
	if (!ring->slots)
		return;
	service->balancer->ring_state[ring->index] = RING_LEAVING;
	tg_ring_release(service->balancer->dp, ring);
}

void tg_ring_drop_old(struct service *service)
{
	for (int v6 = 0; v6 < 2; v6++) {
		drop(service, &service->old[v6]);
		drop(service, &service->staged[v6]);
		if (!has_family(service->vips, service->vip_count, v6))
			drop(service, &service->ring[v6]);
	}
}

void tg_ring_drop_all(struct service *service)
{
	tg_ring_drop_old(service);
	drop(service, &service->ring[0]);
	drop(service, &service->ring[1]);
}

static void sweep_one(void *user, struct tg_datapath *dp, uint32_t index)
{
	struct tg_balancer *balancer = user;

	if (balancer->ring_state[index] != RING_FREE)
		return;
	tg_ring_unpin(dp, index);
	balancer->ring_state[index] = RING_LEAVING;
}

void tg_rings_sweep(struct tg_balancer *balancer)
{
	tg_ring_each(balancer->dp, sweep_one, balancer);
	tg_rings_clear(balancer);
}

void tg_rings_clear(struct tg_balancer *balancer)
{
	uint32_t *indexes = calloc(TG_MAX_RINGS, sizeof(*indexes));
	struct tg_error error;
	size_t count = 0;

	if (!indexes)
		return; /* the next time, then */
	for (uint32_t i = 0; i < TG_MAX_RINGS; i++) {
		if (balancer->ring_state[i] != RING_LEAVING)
			continue;
		balancer->ring_state[i] = RING_FREE;
		indexes[count++] = i;
	}
	if (count && tg_ring_clear(balancer->dp, indexes, count, &error))
		tg_log(TG_LOG_ERROR,
			"%zu rings keep their memory until others take their place: %s", count,
			error.text);
	free(indexes);
}

/* ---- slots ---- */

static bool takes_flows(const struct backend *backend, int family, bool backup)
{
	bool fits = tunnels(backend->service) || backend->addr.family == family;

	return fits && backend->backup == backup && backend->weight > 0 &&
	       backend->admin == TG_ADMIN_READY && !backend->leaves && tg_backend_serves(backend);
}

/* The backends that live; without any, the backups that do. */
static size_t choose(const struct service *service, int family, struct tg_maglev_backend *chosen)
{
	size_t count = 0;

	for (int backup = 0; !count && backup < 2; backup++)
		tg_list_each(position, &service->backends) {
			struct backend *b = backend_of_list(position);

			if (!takes_flows(b, family, backup))
				continue;
			b->takes = true;
			chosen[count++] = (struct tg_maglev_backend){
				.key = b->key, .id = b->index, .weight = b->weight
			};
		}
	return count;
}

/* Tells the datapath what to do with entries that name the backends. */
static void flag_backends(const struct service *service)
{
	tg_list_each(position, &service->backends) {
		const struct backend *b = backend_of_list(position);
		struct tg_backend *entry = &service->balancer->dp->backends[b->index];
		uint8_t flags = entry->flags & ~(TG_BACKEND_DRAINS | TG_BACKEND_DEAD);

		if (!tg_backend_serves(b))
			flags |= TG_BACKEND_DEAD;
		else if (!b->takes)
			flags |= TG_BACKEND_DRAINS;
		__atomic_store_n(&entry->flags, flags, __ATOMIC_RELEASE);
	}
}

static int publish_ring(
	struct service *service, struct tg_ring *ring, int family, struct tg_maglev_backend *chosen)
{
	const struct tg_datapath *dp = service->balancer->dp;
	uint32_t *targets = malloc(ring->size * sizeof(*targets));
	size_t count = choose(service, family, chosen);
	int result = targets ? tg_maglev_build(chosen, count, targets, ring->size) : -ENOMEM;

	if (!result)
		service->moving += tg_ring_retarget(ring, targets, dp->backends,
			tg_service_keeps_flows(service), dp->clock->epoch);
	free(targets);
	return result;
}

static void add_slots(const struct tg_ring *ring, struct slot_count *count)
{
	for (uint32_t i = 0; ring->slots && i < ring->size; i++) {
		count[TG_SLOT_NEXT(ring->slots[i])].next++;
		count[TG_SLOT_HOME(ring->slots[i]) % TG_MAX_BACKENDS].home++;
	}
}

static void clear_slots(const struct tg_ring *ring, struct slot_count *count)
{
	for (uint32_t i = 0; ring->slots && i < ring->size; i++) {
		count[TG_SLOT_NEXT(ring->slots[i])].next = 0;
		count[TG_SLOT_HOME(ring->slots[i]) % TG_MAX_BACKENDS].home = 0;
	}
}

/* Tells each backend how many slots it has. */
void tg_slots_count(struct service *service)
{
	struct slot_count *count = service->balancer->slot_count;

	for (int v6 = 0; v6 < 2; v6++)
		add_slots(&service->ring[v6], count);
	tg_list_each(position, &service->backends) {
		struct backend *backend = backend_of_list(position);

		backend->slots = count[backend->index].next;
		backend->held = count[backend->index].home;
		if (backend->takes || backend->held > backend->held_most)
			backend->held_most = backend->held;
	}
	for (int v6 = 0; v6 < 2; v6++)
		clear_slots(&service->ring[v6], count);
}

static size_t count_backends(const struct service *service)
{
	size_t count = 0;

	tg_list_each(position, &service->backends)
		count++;
	return count;
}

/* Makes the rings in force say what the backends' states say. */
void tg_ring_publish(struct service *service)
{
	struct tg_maglev_backend *chosen = malloc((count_backends(service) + 1) * sizeof(*chosen));
	int result = chosen ? 0 : -ENOMEM;

	tg_drains_update(service);
	tg_list_each(position, &service->backends)
		backend_of_list(position)->takes = false;
	for (int v6 = 0; !result && v6 < 2; v6++)
		if (service->ring[v6].slots)
			choose(service, v6 ? AF_INET6 : AF_INET, chosen);
	flag_backends(service);
	service->moving = 0;
	for (int v6 = 0; !result && v6 < 2; v6++)
		if (service->ring[v6].slots)
			result = publish_ring(
				service, &service->ring[v6], v6 ? AF_INET6 : AF_INET, chosen);
	free(chosen);
	if (result)
		tg_log(TG_LOG_ERROR, "service %s: the ring stays as it was: %s", service->name,
			strerror(-result));
	tg_slots_count(service);
	service->dirty = false;
}

void tg_changes_publish(struct tg_balancer *balancer)
{
	struct tg_list *taken;

	tg_list_each(position, &balancer->changed) {
		struct service *service = tg_container(position, struct backend, changed)->service;

		if (service->dirty)
			tg_ring_publish(service);
	}
	while ((taken = tg_list_take(&balancer->changed)))
		tg_backend_tell_health(tg_container(taken, struct backend, changed));
}
