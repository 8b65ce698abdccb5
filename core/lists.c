/* SPDX-License-Identifier: GPL-2.0-only */
/* Lists and their changes. How these get to the sink is lists_apply.c, generations are lists_commit.c, questions lists_ask.c. */
#include "lists_internal.h"

#include "log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static int64_t milliseconds(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

struct tg_list_time tg_list_time(void)
{
	return (struct tg_list_time){ milliseconds(CLOCK_BOOTTIME), milliseconds(CLOCK_REALTIME) };
}

static int no_memory(struct tg_error *error)
{
	return tg_fail(error, -ENOMEM, "no memory for the lists");
}

static const struct tg_content nothing = { .next = TG_NEVER };

/* ---- the records ---- */

struct tg_lists *tg_lists_new(const struct tg_lists_sink *sink)
{
	struct tg_lists *lists = calloc(1, sizeof(*lists));

	if (lists)
		lists->sink = *sink;
	return lists;
}

void tg_records_free(struct tg_list_record *list, size_t count)
{
	for (size_t i = 0; i < count; i++)
		tg_content_free(&list[i].content);
	free(list);
}

void tg_lists_free(struct tg_lists *lists)
{
	if (!lists)
		return;
	tg_records_free(lists->list, lists->count);
	tg_records_free(lists->before, lists->before_count);
	tg_records_free(lists->restored, lists->restored_count);
	tg_notes_free(&lists->notes);
	free(lists->path);
	free(lists);
}

struct tg_list_record *tg_records_find(struct tg_list_record *list, size_t count, const char *name)
{
	for (size_t i = 0; i < count; i++)
		if (!strcmp(list[i].id.name, name))
			return &list[i];
	return NULL;
}

struct tg_list_record *tg_lists_get(const struct tg_lists *lists, const char *name)
{
	return tg_records_find(lists->list, lists->count, name);
}

int tg_lists_adopt(
	struct tg_lists *lists, const struct tg_list_id *id, struct tg_cidr *prefixes, size_t count)
{
	struct tg_list_record *record = tg_lists_insert(lists, id);

	if (!record)
		return -ENOMEM;
	record->content.entries = prefixes;
	record->content.count = count;
	tg_content_measure(&record->content, NULL);
	return 0;
}

/* ---- single changes ---- */

/* The content in force, or an empty one. */
static const struct tg_content *content_of(const struct tg_lists *lists, const char *name)
{
	const struct tg_list_record *record = tg_lists_get(lists, name);

	return record ? &record->content : &nothing;
}

int tg_lists_check(
	const struct tg_lists *lists, const struct tg_list_id *id, struct tg_error *error)
{
	const struct tg_list_record *record = tg_lists_get(lists, id->name);

	if (record && record->id.verdict != id->verdict)
		return tg_fail(error, -EEXIST, "list \"%s\" is one of tg.%s", id->name,
			record->id.verdict == TG_LIST_ALLOW ? "allow" : "deny");
	if (!record && lists->count >= TG_LISTS_MAX)
		return tg_fail(error, -ENOSPC,
			"list \"%s\": there are %d lists already, and can be no more", id->name,
			TG_LISTS_MAX);
	return 0;
}

/* Puts one content in force, and frees what is over. */
static int apply_one(struct tg_lists *lists, struct tg_proposal *proposal, struct tg_error *error)
{
	int result = tg_lists_apply(lists, proposal, 1, error);

	tg_proposals_free(proposal, 1);
	return result;
}

static int refuse(struct tg_error *error, const struct tg_cidr *prefix, const struct tg_cidr *top,
	const struct tg_list_id *id)
{
	char text[TG_CIDR_TEXT];

	return tg_fail(error, -EPERM, "list \"%s\": %s was %s by %s, and that holds", id->name,
		tg_cidr_print(prefix, text), top->flags & TG_LIST_REMOVED ? "removed" : "added",
		top->rank == TG_LAYER_OPERATOR ? "an operator" : "a task");
}

int tg_lists_flags(struct tg_cidr *prefixes, size_t count, const struct tg_list_terms *terms,
	struct tg_error *error)
{
	char text[TG_CIDR_TEXT];

	for (size_t i = 0; i < count; i++) {
		prefixes[i].flags = terms->count ? TG_LIST_COUNT : 0;
		if (terms->count && prefixes[i].length != tg_cidr_full(&prefixes[i]))
			return tg_fail(error, -EINVAL, "%s: count = true is for single addresses",
				tg_cidr_print(&prefixes[i], text));
	}
	return 0;
}

int tg_lists_sort(struct tg_cidr *prefixes, size_t *count)
{
	size_t kept = 0;

	if (tg_cidr_sort(prefixes, *count))
		return -ENOMEM;
	for (size_t i = 0; i < *count; i++) {
		if (kept && !tg_cidr_compare(&prefixes[kept - 1], &prefixes[i]))
			kept--;
		prefixes[kept++] = prefixes[i];
	}
	*count = kept;
	return 0;
}

