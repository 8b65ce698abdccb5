/* SPDX-License-Identifier: GPL-2.0-only */
/* Questions about lists. */
#include "lists_internal.h"

#include <stdlib.h>
#include <string.h>

bool tg_list_is(const struct tg_list_id *list, const struct tg_list_id *asked)
{
	return list->verdict == asked->verdict &&
	       (!asked->name[0] || !strcmp(list->name, asked->name));
}

static struct tg_list_entry entry_of(
	const struct tg_notes *notes, const struct tg_list_id *id, const struct tg_cidr *top)
{
	const struct tg_note *note = tg_note_of(notes, top);

	return (struct tg_list_entry){
		.prefix = *top,
		.list = id->name,
		.verdict = id->verdict,
		.layer = top->rank,
		.reason = note ? note->reason : NULL,
		.who = note ? note->who : NULL,
		.expires = note ? note->expires : TG_NEVER,
		.date = note ? note->date : 0,
	};
}

bool tg_content_find(const struct tg_content *content, const struct tg_notes *notes,
	const struct tg_list_id *id, const struct tg_cidr *prefix, bool found,
	struct tg_list_entry *entry)
{
	int shortest = found ? entry->prefix.length + 1 : 0;

	for (int length = prefix->length; length >= shortest; length--) {
		struct tg_cidr cut = tg_cidr_cut(prefix, length);
		const struct tg_cidr *top;
		size_t at = 0;

		top = tg_content_has(content, &at, &cut);
		if (!top)
			continue;
		*entry = entry_of(notes, id, top);
		return true;
	}
	return false;
}

bool tg_lists_find(struct tg_lists *lists, const struct tg_list_id *id,
	const struct tg_cidr *prefix, struct tg_list_entry *entry)
{
	bool found = false;

	for (size_t i = 0; i < lists->count; i++)
		if (tg_list_is(&lists->list[i].id, id))
			found |= tg_content_find(&lists->list[i].content, &lists->notes,
				&lists->list[i].id, prefix, found, entry);
	return found;
}

size_t tg_content_page(const struct tg_content *content, const struct tg_notes *notes,
	const struct tg_list_id *id, const struct tg_cidr *after, struct tg_list_entry *entries,
	size_t room)
{
	size_t at = after ? tg_cidr_seek(content->entries, content->count, 0, after) : 0, n = 0;
	const struct tg_cidr *top;

	while (after && at < content->count && !tg_cidr_compare(&content->entries[at], after))
		at++;
	while (n < room && (top = tg_content_next(content, &at)))
		entries[n++] = entry_of(notes, id, top);
	return n;
}

size_t tg_lists_page(struct tg_lists *lists, const struct tg_list_id *id,
	const struct tg_cidr *after, struct tg_list_entry *entries, size_t room)
{
	const struct tg_list_record *record = tg_lists_get(lists, id->name);

	if (!record || !tg_list_is(&record->id, id))
		return 0;
	return tg_content_page(&record->content, &lists->notes, &record->id, after, entries, room);
}

static struct tg_list_status status_of(
	const struct tg_lists *lists, const struct tg_list_record *record)
{
	const struct tg_content *content = &record->content;
	struct tg_list_status status = {
		.id = record->id,
		.entries = content->present,
		.replaced = content->replaced,
		.replaced_by = content->replaced_by ? content->replaced_by : "",
		.replaced_date = content->replaced_date,
		.memory = content->count * sizeof(*content->entries),
	};
	const struct tg_cidr *top;
	size_t at = 0;

	while ((top = tg_content_next(content, &at))) {
		status.of_layer[top->rank]++;
		status.timed += tg_expiry_of(&lists->notes, top) != TG_NEVER;
	}
	for (size_t i = 0; i < content->count; i++)
		status.suppressed += (content->entries[i].flags & TG_LIST_REMOVED) != 0;
	return status;
}

struct tg_list_status *tg_lists_status(struct tg_lists *lists, size_t *count)
{
	struct tg_list_status *all = calloc(lists->count + 1, sizeof(*all));

	for (size_t i = 0; all && i < lists->count; i++)
		all[i] = status_of(lists, &lists->list[i]);
	*count = all ? lists->count : 0;
	return all;
}
