/* SPDX-License-Identifier: GPL-2.0-only */
/* Services and backends, and making them what a spec says (see balancer.h). */
#include "balancer_internal.h"
#include "maglev.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static int by_endpoint(const void *a, const void *b)
{
	const struct backend *x = a, *y = b;
	int order = memcmp(&x->addr, &y->addr, sizeof(x->addr));

	return order ? order : (int)x->port - (int)y->port;
}

/* ---- backends ---- */

static uint32_t take_index(struct tg_balancer *balancer)
{
	struct resting *first = &balancer->resting[balancer->resting_first];

	if (!balancer->resting_count || (first->since && uv_hrtime() - first->since < TG_INDEX_REST_NS))
		return 0;
	balancer->resting_first = (balancer->resting_first + 1) % TG_MAX_BACKENDS;
	balancer->resting_count--;
	return first->index;
}

void tg_index_rest(struct tg_balancer *balancer, uint32_t index, uint64_t since)
{
	uint32_t last = (balancer->resting_first + balancer->resting_count++) % TG_MAX_BACKENDS;

	balancer->resting[last] = (struct resting){ index, since };
}

static void write_backend(struct tg_datapath *dp, const struct backend *backend)
{
	struct tg_backend entry = { .port = htons(backend->port),
		.flags = backend->addr.family == AF_INET6 ? TG_BACKEND_V6 : 0 };

	memcpy(entry.addr, backend->addr.word, sizeof(entry.addr));
	dp->backends[backend->index] = entry;
	tg_datapath_reset_counter(dp, TG_MAP_BACKEND_COUNTERS, backend->index);
	tg_datapath_reset_counter(dp, TG_MAP_REPLY_COUNTERS, backend->index);
}

static uint64_t identity(const struct tg_addr *addr, uint16_t port)
{
	struct {
		struct tg_addr addr;
		uint32_t port;
	} bytes = { *addr, port };

	return tg_maglev_key(&bytes, sizeof(bytes));
}

/* A backend of the service in memory, with an index that it has or gets. */
struct backend *tg_backend_new(struct service *service, const struct tg_addr *addr,
	uint16_t port, uint32_t index)
{
	struct backend *backend = calloc(1, sizeof(*backend));

	if (!backend)
		return NULL;
	backend->service = service;
	backend->addr = *addr;
	backend->port = port;
	backend->index = index;
	backend->key = identity(addr, port);
	backend->since = time(NULL);
	if (!tsearch(backend, &service->by_endpoint, by_endpoint)) {
		free(backend);
		return NULL;
	}
	backend->next = service->backends;
	service->backends = backend;
	return backend;
}

static struct backend *backend_find(struct service *service, const struct tg_backend_spec *spec)
{
	struct backend wanted = { .addr = spec->addr, .port = spec->port }, **found;

	found = tfind(&wanted, &service->by_endpoint, by_endpoint);
	return found ? *found : NULL;
}

/* Forgets the backend in memory; `for_good` in the maps as well. */
static void backend_free(struct backend *backend, bool for_good)
{
	struct tg_balancer *balancer = backend->service->balancer;
	struct tg_backend_owner nobody = { 0 };

	tg_check_leave(backend);
	tg_hop_unfollow(backend);
	tdelete(backend, &backend->service->by_endpoint, by_endpoint);
	if (for_good) {
		bpf_map_update_elem(balancer->dp->maps[TG_MAP_BACKEND_OWNERS], &backend->index, &nobody, BPF_ANY);
		tg_index_rest(balancer, backend->index, uv_hrtime());
	}
	free(backend);
}

