/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Slots that move and backends that drain (see balancer.h, core/slots.h). A tick begins an epoch; then the
 * line table is swept, the slots that are quiet settle, and the backends that have drained are told.
 * All of it in slices, with the loop's other work in between. That a slot settles after its epoch's sweep
 * is what keeps entries from coming back to life: those that lead elsewhere are as idle as it is, and gone.
 */
#include "balancer_internal.h"
#include "log.h"
#include "slots.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>

#define SWEEP_SOON_MS 100   /* what packets did under the old state is done by then */
#define SLICE_MS      1	    /* between two slices */
#define SLICE_LINES   16384 /* with entries: 1 MiB */
#define SLICE_SLOTS   (1u << 18)

static int64_t now_ms(void)
{
	struct timeval now;

	gettimeofday(&now, NULL);
	return now.tv_sec * 1000ll + now.tv_usec / 1000;
}

bool tg_service_keeps_flows(const struct service *service)
{
	bool tcp = !service->vip_count; /* not known yet */

	for (size_t i = 0; i < service->vip_count; i++)
		tcp |= service->vips[i].proto == IPPROTO_TCP;
	return tcp || service->quic.length || service->flags & (TG_VIP_STRICT | TG_VIP_FLOW);
}

struct tg_lines tg_lines_of(const struct tg_balancer *balancer)
{
	/* Another thread maps them when the first service comes, the marks last. */
	struct tg_datapath *dp = balancer->dp;
	__u64 *marks = __atomic_load_n(&dp->line_marks, __ATOMIC_ACQUIRE);

	return (struct tg_lines){ dp->lines, marks, marks ? dp->line_count : 0 };
}

/* ---- drains ---- */

static bool is_told_to_drain(const struct backend *backend)
{
	return backend->leaves || backend->admin == TG_ADMIN_DRAIN;
}

/* When the drain ends at the latest, ms since 1970; INT64_MAX: no such time. */
static int64_t drain_end(const struct backend *backend)
{
	uint64_t drain = backend->service->drain;

	if (!backend->drains || backend->drained || drain == TG_DRAIN_FOREVER)
		return INT64_MAX;
	return backend->drains + drain / 1000000;
}

static void on_deadline(uv_timer_t *timer);

/* Sets the timer to the first end of a drain. */
static void watch_drains(struct tg_balancer *balancer)
{
	int64_t first = INT64_MAX, now = now_ms();

	tg_list_each(at, &balancer->services)
		tg_list_each(position, &service_of_list(at)->backends) {
			int64_t end = drain_end(backend_of_list(position));

			first = end < first ? end : first;
		}
	uv_timer_stop(&balancer->deadline);
	if (first == INT64_MAX)
		return;
	uv_update_time(balancer->loop);
	uv_timer_start(&balancer->deadline, on_deadline, first > now ? first - now : 0, 0);
}

static void update_drain(struct backend *backend)
{
	if (!is_told_to_drain(backend)) {
		backend->drains = 0;
		backend->cut = backend->drained = false;
	} else if (!backend->drains) {
		backend->drains = now_ms();
		backend->drains_sweep = backend->service->balancer->sweep->begun;
		backend->cut |= !backend->service->drain;
		tg_sweep_soon(backend->service->balancer);
	}
	tg_backend_record(backend);
}

void tg_drains_update(struct service *service)
{
	bool any = false;

	tg_list_each(position, &service->backends) {
		struct backend *backend = backend_of_list(position);
		bool drained = backend->drains;

		update_drain(backend);
		any |= drained != (backend->drains != 0);
	}
	if (any)
		watch_drains(service->balancer);
}

/* The service's maps forget a backend that has left; then it is forgotten. */
static void forget(struct backend *backend)
{
	struct service *service = backend->service;

	backend->cut = true;
	tg_vips_put(service);
	tg_vips_drop(service);
	tg_ranges_put(service->balancer, true);
	tg_backend_free(backend, true);
}

/* The drain is over: it is said, once, and a backend that leaves is gone. */
static void end_drain(struct backend *backend, const char *reason)
{
	backend->drained = true;
	tg_backend_record(backend);
	tg_backend_tell(backend, "drained", reason);
	if (backend->leaves)
		forget(backend);
}

static void cut(struct backend *backend)
{
	char reason[TG_REASON_TEXT];

	if (backend->flows)
		snprintf(reason, sizeof(reason), "after %g s, about %u flows are cut",
			backend->service->drain / 1e9, backend->flows);
	else
		snprintf(reason, sizeof(reason), "after %g s", backend->service->drain / 1e9);
	end_drain(backend, reason);
}

/* Cuts the backends of a service whose time is over: they get no packet from now on. */
static void cut_overdue(struct service *service, int64_t now)
{
	struct tg_list *next;
	bool any = false;

	tg_list_each(position, &service->backends)
		if (drain_end(backend_of_list(position)) <= now)
			any = backend_of_list(position)->cut = true;
	if (!any)
		return;
	tg_ring_publish(service);
	for (struct tg_list *at = service->backends.next; at != &service->backends; at = next) {
		next = at->next;
		if (drain_end(backend_of_list(at)) <= now)
			cut(backend_of_list(at));
	}
}

