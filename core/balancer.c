/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Making services what a spec says (see balancer.h). What can fail is staged first: indexes, room in
 * the maps, rings. The commit then goes over all services twice: what is new is put in place
 * (backends, rings, ways back, VIPs), then what is no longer wanted goes. So a VIP that moves from
 * one service to another is there all the time.
 */
#include "balancer_internal.h"
#include "maglev.h"

#include <errno.h>
#include <stdlib.h>

/* ---- comparing ---- */

static bool same_text(const char *a, const char *b)
{
	return a == b || (a && b && !strcmp(a, b));
}

static bool same_backend(const struct tg_backend_spec *a, const struct tg_backend_spec *b)
{
	return tg_addr_equal(&a->addr, &b->addr) && a->port == b->port && a->weight == b->weight &&
	       a->admin == b->admin && a->backup == b->backup && a->quic_id == b->quic_id &&
	       same_text(a->check_key, b->check_key);
}

static bool same_vip(const struct tg_vip_spec *a, const struct tg_vip_spec *b)
{
	return tg_addr_equal(&a->addr, &b->addr) && a->port == b->port && a->last == b->last &&
	       a->proto == b->proto;
}

/* Is the service what the spec wants? One that was adopted has to be looked at in any case. */
static bool is_in_force(const struct service *service, const struct tg_service_spec *spec)
{
	const struct tg_service_spec *now = &service->spec;

	if (spec->cut.family || !now->name[0] || now->mode != spec->mode || now->fail != spec->fail ||
		memcmp(&now->quic, &spec->quic, sizeof(spec->quic)) ||
		now->slots != spec->slots || now->flags != spec->flags ||
		now->drain != spec->drain || service->vip_count != spec->vip_count ||
		now->backend_count != spec->backend_count)
		return false;
	for (size_t i = 0; i < spec->vip_count; i++)
		if (!same_vip(&service->vips[i], &spec->vips[i]))
			return false;
	for (size_t i = 0; i < spec->backend_count; i++)
		if (!same_backend(&now->backends[i], &spec->backends[i]))
			return false;
	return true;
}

/* ---- staging ---- */

static int validate_backend(
	const struct tg_backend_spec *backend, const char *service, struct tg_error *error)
{
	char text[TG_ADDR_TEXT];
	struct tg_error why;

	tg_addr_print(&backend->addr, text);
	if (backend->weight > TG_WEIGHT_MAX)
		return tg_fail(error, -EINVAL,
			"service \"%s\": backend %s: weight %u: must be 0 to %d", service, text,
			backend->weight, TG_WEIGHT_MAX);
	if (backend->check_key && tg_check_validate(&backend->check, &why))
		return tg_fail(error, -EINVAL, "service \"%s\": backend %s: check: %s", service,
			text, why.text);
	return 0;
}

/* The Lua library has said all of this with the script's line; nothing unsound gets beyond here. */
static int validate(const struct tg_service_spec *spec, struct tg_error *error)
{
	int result = 0;

	if (spec->slots && (spec->slots >= TG_MAGLEV_MAX_SLOTS || !tg_is_prime(spec->slots)))
		return tg_fail(error, -EINVAL,
			"service \"%s\": slots %u: must be a prime below 2^24", spec->name,
			spec->slots);
	for (size_t i = 0; !result && i < spec->backend_count; i++)
		result = validate_backend(&spec->backends[i], spec->name, error);
	return result;
}

static int validate_quic(struct tg_balancer *balancer, const struct tg_service_spec *spec,
	struct tg_error *error)
{
	if (spec->quic.length > TG_QUIC_ID_MAX)
		return tg_fail(error, -EINVAL, "service \"%s\": a QUIC server ID has 1 to %d bytes",
			spec->name, TG_QUIC_ID_MAX);
	if (spec->quic.length && balancer->dp->maps[TG_MAP_QUIC_SERVERS] < 0)
		return tg_fail(error, -EINVAL,
			"the program has no feature for QUIC: specialise it first");
	return 0;
}

/* Finds the spec's services, and makes those that are new. */
static int stage_services(
	struct tg_balancer *balancer, struct tg_spec *spec, struct tg_error *error)
{
	int result = 0;