static void sync_backend(struct service *service, const struct tg_backend_spec *spec)
{
	struct backend *backend = backend_find(service, spec);
	uint32_t index;

	if (!backend) {
		index = take_index(service->balancer); /* counted before: there is one */
		backend = index ? tg_backend_new(service, &spec->addr, spec->port, index) : NULL;
		if (!backend)
			return;
		write_backend(service->balancer->dp, backend);
	}
	if (!backend->watch)
		tg_hop_follow(backend);
	backend->weight = spec->weight;
	backend->admin = spec->admin;
	backend->backup = spec->backup;
	backend->wanted = true;
	tg_check_join(backend, spec, NULL);
	tg_backend_record(backend);
}

/* The service's backends become those of the spec; the ones that left are freed by drop_left. */
static void sync_backends(struct service *service, const struct tg_service_spec *spec)
{
	for (struct backend *b = service->backends; b; b = b->next)
		b->wanted = false;
	for (size_t i = 0; i < spec->backend_count; i++)
		sync_backend(service, &spec->backends[i]);
	for (struct backend *b = service->backends; b; b = b->next)
		if (!b->wanted)
			b->weight = 0;
}

static void drop_left(struct service *service)
{
	struct backend **at = &service->backends, *backend;

	while ((backend = *at)) {
		if (backend->wanted) {
			at = &backend->next;
			continue;
		}
		*at = backend->next;
		backend_free(backend, true);
	}
}

/* ---- services ---- */

struct service *tg_service_new(struct tg_balancer *balancer, uint32_t index, const char *name)
{
	struct service *service = calloc(1, sizeof(*service));

	if (!service)
		return NULL;
	service->balancer = balancer;
	service->index = index;
	snprintf(service->name, sizeof(service->name), "%s", name);
	balancer->service_used[index] = true;
	service->next = balancer->services;
	balancer->services = service;
	return service;
}

static void unlink_service(struct service *service)
{
	struct service **at = &service->balancer->services;

	while (*at != service)
		at = &(*at)->next;
	*at = service->next;
}

static void spec_clear(struct tg_service_spec *spec)
{
	for (size_t i = 0; i < spec->backend_count; i++) {
		free(spec->backends[i].check_key);
		free((char *)spec->backends[i].check.request);
	}
	free(spec->backends);
	free(spec->vips);
	memset(spec, 0, sizeof(*spec));
}

static void forget_reverse(void *entry)
{
	free(entry);
}

/* Frees what is in memory; `for_good` also what is in the datapath. */
void tg_service_free(struct service *service, bool for_good)
{
	struct tg_balancer *balancer = service->balancer;
	struct tg_service_info nothing = { 0 };
	struct backend *next;

	for (struct backend *b = service->backends; b; b = next) {
		next = b->next;
		backend_free(b, for_good);
	}
	if (for_good) {
		tg_rings_drop(service);
		bpf_map_update_elem(balancer->dp->maps[TG_MAP_SERVICES], &service->index, &nothing, BPF_ANY);
		balancer->service_used[service->index] = false;
	}
	tg_ring_release(NULL, &service->ring[0]);
	tg_ring_release(NULL, &service->ring[1]);
	tdestroy(service->reverse, forget_reverse);
	unlink_service(service);
	spec_clear(&service->spec);
	free(service->vips);
	free(service);
}

struct service *tg_service_find(struct tg_balancer *balancer, const char *name)
{
	struct service *service = balancer->services;

	while (service && strcmp(service->name, name))
		service = service->next;
	return service;
}

static void record_service(struct service *service)
{
	struct tg_service_info info = { .slots = service->slots, .mode = service->mode,
		.fail = service->fail };

	for (int v6 = 0; v6 < 2; v6++)
		info.ring[v6] = service->ring[v6].slots ? service->ring[v6].index + 1 : 0;
	memcpy(info.name, service->name, sizeof(info.name));
	bpf_map_update_elem(service->balancer->dp->maps[TG_MAP_SERVICES], &service->index, &info, BPF_ANY);
}

/* ---- apply ---- */

static bool same_text(const char *a, const char *b)
{
	return a == b || (a && b && !strcmp(a, b));
}

