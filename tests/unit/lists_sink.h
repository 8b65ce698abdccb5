/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Lists without tables, for their tests: the sink is an array of { list, prefix }. Shorthands make calls of
 * texts: lists by name (an allow list's begins with an a), prefixes between blanks.
 */
#ifndef TG_TEST_LISTS_SINK_H
#define TG_TEST_LISTS_SINK_H

#include "draft.h"
#include "lists.h"
#include "unit.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

/* ---- a sink ---- */

#define ROOM 4096

struct held {
	char list[TG_LIST_NAME];
	enum tg_list_verdict verdict;
	struct tg_cidr prefix;
};

static struct held held[ROOM];
static size_t held_count;
static size_t capacity = ROOM;
static char story[4096];      /* what was asked, in order */

static inline struct held *find_held(const char *list, const struct tg_cidr *prefix)
{
	for (size_t i = 0; i < held_count; i++)
		if (!strcmp(held[i].list, list) && !tg_cidr_compare(&held[i].prefix, prefix))
			return &held[i];
	return NULL;
}

static inline void tell(const char *what, const char *list, const struct tg_cidr *prefixes, size_t count)
{
	size_t at = strlen(story);
	char text[TG_CIDR_TEXT];

	if (at > sizeof(story) - 512)
		return;
	at += sprintf(story + at, "%s %s", what, list);
	for (size_t i = 0; i < count && i < 4; i++)
		at += sprintf(story + at, " %s", tg_cidr_print(&prefixes[i], text));
	strcpy(story + at, "\n");
}

static inline int sink_add(void *user, const char *list, enum tg_list_verdict verdict,
	const struct tg_cidr *prefixes, size_t count, struct tg_error *error)
{
	tell("add", list, prefixes, count);
	if (held_count + count > capacity)
		return tg_fail(error, -ENOSPC, "full");
	for (size_t i = 0; i < count; i++) {
		struct held *entry = find_held(list, &prefixes[i]);

		CHECK(!i || tg_cidr_compare(&prefixes[i - 1], &prefixes[i]) < 0);
		if (!entry)
			entry = &held[held_count++];
		strcpy(entry->list, list);
		entry->verdict = verdict;
		entry->prefix = prefixes[i];
	}
	return 0;
}

static const char *const *watched; /* addresses that are to be on a list throughout; NULL: none */

static inline void watch(void)
{
	for (int i = 0; watched && watched[i]; i++) {
		struct tg_cidr addr, cut;
		bool found = false;

		CHECK(!tg_cidr_parse(watched[i], strlen(watched[i]), &addr));
		for (size_t k = 0; k < held_count && !found; k++) {
			cut = tg_cidr_cut(&addr, held[k].prefix.length);
			found = held[k].prefix.family == addr.family &&
				!tg_cidr_compare(&cut, &held[k].prefix);
		}
		if (!found)
			printf("# %s is on no list after:\n%s", watched[i], story);
		CHECK(found);
	}
}

static inline void sink_remove(void *user, const char *list, const struct tg_cidr *prefixes, size_t count)
{
	tell("remove", list, prefixes, count);
	for (size_t i = 0; i < count; i++) {
		struct held *entry = find_held(list, &prefixes[i]);

		if (entry)
			*entry = held[--held_count];
	}
	watch();
}

static inline void sink_drop(void *user, const char *list)
{
	tell("drop", list, NULL, 0);
	for (size_t i = held_count; i-- > 0;)
		if (!strcmp(held[i].list, list))
			held[i] = held[--held_count];
}

/* ---- shorthands ---- */

static const struct tg_lists_sink sink = { NULL, sink_add, sink_remove, sink_drop };
static struct tg_lists *lists;
static struct tg_error error;
static int64_t now;
static char *scripts[] = { "/a.lua", "/b.lua", NULL };

static const struct tg_list_actor task = { TG_LAYER_TASK, "a.lua:1", "/a.lua" };
static const struct tg_list_actor person= { TG_LAYER_OPERATOR, "uid 0", NULL };

static inline struct tg_list_time at_now(void)
{
	return (struct tg_list_time){ now, 1700000000000 + now };
}

static inline void begin(void)
{
	tg_lists_free(lists);
	lists = tg_lists_new(&sink);
	held_count = 0;
	now = 1000000;
	story[0] = 0;
}

static inline struct tg_list_id id_of(const char *name)
{
	struct tg_list_id id = { .verdict = name[0] == 'a' ? TG_LIST_ALLOW : TG_LIST_DENY };

	strcpy(id.name, name);
	return id;
}

static inline struct tg_cidr prefix_of(const char *text)
{
	struct tg_cidr prefix;

	CHECK(!tg_cidr_parse(text, strlen(text), &prefix));
	return prefix;
}

/* Prefixes between blanks. */
static inline size_t prefixes_of(const char *text, struct tg_cidr *prefixes)
{
	char copy[512], *rest = copy, *word;
	size_t n = 0;

	strcpy(copy, text);
	while ((word = strsep(&rest, " ")))
		if (*word)
			prefixes[n++] = prefix_of(word);
	return n;
}

static inline int add_for(
	const char *list, const char *text, const struct tg_list_actor *actor, double ttl)
{
	struct tg_list_terms terms = { .ttl = ttl };
	struct tg_list_id id = id_of(list);
	struct tg_cidr prefixes[64];
	size_t added;
	int result = tg_lists_add(lists, &id, prefixes, prefixes_of(text, prefixes), &terms, actor,
		at_now(), &added, &error);

	return result ? result : (int)added;
}

static inline int add(const char *list, const char *text, const struct tg_list_actor *actor)
{
	return add_for(list, text, actor, 0);
}

static inline int remove_one(const char *list, const char *text, const struct tg_list_actor *actor)
{
	struct tg_list_id id = id_of(list);
	struct tg_cidr prefix = prefix_of(text);
	bool removed;
	int result = tg_lists_remove(lists, &id, &prefix, actor, at_now(), &removed, &error);

	return result ? result : removed;
}

static inline int replace(const char *list, const char *text, size_t min,
	const struct tg_list_actor *actor, double ttl)
{
	struct tg_list_terms terms = { .ttl = ttl };
	struct tg_list_id id = id_of(list);
	struct tg_list_change change;
	struct tg_cidr prefixes[64];

	return tg_lists_replace(lists, &id, prefixes, prefixes_of(text, prefixes), min, &terms,
		actor, at_now(), &change, &error);
}

/* "list: prefixes" in each word of `texts`, until NULL. */
static inline struct tg_draft *draft_of(const char *const *texts, double ttl, const char *reason)
{
	struct tg_list_terms terms = { .ttl = ttl, .reason = reason };
	struct tg_draft *draft = tg_draft_new();

	for (; *texts; texts++) {
		struct tg_cidr prefixes[64];
		char name[TG_LIST_NAME];
		struct tg_list_id id;
		int list;

		snprintf(name, sizeof(name), "%.*s", (int)strcspn(*texts, ":"), *texts);
		id = id_of(name);
		list = tg_draft_list(draft, &id, &error);
		CHECK(list >= 0);
		tg_draft_add(draft, list, prefixes, prefixes_of(strchr(*texts, ':') + 1, prefixes),
			&terms, "a.lua:1", &error);
	}
	return draft;
}

#define DRAFT(...) draft_of((const char *const[]){ __VA_ARGS__, NULL }, 0, NULL)
#define EMPTY()	   draft_of((const char *const[]){ NULL }, 0, NULL)

static inline int commit(struct tg_draft *draft)
{
	int result = tg_lists_commit(lists, draft, scripts, at_now(), &error);

	if (!result)
		tg_lists_keep(lists);
	tg_draft_free(draft);
	return result;
}

static inline int by_prefix(const void *a, const void *b)
{
	return tg_cidr_compare(
		&((const struct held *)a)->prefix, &((const struct held *)b)->prefix);
}

/* What the sink has of a list, in order. */
static inline const char *in_sink(const char *list)
{
	static char text[1024];
	size_t length = 0;
	char one[TG_CIDR_TEXT];

	text[0] = 0;
	qsort(held, held_count, sizeof(*held), by_prefix);
	for (size_t i = 0; i < held_count; i++)
		if (!strcmp(held[i].list, list))
			length += sprintf(text + length, "%s%s", length ? " " : "",
				tg_cidr_print(&held[i].prefix, one));
	return text;
}

static inline struct tg_list_status status_of(const char *list)
{
	size_t count;
	struct tg_list_status *all = tg_lists_status(lists, &count), found = { 0 };

	for (size_t i = 0; i < count; i++)
		if (!strcmp(all[i].id.name, list))
			found = all[i];
	free(all);
	return found;
}

#endif