static void on_deadline(uv_timer_t *timer)
{
	struct tg_balancer *balancer = timer->data;
	int64_t now = now_ms();

	tg_list_each(position, &balancer->services)
		cut_overdue(service_of_list(position), now);
	watch_drains(balancer);
}

/* ---- what a sweep found ---- */

/*
 * A drain that was told is over when no slot and no entry names the backend any more, also none that
 * a packet made that had read the slot before.
 */
static bool is_empty(const struct backend *backend, const struct sweep *sweep)
{
	return sweep->begun > backend->drains_sweep + 1 && !backend->held &&
	       !sweep->census.flows[backend->index];
}

static void end_if_drained(struct backend *backend)
{
	if (!backend->drains || backend->drained)
		return;
	if (!tg_backend_serves(backend))
		end_drain(backend, "it is down");
	else if (is_empty(backend, backend->service->balancer->sweep))
		end_drain(backend, "no flow is left");
}

static void report_flows(struct backend *backend, const struct sweep *sweep, uint64_t epoch_ms)
{
	const struct moving *moving = &sweep->moving[backend->index];
	uint8_t age = sweep->census.age[backend->index];

	backend->flows = 0;
	if (backend->takes || !tg_backend_serves(backend))
		return;
	backend->flows = sweep->census.flows[backend->index];
	if (moving->active) {
		backend->flows += tg_slots_estimate(backend->held_most, moving->active);
		age = moving->age < age ? moving->age : age;
	}
	if (backend->flows)
		backend->last_flow = (now_ms() - age * (int64_t)epoch_ms) / 1000;
}

static void report_service(struct service *service)
{
	struct tg_balancer *balancer = service->balancer;
	struct tg_list *next;

	for (struct tg_list *at = service->backends.next; at != &service->backends; at = next) {
		struct backend *backend = backend_of_list(at);

		next = at->next;
		report_flows(backend, balancer->sweep, balancer->epoch_ms);
		end_if_drained(backend);
	}
}

/* ---- settling ---- */

/* Notes a slot that moves away from its home. */
static void note_moving(struct sweep *sweep, uint64_t slot, uint8_t seen)
{
	struct moving *moving = &sweep->moving[TG_SLOT_HOME(slot) % TG_MAX_BACKENDS];
	uint8_t age = tg_age(seen, sweep->epoch);

	if (TG_SLOT_HOME(slot) == TG_SLOT_NEXT(slot))
		return;
	if (age > TG_IDLE_EPOCHS)
		return;
	if (!moving->active++ || age < moving->age)
		moving->age = age;
}

/* Slots of a ring that are quiet settle. True if any did. */
static bool settle_ring(struct service *service, struct tg_ring *ring)
{
	struct sweep *sweep = service->balancer->sweep;
	const uint8_t *seen = tg_ring_seen(ring);
	bool any = false;

	for (uint32_t i = 0; ring->slots && i < ring->size; i++) {
		uint64_t slot = ring->slots[i], fresh;
		uint8_t when = __atomic_load_n(&seen[i], __ATOMIC_RELAXED);

		if (!TG_SLOT_T(slot))
			continue;
		fresh = tg_slot_settle(slot, when, sweep->epoch);
		note_moving(sweep, fresh, when);
		if (fresh == slot)
			continue;
		__atomic_store_n(&ring->slots[i], fresh, __ATOMIC_RELEASE);
		service->moving -= !TG_SLOT_T(fresh);
		any = true;
	}
	return any;
}

/* True: that took a while. */
static bool settle_service(struct service *service)
{
	bool any = false;

	if (!service || !service->moving)
		return false;
	for (int v6 = 0; v6 < 2; v6++)
		any |= settle_ring(service, &service->ring[v6]);
	if (any)
		tg_slots_count(service);
	return true;
}

/* ---- the sweep ---- */

static void end_sweep(struct tg_balancer *balancer)
{
	struct sweep *sweep = balancer->sweep;

	sweep->under_way = false;
	sweep->done = sweep->begun;
	if (sweep->settles)
		tg_list_each(position, &balancer->services)
			report_service(service_of_list(position));
	if (sweep->again || sweep->settle_next)
		tg_sweep_soon(balancer);
}

/* One slice: lines first, then slots. False when all is done. */
static bool sweep_slice(struct tg_balancer *balancer)
{
	struct sweep *sweep = balancer->sweep;
	struct tg_lines lines = tg_lines_of(balancer);
	size_t slots = 0;

	if (sweep->line < lines.count) {
		sweep->line = tg_lines_sweep(&lines, sweep->line, SLICE_LINES, sweep->epoch,
			balancer->gone, &sweep->census);
		return true;
	}
	while (sweep->settles && sweep->service < TG_MAX_SERVICES && slots < SLICE_SLOTS) {
		struct service *service = balancer->by_index[sweep->service++];

		if (settle_service(service))
			slots += service->ring[0].size + service->ring[1].size;
	}
	return sweep->settles && sweep->service < TG_MAX_SERVICES;
}