static bool same_backend(const struct tg_backend_spec *a, const struct tg_backend_spec *b)
{
	return tg_addr_equal(&a->addr, &b->addr) && a->port == b->port && a->weight == b->weight &&
	       a->admin == b->admin && a->backup == b->backup && same_text(a->check_key, b->check_key);
}

static bool same_service(const struct tg_service_spec *a, const struct tg_service_spec *b)
{
	if (a->mode != b->mode || a->fail != b->fail || a->slots != b->slots ||
		a->vip_count != b->vip_count || a->backend_count != b->backend_count)
		return false;
	for (size_t i = 0; i < a->vip_count; i++)
		if (!tg_addr_equal(&a->vips[i].addr, &b->vips[i].addr) || a->vips[i].port != b->vips[i].port ||
			a->vips[i].proto != b->vips[i].proto)
			return false;
	for (size_t i = 0; i < a->backend_count; i++)
		if (!same_backend(&a->backends[i], &b->backends[i]))
			return false;
	return true;
}

static int make_service(struct tg_balancer *balancer, const struct tg_service_spec *spec,
	struct service **out, struct tg_error *error)
{
	struct service *service;
	uint32_t index = 0;

	while (index < TG_MAX_SERVICES && balancer->service_used[index])
		index++;
	if (index == TG_MAX_SERVICES)
		return tg_fail(error, -ENOSPC, "service \"%s\": there are %d services already", spec->name, TG_MAX_SERVICES);
	service = tg_service_new(balancer, index, spec->name);
	if (!service)
		return tg_fail(error, -ENOMEM, "service \"%s\": out of memory", spec->name);
	service->fresh = true;
	*out = service;
	tg_datapath_reset_counter(balancer->dp, TG_MAP_SERVICE_COUNTERS, index);
	return 0;
}

/* Finds what changes, makes what can fail: services, rings. */
static int stage(struct tg_balancer *balancer, struct tg_spec *spec, struct tg_error *error)
{
	int result = 0;

	for (struct service *s = balancer->services; s; s = s->next)
		s->named = spec->partial;
	for (size_t i = 0; !result && i < spec->service_count; i++) {
		struct tg_service_spec *wanted = &spec->services[i];
		struct service *service = tg_service_find(balancer, wanted->name);

		if (!service)
			result = make_service(balancer, wanted, &service, error);
		if (result)
			break;
		service->next_spec = wanted;
		service->named = true;
	}
	for (struct service *s = balancer->services; !result && s; s = s->next)
		if (s->next_spec)
			result = tg_ring_stage(s, s->next_spec, error);
	return result;
}

/* Are there indexes for all backends that come? One that leaves keeps its own until it has rested. */
static int reserve_backends(struct tg_balancer *balancer, struct tg_error *error)
{
	size_t needed = 0, free = 0;

	for (uint32_t i = 0; i < balancer->resting_count; i++) {
		struct resting *r = &balancer->resting[(balancer->resting_first + i) % TG_MAX_BACKENDS];

		free += !r->since || uv_hrtime() - r->since >= TG_INDEX_REST_NS;
	}
	for (struct service *s = balancer->services; s; s = s->next)
		for (size_t i = 0; s->next_spec && i < s->next_spec->backend_count; i++)
			needed += !backend_find(s, &s->next_spec->backends[i]);
	if (needed <= free)
		return 0;
	return tg_fail(error, -ENOSPC, "%zu backends more than there is room for: %zu of %d are free", needed - free, free, TG_MAX_BACKENDS - 1);
}

static int install_rings(struct tg_balancer *balancer, struct tg_error *error)
{
	struct tg_ring *rings = calloc(TG_MAX_RINGS, sizeof(*rings));
	size_t count = 0;
	int result;

	if (!rings)
		return tg_fail(error, -ENOMEM, "out of memory");
	for (struct service *s = balancer->services; s; s = s->next)
		for (int v6 = 0; v6 < 2; v6++)
			if (s->staged[v6].slots)
				rings[count++] = s->staged[v6];
	result = tg_ring_install(balancer->dp, rings, count, error);
	free(rings);
	return result;
}

