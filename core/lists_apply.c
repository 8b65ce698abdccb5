/* SPDX-License-Identifier: GPL-2.0-only */
/* How contents take the place of others: the sink is told what comes, then what goes. All or none. */
#include "lists_internal.h"

#include "log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- the records ---- */

struct tg_list_record *tg_lists_insert(struct tg_lists *lists, const struct tg_list_id *id)
{
	size_t at = 0;
	struct tg_list_record *moved =
		realloc(lists->list, (lists->count + 1) * sizeof(*lists->list));

	if (!moved)
		return NULL;
	lists->list = moved;
	while (at < lists->count && strcmp(moved[at].id.name, id->name) < 0)
		at++;
	memmove(&moved[at + 1], &moved[at], (lists->count - at) * sizeof(*moved));
	moved[at] = (struct tg_list_record){ .id = *id, .content.next = TG_NEVER };
	lists->count++;
	return &moved[at];
}

static void forget(struct tg_lists *lists, struct tg_list_record *record)
{
	size_t at = record - lists->list;

	tg_content_free(&record->content);
	lists->count--;
	memmove(record, record + 1, (lists->count - at) * sizeof(*record));
}

/* ---- notes that nobody needs any more ---- */

static void mark(const struct tg_lists *lists, uint32_t *moved)
{
	for (size_t i = 0; i < lists->count; i++)
		for (size_t k = 0; k < lists->list[i].content.count; k++)
			moved[lists->list[i].content.entries[k].tag] = 1;
}

static void renumber(struct tg_lists *lists, const uint32_t *moved)
{
	for (size_t i = 0; i < lists->count; i++)
		for (size_t k = 0; k < lists->list[i].content.count; k++) {
			struct tg_cidr *entry = &lists->list[i].content.entries[k];

			entry->tag = moved[entry->tag];
		}
}

/* Now and then: when there are twice as many as after the last time. */
static void sweep(struct tg_lists *lists)
{
	struct tg_notes *notes = &lists->notes;
	uint32_t *moved, kept = 1;

	if (lists->committing || lists->restored || notes->count < notes->sweep + 1024)
		return;
	moved = calloc(notes->count, sizeof(*moved));
	if (!moved)
		return;
	mark(lists, moved);
	moved[0] = 0;
	for (uint32_t i = 1; i < notes->count; i++) {
		if (moved[i]) {
			moved[i] = kept;
			notes->note[kept++] = notes->note[i];
		} else {
			free(notes->note[i].reason);
			free(notes->note[i].who);
		}
	}
	renumber(lists, moved);
	free(moved);
	notes->count = kept;
	notes->sweep = 2 * kept;
}

/* ---- proposals ---- */

static const struct tg_content nothing = { .next = TG_NEVER };

/* What the sink has of a list: nothing of it counts if the verdict is to be another one. */
static const struct tg_content *former(const struct tg_lists *lists, const struct tg_list_id *id)
{
	const struct tg_list_record *record = tg_lists_get(lists, id->name);

	return record && record->id.verdict == id->verdict ? &record->content : &nothing;
}

/* What comes and what goes. */
static int compare(const struct tg_lists *lists, struct tg_proposal *proposal)
{
	const struct tg_content *old = former(lists, &proposal->id), *new = &proposal->content;
	const struct tg_cidr *come = proposal->touched, *go = proposal->touched;
	size_t coming = proposal->touched_count, going = proposal->touched_count;

	if (!proposal->touched) {
		come = new->entries;
		coming = new->count;
		go = old->entries;
		going = old->count;
	}
	proposal->added.count = proposal->removed.count = 0;
	if (coming > old->count && tg_gather_room(&proposal->added, coming))
		return -ENOMEM;
	return tg_content_gather(old, new, true, come, coming, &proposal->added) ||
			       tg_content_gather(new, old, false, go, going, &proposal->removed)
		       ? -ENOMEM
		       : 0;
}

int tg_proposals_compare(const struct tg_lists *lists, struct tg_proposal *proposals, size_t count)
{
	int result = 0;

	for (size_t i = 0; i < count && !result; i++)
		result = compare(lists, &proposals[i]);
	return result;
}

void tg_proposals_free(struct tg_proposal *proposals, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		tg_content_free(&proposals[i].content);
		free(proposals[i].added.prefixes);
		free(proposals[i].removed.prefixes);
	}
}

