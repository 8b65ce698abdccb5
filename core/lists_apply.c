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

/* --- in turns --- */

#define TURN 16384 /* prefixes of a list that come at once, at most */

/* A list on its way: what came and what went so far; how much is tried next. */
struct turn {
	size_t came, went, next;
};

/* A prefix's last address, or the first one, as a prefix that tg_cidr_compare orders by it. */
static struct tg_cidr edge_of(const struct tg_cidr *prefix, bool last)
{
	struct tg_cidr edge = { prefix->hi, prefix->lo, .family = prefix->family };

	if (last) {
		edge.hi |= prefix->length < 64 ? ~0ull >> prefix->length : 0;
		if (prefix->length < 128)
			edge.lo |= prefix->length <= 64 ? ~0ull : ~0ull >> (prefix->length - 64);
	}
	return edge;
}

static int by_last(const void *a, const void *b)
{
	struct tg_cidr last_a = edge_of(a, true), last_b = edge_of(b, true);

	return tg_cidr_compare(&last_a, &last_b);
}

/* Adds what there is room for, of the next prefixes of a list. `any`: there was some. */
static int let_come(struct tg_lists *lists, const struct tg_proposal *proposal, struct turn *turn,
	bool *any, struct tg_error *error)
{
	size_t left = proposal->added.count - turn->came;
	size_t most = turn->next ? turn->next : TURN;
	int result = 0;

	for (size_t count = left < most ? left : most; count; count /= 2) {
		result = lists->sink.add(lists->sink.user, proposal->id.name, proposal->id.verdict,
			&proposal->added.prefixes[turn->came], count, error);
		if (result != -ENOSPC) {
			turn->came += result ? 0 : count;
			turn->next = 2 * count < TURN ? 2 * count : TURN;
			*any |= !result;
			return result;
		}
	}
	return 0;
}

/* Removes the prefixes that end before all that is yet to come begins. */
static void let_go(struct tg_lists *lists, const struct tg_proposal *proposal, struct turn *turn,
	const struct tg_cidr *next, bool *any)
{
	const struct tg_gathered *removed = &proposal->removed;
	size_t end = turn->went;

	for (; end < removed->count; end++) {
		struct tg_cidr last = edge_of(&removed->prefixes[end], true);

		if (next && tg_cidr_compare(&last, next) >= 0)
			break;
	}
	if (end == turn->went)
		return;
	lists->sink.remove(lists->sink.user, proposal->id.name, &removed->prefixes[turn->went],
		end - turn->went);
	turn->went = end;
	*any = true;
}

/* Where what is yet to come begins; false: all is there. */
static bool find_next(const struct tg_proposal *proposals, const struct turn *turns, size_t count,
	struct tg_cidr *next)
{
	bool found = false;

	for (size_t i = 0; i < count; i++) {
		struct tg_cidr first;

		if (turns[i].came == proposals[i].added.count)
			continue;
		first = edge_of(&proposals[i].added.prefixes[turns[i].came], false);
		if (!found || tg_cidr_compare(&first, next) < 0)
			*next = first;
		found = true;
	}
	return found;
}

/* -ENOSPC: they got stuck half way. */
static int run_turns(struct tg_lists *lists, struct tg_proposal *proposals, struct turn *turns,
	size_t count, struct tg_error *error)
{
	struct tg_cidr next;
	bool any = true, more = true;
	int result = 0;

	for (size_t i = 0; i < count; i++)
		if (proposals[i].removed.count)
			qsort(proposals[i].removed.prefixes, proposals[i].removed.count,
				sizeof(struct tg_cidr), by_last);
	while (any && more) {
		any = false;
		for (size_t i = 0; i < count && !result; i++)
			result = let_come(lists, &proposals[i], &turns[i], &any, error);
		if (result)
			return result;
		more = find_next(proposals, turns, count, &next);
		for (size_t i = 0; i < count; i++)
			let_go(lists, &proposals[i], &turns[i], more ? &next : NULL, &any);
	}
	return more ? -ENOSPC : 0;
}

/* What is yet to go makes room for what is yet to come: an address on both may be on neither meanwhile. */
static int finish_turns(struct tg_lists *lists, struct tg_proposal *proposals, struct turn *turns,
	size_t count, struct tg_error *error)
{
	int result = 0;
	bool any = false;

	for (size_t i = 0; i < count; i++)
		let_go(lists, &proposals[i], &turns[i], NULL, &any);
	for (size_t i = 0; i < count && !result; i++) {
		size_t left = proposals[i].added.count - turns[i].came;

		if (left)
			result = lists->sink.add(lists->sink.user, proposals[i].id.name,
				proposals[i].id.verdict,
				&proposals[i].added.prefixes[turns[i].came], left, error);
	}
	return result;
}

/*
 * There is no room for what comes beside what goes: they take turns, by address, so that an address that was on
 * a list and will be on one is on one throughout.
 */
static int take_turns(
	struct tg_lists *lists, struct tg_proposal *proposals, size_t count, struct tg_error *error)
{
	struct turn *turns = calloc(count, sizeof(*turns));
	int result = turns ? run_turns(lists, proposals, turns, count, error) : -ENOMEM;

	if (turns && result == -ENOSPC)
		result = finish_turns(lists, proposals, turns, count, error);
	free(turns);
	if (!result)
		return 0;
	for (size_t i = 0; i < count; i++)
		if (proposals[i].added.count)
			take_back(lists, &proposals[i]);
	add_again(lists, proposals, count);
	return result;
}

/* What comes, then what goes; where there is no room for both, what goes makes it. */
static int exchange(
	struct tg_lists *lists, struct tg_proposal *proposals, size_t count, struct tg_error *error)
{
	int result = add_all(lists, proposals, count, error);

	if (!result)
		remove_all(lists, proposals, count);
	if (result != -ENOSPC)
		return result;
	if (tg_proposals_compare(lists, proposals, count)) /* what was taken back is no longer in `added` */
		return -ENOMEM;
	return take_turns(lists, proposals, count, error);
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
