/* SPDX-License-Identifier: GPL-2.0-only */
/* The balancer's life, and adoption of what an earlier daemon left running (see balancer.h). */
#include "balancer_internal.h"
#include "log.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdlib.h>

static int adopt_ring(struct service *service, int v6, uint32_t ring, struct tg_error *error)
{
	int result;

	if (!ring)
		return 0;
	result = tg_ring_adopt(service->balancer->dp, ring - 1, &service->ring[v6], error);
	if (!result)
		service->balancer->ring_state[ring - 1] = RING_USED;
	return result;
}

static int adopt_service(struct tg_balancer *balancer, uint32_t index,
	const struct tg_service_info *info, struct tg_error *error)
{
	struct service *service = tg_service_new(balancer, index, info->name);
	int result;

	if (!service)
		return tg_fail(error, -ENOMEM, "out of memory");
	service->slots = info->slots;
	service->mode = info->mode;
	service->fail = info->fail;
	service->flags = info->flags;
	service->recorded = *info;
	result = adopt_ring(service, 0, info->ring[0], error);
	return result ? result : adopt_ring(service, 1, info->ring[1], error);
}

static int adopt_services(struct tg_balancer *balancer, struct tg_error *error)
{
	struct tg_service_info *all =
		tg_datapath_read(balancer->dp, TG_MAP_SERVICES, sizeof(*all), TG_MAX_SERVICES);
	int result = all ? 0 : tg_fail(error, -EIO, "the map of services can't be read");

	for (uint32_t i = 0; !result && i < TG_MAX_SERVICES; i++)
		if (all[i].name[0])
			result = adopt_service(balancer, i, &all[i], error);
	free(all);
	return result;
}

static int adopt_backend(
	struct service *service, uint32_t index, const struct tg_backend_owner *owner)
{
	const struct tg_backend *entry = &service->balancer->dp->backends[index];
	struct tg_addr addr =
		tg_addr_from_bytes(entry->flags & TG_BACKEND_V6 ? AF_INET6 : AF_INET, entry->addr);
	struct backend *backend = tg_backend_new(service, &addr, ntohs(entry->port), index);

	if (!backend)
		return -ENOMEM;
	backend->weight = owner->weight;
	backend->admin = owner->admin;
	backend->backup = owner->backup;
	backend->health = owner->health;
	backend->since = owner->since;
	backend->leaves = owner->flags & TG_OWNER_LEAVES;
	backend->cut = owner->flags & TG_OWNER_CUT;
	backend->drained = owner->flags & TG_OWNER_EMPTY;
	backend->drains = owner->drains * 1000ll;
	backend->recorded = *owner;
	backend->wanted = true;
	return tg_hop_follow(backend);
}

/* The service that an index belongs to, or NULL. One that has vanished left it when a daemon died. */
static struct service *owner_of(
	struct tg_balancer *balancer, uint32_t index, const struct tg_backend_owner *owner)
{
	static const struct tg_backend_owner nobody;
	struct service *service = NULL;

	if (!owner->service)
		return NULL;
	if (owner->service <= TG_MAX_SERVICES)
		service = balancer->by_index[owner->service - 1];
	if (!service)
		tg_datapath_set(balancer->dp, TG_MAP_BACKEND_OWNERS, &index, &nobody);
	return service;
}

/* Every index belongs to a backend of a service, or is free. */
static int adopt_backends(struct tg_balancer *balancer, struct tg_error *error)
{
	struct tg_backend_owner *all = tg_datapath_read(
		balancer->dp, TG_MAP_BACKEND_OWNERS, sizeof(*all), TG_MAX_BACKENDS);
	int result = all ? 0 : -EIO;

	for (uint32_t i = 1; !result && i < TG_MAX_BACKENDS; i++) {
		struct service *service = owner_of(balancer, i, &all[i]);

		if (service)
			result = adopt_backend(service, i, &all[i]);
		else
			tg_index_rest(balancer, i, 0);
	}
	free(all);
	return result ? tg_fail(error, result, "backends can't be adopted: %s", strerror(-result))
		      : 0;
}

static int adopt(struct tg_balancer *balancer, struct tg_error *error)
{
	int result = 0;

	if (balancer->dp->adopted)
		result = adopt_services(balancer, error);
	if (!result)
		result = adopt_backends(balancer, error);
	if (!result)
		tg_quic_adopt(balancer);
	if (!result)
		result = tg_index_open(balancer);
	if (!result)
		result = tg_vips_adopt(balancer);
	if (!result && balancer->dp->adopted)
		tg_rings_sweep(balancer);
	tg_transitions_adopt(balancer);
	tg_list_each(position, &balancer->services)
		tg_slots_count(service_of_list(position));
	if (result && !error->text[0])
		tg_fail(error, result, "what runs can't be adopted: %s", strerror(-result));
	return result;
}

