/* SPDX-License-Identifier: GPL-2.0-only */
/* Lists by layers: who put what there, and what is in force then (see lists_sink.h). */
#include "lists_sink.h"

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
	capacity = 5;
	CHECK_INT(-ENOSPC, commit(DRAFT("deny: 11.0.0.0/8", "first: 3.0.0.0/8",
				   "zebra: 1.2.3.4 1.2.3.5 1.2.3.6")));
	CHECK_STR("full", error.text);
	capacity = ROOM;
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

static void they_take_turns_so_that_what_is_on_both_is_on_one_throughout(void)
{
	static const char *const both[] = { "10.1.1.1", "10.200.0.1", "11.1.1.1", "11.200.0.1",
		"20.0.0.1", "30.0.0.1", "2001:db8::1", "2001:db8:9000::1", "3000::1:1", NULL };

	begin();
	commit(DRAFT(
		"deny: 10.0.0.0/9 10.128.0.0/9 11.0.0.0/8 20.0.0.0/16 21.0.0.0/8 2001:db8::/33 "
		"2001:db8:8000::/33 3000::1:0/112",
		"more: 30.0.0.0/8"));
	capacity = held_count + 2;
	watched = both;
	story[0] = 0;
	CHECK_INT(0, commit(DRAFT("deny: 10.0.0.0/8 11.0.0.0/9 11.128.0.0/9 20.0.0.0/15 30.0.0.0/7 "
				  "2001:db8::/32 "
				  "3000::1:1 3000::1:2",
			     "more: 40.0.0.0/8")));
	CHECK_STR("10.0.0.0/8 11.0.0.0/9 11.128.0.0/9 20.0.0.0/15 30.0.0.0/7 2001:db8::/32 "
		  "3000::1:1 3000::1:2",
		in_sink("deny"));
	CHECK_STR("40.0.0.0/8", in_sink("more"));
	CHECK(strstr(story, "add deny 10.0.0.0/8"));
	CHECK(strstr(story, "remove deny 10.0.0.0/9 10.128.0.0/9"));
	watched = NULL; /* who asks for too much has a moment without */
	CHECK_INT(-ENOSPC,
		commit(DRAFT("deny: 10.0.0.0/8 11.0.0.0/8 20.0.0.0/15 30.0.0.0/7 2001:db8::/32 "
			     "3000::1:0/112 "
			     "1.0.0.0/8 2.0.0.0/8 3.0.0.0/8 4.0.0.0/8 5.0.0.0/8 6.0.0.0/8")));
	CHECK_STR("10.0.0.0/8 11.0.0.0/9 11.128.0.0/9 20.0.0.0/15 30.0.0.0/7 2001:db8::/32 "
		  "3000::1:1 3000::1:2",
		in_sink("deny"));
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

int main(void)
{
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
	RUN(they_take_turns_so_that_what_is_on_both_is_on_one_throughout);
	RUN(a_name_is_of_one_verdict);
	RUN(there_are_63_lists_at_most);
	RUN(counters_are_for_single_addresses);
	RUN(operations_of_a_draft_count_in_their_order);
	RUN(the_longest_entry_that_covers_is_found);
	RUN(pages_go_on_after_a_prefix_though_it_is_gone);
	tg_lists_free(lists);
	return unit_result();
}
