/* SPDX-License-Identifier: GPL-2.0-only */
/* Lists and generations: what a draft would change, and its being put in force. */
#include "draft.h"
#include "lists_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static bool is_loaded(const char *script, char *const *scripts)
{
	if (!script)
		return true; /* an operator's */
	for (; *scripts; scripts++)
		if (!strcmp(*scripts, script))
			return true;
	return false;
}

static const struct tg_draft_list *draft_of(const struct tg_draft *draft, const char *name)
{
	for (size_t i = 0; i < draft->count; i++)
		if (!strcmp(draft->list[i].id.name, name))
			return &draft->list[i];
	return NULL;
}

/* One list's way from what is to what is declared. */
struct making {
	const struct tg_lists *lists;
	const struct tg_draft *draft;
	const struct tg_content *old; /* its layers */
	struct tg_content *new;
	struct tg_list_plan *plan;
	uint32_t base; /* where the draft's notes will be */
	int64_t now;
};

static bool same_text(const char *a, const char *b)
{
	return a && b ? !strcmp(a, b) : a == b;
}

static bool same_terms(
	const struct making *making, const struct tg_cidr *old, const struct tg_cidr *new)
{
	const struct tg_note *a = tg_note_of(&making->lists->notes, old);
	const struct tg_note *b = tg_note_of(&making->draft->notes, new);
	double ttl_a = a ? a->ttl : 0, ttl_b = b ? b->ttl : 0;

	return old->flags == new->flags &&ttl_a ==
	       ttl_b &&same_text(a ? a->reason : NULL, b ? b->reason : NULL);
}

/* What is declared stays as it is if it was declared with the same terms: so does its end. */
static void put_declared(
	struct making *making, const struct tg_cidr *declared, const struct tg_cidr *old)
{
	struct tg_cidr *entry = &making->new->entries[making->new->count++];
	bool same = old && same_terms(making, old, declared);

	*entry = *declared;
	if (same)
		entry->tag = old->tag;
	else if (declared->tag)
		entry->tag = making->base + declared->tag;
	if (old && !same)
		making->plan->changed++;
}

/* Is this what the files say themselves now, and for good? */
static bool is_absorbed(
	const struct making *making, const struct tg_cidr *own, const struct tg_cidr *declared)
{
	const struct tg_note *note = declared ? tg_note_of(&making->draft->notes, declared) : NULL;

	return declared && !making->new->replaced && !(own->flags & TG_LIST_REMOVED) &&
	       !(note && note->ttl > 0);
}

/* The entries of one prefix: what is declared of it (or NULL), and what there was, old[0..count). */
static void make_prefix(struct making *making, const struct tg_cidr *declared,
	const struct tg_cidr *old, size_t count)
{
	const struct tg_cidr *layer[TG_LAYER_OPERATOR + 1] = { NULL };
	bool below;

	for (size_t i = 0; i < count; i++)
		if (tg_expiry_of(&making->lists->notes, &old[i]) > making->now)
			layer[old[i].rank] = &old[i];
	if (declared)
		put_declared(making, declared, layer[TG_LAYER_FILE]);
	if (making->new->replaced && layer[TG_LAYER_REPLACED])
		making->new->entries[making->new->count++] = *layer[TG_LAYER_REPLACED];
	below = making->new->replaced ? layer[TG_LAYER_REPLACED] != NULL : declared != NULL;
	if (!layer[TG_LAYER_OPERATOR])
		return;
	if (is_absorbed(making, layer[TG_LAYER_OPERATOR], declared))
		making->plan->absorbed++;
	else if (!(layer[TG_LAYER_OPERATOR]->flags & TG_LIST_REMOVED) || below)
		making->new->entries[making->new->count++] = *layer[TG_LAYER_OPERATOR];
}

/* Goes through both arrays, prefix by prefix. */
static void make_entries(struct making *making, const struct tg_draft_list *draft)
{
	size_t declared = 0, at = 0, count = draft ? draft->count : 0;

	while (declared < count || at < making->old->count) {
		const struct tg_cidr *a = declared < count ? &draft->entries[declared] : NULL;
		const struct tg_cidr *b =
			at < making->old->count ? &making->old->entries[at] : NULL;
		int order = !a ? 1 : !b ? -1 : tg_cidr_compare(a, b);
		size_t same = 0;

		while (order >= 0 && at + same < making->old->count &&
			!tg_cidr_compare(&b[same], b))
			same++;
		make_prefix(making, order <= 0 ? a : NULL, b, same);
		declared += order <= 0;
		at += same;
	}
}

/* Does what replaced the files' content go on doing so? */
static bool stays_replaced(
	const struct tg_content *old, const struct tg_draft_list *draft, char *const *scripts)
{
	struct tg_content declared = { 0 };

	if (!old->replaced)
		return false;
	if (draft) {
		declared.entries = draft->entries;
		declared.count = draft->count;
	}
	return is_loaded(old->replaced_by, scripts) &&
	       tg_content_declared(&declared) == old->replaced_over;
}

