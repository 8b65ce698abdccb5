/* SPDX-License-Identifier: GPL-2.0-only */
/* Health checks, shared by all backends that ask the same of the same endpoint (see balancer.h). */
#include "balancer_internal.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static int by_check_key(const void *a, const void *b)
{
	return strcmp(((const struct check *)a)->key, ((const struct check *)b)->key);
}

/* Keeps what a later daemon has to know of the backend beside the datapath's entry. */
void tg_backend_record(const struct backend *backend)
{
	struct tg_backend_owner owner = {
		.service = backend->service->index + 1,
		.weight = backend->weight,
		.admin = backend->admin,
		.health = backend->health,
		.backup = backend->backup,
		.since = backend->since,
	};
	int map = backend->service->balancer->dp->maps[TG_MAP_BACKEND_OWNERS];

	bpf_map_update_elem(map, &backend->index, &owner, BPF_ANY);
}

static void tell(const struct backend *backend, const struct tg_probe_result *last)
{
	struct tg_balancer *balancer = backend->service->balancer;
	struct tg_event event = { 0 };

	snprintf(event.name, sizeof(event.name), "backend.%s", tg_health_name(backend->health));
	snprintf(event.service, sizeof(event.service), "%s", backend->service->name);
	snprintf(event.reason, sizeof(event.reason), "%s", last->ok ? "check passed" : last->reason);
	if (backend->port)
		tg_endpoint_print(&backend->addr, backend->port, event.backend);
	else
		tg_addr_print(&backend->addr, event.backend);
	balancer->on_event(balancer->user, &event);
}

static void on_change(void *user, enum tg_health state, const struct tg_probe_result *last)
{
	struct check *check = user;

	for (struct backend *b = check->users; b; b = b->next_user) {
		b->health = state;
		b->since = time(NULL);
		tg_backend_record(b);
		tg_ring_publish(b->service);
		tell(b, last);
	}
}

static void check_free(struct check *check)
{
	if (check->target)
		tg_prober_remove(check->target);
	free((char *)check->wanted.request);
	free(check->key);
	free(check);
}

static struct check *check_new(struct tg_balancer *balancer, const struct tg_backend_spec *spec,
	enum tg_health initial, struct tg_error *error)
{
	struct check *check = calloc(1, sizeof(*check));

	if (!check)
		return NULL;
	check->balancer = balancer;
	check->wanted = spec->check;
	check->key = strdup(spec->check_key);
	if (spec->check.request)
		check->wanted.request = strdup(spec->check.request);
	if (check->key)
		check->target = tg_prober_add(balancer->prober, &check->wanted, initial, on_change, check, error);
	if (check->target && tsearch(check, &balancer->checks, by_check_key))
		return check;
	check_free(check);
	return NULL;
}

static struct check *find(struct tg_balancer *balancer, const char *key)
{
	struct check wanted = { .key = (char *)key }, **found;

	found = tfind(&wanted, &balancer->checks, by_check_key);
	return found ? *found : NULL;
}

/* What is known of a backend before its first probe: what was, or that it is up. */
static enum tg_health first_guess(const struct backend *backend)
{
	return backend->health == TG_HEALTH_UNKNOWN ? TG_HEALTH_UP : backend->health;
}

/* Makes the backend's check the one of its spec; an unchanged one goes on, history and all. */
int tg_check_join(struct backend *backend, const struct tg_backend_spec *spec, struct tg_error *error)
{
	struct tg_balancer *balancer = backend->service->balancer;
	struct check *check;

	if (backend->check && spec->check_key && !strcmp(backend->check->key, spec->check_key))
		return 0;
	tg_check_leave(backend);
	if (!spec->check_key) {
		backend->health = TG_HEALTH_UP;
		return 0;
	}
	check = find(balancer, spec->check_key);
	if (!check)
		check = check_new(balancer, spec, first_guess(backend), error);
	if (!check)
		return -ENOMEM;
	backend->check = check;
	backend->next_user = check->users;
	check->users = backend;
	backend->health = tg_target_status(check->target)->state;
	return 0;
}

void tg_check_leave(struct backend *backend)
{
	struct check *check = backend->check;
	struct backend **at;

	if (!check)
		return;
	for (at = &check->users; *at != backend; at = &(*at)->next_user)
		;
	*at = backend->next_user;
	backend->check = NULL;
	if (check->users)
		return;
	tdelete(check, &check->balancer->checks, by_check_key);
	check_free(check);
}

void tg_balancer_report(struct tg_balancer *balancer, const char *check_key,
	const struct tg_probe_result *result)
{
	struct check *check = find(balancer, check_key);

	if (check && check->wanted.type == TG_CHECK_EXTERNAL)
		tg_target_report(check->target, result);
}