static void on_slice(uv_timer_t *timer)
{
	struct tg_balancer *balancer = timer->data;

	if (sweep_slice(balancer))
		uv_timer_start(timer, on_slice, SLICE_MS, 0);
	else
		end_sweep(balancer);
}

static void begin_sweep(uv_timer_t *timer)
{
	struct tg_balancer *balancer = timer->data;
	struct sweep *sweep = balancer->sweep;

	sweep->begun++;
	sweep->under_way = true;
	sweep->again = false;
	sweep->settles = sweep->settle_next;
	sweep->settle_next = false;
	sweep->epoch = balancer->dp->clock->epoch;
	sweep->line = sweep->service = 0;
	tg_census_clear(&sweep->census);
	memset(sweep->moving, 0, sizeof(sweep->moving));
	on_slice(timer);
}

void tg_sweep_soon(struct tg_balancer *balancer)
{
	struct sweep *sweep = balancer->sweep;

	sweep->again = true;
	if (sweep->under_way || uv_is_active((uv_handle_t *)&sweep->timer) ||
		uv_is_closing((uv_handle_t *)&sweep->timer))
		return;
	uv_update_time(balancer->loop);
	uv_timer_start(&sweep->timer, begin_sweep, SWEEP_SOON_MS, 0);
}

static void on_tick(uv_timer_t *tick)
{
	struct tg_balancer *balancer = tick->data;
	struct sweep *sweep = balancer->sweep;

	__atomic_store_n(
		&balancer->dp->clock->epoch, balancer->dp->clock->epoch + 1, __ATOMIC_RELAXED);
	sweep->settle_next = true;
	if (!sweep->under_way)
		begin_sweep(&sweep->timer);
}

/* ---- life ---- */

void tg_balancer_tune(struct tg_balancer *balancer, uint64_t idle_ms, uint32_t newcomers)
{
	uint64_t epoch_ms = (idle_ms ? idle_ms : 1000 * TG_IDLE_SECONDS) / TG_IDLE_EPOCHS;

	/* See core/slots.h for why not less. */
	epoch_ms = epoch_ms < 100 ? 100 : epoch_ms;
	__atomic_store_n(&balancer->dp->clock->newcomers,
		newcomers ? newcomers : TG_DEFAULT_NEWCOMERS, __ATOMIC_RELAXED);
	if (epoch_ms == balancer->epoch_ms)
		return;
	balancer->epoch_ms = epoch_ms;
	uv_timer_start(&balancer->tick, on_tick, epoch_ms, epoch_ms);
}

void tg_transitions_open(struct tg_balancer *balancer)
{
	uv_timer_init(balancer->loop, &balancer->tick);
	uv_timer_init(balancer->loop, &balancer->deadline);
	uv_timer_init(balancer->loop, &balancer->sweep->timer);
	balancer->tick.data = balancer->deadline.data = balancer->sweep->timer.data = balancer;
}

void tg_transitions_close(struct tg_balancer *balancer, uv_close_cb closed)
{
	uv_close((uv_handle_t *)&balancer->tick, closed);
	uv_close((uv_handle_t *)&balancer->deadline, closed);
	uv_close((uv_handle_t *)&balancer->sweep->timer, closed);
}

/* Nobody knows for how long flows were silent while no daemon ticked the epoch. */
static void restart_ring(struct service *service, struct tg_ring *ring, uint32_t epoch)
{
	for (uint32_t i = 0; ring->slots && i < ring->size; i++) {
		uint64_t slot = ring->slots[i];

		if (!TG_SLOT_T(slot))
			continue;
		service->moving++;
		slot = TG_SLOT_MOVED(
			TG_SLOT_HOME(slot), TG_SLOT_NEXT(slot), epoch, TG_SLOT_LATE(slot));
		__atomic_store_n(&ring->slots[i], slot, __ATOMIC_RELEASE);
	}
}

void tg_transitions_adopt(struct tg_balancer *balancer)
{
	struct tg_lines lines = tg_lines_of(balancer);
	uint32_t epoch = balancer->dp->clock->epoch;

	tg_census_clear(&balancer->sweep->census);
	tg_lines_sweep(&lines, 0, lines.count, epoch, balancer->gone, &balancer->sweep->census);
	tg_list_each(position, &balancer->services)
		for (int v6 = 0; v6 < 2; v6++)
			restart_ring(service_of_list(position),
				&service_of_list(position)->ring[v6], epoch);
	watch_drains(balancer);
	tg_balancer_tune(balancer, 0, 0);
}