static void unstage(struct tg_balancer *balancer)
{
	struct service *next;

	for (struct service *s = balancer->services; s; s = next) {
		next = s->next;
		s->next_spec = NULL;
		tg_ring_unstage(s);
		if (s->fresh)
			tg_service_free(s, true);
	}
}

/* Staged rings take the place of those in force, which are returned in `old`. */
static void swap_rings(struct service *service, struct tg_ring old[2])
{
	for (int v6 = 0; v6 < 2; v6++) {
		old[v6] = (struct tg_ring){ .fd = -1 };
		if (!service->staged[v6].slots)
			continue;
		old[v6] = service->ring[v6];
		service->ring[v6] = service->staged[v6];
		service->staged[v6] = (struct tg_ring){ .fd = -1 };
	}
}

static void release_old(struct service *service, struct tg_ring old[2])
{
	for (int v6 = 0; v6 < 2; v6++) {
		if (!old[v6].slots)
			continue;
		service->balancer->ring_used[old[v6].index] = false;
		tg_ring_release(service->balancer->dp, &old[v6]);
	}
}

/* Backends, then the ring, then VIPs, and last what is no longer needed. */
static void commit_service(struct service *service)
{
	struct tg_service_spec *spec = service->next_spec;
	struct tg_vip_spec *old_vips = service->vips;
	size_t old_count = service->vip_count;
	struct tg_ring old_rings[2];

	service->next_spec = NULL;
	service->fresh = false;
	service->mode = spec->mode;
	service->fail = spec->fail;
	service->slots = spec->slots;
	sync_backends(service, spec);
	tg_ring_publish(service);
	swap_rings(service, old_rings);
	service->vip_count = spec->vip_count;
	service->vips = malloc((spec->vip_count + 1) * sizeof(*service->vips));
	if (service->vips)
		memcpy(service->vips, spec->vips, spec->vip_count * sizeof(*service->vips));
	tg_reverse_sync(service);
	tg_vips_put(service);
	tg_vips_drop(service, old_vips, old_count);
	drop_left(service);
	release_old(service, old_rings);
	record_service(service);
	free(old_vips);
	spec_clear(&service->spec);
	service->spec = *spec;
	memset(spec, 0, sizeof(*spec));
}

static void remove_service(struct service *service)
{
	struct tg_vip_spec *vips = service->vips;
	size_t count = service->vip_count;

	service->vips = NULL;
	service->vip_count = 0;
	tg_vips_drop(service, vips, count);
	tg_reverse_drop(service);
	free(vips);
	tg_service_free(service, true);
}

static void commit(struct tg_balancer *balancer)
{
	struct service *next;

	for (struct service *s = balancer->services; s; s = next) {
		next = s->next;
		if (!s->next_spec)
			continue;
		if (same_service(&s->spec, s->next_spec))
			s->next_spec = NULL;
		else
			commit_service(s);
	}
	for (struct service *s = balancer->services; s; s = next) {
		next = s->next;
		if (!s->named)
			remove_service(s);
	}
}

int tg_balancer_apply(struct tg_balancer *balancer, struct tg_spec *spec, struct tg_error *error)
{
	int result = stage(balancer, spec, error);

	if (!result)
		result = reserve_backends(balancer, error);
	if (!result)
		result = install_rings(balancer, error);
	if (result) {
		unstage(balancer);
	} else {
		commit(balancer);
		tg_routes_follow(balancer);
	}
	tg_spec_free(spec);
	return result;
}

void tg_spec_free(struct tg_spec *spec)
{
	for (size_t i = 0; i < spec->service_count; i++)
		spec_clear(&spec->services[i]);
	free(spec->services);
	free(spec);
}