static int make_note(struct tg_lists *lists, const struct tg_list_terms *terms,
	const struct tg_list_actor *actor, struct tg_list_time time, uint32_t *note)
{
	*note = tg_notes_add(&lists->notes, terms->ttl, terms->reason, actor->who, time);
	return *note ? 0 : -ENOMEM;
}

/* Makes entries of those prefixes that the layer may add, in place. How many are new to the list: *added. */
static size_t make_entries(const struct tg_content *content, struct tg_cidr *prefixes, size_t count,
	enum tg_list_layer layer, uint32_t note, size_t *added)
{
	size_t at = 0, n = 0;

	*added = 0;
	for (size_t i = 0; i < count; i++) {
		const struct tg_cidr *top = tg_content_decides(content, &at, &prefixes[i]);

		if (top && top->rank > layer)
			continue;
		*added += !top || (top->flags & TG_LIST_REMOVED);
		prefixes[n] = prefixes[i];
		prefixes[n].rank = layer;
		prefixes[n++].tag = note;
	}
	return n;
}

/* Merges entries into a list; that changes the number of its prefixes by `more`. */
static int merge(struct tg_lists *lists, const struct tg_list_id *id, const struct tg_cidr *entries,
	size_t count, int64_t more, struct tg_error *error)
{
	struct tg_proposal proposal = { .id = *id };

	proposal.touched = entries;
	proposal.touched_count = count;
	if (tg_content_merge(content_of(lists, id->name), entries, count, &proposal.content))
		return no_memory(error);
	proposal.content.present += more;
	for (size_t i = 0; i < count; i++)
		if (tg_expiry_of(&lists->notes, &entries[i]) < proposal.content.next)
			proposal.content.next = tg_expiry_of(&lists->notes, &entries[i]);
	return apply_one(lists, &proposal, error);
}

int tg_lists_add(struct tg_lists *lists, const struct tg_list_id *id, struct tg_cidr *prefixes,
	size_t count, const struct tg_list_terms *terms, const struct tg_list_actor *actor,
	struct tg_list_time time, size_t *added, struct tg_error *error)
{
	const struct tg_content *content = content_of(lists, id->name);
	int result = tg_lists_check(lists, id, error);
	size_t n, at = 0;
	uint32_t note;

	*added = 0;
	if (!result)
		result = tg_lists_flags(prefixes, count, terms, error);
	if (result)
		return result;
	if (tg_lists_sort(prefixes, &count) || make_note(lists, terms, actor, time, &note))
		return no_memory(error);
	n = make_entries(content, prefixes, count, actor->layer, note, added);
	if (!n && count == 1) {
		const struct tg_cidr *top = tg_content_decides(content, &at, prefixes);

		return top->flags & TG_LIST_REMOVED ? refuse(error, prefixes, top, id) : 0;
	}
	result = n ? merge(lists, id, prefixes, n, *added, error) : 0;
	if (!result && n && actor->layer == TG_LAYER_OPERATOR)
		tg_lists_save(lists);
	return result;
}

/* Whether a prefix is on the list as the layers below one have it. */
static bool has_below(const struct tg_content *content, size_t at, const struct tg_cidr *prefix,
	enum tg_list_layer layer)
{
	bool has = false;

	for (; at < content->count && !tg_cidr_compare(&content->entries[at], prefix); at++) {
		const struct tg_cidr *entry = &content->entries[at];

		if (entry->rank < layer && !(content->replaced && entry->rank == TG_LAYER_FILE))
			has = !(entry->flags & TG_LIST_REMOVED);
	}
	return has;
}

int tg_lists_remove(struct tg_lists *lists, const struct tg_list_id *id,
	const struct tg_cidr *prefix, const struct tg_list_actor *actor, struct tg_list_time time,
	bool *removed, struct tg_error *error)
{
	const struct tg_content *content = content_of(lists, id->name);
	const struct tg_list_terms none = { 0 };
	struct tg_cidr entry = *prefix;
	const struct tg_cidr *top;
	int result = tg_lists_check(lists, id, error);
	uint32_t note = 0;
	size_t at = 0;

	*removed = false;
	if (result)
		return result == -ENOSPC ? 0 : result;
	top = tg_content_has(content, &at, prefix);
	if (!top)
		return 0;
	if (top->rank > actor->layer)
		return refuse(error, prefix, top, id);
	entry.rank = actor->layer;
	entry.flags = TG_LIST_DROP;
	if (has_below(content, at, prefix, actor->layer)) {
		entry.flags = TG_LIST_REMOVED;
		if (make_note(lists, &none, actor, time, &note))
			return no_memory(error);
	}
	entry.tag = note;
	result = merge(lists, id, &entry, 1, -1, error);
	*removed = !result;
	if (!result && actor->layer == TG_LAYER_OPERATOR)
		tg_lists_save(lists);
	return result;
}

