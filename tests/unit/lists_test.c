/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Lists without tables: the sink is an array of { list, prefix }. A random schedule of changes is compared with
 * a model that knows no layers' arrays, only who said what last.
 */
#include "draft.h"
#include "lists.h"
#include "unit.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- a sink ---- */

#define ROOM 4096

struct held {
	char list[TG_LIST_NAME];
	enum tg_list_verdict verdict;
	struct tg_cidr prefix;
};

static struct held held[ROOM];
static size_t held_count;
static int refuse_after = -1; /* more prefixes at once are refused */
static size_t capacity = ROOM;
static char story[4096];      /* what was asked, in order */

static struct held *find_held(const char *list, const struct tg_cidr *prefix)
{
	for (size_t i = 0; i < held_count; i++)
		if (!strcmp(held[i].list, list) && !tg_cidr_compare(&held[i].prefix, prefix))
			return &held[i];
	return NULL;
}

static void tell(const char *what, const char *list, const struct tg_cidr *prefixes, size_t count)
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

static int sink_add(void *user, const char *list, enum tg_list_verdict verdict,
	const struct tg_cidr *prefixes, size_t count, struct tg_error *error)
{
	tell("add", list, prefixes, count);
	if ((refuse_after >= 0 && (int)count > refuse_after) || held_count + count > capacity)
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

static void sink_remove(void *user, const char *list, const struct tg_cidr *prefixes, size_t count)
{
	tell("remove", list, prefixes, count);
	for (size_t i = 0; i < count; i++) {
		struct held *entry = find_held(list, &prefixes[i]);

		if (entry)
			*entry = held[--held_count];
	}
}

static void sink_drop(void *user, const char *list)
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

static struct tg_list_time at_now(void)
{
	return (struct tg_list_time){ now, 1700000000000 + now };
}

static void begin(void)
{
	tg_lists_free(lists);
	lists = tg_lists_new(&sink);
	held_count = 0;
	refuse_after = -1;
	now = 1000000;
	story[0] = 0;
}

static struct tg_list_id id_of(const char *name)
{
	struct tg_list_id id = { .verdict = name[0] == 'a' ? TG_LIST_ALLOW : TG_LIST_DENY };

	strcpy(id.name, name);
	return id;
}

static struct tg_cidr prefix_of(const char *text)
{
	struct tg_cidr prefix;

	CHECK(!tg_cidr_parse(text, strlen(text), &prefix));
	return prefix;
}

/* Prefixes between blanks. */
static size_t prefixes_of(const char *text, struct tg_cidr *prefixes)
{
	char copy[512], *rest = copy, *word;
	size_t n = 0;

	strcpy(copy, text);
	while ((word = strsep(&rest, " ")))
		if (*word)
			prefixes[n++] = prefix_of(word);
	return n;
}

static int add_for(
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

static int add(const char *list, const char *text, const struct tg_list_actor *actor)
{
	return add_for(list, text, actor, 0);
}

static int remove_one(const char *list, const char *text, const struct tg_list_actor *actor)
{
	struct tg_list_id id = id_of(list);
	struct tg_cidr prefix = prefix_of(text);
	bool removed;
	int result = tg_lists_remove(lists, &id, &prefix, actor, at_now(), &removed, &error);

	return result ? result : removed;
}

static int replace(const char *list, const char *text, size_t min,
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
static struct tg_draft *draft_of(const char *const *texts, double ttl, const char *reason)
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

static int commit(struct tg_draft *draft)
{
	int result = tg_lists_commit(lists, draft, scripts, at_now(), &error);

	if (!result)
		tg_lists_keep(lists);
	tg_draft_free(draft);
	return result;
}

static int by_prefix(const void *a, const void *b)
{
	return tg_cidr_compare(
		&((const struct held *)a)->prefix, &((const struct held *)b)->prefix);
}

/* What the sink has of a list, in order. */
static const char *in_sink(const char *list)
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

static struct tg_list_status status_of(const char *list)
{
	size_t count;
	struct tg_list_status *all = tg_lists_status(lists, &count), found = { 0 };

	for (size_t i = 0; i < count; i++)
		if (!strcmp(all[i].id.name, list))
			found = all[i];
	free(all);
	return found;
}

/* ---- layers ---- */

static void what_is_declared_is_there_as_long_as_it_is(void)
{
	begin();
	CHECK_INT(0, commit(DRAFT("deny: 10.0.0.0/8 192.0.2.1", "allow: 10.1.0.0/16")));
	CHECK_STR("10.0.0.0/8 192.0.2.1", in_sink("deny"));
	CHECK_STR("10.1.0.0/16", in_sink("allow"));
	CHECK_INT(0, commit(DRAFT("deny: 10.0.0.0/8 2001:db8::/32")));
	CHECK_STR("10.0.0.0/8 2001:db8::/32", in_sink("deny"));
	CHECK_STR("", in_sink("allow"));
	CHECK_INT(0, commit(EMPTY()));
	CHECK_INT(0, held_count);
}

static void an_unchanged_generation_asks_nothing_of_the_tables(void)
{
	begin();
	commit(DRAFT("deny: 10.0.0.0/8 192.0.2.1", "firehol: 1.2.3.0/24"));
	story[0] = 0;
	commit(DRAFT("firehol: 1.2.3.0/24", "deny: 192.0.2.1 10.0.0.0/8"));
	CHECK_STR("", story);
}

static void a_prefix_that_changes_lists_is_added_before_it_is_removed(void)
{
	begin();
	commit(DRAFT("deny: 10.0.0.0/8 11.0.0.0/8"));
	story[0] = 0;
	commit(DRAFT("deny: 11.0.0.0/8", "zebra: 10.0.0.0/8"));
	CHECK_STR("add zebra 10.0.0.0/8\nremove deny 10.0.0.0/8\n", story);
	story[0] = 0;
	commit(DRAFT("deny: 10.0.0.0/8 11.0.0.0/8"));
	CHECK_STR("add deny 10.0.0.0/8\nremove zebra 10.0.0.0/8\ndrop zebra\n", story);
}

static void a_task_adds_until_its_generation_ends(void)
{
	begin();
	commit(DRAFT("deny: 10.0.0.0/8"));
	CHECK_INT(1, add("deny", "192.0.2.1", &task));
	CHECK_INT(0, add("deny", "192.0.2.1", &task));
	CHECK_INT(1, remove_one("deny", "10.0.0.0/8", &task));
	CHECK_INT(0, remove_one("deny", "10.0.0.0/8", &task));
	CHECK_STR("192.0.2.1", in_sink("deny"));
	CHECK_INT(1, status_of("deny").suppressed);
	commit(DRAFT("deny: 10.0.0.0/8"));
	CHECK_STR("10.0.0.0/8", in_sink("deny"));
}

static void an_operators_changes_survive_reloads(void)
{
	begin();
	commit(DRAFT("deny: 10.0.0.0/8 11.0.0.0/8"));
	CHECK_INT(1, add("deny", "192.0.2.1", &person));
	CHECK_INT(1, remove_one("deny", "10.0.0.0/8", &person));
	commit(DRAFT("deny: 10.0.0.0/8 11.0.0.0/8"));
	CHECK_STR("11.0.0.0/8 192.0.2.1", in_sink("deny"));
	CHECK_INT(1, add("deny", "10.0.0.0/8", &person));
	CHECK_INT(1, remove_one("deny", "192.0.2.1", &person));
	CHECK_STR("10.0.0.0/8 11.0.0.0/8", in_sink("deny"));
}

static void an_operators_entry_that_the_files_say_too_is_absorbed(void)
{
	begin();
	commit(DRAFT("deny: 11.0.0.0/8"));
	add("deny", "192.0.2.1", &person);
	commit(DRAFT("deny: 11.0.0.0/8 192.0.2.1"));
	CHECK_INT(0, status_of("deny").of_layer[TG_LAYER_OPERATOR]);
	commit(DRAFT("deny: 11.0.0.0/8"));
	CHECK_STR("11.0.0.0/8", in_sink("deny"));
}

static void a_task_does_not_undo_what_an_operator_did(void)
{
	begin();
	commit(DRAFT("deny: 10.0.0.0/8"));
	remove_one("deny", "10.0.0.0/8", &person);
	add("deny", "192.0.2.1", &person);
	CHECK_INT(-EPERM, add("deny", "10.0.0.0/8", &task));
	CHECK_STR(
		"list \"deny\": 10.0.0.0/8 was removed by an operator, and that holds", error.text);
	CHECK_INT(-EPERM, remove_one("deny", "192.0.2.1", &task));
	CHECK_STR("list \"deny\": 192.0.2.1 was added by an operator, and that holds", error.text);
	CHECK_INT(1, add("deny", "10.0.0.0/8 192.0.2.1 192.0.2.2",
			     &task)); /* of many, those that it may */
	CHECK_STR("192.0.2.1 192.0.2.2", in_sink("deny"));
}

/* ---- replacing ---- */

static void a_replaced_content_stands_for_what_is_declared(void)
{
	begin();
	commit(DRAFT("feed: 10.0.0.0/8 11.0.0.0/8"));
	story[0] = 0;
	CHECK_INT(0, replace("feed", "11.0.0.0/8 12.0.0.0/8", 1, &task, 0));
	CHECK_STR("add feed 12.0.0.0/8\nremove feed 10.0.0.0/8\n", story);
	story[0] = 0;
	CHECK_INT(0, replace("feed", "11.0.0.0/8 12.0.0.0/8", 1, &task, 0));
	CHECK_STR("", story);
	commit(DRAFT("feed: 11.0.0.0/8 10.0.0.0/8"));
	CHECK_STR("11.0.0.0/8 12.0.0.0/8", in_sink("feed")); /* the file says what it said then */
	commit(DRAFT("feed: 13.0.0.0/8"));
	CHECK_STR("13.0.0.0/8", in_sink("feed"));
}

static void what_a_script_put_goes_with_the_script(void)
{
	static const struct tg_list_actor gone = { TG_LAYER_TASK, "c.lua:1", "/c.lua" };

	begin();
	commit(EMPTY());
	replace("feed", "11.0.0.0/8", 1, &task, 0);
	replace("other", "11.0.0.0/8", 1, &gone, 0);
	replace("hand", "11.0.0.0/8", 1, &person, 0);
	commit(EMPTY());
	CHECK_STR("11.0.0.0/8", in_sink("feed"));
	CHECK_STR("", in_sink("other"));
	CHECK_STR("11.0.0.0/8", in_sink("hand"));
}

static void too_few_prefixes_leave_a_list_as_it_is(void)
{
	begin();
	commit(EMPTY());
	replace("feed", "10.0.0.0/8 11.0.0.0/8", 1, &task, 0);
	CHECK_INT(-ENODATA, replace("feed", "", 1, &task, 0));
	CHECK_STR("list \"feed\": 0 prefixes given, at least 1 expected: it stays as it is, with 2",
		error.text);
	CHECK_INT(-ENODATA, replace("feed", "10.0.0.0/8 10.0.0.0/8", 2, &task, 0));
	CHECK_STR("10.0.0.0/8 11.0.0.0/8", in_sink("feed"));
	CHECK_INT(0, replace("feed", "", 0, &task, 0));
	CHECK_STR("", in_sink("feed"));
}

static void what_an_operator_removed_stays_away_in_a_fresh_feed(void)
{
	begin();
	commit(EMPTY());
	replace("feed", "10.0.0.0/8 11.0.0.0/8", 1, &task, 0);
	remove_one("feed", "10.0.0.0/8", &person);
	replace("feed", "10.0.0.0/8 12.0.0.0/8", 1, &task, 0);
	CHECK_STR("12.0.0.0/8", in_sink("feed"));
	commit(EMPTY());
	CHECK_STR("12.0.0.0/8", in_sink("feed"));
}

/* ---- time ---- */

static void entries_end_at_their_time(void)
{
	begin();
	commit(draft_of((const char *const[]){ "deny: 10.0.0.0/8", NULL }, 5, NULL));
	add_for("deny", "192.0.2.1", &task, 2);
	add_for("deny", "192.0.2.2", &person, 9);
	CHECK_INT(now + 2000, tg_lists_expire(lists, now));
	CHECK_INT(now + 2000, tg_lists_expire(lists, now + 1999));
	CHECK_STR("10.0.0.0/8 192.0.2.1 192.0.2.2", in_sink("deny"));
	CHECK_INT(now + 5000, tg_lists_expire(lists, now + 2000));
	CHECK_STR("10.0.0.0/8 192.0.2.2", in_sink("deny"));
	CHECK_INT(now + 9000, tg_lists_expire(lists, now + 5000));
	CHECK_STR("192.0.2.2", in_sink("deny"));
	CHECK_INT(INT64_MAX, tg_lists_expire(lists, now + 9000));
	CHECK_INT(0, held_count);
}

static void a_reload_does_not_begin_a_time_anew_unless_it_is_another_one(void)
{
	const char *const texts[] = { "deny: 10.0.0.0/8", NULL };

	begin();
	commit(draft_of(texts, 5, "why"));
	now += 3000;
	commit(draft_of(texts, 5, "why"));
	CHECK_INT(now + 2000, tg_lists_expire(lists, now));
	commit(draft_of(texts, 6, "why"));
	CHECK_INT(now + 6000, tg_lists_expire(lists, now));
	tg_lists_expire(lists, now + 6000);
	CHECK_INT(0, held_count);
	now += 7000;
	commit(draft_of(texts, 6, "why"));
	CHECK_STR("10.0.0.0/8", in_sink("deny"));
}

static void a_replacement_that_ends_leaves_what_is_declared(void)
{
	begin();
	commit(DRAFT("feed: 10.0.0.0/8"));
	replace("feed", "11.0.0.0/8", 1, &task, 60);
	CHECK_STR("11.0.0.0/8", in_sink("feed"));
	tg_lists_expire(lists, now + 60000);
	CHECK_STR("10.0.0.0/8", in_sink("feed"));
}

/* ---- failures ---- */

static void a_commit_that_fails_changes_nothing(void)
{
	char before[256];

	begin();
	commit(DRAFT("deny: 10.0.0.0/8", "first: 1.0.0.0/8 2.0.0.0/8"));
	add("deny", "192.0.2.1", &person);
	strcpy(before, in_sink("deny"));
	refuse_after = 2;
	CHECK_INT(-ENOSPC, commit(DRAFT("deny: 11.0.0.0/8", "first: 3.0.0.0/8",
				   "zebra: 1.2.3.4 1.2.3.5 1.2.3.6")));
	CHECK_STR("full", error.text);
	refuse_after = -1;
	CHECK_STR(before, in_sink("deny"));
	CHECK_STR("1.0.0.0/8 2.0.0.0/8", in_sink("first"));
	CHECK_STR("", in_sink("zebra"));
	CHECK_INT(2, status_of("deny").entries);
	story[0] = 0;
	commit(DRAFT("deny: 10.0.0.0/8", "first: 1.0.0.0/8 2.0.0.0/8"));
	CHECK_STR("", story);
}

static void a_commit_can_be_taken_back(void)
{
	struct tg_draft *draft = DRAFT("deny: 11.0.0.0/8", "other: 3.0.0.0/8");

	begin();
	commit(DRAFT("deny: 10.0.0.0/8", "gone: 4.0.0.0/8"));
	add("deny", "192.0.2.1", &task);
	CHECK_INT(0, tg_lists_commit(lists, draft, scripts, at_now(), &error));
	tg_draft_free(draft);
	CHECK_STR("11.0.0.0/8", in_sink("deny"));
	CHECK_INT(0, tg_lists_undo(lists, &error));
	CHECK_STR("10.0.0.0/8 192.0.2.1", in_sink("deny"));
	CHECK_STR("4.0.0.0/8", in_sink("gone"));
	CHECK_STR("", in_sink("other"));
	CHECK_INT(0, status_of("other").entries);
	CHECK_INT(1, remove_one("deny", "192.0.2.1", &task));
}

static void what_goes_makes_room_where_there_is_none_for_both(void)
{
	begin();
	capacity = 4;
	commit(DRAFT("deny: 10.0.0.0/8 11.0.0.0/8", "more: 12.0.0.0/8"));
	CHECK_INT(0, replace("deny", "1.0.0.0/8 2.0.0.0/8 11.0.0.0/8", 1, &task, 0));
	CHECK_STR("1.0.0.0/8 2.0.0.0/8 11.0.0.0/8", in_sink("deny"));
	CHECK_INT(-ENOSPC, replace("deny", "3.0.0.0/8 4.0.0.0/8 5.0.0.0/8 6.0.0.0/8", 1, &task, 0));
	CHECK_STR("1.0.0.0/8 2.0.0.0/8 11.0.0.0/8", in_sink("deny"));
	CHECK_INT(0, commit(DRAFT("deny: 10.0.0.0/8", "more: 7.0.0.0/8 8.0.0.0/8 9.0.0.0/8")));
	CHECK_STR("7.0.0.0/8 8.0.0.0/8 9.0.0.0/8", in_sink("more"));
	CHECK_INT(-ENOSPC,
		commit(DRAFT("deny: 13.0.0.0/8 14.0.0.0/8", "more: 15.0.0.0/8 16.0.0.0/8 17.0.0.0/8")));
	CHECK_STR("10.0.0.0/8", in_sink("deny"));
	CHECK_STR("7.0.0.0/8 8.0.0.0/8 9.0.0.0/8", in_sink("more"));
	capacity = ROOM;
}

static void a_name_is_of_one_verdict(void)
{
	struct tg_list_id id = { "feed", TG_LIST_ALLOW };
	struct tg_list_terms terms = { 0 };
	struct tg_cidr prefix = prefix_of("10.0.0.1");
	size_t added;

	begin();
	commit(DRAFT("feed: 10.0.0.0/8"));
	CHECK_INT(-EEXIST,
		tg_lists_add(lists, &id, &prefix, 1, &terms, &task, at_now(), &added, &error));
	CHECK_STR("list \"feed\" is one of tg.deny", error.text);
}

static void there_are_63_lists_at_most(void)
{
	begin();
	commit(EMPTY());
	for (int i = 0; i < TG_LISTS_MAX; i++) {
		char name[16];

		sprintf(name, "list%d", i);
		CHECK_INT(1, add(name, "10.0.0.1", &task));
	}
	CHECK_INT(-ENOSPC, add("more", "10.0.0.1", &task));
	CHECK_STR("list \"more\": there are 63 lists already, and can be no more", error.text);
	CHECK_INT(1, remove_one("list7", "10.0.0.1", &task));
	CHECK_INT(1, add("more", "10.0.0.1", &task));
}

static void counters_are_for_single_addresses(void)
{
	struct tg_list_id id = id_of("deny");
	struct tg_list_terms terms = { .count = true };
	struct tg_cidr prefix = prefix_of("10.0.0.0/8");
	size_t added;

	begin();
	CHECK_INT(-EINVAL,
		tg_lists_add(lists, &id, &prefix, 1, &terms, &task, at_now(), &added, &error));
	prefix = prefix_of("10.0.0.1");
	CHECK_INT(0, tg_lists_add(lists, &id, &prefix, 1, &terms, &task, at_now(), &added, &error));
	CHECK_INT(TG_LIST_COUNT, find_held("deny", &prefix)->prefix.flags);
	terms.count = false;
	CHECK_INT(0, tg_lists_add(lists, &id, &prefix, 1, &terms, &task, at_now(), &added, &error));
	CHECK_INT(0, find_held("deny", &prefix)->prefix.flags);
}

/* ---- drafts ---- */

static void operations_of_a_draft_count_in_their_order(void)
{
	struct tg_draft *draft = DRAFT("deny: 10.0.0.0/8 11.0.0.0/8 10.0.0.0/8");
	struct tg_cidr ten = prefix_of("10.0.0.0/8");
	struct tg_list_id id = id_of("deny");
	struct tg_list_terms terms = { .reason = "again" };
	struct tg_list_entry entry;

	tg_draft_remove(draft, 0, &ten);
	tg_draft_settle(draft, 0);
	CHECK_INT(1, tg_draft_count(draft, 0));
	tg_draft_add(draft, 0, &ten, 1, &terms, "a.lua:2", &error);
	tg_draft_settle(draft, 0);
	CHECK_INT(2, tg_draft_count(draft, 0));
	ten = prefix_of("10.1.2.3");
	CHECK(tg_draft_find(draft, &id, &ten, &entry));
	CHECK_STR("again", entry.reason);
	CHECK_INT(8, entry.prefix.length);
	tg_draft_free(draft);
}

/* ---- questions ---- */

static void the_longest_entry_that_covers_is_found(void)
{
	struct tg_list_id any = { "", TG_LIST_DENY }, feed = id_of("feed");
	struct tg_cidr host = prefix_of("10.1.2.3"), wide = prefix_of("10.0.0.0/7"),
		       six = prefix_of("2001:db8:1::1");
	struct tg_list_entry entry;

	begin();
	commit(DRAFT("deny: 10.0.0.0/8 2001:db8::/32", "feed: 10.1.2.0/24 9.0.0.0/8",
		"allow: 10.1.2.3"));
	CHECK(tg_lists_find(lists, &any, &host, &entry));
	CHECK_STR("feed", entry.list);
	CHECK_INT(24, entry.prefix.length);
	CHECK(!tg_lists_find(lists, &any, &wide, &entry));
	CHECK(tg_lists_find(lists, &any, &six, &entry));
	CHECK(!tg_lists_find(lists, &feed, &six, &entry));
	remove_one("feed", "10.1.2.0/24", &person);
	CHECK(tg_lists_find(lists, &any, &host, &entry));
	CHECK_STR("deny", entry.list);
}

static void pages_go_on_after_a_prefix_though_it_is_gone(void)
{
	struct tg_list_id id = id_of("deny");
	struct tg_list_entry page[2];
	struct tg_cidr after = prefix_of("10.0.0.2");

	begin();
	commit(DRAFT("deny: 10.0.0.1 10.0.0.2 10.0.0.3 10.0.0.4 2001:db8::1"));
	CHECK_INT(2, tg_lists_page(lists, &id, NULL, page, 2));
	CHECK_INT(0, tg_cidr_compare(&page[1].prefix, &after));
	remove_one("deny", "10.0.0.2", &task);
	CHECK_INT(2, tg_lists_page(lists, &id, &page[1].prefix, page, 2));
	after = prefix_of("10.0.0.3");
	CHECK_INT(0, tg_cidr_compare(&page[0].prefix, &after));
	CHECK_INT(1, tg_lists_page(lists, &id, &page[1].prefix, page, 2));
	CHECK_INT(0, tg_lists_page(lists, &id, &page[0].prefix, page, 2));
}

/* ---- restarts ---- */

static char path[] = "/tmp/tidegate-lists.XXXXXX";

/* A new daemon on the tables as they are. */
static int restart(void)
{
	struct held kept[64];
	size_t count = held_count;

	qsort(held, held_count, sizeof(*held), by_prefix);
	memcpy(kept, held, count * sizeof(*held));
	tg_lists_free(lists);
	lists = tg_lists_new(&sink);
	for (size_t i = 0; i < count; i++) {
		struct tg_list_id id = id_of(kept[i].list);
		struct tg_cidr *prefixes = calloc(64, sizeof(*prefixes));
		size_t n = 0;

		for (size_t k = 0; k < i && n == 0; k++)
			n = !strcmp(kept[k].list, kept[i].list);
		if (n) {
			free(prefixes);
			continue;
		}
		for (size_t k = i; k < count; k++)
			if (!strcmp(kept[k].list, kept[i].list)) {
				prefixes[n] = kept[k].prefix;
				prefixes[n].rank = prefixes[n].tag = 0;
				n++;
			}
		CHECK_INT(0, tg_lists_adopt(lists, &id, prefixes, n));
	}
	story[0] = 0;
	return tg_lists_restore(lists, path, &error);
}

static void a_restart_keeps_what_operators_did_what_replaced_and_what_ends(void)
{
	const char *const texts[] = { "timed: 10.9.0.0/16", "deny: 10.0.0.0/8 11.0.0.0/8", NULL };
	struct tg_list_id id = id_of("deny");
	struct tg_cidr prefix = prefix_of("192.0.2.1");
	struct tg_list_entry entry;
	char before[256];

	begin();
	unlink(path);
	CHECK_INT(0, restart());
	commit(draft_of(texts, 600, NULL));
	add_for("deny", "192.0.2.1", &person, 50);
	add("deny", "192.0.2.2", &task);
	remove_one("deny", "11.0.0.0/8", &person);
	replace("feed", "12.0.0.0/8 13.0.0.0/8", 1, &task, 0);
	strcpy(before, "10.0.0.0/8 192.0.2.1");
	CHECK_INT(0, restart());
	CHECK_STR("12.0.0.0/8 13.0.0.0/8", in_sink("feed"));
	now += 20000;
	commit(draft_of(texts, 600, NULL));
	CHECK_STR("remove deny 192.0.2.2\n", story);
	CHECK_STR(before, in_sink("deny"));
	CHECK_STR("12.0.0.0/8 13.0.0.0/8", in_sink("feed"));
	CHECK(tg_lists_find(lists, &id, &prefix, &entry));
	CHECK_INT(now + 30000, entry.expires);
	CHECK_STR("uid 0", entry.who);
	CHECK_INT(now + 30000, tg_lists_expire(lists, now));
	CHECK_INT(now + 580000, tg_lists_expire(lists, now + 30000));
	CHECK_INT(0, restart());
	CHECK_INT(0, commit(EMPTY()));
	CHECK_STR("", in_sink("deny"));
	CHECK_STR("12.0.0.0/8 13.0.0.0/8", in_sink("feed"));
}

static void a_start_that_fails_leaves_the_tables_as_they_were(void)
{
	struct tg_draft *draft;

	begin();
	unlink(path);
	restart();
	commit(DRAFT("deny: 10.0.0.0/8", "gone: 11.0.0.0/8"));
	add("deny", "192.0.2.1", &person);
	restart();
	draft = DRAFT("deny: 12.0.0.0/8");
	CHECK_INT(0, tg_lists_commit(lists, draft, scripts, at_now(), &error));
	CHECK_STR("12.0.0.0/8 192.0.2.1", in_sink("deny"));
	CHECK_INT(0, tg_lists_undo(lists, &error));
	tg_draft_free(draft);
	CHECK_STR("10.0.0.0/8 192.0.2.1", in_sink("deny"));
	CHECK_STR("11.0.0.0/8", in_sink("gone"));
}

static void a_damaged_file_is_left_out(void)
{
	struct stat st;

	begin();
	unlink(path);
	restart();
	commit(EMPTY());
	replace("feed", "12.0.0.0/8 13.0.0.0/8", 1, &person, 0);
	add_for("deny", "192.0.2.1", &person, 50);
	CHECK_INT(0, stat(path, &st));
	CHECK_INT(0600, st.st_mode & 0777);
	for (off_t length = 0; length < st.st_size; length += 7) {
		CHECK_INT(0, truncate(path, st.st_size - 1 - length));
		CHECK_INT(-EBADMSG, restart());
	}
	CHECK_INT(0, commit(DRAFT("deny: 10.0.0.1")));
	CHECK_STR("10.0.0.1", in_sink("deny"));
	CHECK_INT(-1, stat(path, &st)); /* nothing is worth a file any more */
}

/* ---- at random ---- */

#define PREFIXES 24
#define LISTS	 3

/* What somebody last said of a prefix: 0 nothing, 1 there, 2 not there. */
struct opinion {
	int file, replaced, task, person;
	int64_t task_until, person_until; /* 0: no end */
};

static struct opinion model[LISTS][PREFIXES];
static bool model_replaced[LISTS];
static int model_over[LISTS][PREFIXES];
static unsigned int seed;

static bool on_list(int list, int prefix)
{
	const struct opinion *said = &model[list][prefix];

	if (said->person)
		return said->person== 1;
	if (said->task)
		return said->task == 1;
	return model_replaced[list] ? said->replaced : said->file;
}

static const char *const names[LISTS] = { "deny", "feed", "allow" };

static struct tg_cidr nth(int i)
{
	struct tg_cidr prefix = { .family = i % 2 ? 4 : 6, .hi = (uint64_t)(i / 6) << 56 };

	return tg_cidr_cut(&prefix, 8 + i % 3);
}

static void check_model(int step)
{
	for (int list = 0; list < LISTS; list++)
		for (int i = 0; i < PREFIXES; i++) {
			struct tg_cidr prefix = nth(i);
			bool has = find_held(names[list], &prefix) != NULL;

			if (has != on_list(list, i))
				fprintf(stderr, "step %d, %s, prefix %d\n", step, names[list], i);
			CHECK_INT(on_list(list, i), has);
		}
}

static void random_add_or_remove(int list, int i)
{
	const struct tg_list_actor *actor = rand_r(&seed) & 1 ? &task : &person;
	struct opinion *said = &model[list][i];
	int *own = actor == &task ? &said->task : &said->person;
	int64_t *until = actor == &task ? &said->task_until : &said->person_until;
	double ttl = rand_r(&seed) & 1 ? 0 : 1 + rand_r(&seed) % 30;
	bool was = on_list(list, i), barred = actor == &task && said->person;
	struct tg_cidr prefix = nth(i);
	char text[TG_CIDR_TEXT];
	int result;

	tg_cidr_print(&prefix, text);
	if (rand_r(&seed) & 1) {
		result = add_for(names[list], text, actor, ttl);
		CHECK_INT(!barred ? !was : said->person == 2 ? -EPERM : 0, result);
		if (!barred) {
			*own = 1;
			*until = ttl > 0 ? now + (int64_t)(ttl * 1000) : 0;
		}
		return;
	}
	result = remove_one(names[list], text, actor);
	CHECK_INT(barred && was ? -EPERM : was, result);
	if (barred || !was)
		return;
	*own = 0;
	*until = 0;
	if (on_list(list, i))
		*own = 2;
}

static void pass_time(void)
{
	now += rand_r(&seed) % 2000;
	tg_lists_expire(lists, now);
	for (int list = 0; list < LISTS; list++)
		for (int i = 0; i < PREFIXES; i++) {
			struct opinion *said = &model[list][i];

			if (said->task_until && said->task_until <= now)
				said->task = said->task_until = 0;
			if (said->person_until && said->person_until <= now)
				said->person = said->person_until = 0;
		}
}

static void random_replace(int list)
{
	char text[1024] = "";

	for (int i = 0; i < PREFIXES; i++) {
		struct tg_cidr prefix = nth(i);
		char one[TG_CIDR_TEXT];

		model[list][i].replaced = rand_r(&seed) % 3 == 0;
		model_over[list][i] = model[list][i].file;
		if (model[list][i].replaced)
			strcat(strcat(text, " "), tg_cidr_print(&prefix, one));
	}
	model_replaced[list] = true;
	CHECK_INT(0, replace(names[list], text, 0, &task, 0));
	for (int i = 0, any = 0; i < PREFIXES; i++) {
		any |= model[list][i].replaced | model[list][i].file | model[list][i].task |
		       model[list][i].person;
		if (i == PREFIXES - 1 && !any)
			model_replaced[list] = false; /* nothing is left to remember it by */
	}
}

static void random_commit(void)
{
	struct tg_draft *draft = tg_draft_new();
	struct tg_list_terms terms = { 0 };

	for (int list = 0; list < LISTS; list++) {
		struct tg_list_id id = id_of(names[list]);
		int number = tg_draft_list(draft, &id, &error);
		bool anew = rand_r(&seed) & 1, same = true;

		for (int i = 0; i < PREFIXES; i++) {
			struct opinion *said = &model[list][i];
			struct tg_cidr prefix = nth(i);

			if (anew)
				said->file = rand_r(&seed) % 3 == 0;
			if (said->file)
				tg_draft_add(draft, number, &prefix, 1, &terms, NULL, &error);
			same = same && said->file == model_over[list][i];
		}
		if (!same)
			model_replaced[list] = false;
		for (int i = 0; i < PREFIXES; i++) {
			struct opinion *said = &model[list][i];

			said->task = said->task_until = 0;
			if (!model_replaced[list])
				said->replaced = 0;
			if (said->person== 1 && said->file && !model_replaced[list])
				said->person= 0;
			if (said->person==
				2 && !(model_replaced[list] ? said->replaced : said->file))
				said->person= 0;
		}
	}
	CHECK_INT(0, commit(draft));
}

static void a_random_schedule_agrees_with_the_model(void)
{
	for (int round = 0; round < 60; round++) {
		seed = round + 1;
		begin();
		unlink(path);
		restart();
		commit(EMPTY());
		memset(model, 0, sizeof(model));
		memset(model_replaced, 0, sizeof(model_replaced));
		for (int step = 0; step < 200; step++) {
			int what = rand_r(&seed) % 20;

			if (what < 16)
				random_add_or_remove(
					rand_r(&seed) % LISTS, rand_r(&seed) % PREFIXES);
			else if (what < 18)
				random_replace(rand_r(&seed) % LISTS);
			else {
				if (rand_r(&seed) % 3 == 0)
					CHECK_INT(0, restart());
				random_commit();
			}
			pass_time();
			check_model(step);
		}
	}
}

int main(void)
{
	close(mkstemp(path));
	RUN(what_is_declared_is_there_as_long_as_it_is);
	RUN(an_unchanged_generation_asks_nothing_of_the_tables);
	RUN(a_prefix_that_changes_lists_is_added_before_it_is_removed);
	RUN(a_task_adds_until_its_generation_ends);
	RUN(an_operators_changes_survive_reloads);
	RUN(an_operators_entry_that_the_files_say_too_is_absorbed);
	RUN(a_task_does_not_undo_what_an_operator_did);
	RUN(a_replaced_content_stands_for_what_is_declared);
	RUN(what_a_script_put_goes_with_the_script);
	RUN(too_few_prefixes_leave_a_list_as_it_is);
	RUN(what_an_operator_removed_stays_away_in_a_fresh_feed);
	RUN(entries_end_at_their_time);
	RUN(a_reload_does_not_begin_a_time_anew_unless_it_is_another_one);
	RUN(a_replacement_that_ends_leaves_what_is_declared);
	RUN(a_commit_that_fails_changes_nothing);
	RUN(a_commit_can_be_taken_back);
	RUN(what_goes_makes_room_where_there_is_none_for_both);
	RUN(a_name_is_of_one_verdict);
	RUN(there_are_63_lists_at_most);
	RUN(counters_are_for_single_addresses);
	RUN(operations_of_a_draft_count_in_their_order);
	RUN(the_longest_entry_that_covers_is_found);
	RUN(pages_go_on_after_a_prefix_though_it_is_gone);
	RUN(a_restart_keeps_what_operators_did_what_replaced_and_what_ends);
	RUN(a_start_that_fails_leaves_the_tables_as_they_were);
	RUN(a_damaged_file_is_left_out);
	RUN(a_random_schedule_agrees_with_the_model);
	unlink(path);
	tg_lists_free(lists);
	return unit_result();
}
