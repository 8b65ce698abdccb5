/* SPDX-License-Identifier: GPL-2.0-only */
#include "lister.h"

#include "grace.h"
#include "log.h"

#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* ---- the tables as a sink ---- */

struct tg_deny_prefix tg_deny_prefix_of(const struct tg_cidr *prefix)
{
	uint64_t words[2] = { htobe64(prefix->hi), htobe64(prefix->lo) };
	struct tg_deny_prefix out = { .v6 = prefix->family == 6, .length = prefix->length };

	out.count = (prefix->flags & TG_LIST_COUNT) != 0;
	memcpy(out.addr, words, sizeof(words));
	return out;
}

struct tg_cidr tg_cidr_of_deny(const struct tg_deny_prefix *prefix)
{
	struct tg_cidr out = { .family = prefix->v6 ? 6 : 4, .length = prefix->length };
	uint64_t words[2];

	memcpy(words, prefix->addr, sizeof(words));
	out.hi = be64toh(words[0]);
	out.lo = be64toh(words[1]);
	out.flags = prefix->count ? TG_LIST_COUNT : 0;
	return out;
}

static struct tg_deny_prefix *convert(const struct tg_cidr *prefixes, size_t count)
{
	struct tg_deny_prefix *out = malloc((count + 1) * sizeof(*out));

	for (size_t i = 0; out && i < count; i++)
		out[i] = tg_deny_prefix_of(&prefixes[i]);
	return out;
}

/* The class of a list. One of that name and the other verdict is over: its prefixes become others. */
static int class_of(struct tg_deny *deny, const char *list, enum tg_list_verdict verdict,
	struct tg_error *error)
{
	enum tg_deny_verdict wanted = verdict == TG_LIST_ALLOW ? TG_DENY_ALLOW : TG_DENY_DENY;
	int class = tg_deny_class(deny, list, wanted, error);

	if (class != -EEXIST)
		return class;
	tg_deny_class_drop(deny, tg_deny_class_find(deny, list));
	return tg_deny_class(deny, list, wanted, error);
}

static int add(void *user, const char *list, enum tg_list_verdict verdict,
	const struct tg_cidr *prefixes, size_t count, struct tg_error *error)
{
	struct tg_lister *lister = user;
	int class = class_of(lister->deny, list, verdict, error), result;
	struct tg_deny_prefix *converted;
	struct tg_deny_change change;

	if (class < 0)
		return class;
	converted = convert(prefixes, count);
	if (!converted)
		return tg_fail(error, -ENOMEM, "no memory for %zu prefixes", count);
	result = tg_deny_add(lister->deny, class, converted, count, &change, error);
	lister->added |= !result && change.added;
	free(converted);
	return result;
}

static void remove_prefixes(
	void *user, const char *list, const struct tg_cidr *prefixes, size_t count)
{
	struct tg_lister *lister = user;
	int class = tg_deny_class_find(lister->deny, list);
	struct tg_deny_prefix *converted;
	struct tg_deny_change change;

	if (class < 0 || !count)
		return;
	converted = convert(prefixes, count);
	if (lister->added)
		tg_grace(); /* a packet that missed what is new still finds what is old */
	lister->added = false;
	if (converted)
		tg_deny_remove(lister->deny, class, converted, count, &change);
	else
		tg_log(TG_LOG_ERROR, "list %s: no memory to remove %zu prefixes", list, count);
	free(converted);
}

static void drop(void *user, const char *list)
{
	struct tg_lister *lister = user;
	int class = tg_deny_class_find(lister->deny, list);

	if (class > 0)
		tg_deny_class_drop(lister->deny, class);
}

/* ---- adoption ---- */

#define PAGE 4096

