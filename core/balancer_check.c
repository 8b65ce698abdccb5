/* SPDX-License-Identifier: GPL-2.0-only */
/* Health checks, shared by all backends that ask the same of the same endpoint (see balancer.h). */
#include "balancer_internal.h"
#include "log.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

void tg_backend_tell(const struct backend *backend, const char *what, const char *reason)
{
	struct tg_balancer *balancer = backend->service->balancer;
	struct tg_event event = { 0 };

	snprintf(event.name, sizeof(event.name), "backend.%s", what);
	snprintf(event.service, sizeof(event.service), "%s", backend->service->name);
	snprintf(event.reason, sizeof(event.reason), "%s", reason);
	if (backend->port)
		tg_endpoint_print(&backend->addr, backend->port, event.backend);
	else
		tg_addr_print(&backend->addr, event.backend);
	balancer->on_event(balancer->user, &event);
}

void tg_backend_tell_health(const struct backend *backend)
{
	tg_backend_tell(backend, tg_health_name(backend->health),
		backend->health == TG_HEALTH_UP
			? "check passed"
			: tg_target_status(backend->check->target)->last.reason);
}

/* A first success of a backend that was presumed to live is no news. */
static void set_health(struct backend *backend, enum tg_health health)
{
	struct tg_balancer *balancer = backend->service->balancer;
	bool lived = tg_backend_lives(backend);

	backend->health = health;
	if (lived == tg_backend_lives(backend))
		return;
	backend->since = time(NULL);
	tg_backend_record(backend);
	backend->service->dirty = true;
	tg_list_remove(&backend->changed);
	tg_list_add(&balancer->changed, &backend->changed);
}

static void on_change(void *user, enum tg_health state, const struct tg_probe_result *last)
{
	struct check *check = user;

	tg_list_each(position, &check->users)
		set_health(tg_container(position, struct backend, of_check), state);
}

static uint32_t key_hash(const char *key)
{
	return tg_hash(key, strlen(key));
}

static void check_free(struct check *check)
{
	if (check->target)
		tg_prober_remove(check->target);
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
	check->type = spec->check.type;
	tg_list_init(&check->users);
	check->key = strdup(spec->check_key);
	if (check->key)
		check->target = tg_prober_add(
			balancer->prober, &spec->check, initial, on_change, check, error);
	if (check->target &&
		!tg_table_insert(&balancer->checks, &check->node, key_hash(check->key)))
		return check;
	check_free(check);
	return NULL;
}

static struct check *find(struct tg_balancer *balancer, const char *key)
{
	struct tg_table_node *node = tg_table_first(&balancer->checks, key_hash(key));

	for (; node; node = tg_table_next(node))
		if (!strcmp(tg_container(node, struct check, node)->key, key))
			return tg_container(node, struct check, node);
	return NULL;
}

/* Without a check, or one that can't be had, the backend is up. */
static void go_unchecked(struct backend *backend)
{
	if (backend->health != TG_HEALTH_UP)
		backend->since = time(NULL);
	backend->health = TG_HEALTH_UP;
}

/*
 * Another check than before: what the old one found down is unknown to the new one, and stays out
 * until that succeeds; what was up stays up until the new one has failed often enough.
 */
static enum tg_health first_guess(struct backend *backend)
{
	if (backend->check && backend->health == TG_HEALTH_DOWN)
		return TG_HEALTH_UNKNOWN;
	return backend->health;
}

void tg_check_join(struct backend *backend, const struct tg_backend_spec *spec)
{
	struct tg_balancer *balancer = backend->service->balancer;
	struct tg_error error = { "out of memory" };
	enum tg_health guess = first_guess(backend);
	struct check *check;

	if (backend->check && spec->check_key && !strcmp(backend->check->key, spec->check_key))
		return; /* it goes on, history and all */
	tg_check_leave(backend);
	check = spec->check_key ? find(balancer, spec->check_key) : NULL;
	if (spec->check_key && !check)
		check = check_new(balancer, spec, guess, &error);
	if (spec->check_key && !check)
		tg_log(TG_LOG_ERROR, "service %s: no check of a backend: %s",
			backend->service->name, error.text);
	if (!check) {
		go_unchecked(backend);
		return;
	}
	backend->check = check;
	tg_list_add(&check->users, &backend->of_check);
	if (backend->health != TG_HEALTH_UNKNOWN)
		backend->presumed = tg_backend_lives(backend);
	backend->health = tg_target_status(check->target)->state;
}

void tg_check_leave(struct backend *backend)
{
	struct check *check = backend->check;

	if (!check)
		return;
	tg_list_remove(&backend->of_check);
	tg_list_remove(&backend->changed); /* what there was to tell came from the check */
	backend->check = NULL;
	if (!tg_list_empty(&check->users))
		return;
	tg_table_remove(&check->balancer->checks, &check->node);
	check_free(check);
}

void tg_balancer_report(
	struct tg_balancer *balancer, const char *check_key, const struct tg_probe_result *result)
{
	struct check *check = find(balancer, check_key);

	if (check && check->type == TG_CHECK_EXTERNAL)
		tg_target_report(check->target, result);
}