static int make_content(
	struct making *making, const struct tg_draft_list *draft, char *const *scripts)
{
	const struct tg_content *old = making->old;
	struct tg_content *new = making->new;

	*new = (struct tg_content){ .next = TG_NEVER };
	new->entries =
		malloc((old->count + (draft ? draft->count : 0) + 1) * sizeof(*new->entries));
	if (!new->entries)
		return -ENOMEM;
	new->replaced = stays_replaced(old, draft, scripts);
	making->plan->declared_anew = old->replaced && !new->replaced;
	if (new->replaced) {
		new->replaced_by = old->replaced_by ? strdup(old->replaced_by) : NULL;
		new->replaced_over = old->replaced_over;
		new->replaced_date = old->replaced_date;
	}
	make_entries(making, draft);
	tg_content_measure(new, NULL);
	return 0;
}

/* ---- all lists ---- */

struct plans {
	struct tg_proposal *proposals;
	struct tg_list_plan *plans;
	size_t count, room;
};

static void free_plans(struct plans *all)
{
	tg_proposals_free(all->proposals, all->count);
	free(all->proposals);
	free(all->plans);
}

/* The layers that a list has: at first, those that a restart left. */
static const struct tg_content *layers_of(const struct tg_lists *lists, const char *name)
{
	static const struct tg_content nothing = { .next = TG_NEVER };
	const struct tg_list_record *record =
		lists->restored ? tg_records_find(lists->restored, lists->restored_count, name)
				: tg_lists_get(lists, name);

	return record ? &record->content : &nothing;
}

static int add_plan(struct plans *all, const struct tg_lists *lists, const struct tg_draft *draft,
	const struct tg_list_id *id, char *const *scripts, int64_t now)
{
	const struct tg_list_record *record = tg_lists_get(lists, id->name);
	const struct tg_draft_list *declared = draft_of(draft, id->name);
	struct tg_proposal *proposal = &all->proposals[all->count];
	struct tg_list_plan *plan = &all->plans[all->count];
	struct making making = {
		.lists = lists,
		.draft = draft,
		.new = &proposal->content,
		.plan = plan,
		.now = now,
		.old = layers_of(lists, id->name),
		.base = lists->notes.count ? lists->notes.count - 1 : 0,
	};

	for (size_t i = 0; i < all->count; i++)
		if (!strcmp(all->proposals[i].id.name, id->name))
			return 0;
	proposal->id = declared ? declared->id : *id;
	plan->id = proposal->id;
	all->count++;
	if (make_content(&making, declared, scripts) || tg_proposals_compare(lists, proposal, 1))
		return -ENOMEM;
	plan->before = record ? record->content.present : 0;
	plan->after = proposal->content.present;
	plan->added = proposal->added.count;
	plan->removed = record && record->id.verdict != proposal->id.verdict
				? plan->before
				: proposal->removed.count;
	return 0;
}

static int make_plans(struct plans *all, const struct tg_lists *lists, struct tg_draft *draft,
	char *const *scripts, int64_t now)
{
	size_t room = lists->count + lists->restored_count + draft->count;
	int result = 0;

	all->proposals = calloc(room + 1, sizeof(*all->proposals));
	all->plans = calloc(room + 1, sizeof(*all->plans));
	if (!all->proposals || !all->plans)
		return -ENOMEM;
	for (size_t i = 0; i < draft->count && !result; i++)
		result = tg_draft_settle(draft, i);
	for (size_t i = 0; i < draft->count && !result; i++)
		result = add_plan(all, lists, draft, &draft->list[i].id, scripts, now);
	for (size_t i = 0; i < lists->restored_count && !result; i++)
		result = add_plan(all, lists, draft, &lists->restored[i].id, scripts, now);
	for (size_t i = 0; i < lists->count && !result; i++)
		result = add_plan(all, lists, draft, &lists->list[i].id, scripts, now);
	return result;
}

/* There can be no more lists with something in them than classes. */
static int check_number(const struct plans *all, struct tg_error *error)
{
	size_t used = 0;

	for (size_t i = 0; i < all->count; i++)
		used += all->proposals[i].content.count > 0;
	return used <= TG_LISTS_MAX ? 0
				    : tg_fail(error, -ENOSPC, "%zu lists: there can be %d at most",
					      used, TG_LISTS_MAX);
}

static unsigned int needs_of(const struct tg_cidr *entries, size_t count, enum tg_list_layer from)
{
	unsigned int needs = 0;

	for (size_t i = 0; i < count; i++) {
		const struct tg_cidr *entry = &entries[i];

		if (entry->rank < from || entry->flags & (TG_LIST_REMOVED | TG_LIST_DROP))
			continue;
		needs |= entry->family == 4 ? TG_LISTS_NEED_V4 : TG_LISTS_NEED_V6;
		needs |= entry->flags & TG_LIST_COUNT ? TG_LISTS_NEED_COUNT : 0;
	}
	return needs;
}

