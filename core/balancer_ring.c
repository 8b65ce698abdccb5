/* SPDX-License-Identifier: GPL-2.0-only */
/* From backends to slots (see balancer.h). */
#include "balancer_internal.h"
#include "maglev.h"

#include <errno.h>
#include <stdlib.h>

static bool has_family(const struct tg_service_spec *spec, int family)
{
	for (size_t i = 0; i < spec->vip_count; i++)
		if (spec->vips[i].addr.family == family)
			return true;
	return false;
}

/* A size by default only grows: a ring that is large enough is kept. */
static uint32_t wanted_size(const struct service *service, const struct tg_service_spec *spec, int v6)
{
	uint32_t size = spec->slots ? spec->slots : tg_maglev_default_size(spec->backend_count);
	uint32_t now = service->ring[v6].slots ? service->ring[v6].size : 0;

	return !spec->slots && now > size ? now : size;
}

static int stage_one(struct service *service, uint32_t size, int v6, struct tg_error *error)
{
	struct tg_balancer *balancer = service->balancer;
	uint32_t index = 0;
	int result;

	while (index < TG_MAX_RINGS && balancer->ring_used[index])
		index++;
	if (index == TG_MAX_RINGS)
		return tg_fail(error, -ENOSPC, "service \"%s\": all %d rings are in use", service->name, TG_MAX_RINGS);
	result = tg_ring_create(balancer->dp, index, size, &service->staged[v6], error);
	if (!result)
		balancer->ring_used[index] = true;
	return result;
}

/* Makes the rings that the spec needs and the service has not, or not in that size. */
int tg_ring_stage(struct service *service, const struct tg_service_spec *spec, struct tg_error *error)
{
	int result = 0;

	for (int v6 = 0; !result && v6 < 2; v6++) {
		uint32_t size = wanted_size(service, spec, v6);
		bool there = service->ring[v6].slots && service->ring[v6].size == size;

		if (has_family(spec, v6 ? AF_INET6 : AF_INET) && !there)
			result = stage_one(service, size, v6, error);
	}
	return result;
}

static void drop(struct service *service, struct tg_ring *ring)
{
	if (!ring->slots)
		return;
	service->balancer->ring_used[ring->index] = false;
	tg_ring_release(service->balancer->dp, ring);
}

void tg_ring_unstage(struct service *service)
{
	drop(service, &service->staged[0]);
	drop(service, &service->staged[1]);
}

void tg_rings_drop(struct service *service)
{
	drop(service, &service->ring[0]);
	drop(service, &service->ring[1]);
}

static bool takes_flows(const struct backend *backend, int family, bool backup)
{
	return backend->addr.family == family && backend->backup == backup && backend->weight > 0 &&
	       backend->admin == TG_ADMIN_READY && backend->health != TG_HEALTH_DOWN;
}

/* The backends that live; without any, the backups that do. */
static size_t choose(const struct service *service, int family, struct tg_maglev_backend *chosen)
{
	size_t count = 0;

	for (int backup = 0; !count && backup < 2; backup++)
		for (struct backend *b = service->backends; b; b = b->next)
			if (takes_flows(b, family, backup))
				chosen[count++] = (struct tg_maglev_backend){
					.key = b->key, .id = b->index, .weight = b->weight };
	return count;
}

static void publish_ring(struct service *service, struct tg_ring *ring, int family,
	struct tg_maglev_backend *chosen)
{
	uint32_t *homes = malloc(ring->size * sizeof(*homes));
	size_t count = choose(service, family, chosen);

	if (homes && tg_maglev_build(chosen, count, homes, ring->size) == 0)
		tg_ring_write(ring, homes);
	free(homes);
}

static struct tg_ring *newest_ring(struct service *service, int v6)
{
	return service->staged[v6].slots ? &service->staged[v6] : &service->ring[v6];
}

/* Tells each backend how many slots it has. */
void tg_slots_count(struct service *service)
{
	uint32_t *counts = calloc(TG_MAX_BACKENDS, sizeof(*counts));

	for (int v6 = 0; counts && v6 < 2; v6++) {
		const struct tg_ring *ring = newest_ring(service, v6);

		for (uint32_t i = 0; ring->slots && i < ring->size; i++)
			counts[TG_SLOT_HOME(ring->slots[i]) % TG_MAX_BACKENDS]++;
	}
	for (struct backend *b = service->backends; counts && b; b = b->next)
		b->slots = counts[b->index];
	free(counts);
}

/* Makes the rings in force say what the backends' states say. */
void tg_ring_publish(struct service *service)
{
	struct tg_maglev_backend *chosen;
	size_t count = 0;

	for (struct backend *b = service->backends; b; b = b->next)
		count++;
	chosen = malloc((count + 1) * sizeof(*chosen));
	if (!chosen)
		return;
	for (int v6 = 0; v6 < 2; v6++) {
		int family = v6 ? AF_INET6 : AF_INET;
		struct tg_ring *ring = newest_ring(service, v6);

		if (ring->slots)
			publish_ring(service, ring, family, chosen);
	}
	free(chosen);
	tg_slots_count(service);
}
