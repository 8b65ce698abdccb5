/* SPDX-License-Identifier: GPL-2.0-only */
#include "draft.h"

#include "lists_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct tg_draft *tg_draft_new(void)
{
	return calloc(1, sizeof(struct tg_draft));
}

void tg_draft_free(struct tg_draft *draft)
{
	if (!draft)
		return;
	for (size_t i = 0; i < draft->count; i++)
		free(draft->list[i].entries);
	free(draft->list);
	tg_notes_free(&draft->notes);
	free(draft);
}

int tg_draft_list(struct tg_draft *draft, const struct tg_list_id *id, struct tg_error *error)
{
	struct tg_draft_list *moved;

	for (size_t i = 0; i < draft->count; i++) {
		if (strcmp(draft->list[i].id.name, id->name))
			continue;
		if (draft->list[i].id.verdict == id->verdict)
			return i;
		return tg_fail(error, -EEXIST, "list \"%s\" is one of tg.%s", id->name,
			id->verdict == TG_LIST_DENY ? "allow" : "deny");
	}
	if (draft->count >= TG_LISTS_MAX)
		return tg_fail(error, -ENOSPC,
			"list \"%s\": there are %d lists already, and can be no more", id->name,
			TG_LISTS_MAX);
	moved = realloc(draft->list, (draft->count + 1) * sizeof(*moved));
	if (!moved)
		return tg_fail(error, -ENOMEM, "no memory for the lists");
	draft->list = moved;
	moved[draft->count] = (struct tg_draft_list){ .id = *id, .settled = true };
	return draft->count++;
}

bool tg_draft_id(const struct tg_draft *draft, int list, struct tg_list_id *id)
{
	if (list < 0 || (size_t)list >= draft->count)
		return false;
	*id = draft->list[list].id;
	return true;
}

static int make_room(struct tg_draft_list *list, size_t more)
{
	size_t room = list->room ? list->room : 16;
	struct tg_cidr *moved;

	if (list->count + more <= list->room)
		return 0;
	while (room < list->count + more)
		room *= 2;
	moved = realloc(list->entries, room * sizeof(*moved));
	if (!moved)
		return -ENOMEM;
	list->entries = moved;
	list->room = room;
	return 0;
}

int tg_draft_add(struct tg_draft *draft, int number, const struct tg_cidr *prefixes, size_t count,
	const struct tg_list_terms *terms, const char *who, struct tg_error *error)
{
	struct tg_draft_list *list = &draft->list[number];
	struct tg_cidr *added;
	uint32_t note = 0;
	int result;

	if (make_room(list, count))
		return tg_fail(error, -ENOMEM, "no memory for %zu prefixes", list->count + count);
	if (terms->ttl > 0 || terms->reason)
		note = tg_notes_add(
			&draft->notes, terms->ttl, terms->reason, who, (struct tg_list_time){ 0 });
	added = &list->entries[list->count];
	if (count)
		memcpy(added, prefixes, count * sizeof(*added));
	result = tg_lists_flags(added, count, terms, error);
	if (result)
		return result;
	for (size_t i = 0; i < count; i++) {
		added[i].rank = TG_LAYER_FILE;
		added[i].tag = note;
	}
	list->count += count;
	list->settled = list->settled && !count;
	return 0;
}

int tg_draft_remove(struct tg_draft *draft, int number, const struct tg_cidr *prefix)
{
	struct tg_draft_list *list = &draft->list[number];

	if (make_room(list, 1))
		return -ENOMEM;
	list->entries[list->count] = *prefix;
	list->entries[list->count].flags = TG_LIST_DROP;
	list->entries[list->count].rank = TG_LAYER_FILE;
	list->count++;
	list->settled = false;
	return 0;
}

void tg_draft_clear(struct tg_draft *draft, int list)
{
	draft->list[list].count = 0;
	draft->list[list].settled = true;
}

int tg_draft_settle(struct tg_draft *draft, int number)
{
	struct tg_draft_list *list = &draft->list[number];
	size_t kept = 0;

	if (list->settled)
		return 0;
	if (tg_lists_sort(list->entries, &list->count))
		return -ENOMEM;
	for (size_t i = 0; i < list->count; i++)
		if (!(list->entries[i].flags & TG_LIST_DROP))
			list->entries[kept++] = list->entries[i];
	list->count = kept;
	list->settled = true;
	return 0;
}

size_t tg_draft_count(const struct tg_draft *draft, int list)
{
	return draft->list[list].count;
}

/* A draft's list as a content: for the questions that are the same. */
static struct tg_content content_of(const struct tg_draft_list *list)
{
	return (struct tg_content){ .entries = list->entries, .count = list->count };
}

bool tg_draft_find(const struct tg_draft *draft, const struct tg_list_id *id,
	const struct tg_cidr *prefix, struct tg_list_entry *entry)
{
	bool found = false;

	for (size_t i = 0; i < draft->count; i++) {
		struct tg_content content = content_of(&draft->list[i]);

		if (tg_list_is(&draft->list[i].id, id))
			found |= tg_content_find(
				&content, &draft->notes, &draft->list[i].id, prefix, found, entry);
	}
	return found;
}

size_t tg_draft_page(const struct tg_draft *draft, const struct tg_list_id *id,
	const struct tg_cidr *after, struct tg_list_entry *entries, size_t room)
{
	for (size_t i = 0; i < draft->count; i++) {
		struct tg_content content = content_of(&draft->list[i]);

		if (tg_list_is(&draft->list[i].id, id))
			return tg_content_page(
				&content, &draft->notes, &draft->list[i].id, after, entries, room);
	}
	return 0;
}
