/* SPDX-License-Identifier: GPL-2.0-only */
/* Contents of lists: sorted arrays of entries, and their algebra. */
#include "lists_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- notes ---- */

uint32_t tg_notes_add(struct tg_notes *notes, double ttl, const char *reason, const char *who,
	struct tg_list_time time)
{
	struct tg_note *note;

	if (notes->count + 2 > notes->room) {
		uint32_t room = notes->room ? 2 * notes->room : 16;

		note = realloc(notes->note, room * sizeof(*note));
		if (!note)
			return 0;
		notes->note = note;
		notes->room = room;
	}
	if (!notes->count)
		notes->note[notes->count++] = (struct tg_note){ .expires = TG_NEVER };
	note = &notes->note[notes->count];
	*note = (struct tg_note){ .ttl = ttl, .date = time.date, .expires = TG_NEVER };
	if (ttl > 0)
		note->expires = time.now + (int64_t)(ttl * 1000);
	note->reason = reason ? strdup(reason) : NULL;
	note->who = who ? strdup(who) : NULL;
	return notes->count++;
}

void tg_notes_free(struct tg_notes *notes)
{
	for (uint32_t i = 0; i < notes->count; i++) {
		free(notes->note[i].reason);
		free(notes->note[i].who);
	}
	free(notes->note);
	*notes = (struct tg_notes){ 0 };
}

int tg_gather_room(struct tg_gathered *to, size_t room)
{
	struct tg_cidr *moved = room > to->room ? realloc(to->prefixes, room * sizeof(*moved)) : to->prefixes;

	if (!moved && room)
		return -ENOMEM;
	to->prefixes = moved;
	to->room = room > to->room ? room : to->room;
	return 0;
}

int tg_gather(struct tg_gathered *to, const struct tg_cidr *prefix)
{
	if (to->count == to->room && tg_gather_room(to, to->room ? 2 * to->room : 16))
		return -ENOMEM;
	to->prefixes[to->count++] = *prefix;
	return 0;
}

/* ---- questions ---- */

void tg_content_free(struct tg_content *content)
{
	free(content->entries);
	free(content->replaced_by);
	*content = (struct tg_content){ .next = TG_NEVER };
}

static bool is_hidden(const struct tg_content *content, const struct tg_cidr *entry)
{
	return content->replaced && entry->rank == TG_LAYER_FILE;
}

/* The deciding one of the entries from `*at` on with the same prefix; *at is moved behind them. */
static const struct tg_cidr *decide(const struct tg_content *content, size_t *at)
{
	const struct tg_cidr *entries = content->entries, *first = &entries[*at], *top = NULL;

	for (; *at < content->count && !tg_cidr_compare(&entries[*at], first); ++*at)
		if (!is_hidden(content, &entries[*at]))
			top = &entries[*at];
	return top;
}

const struct tg_cidr *tg_content_decides(
	const struct tg_content *content, size_t *at, const struct tg_cidr *prefix)
{
	size_t group;

	*at = tg_cidr_seek(content->entries, content->count, *at, prefix);
	group = *at;
	if (group == content->count || tg_cidr_compare(&content->entries[group], prefix))
		return NULL;
	return decide(content, &group);
}

const struct tg_cidr *tg_content_has(
	const struct tg_content *content, size_t *at, const struct tg_cidr *prefix)
{
	const struct tg_cidr *top = tg_content_decides(content, at, prefix);

	return top && !(top->flags & TG_LIST_REMOVED) ? top : NULL;
}

const struct tg_cidr *tg_content_next(const struct tg_content *content, size_t *at)
{
	while (*at < content->count) {
		const struct tg_cidr *top = decide(content, at);

		if (top && !(top->flags & TG_LIST_REMOVED))
			return top;
	}
	return NULL;
}

void tg_content_measure(struct tg_content *content, const struct tg_notes *notes)
{
	size_t at = 0;

	content->next = TG_NEVER;
	content->present = 0;
	for (size_t i = 0; notes && i < content->count; i++) {
		int64_t expires = tg_expiry_of(notes, &content->entries[i]);

		if (expires < content->next)
			content->next = expires;
	}
	while (tg_content_next(content, &at))
		content->present++;
}

uint64_t tg_content_declared(const struct tg_content *content)
{
	uint64_t hash = 0xcbf29ce484222325ull;

	for (size_t i = 0; i < content->count; i++) {
		const struct tg_cidr *entry = &content->entries[i];

		if (entry->rank != TG_LAYER_FILE)
			continue;
		hash = (hash ^ entry->hi) * 0x9e3779b97f4a7c15ull;
		hash = (hash ^ hash >> 29 ^ entry->lo) * 0x9e3779b97f4a7c15ull;
		hash = (hash ^ hash >> 31 ^ entry->length ^ entry->family << 8) * 0x100000001b3ull;
	}
	return hash;
}

/* ---- changes ---- */

static int compare_ranked(const struct tg_cidr *a, const struct tg_cidr *b)
{
	int order = tg_cidr_compare(a, b);

	return order ? order : (int)a->rank - (int)b->rank;
}

int tg_content_merge(const struct tg_content *old, const struct tg_cidr *entries, size_t count,
	struct tg_content *out)
{
	struct tg_cidr *to = malloc((old->count + count + 1) * sizeof(*to));
	size_t from = 0, n = 0;

	if (!to)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		size_t at = tg_cidr_seek(old->entries, old->count, from, &entries[i]);

		while (at < old->count && compare_ranked(&old->entries[at], &entries[i]) < 0)
			at++;
		if (at > from)
			memcpy(&to[n], &old->entries[from], (at - from) * sizeof(*to));
		n += at - from;
		from = at;
		if (from < old->count && !compare_ranked(&old->entries[from], &entries[i]))
			from++;
		if (!(entries[i].flags & TG_LIST_DROP))
			to[n++] = entries[i];
	}
	if (old->count > from)
		memcpy(&to[n], &old->entries[from], (old->count - from) * sizeof(*to));
	*out = *old;
	out->replaced_by = old->replaced_by ? strdup(old->replaced_by) : NULL;
	out->entries = to;
	out->count = n + old->count - from;
	return 0;
}

int tg_content_gather(const struct tg_content *from, const struct tg_content *to, bool flags,
	const struct tg_cidr *prefixes, size_t count, struct tg_gathered *out)
{
	size_t at_from = 0, at_to = 0;

	for (size_t i = 0; i < count; i++) {
		const struct tg_cidr *was, *is;

		if (i && !tg_cidr_compare(&prefixes[i - 1], &prefixes[i]))
			continue;
		is = tg_content_has(to, &at_to, &prefixes[i]);
		if (!is)
			continue;
		was = tg_content_has(from, &at_from, &prefixes[i]);
		if ((!was || (flags && was->flags != is->flags)) && tg_gather(out, is))
			return -ENOMEM;
	}
	return 0;
}