	tg_list_each(position, &balancer->services)
		service_of_list(position)->named = false;
	for (size_t i = 0; !result && i < spec->service_count; i++) {
		struct tg_service_spec *wanted = &spec->services[i];
		struct service *service = tg_service_find(balancer, wanted->name);

		result = validate(wanted, error);
		if (!result)
			result = validate_quic(balancer, wanted, error);
		if (result)
			break;
		if (!service)
			service = tg_service_make(balancer, wanted->name, error);
		if (!service)
			return -ENOSPC;
		if (service->named)
			return tg_fail(
				error, -EINVAL, "service \"%s\" is declared twice", wanted->name);
		service->named = true;
		if (!is_in_force(service, wanted))
			service->next_spec = wanted;
	}
	return result;
}

/* Are there indexes for all backends that come? One that leaves keeps its own until it has rested. */
static int check_backends(struct tg_balancer *balancer, struct tg_error *error)
{
	uint32_t needed = 0, free = tg_index_free(balancer);
	uint32_t resting = balancer->resting_count - free;

	tg_list_each(position, &balancer->services) {
		struct service *s = service_of_list(position);

		for (size_t i = 0; s->next_spec && i < s->next_spec->backend_count; i++)
			needed += !tg_backend_find(
				s, &s->next_spec->backends[i].addr, s->next_spec->backends[i].port);
	}
	if (needed <= free)
		return 0;
	if (needed <= free + resting)
		return tg_fail(error, -EAGAIN,
			"%u new backends, and room for %u now; for %u more in a second, when those "
			"that left are forgotten",
			needed, free, resting);
	return tg_fail(error, -ENOSPC,
		"%u new backends, and room for %u: an instance holds %d, those that go in the same "
		"step included",
		needed, free, TG_MAX_BACKENDS - 1);
}

static int install_rings(struct tg_balancer *balancer, struct tg_error *error)
{
	struct tg_ring *rings = calloc(TG_MAX_RINGS, sizeof(*rings));
	size_t count = 0;
	int result;

	if (!rings)
		return tg_fail(error, -ENOMEM, "out of memory");
	tg_list_each(position, &balancer->services)
		for (int v6 = 0; v6 < 2; v6++)
			if (service_of_list(position)->staged[v6].slots)
				rings[count++] = service_of_list(position)->staged[v6];
	result = tg_ring_install(balancer->dp, rings, count, error);
	free(rings);
	return result;
}

static int stage(struct tg_balancer *balancer, struct tg_spec *spec, struct tg_error *error)
{
	int result = stage_services(balancer, spec, error);

	if (!result)
		result = check_backends(balancer, error);
	if (!result)
		result = tg_vips_check(balancer, error);
	if (!result)
		result = tg_ranges_check(balancer, spec->partial, error);
	tg_list_each(position, &balancer->services)
		if (!result && service_of_list(position)->next_spec)
			result = tg_ring_stage(service_of_list(position), error);
	return result ? result : install_rings(balancer, error);
}

static void unstage(struct tg_balancer *balancer)
{
	struct tg_list *next;

	for (struct tg_list *at = balancer->services.next; at != &balancer->services; at = next) {
		struct service *service = service_of_list(at);

		next = at->next;
		service->next_spec = NULL;
		tg_ring_drop_old(service);
		if (service->fresh)
			tg_service_free(service, true);
	}
	tg_rings_clear(balancer);
}

/* ---- committing ---- */

static void sync_backend(struct service *service, const struct tg_backend_spec *spec)
{
	struct backend *backend = tg_backend_find(service, &spec->addr, spec->port);
	bool added = !backend;

	if (added)
		backend = tg_backend_make(service, &spec->addr, spec->port);
	if (!backend)
		return;
	if (added)
		backend->presumed = service->fresh;
	backend->leaves = false;
	if (!backend->watch && tg_hop_follow(backend))
		backend->watch = NULL; /* the kernel is asked instead; the next apply tries again */
	backend->weight = spec->weight;
	backend->admin = spec->admin;
	backend->backup = spec->backup;
	backend->quic_id = spec->quic_id;
	backend->wanted = true;
	tg_check_join(backend, spec);
	tg_backend_record(backend);
}