/* ---- life ---- */

static void after_timers(uv_prepare_t *handle)
{
	tg_changes_publish(handle->data);
}

static void after_poll(uv_check_t *handle)
{
	tg_changes_publish(handle->data);
}

static void on_trouble(void *user, int code)
{
	if (code)
		tg_log(TG_LOG_WARN,
			"health checks: this machine can't probe all: %s; backends keep their "
			"states",
			strerror(-code));
	else
		tg_log(TG_LOG_INFO, "health checks: all are probed again");
}

static void on_part_closed(void *user)
{
	struct tg_balancer *balancer = user;

	if (--balancer->open_parts)
		return;
	tg_table_free(&balancer->by_name);
	tg_table_free(&balancer->backends);
	tg_table_free(&balancer->checks);
	tg_table_free(&balancer->endpoints);
	tg_table_free(&balancer->addresses);
	free(balancer->resting);
	free(balancer->sweep);
	free(balancer);
}

static void on_handle_closed(uv_handle_t *handle)
{
	on_part_closed(handle->data);
}

static int open_parts(struct tg_balancer *balancer, struct tg_error *error)
{
	int result = tg_neighbour_open(balancer->loop, &balancer->neighbour, error);

	if (result)
		return result;
	balancer->open_parts++;
	balancer->prober = tg_prober_new(balancer->loop, error);
	if (!balancer->prober)
		return -ENOMEM;
	balancer->open_parts++;
	tg_prober_on_trouble(balancer->prober, on_trouble, balancer);
	return adopt(balancer, error);
}

static void open_handles(struct tg_balancer *balancer)
{
	uv_loop_t *loop = balancer->loop;

	uv_timer_init(loop, &balancer->settle);
	uv_prepare_init(loop, &balancer->after_timers);
	uv_check_init(loop, &balancer->after_poll);
	balancer->settle.data = balancer;
	balancer->after_timers.data = balancer->after_poll.data = balancer;
	balancer->open_parts = 6;
	tg_transitions_open(balancer);
	uv_prepare_start(&balancer->after_timers, after_timers);
	uv_check_start(&balancer->after_poll, after_poll);
}

struct tg_balancer *tg_balancer_new(uv_loop_t *loop, struct tg_datapath *dp,
	void (*on_event)(void *user, const struct tg_event *event), void *user,
	struct tg_error *error)
{
	struct tg_balancer *balancer = calloc(1, sizeof(*balancer));
	struct resting *resting = calloc(TG_MAX_BACKENDS, sizeof(*resting));
	struct sweep *sweep = calloc(1, sizeof(*sweep));

	if (!balancer || !resting || !sweep) {
		free(balancer);
		free(resting);
		free(sweep);
		tg_fail(error, -ENOMEM, "out of memory");
		return NULL;
	}
	balancer->loop = loop;
	balancer->dp = dp;
	balancer->on_event = on_event;
	balancer->user = user;
	balancer->resting = resting;
	balancer->sweep = sweep;
	tg_list_init(&balancer->services);
	tg_list_init(&balancer->changed);
	tg_list_init(&balancer->all_addresses);
	tg_flow_key(dp->info.seed, &balancer->flow_key);
	open_handles(balancer);
	if (open_parts(balancer, error)) {
		tg_balancer_close(balancer);
		return NULL;
	}
	tg_routes_follow(balancer);
	return balancer;
}

void tg_balancer_close(struct tg_balancer *balancer)
{
	while (!tg_list_empty(&balancer->services))
		tg_service_free(service_of_list(balancer->services.next), false);
	if (balancer->prober)
		tg_prober_close(balancer->prober, on_part_closed, balancer);
	if (balancer->neighbour)
		tg_neighbour_close(balancer->neighbour, on_part_closed, balancer);
	tg_ranges_forget(balancer);
	tg_endpoints_close(&balancer->index);
	uv_close((uv_handle_t *)&balancer->settle, on_handle_closed);
	tg_transitions_close(balancer, on_handle_closed);
	uv_close((uv_handle_t *)&balancer->after_timers, on_handle_closed);
	uv_close((uv_handle_t *)&balancer->after_poll, on_handle_closed);
}