/* ---- whole contents ---- */

/* The entries of a content but those that `leave` names by its layer or its end. */
static int without(const struct tg_lists *lists, const struct tg_content *old, int layer,
	int64_t ended, struct tg_content *out)
{
	size_t n = 0;

	*out = *old;
	out->replaced_by = old->replaced_by ? strdup(old->replaced_by) : NULL;
	out->entries = malloc((old->count + 1) * sizeof(*out->entries));
	if (!out->entries)
		return -ENOMEM;
	for (size_t i = 0; i < old->count; i++)
		if (old->entries[i].rank != layer &&
			tg_expiry_of(&lists->notes, &old->entries[i]) > ended)
			out->entries[n++] = old->entries[i];
	out->count = n;
	return 0;
}

static int replaced_content(const struct tg_lists *lists, const struct tg_content *old,
	const struct tg_cidr *entries, size_t count, struct tg_content *out)
{
	struct tg_content rest;
	int result = without(lists, old, TG_LAYER_REPLACED, 0, &rest);

	if (!result)
		result = tg_content_merge(&rest, entries, count, out);
	tg_content_free(&rest);
	return result;
}

int tg_lists_replace(struct tg_lists *lists, const struct tg_list_id *id, struct tg_cidr *prefixes,
	size_t count, size_t min, const struct tg_list_terms *terms,
	const struct tg_list_actor *actor, struct tg_list_time time, struct tg_list_change *change,
	struct tg_error *error)
{
	const struct tg_content *old = content_of(lists, id->name);
	struct tg_proposal proposal = { .id = *id };
	int result = tg_lists_check(lists, id, error);
	uint32_t note = 0;

	if (!result)
		result = tg_lists_flags(prefixes, count, terms, error);
	if (result)
		return result;
	if (tg_lists_sort(prefixes, &count) || make_note(lists, terms, actor, time, &note))
		return no_memory(error);
	if (count < min)
		return tg_fail(error, -ENODATA,
			"list \"%s\": %zu prefixes given, at least %zu expected: it stays as it "
			"is, with %zu",
			id->name, count, min, old->present);
	for (size_t i = 0; i < count; i++) {
		prefixes[i].rank = TG_LAYER_REPLACED;
		prefixes[i].tag = note;
	}
	if (replaced_content(lists, old, prefixes, count, &proposal.content))
		return no_memory(error);
	proposal.content.replaced = true;
	proposal.content.replaced_over = tg_content_declared(&proposal.content);
	proposal.content.replaced_date = time.date;
	free(proposal.content.replaced_by);
	proposal.content.replaced_by = actor->script ? strdup(actor->script) : NULL;
	tg_content_measure(&proposal.content, &lists->notes);
	change->count = proposal.content.present;
	result = tg_lists_apply(lists, &proposal, 1, error);
	change->added = proposal.added.count;
	change->removed = proposal.removed.count;
	tg_proposals_free(&proposal, 1);
	if (!result)
		tg_lists_save(lists);
	return result;
}

/* ---- the end of things ---- */

static bool has_layer(const struct tg_content *content, enum tg_list_layer layer)
{
	for (size_t i = 0; i < content->count; i++)
		if (content->entries[i].rank == layer)
			return true;
	return false;
}

/* A content whose replacement has expired is what the files declare again. */
static int expire_one(struct tg_lists *lists, const struct tg_list_record *record, int64_t now)
{
	struct tg_proposal proposal = { .id = record->id };
	bool replaced = has_layer(&record->content, TG_LAYER_REPLACED);
	struct tg_error error;
	int result;

	if (without(lists, &record->content, -1, now, &proposal.content)) {
		tg_content_free(&proposal.content);
		return -ENOMEM;
	}
	if (replaced && !has_layer(&proposal.content, TG_LAYER_REPLACED))
		proposal.content.replaced = false;
	tg_content_measure(&proposal.content, &lists->notes);
	result = apply_one(lists, &proposal, &error);
	if (result)
		tg_log(TG_LOG_ERROR, "entries that have expired can't be removed: %s", error.text);
	return result;
}

int64_t tg_lists_expire(struct tg_lists *lists, int64_t now)
{
	int64_t next = TG_NEVER;
	bool changed = false;
	int failed = 0;

	for (size_t i = lists->count; i-- > 0 && !failed && !lists->committing;) {
		if (i >= lists->count || lists->list[i].content.next > now)
			continue;
		failed = expire_one(lists, &lists->list[i], now);
		changed = true;
	}
	for (size_t i = 0; i < lists->count; i++)
		if (lists->list[i].content.next < next)
			next = lists->list[i].content.next;
	if (changed && !failed)
		tg_lists_save(lists);
	return failed && next < now + 1000 ? now + 1000 : next;
}