unsigned int tg_draft_needs(const struct tg_draft *draft)
{
	unsigned int needs = 0;

	for (size_t i = 0; i < draft->count; i++)
		needs |= needs_of(draft->list[i].entries, draft->list[i].count, TG_LAYER_FILE);
	return needs;
}

unsigned int tg_lists_needs(const struct tg_lists *lists)
{
	const struct tg_list_record *list = lists->restored ? lists->restored : lists->list;
	size_t count = lists->restored ? lists->restored_count : lists->count;
	unsigned int needs = 0;

	for (size_t i = 0; i < count; i++)
		needs |=
			needs_of(list[i].content.entries, list[i].content.count, TG_LAYER_REPLACED);
	return needs;
}

int tg_lists_plan(struct tg_lists *lists, struct tg_draft *draft, char *const *scripts,
	struct tg_list_time time, struct tg_list_plan **plans, size_t *count,
	struct tg_error *error)
{
	struct plans all = { 0 };
	int result = make_plans(&all, lists, draft, scripts, time.now);

	result = result ? tg_fail(error, result, "no memory for the lists")
			: check_number(&all, error);
	*count = result ? 0 : all.count;
	*plans = result ? NULL : all.plans;
	if (!result)
		all.plans = NULL;
	free_plans(&all);
	return result;
}

/* The draft's notes become ours; from now on their ends are counted. */
static int take_notes(struct tg_lists *lists, struct tg_draft *draft, struct tg_list_time time)
{
	struct tg_notes *to = &lists->notes, *from = &draft->notes;
	size_t room = to->count + from->count + 2;
	struct tg_note *moved = realloc(to->note, room * sizeof(*moved));

	if (!moved)
		return -ENOMEM;
	to->note = moved;
	to->room = room;
	if (!to->count)
		to->note[to->count++] = (struct tg_note){ .expires = TG_NEVER };
	for (uint32_t i = 1; i < from->count; i++) {
		struct tg_note *note = &to->note[to->count++];

		*note = from->note[i];
		note->date = time.date;
		note->expires = note->ttl > 0 ? time.now + (int64_t)(note->ttl * 1000) : TG_NEVER;
	}
	free(from->note);
	*from = (struct tg_notes){ 0 };
	return 0;
}

/* Keeps the former contents, which the proposals have now. */
static void remember(struct tg_lists *lists, struct plans *all)
{
	lists->before = calloc(all->count + 1, sizeof(*lists->before));
	for (size_t i = 0; lists->before && i < all->count; i++) {
		lists->before[i].id = all->proposals[i].id;
		lists->before[i].content = all->proposals[i].content;
		all->proposals[i].content = (struct tg_content){ .next = TG_NEVER };
	}
	lists->before_count = lists->before ? all->count : 0;
	lists->committing = lists->before != NULL;
}

int tg_lists_commit(struct tg_lists *lists, struct tg_draft *draft, char *const *scripts,
	struct tg_list_time time, struct tg_error *error)
{
	struct plans all = { 0 };
	int result;

	tg_lists_keep(lists);
	result = make_plans(&all, lists, draft, scripts, time.now);
	if (!result)
		result = take_notes(lists, draft, time);
	result = result ? tg_fail(error, result, "no memory for the lists")
			: check_number(&all, error);
	for (size_t i = 0; i < all.count && !result; i++)
		tg_content_measure(&all.proposals[i].content, &lists->notes);
	lists->committing = true; /* no sweep: former contents have notes, too */
	if (!result)
		result = tg_lists_apply(lists, all.proposals, all.count, error);
	lists->committing = false;
	if (!result)
		remember(lists, &all);
	free_plans(&all);
	return result;
}

int tg_lists_undo(struct tg_lists *lists, struct tg_error *error)
{
	struct plans all = { .count = lists->before_count };
	int result;

	if (!lists->committing)
		return 0;
	all.proposals = calloc(all.count + 1, sizeof(*all.proposals));
	if (!all.proposals)
		return tg_fail(error, -ENOMEM, "no memory for the lists");
	for (size_t i = 0; i < all.count; i++) {
		all.proposals[i].id = lists->before[i].id;
		all.proposals[i].content = lists->before[i].content;
		lists->before[i].content = (struct tg_content){ .next = TG_NEVER };
	}
	result = tg_lists_apply(lists, all.proposals, all.count, error);
	free_plans(&all);
	tg_records_free(lists->before, lists->before_count);
	lists->before = NULL;
	lists->before_count = 0;
	lists->committing = false;
	return result;
}

void tg_lists_keep(struct tg_lists *lists)
{
	if (!lists->committing)
		return;
	tg_records_free(lists->before, lists->before_count);
	tg_records_free(lists->restored, lists->restored_count);
	lists->before = lists->restored = NULL;
	lists->before_count = lists->restored_count = 0;
	lists->committing = false;
	tg_lists_save(lists);
}