/* Takes from the sink what an addition that failed later on had brought. */
static void take_back(struct tg_lists *lists, struct tg_proposal *proposal)
{
	const struct tg_content *old = former(lists, &proposal->id);
	struct tg_gathered *added = &proposal->added;
	struct tg_error ignored;
	size_t kept = 0, at = 0;

	for (size_t i = 0; i < added->count; i++) {
		const struct tg_cidr *was = tg_content_has(old, &at, &added->prefixes[i]);

		if (was) /* had other flags */
			lists->sink.add(lists->sink.user, proposal->id.name, proposal->id.verdict,
				was, 1, &ignored);
		else
			added->prefixes[kept++] = added->prefixes[i];
	}
	lists->sink.remove(lists->sink.user, proposal->id.name, added->prefixes, kept);
	if (!old->present)
		lists->sink.drop(lists->sink.user, proposal->id.name);
}

static int add_all(
	struct tg_lists *lists, struct tg_proposal *proposals, size_t count, struct tg_error *error)
{
	for (size_t i = 0; i < count; i++) {
		struct tg_proposal *proposal = &proposals[i];
		int result = proposal->added.count
				     ? lists->sink.add(lists->sink.user, proposal->id.name,
					       proposal->id.verdict, proposal->added.prefixes,
					       proposal->added.count, error)
				     : 0;

		if (!result)
			continue;
		while (i-- > 0)
			if (proposals[i].added.count)
				take_back(lists, &proposals[i]);
		return result;
	}
	return 0;
}

/* Makes room for every list that is new, so that nothing can fail later on. */
static int make_records(struct tg_lists *lists, const struct tg_proposal *proposals, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (!tg_lists_get(lists, proposals[i].id.name) &&
			!tg_lists_insert(lists, &proposals[i].id))
			return -ENOMEM;
	return 0;
}

static void forget_empty(struct tg_lists *lists)
{
	for (size_t i = lists->count; i-- > 0;)
		if (!lists->list[i].content.count)
			forget(lists, &lists->list[i]);
}

/* Swaps contents; the sink forgets lists that have nothing any more. */
static void settle(struct tg_lists *lists, struct tg_proposal *proposal)
{
	struct tg_list_record *record = tg_lists_get(lists, proposal->id.name);
	struct tg_list_record old = *record;

	record->id = proposal->id;
	record->content = proposal->content;
	proposal->id = old.id;
	proposal->content = old.content;
	if (old.content.present && !record->content.present)
		lists->sink.drop(lists->sink.user, record->id.name);
}

static void remove_all(struct tg_lists *lists, const struct tg_proposal *proposals, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (proposals[i].removed.count)
			lists->sink.remove(lists->sink.user, proposals[i].id.name,
				proposals[i].removed.prefixes, proposals[i].removed.count);
}

/* As it was: there is room for it, as there was before. */
static void add_again(struct tg_lists *lists, const struct tg_proposal *proposals, size_t count)
{
	struct tg_error error;

	for (size_t i = 0; i < count; i++)
		if (proposals[i].removed.count &&
			lists->sink.add(lists->sink.user, proposals[i].id.name, proposals[i].id.verdict,
				proposals[i].removed.prefixes, proposals[i].removed.count, &error))
			tg_log(TG_LOG_ERROR, "list %s: %zu prefixes are lost: %s", proposals[i].id.name,
				proposals[i].removed.count, error.text);
}

/* What comes, then what goes; where there is no room for both, what goes makes it. */
static int exchange(
	struct tg_lists *lists, struct tg_proposal *proposals, size_t count, struct tg_error *error)
{
	int result = add_all(lists, proposals, count, error);

	if (result && result != -ENOSPC)
		return result;
	remove_all(lists, proposals, count);
	if (!result)
		return 0;
	if (tg_proposals_compare(lists, proposals, count)) /* what was taken back is no longer in `added` */
		result = -ENOMEM;
	else
		result = add_all(lists, proposals, count, error);
	if (result)
		add_again(lists, proposals, count);
	return result;
}

int tg_lists_apply(
	struct tg_lists *lists, struct tg_proposal *proposals, size_t count, struct tg_error *error)
{
	int result = make_records(lists, proposals, count);

	if (!result)
		result = tg_proposals_compare(lists, proposals, count);
	if (result)
		tg_fail(error, result, "no memory for the lists");
	else
		result = exchange(lists, proposals, count, error);
	for (size_t i = 0; i < count && !result; i++)
		settle(lists, &proposals[i]);
	forget_empty(lists);
	if (!result)
		sweep(lists);
	return result;
}