/* No spec wants it any more. If it can't have a flow, or is told so, it goes at once. */
static void leave(struct backend *backend, const struct tg_service_spec *spec)
{
	bool told = backend->port == spec->cut_port && tg_addr_equal(&backend->addr, &spec->cut);

	backend->leaves = true;
	backend->cut |= told || !backend->service->drain || !tg_backend_serves(backend) ||
			!tg_service_keeps_flows(backend->service);
}

/* The service's backends become those of the spec; the ones that left are freed by drop_left. */
static void sync_backends(struct service *service, const struct tg_service_spec *spec)
{
	tg_list_each(position, &service->backends)
		backend_of_list(position)->wanted = false;
	for (size_t i = 0; i < spec->backend_count; i++)
		sync_backend(service, &spec->backends[i]);
	tg_list_each(position, &service->backends)
		if (!backend_of_list(position)->wanted)
			leave(backend_of_list(position), spec);
}

static void drop_left(struct service *service)
{
	struct tg_list *next;

	for (struct tg_list *at = service->backends.next; at != &service->backends; at = next) {
		next = at->next;
		if (backend_of_list(at)->cut && backend_of_list(at)->leaves)
			tg_backend_free(backend_of_list(at), true);
	}
}

static void set_mode(struct service *service, enum tg_mode mode)
{
	bool changed = service->mode != mode;

	service->mode = mode;
	tg_list_each(position, &service->backends)
		if (changed)
			tg_hop_publish(backend_of_list(position));
}

static void take_vips(struct service *service, struct tg_service_spec *spec)
{
	free(service->vips);
	service->vips = spec->vips;
	service->vip_count = spec->vip_count;
	spec->vips = NULL;
	spec->vip_count = 0;
}

/* What the spec wants is put in place, and the spec is the one in force. */
static void put_in_place(struct service *service)
{
	struct tg_service_spec *spec = service->next_spec;

	set_mode(service, spec->mode);
	service->fail = spec->fail;
	service->slots = spec->slots;
	service->quic = spec->quic;
	service->flags = spec->flags;
	service->drain = spec->drain;
	take_vips(service, spec);
	tg_ring_swap(service);
	sync_backends(service, spec);
	tg_ring_publish(service);
	tg_service_record(
		service); /* what a later daemon adopts: a ring that is filled, and then VIPs */
	tg_quic_put(service);
	tg_vips_put(service);
	service->next_spec = NULL;
	service->fresh = false;
	service->changed = true;
	tg_spec_clear(&service->spec);
	service->spec = *spec;
	memset(spec, 0, sizeof(*spec));
}

/* What is left of before goes: VIPs before the backends and rings that they led to. */
static void finish(struct service *service)
{
	service->changed = false;
	tg_vips_drop(service);
	tg_quic_drop(service);
	drop_left(service);
	tg_ring_drop_old(service);
	tg_service_record(service); /* a ring less, maybe */
}

static void commit(struct tg_balancer *balancer, bool partial)
{
	struct tg_list *next;

	tg_list_each(position, &balancer->services)
		if (service_of_list(position)->next_spec)
			put_in_place(service_of_list(position));
	tg_ranges_put(balancer, partial);
	for (struct tg_list *at = balancer->services.next; at != &balancer->services; at = next) {
		struct service *service = service_of_list(at);

		next = at->next;
		if (!service->named && !partial)
			tg_service_free(service, true);
		else if (service->changed)
			finish(service);
	}
	tg_vips_yield(balancer);
	tg_rings_clear(balancer);
}

int tg_balancer_apply(struct tg_balancer *balancer, struct tg_spec *spec, struct tg_error *error)
{
	int result;

	tg_changes_publish(balancer); /* a backend that goes may have died just before */
	result = stage(balancer, spec, error);
	if (result) {
		unstage(balancer);
	} else {
		commit(balancer, spec->partial);
		tg_routes_follow(balancer);
	}
	tg_spec_free(spec);
	return result;
}

void tg_spec_free(struct tg_spec *spec)
{
	for (size_t i = 0; i < spec->service_count; i++)
		tg_spec_clear(&spec->services[i]);
	free(spec->services);
	free(spec);
}