/* All prefixes of a class, sorted. */
static int read_class(struct tg_deny *deny, int class, struct tg_cidr **prefixes, size_t *count)
{
	struct tg_deny_prefix page[PAGE];
	size_t cursor = 0, room = 0, n;

	*prefixes = NULL;
	*count = 0;
	while ((n = tg_deny_each(deny, 1ull << class, &cursor, page, PAGE))) {
		struct tg_cidr *moved = *prefixes;

		if (*count + n > room) {
			room = 2 * (*count + n);
			moved = realloc(moved, room * sizeof(*moved));
		}
		if (!moved)
			return -ENOMEM;
		*prefixes = moved;
		for (size_t i = 0; i < n; i++)
			moved[(*count)++] = tg_cidr_of_deny(&page[i]);
	}
	return tg_cidr_sort(*prefixes, *count);
}

static int adopt_class(struct tg_lister *lister, int class)
{
	struct tg_deny_class_info info;
	struct tg_list_id id = { 0 };
	struct tg_cidr *prefixes;
	size_t count;
	int result;

	if (!tg_deny_class_info(lister->deny, class, &info))
		return 0;
	snprintf(id.name, sizeof(id.name), "%s", info.name);
	id.verdict = info.verdict == TG_DENY_ALLOW ? TG_LIST_ALLOW : TG_LIST_DENY;
	result = read_class(lister->deny, class, &prefixes, &count);
	if (!result)
		result = tg_lists_adopt(lister->lists, &id, prefixes, count);
	if (result)
		free(prefixes);
	return result;
}

int tg_lister_open(struct tg_lister *lister, struct tg_error *error)
{
	int result = tg_deny_open(lister->deny, error);

	if (result || lister->adopted)
		return result;
	for (int class = 1; class <= TG_DENY_CLASSES && !result; class ++)
		result = adopt_class(lister, class);
	if (result)
		return tg_fail(error, result, "no memory for the lists that are in force");
	lister->adopted = true;
	if (tg_lists_restore(lister->lists, lister->path, error))
		tg_log(TG_LOG_ERROR, "%s", error->text);
	return 0;
}

/* ---- time ---- */

static void on_timer(uv_timer_t *timer)
{
	tg_lister_changed(timer->data);
}

void tg_lister_changed(struct tg_lister *lister)
{
	int64_t now = tg_list_time().now, next = tg_lists_expire(lister->lists, now);

	if (next == INT64_MAX)
		uv_timer_stop(&lister->timer);
	else
		uv_timer_start(&lister->timer, on_timer, next > now + 10 ? next - now : 10, 0);
}

/* ---- life ---- */

static void started(uv_loop_t *loop, void *user)
{
	struct tg_lister *lister = user;

	/* The main loop and the engine come first where there are too few processors. */
	setpriority(PRIO_PROCESS, gettid(), getpriority(PRIO_PROCESS, 0) + 5);
	uv_timer_init(loop, &lister->timer);
	lister->timer.data = lister;
}

static void stopping(void *user)
{
	struct tg_lister *lister = user;

	uv_close((uv_handle_t *)&lister->timer, NULL);
}

static void path_of(const char *instance, char *path, size_t size)
{
	snprintf(path, size, TG_RUN_DIR "/%s.lists", instance);
}

static void release(struct tg_lister *lister)
{
	tg_lists_free(lister->lists);
	tg_deny_free(lister->deny);
	free(lister);
}

struct tg_lister *tg_lister_start(
	struct tg_datapath *dp, const char *instance, struct tg_error *error)
{
	struct tg_lister *lister = calloc(1, sizeof(*lister));
	struct tg_lists_sink sink = { lister, add, remove_prefixes, drop };

	if (!lister) {
		tg_fail(error, -ENOMEM, "no memory for the lists");
		return NULL;
	}
	lister->dp = dp;
	lister->deny = tg_deny_new(dp);
	lister->lists = tg_lists_new(&sink);
	path_of(instance, lister->path, sizeof(lister->path));
	if (lister->deny && lister->lists)
		lister->engine = tg_engine_start(started, stopping, lister, error);
	else
		tg_fail(error, -ENOMEM, "no memory for the lists");
	if (lister->engine)
		return lister;
	release(lister);
	return NULL;
}

void tg_lister_stop(struct tg_lister *lister)
{
	tg_engine_stop(lister->engine);
	release(lister);
}

void tg_lister_unload(const char *instance)
{
	char path[128];

	path_of(instance, path, sizeof(path));
	unlink(path);
}
