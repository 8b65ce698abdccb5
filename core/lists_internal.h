/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the parts of core/lists.h share.
 *
 * A list's content is a sorted array of entries, a struct tg_cidr each: `rank` is the layer, `tag` the
 * note (0: none), TG_LIST_REMOVED says that the layer takes the prefix off. It is never changed in
 * place: a change makes another one, tells the sink the difference, and takes its place.
 */
#ifndef TG_LISTS_INTERNAL_H
#define TG_LISTS_INTERNAL_H

#include "lists.h"

#define TG_NEVER INT64_MAX

/* What is known of entries, apart from their prefix. Many can share one. */
struct tg_note {
	double ttl;	       /* as given, seconds; 0: none */
	int64_t expires, date; /* milliseconds, as struct tg_list_time; TG_NEVER */
	char *reason, *who;    /* or NULL */
};

struct tg_notes {
	struct tg_note *note; /* [0] stands for "nothing is known" */
	uint32_t count, room;
	uint32_t sweep; /* forget unused ones at that count */
};

/* A new note's number, or 0 without memory. The texts are copied. */
uint32_t tg_notes_add(struct tg_notes *notes, double ttl, const char *reason, const char *who,
	struct tg_list_time time);
static inline const struct tg_note *tg_note_of(
	const struct tg_notes *notes, const struct tg_cidr *entry)
{
	return entry->tag ? &notes->note[entry->tag] : NULL;
}
static inline int64_t tg_expiry_of(const struct tg_notes *notes, const struct tg_cidr *entry)
{
	return entry->tag ? notes->note[entry->tag].expires : TG_NEVER;
}
void tg_notes_free(struct tg_notes *notes);

/* Prefixes that somebody gathers. */
struct tg_gathered {
	struct tg_cidr *prefixes;
	size_t count, room;
};
/* Makes room for so many. 0 or -ENOMEM. */
int tg_gather_room(struct tg_gathered *to, size_t room);
int tg_gather(struct tg_gathered *to, const struct tg_cidr *prefix);

/* A content. */
struct tg_content {
	struct tg_cidr *entries;
	size_t count, present;	/* entries; prefixes that are on the list */
	int64_t next;		/* when the first entry expires */
	bool replaced;		/* FILE is hidden by REPLACED */
	char *replaced_by;	/* the script's path; NULL: an operator */
	uint64_t replaced_over; /* tg_content_declared then */
	int64_t replaced_date;
};

void tg_content_free(struct tg_content *content);
/* The entry that decides about a prefix, or NULL; `*at` is where to begin, and is moved there. */
const struct tg_cidr *tg_content_decides(
	const struct tg_content *content, size_t *at, const struct tg_cidr *prefix);
/* The same, if it says that the prefix is on the list. */
const struct tg_cidr *tg_content_has(
	const struct tg_content *content, size_t *at, const struct tg_cidr *prefix);
/* The deciding entries of all prefixes on the list, one after the other: NULL at the end. `*at` is 0 at first. */
const struct tg_cidr *tg_content_next(const struct tg_content *content, size_t *at);
/* Fills `present` and, with `notes`, `next`. */
void tg_content_measure(struct tg_content *content, const struct tg_notes *notes);
/* A hash of the prefixes of the layer FILE. */
uint64_t tg_content_declared(const struct tg_content *content);

/* An operation of tg_content_merge that takes an entry out: beside the flags of lists.h. */
#define TG_LIST_DROP 0x80
/*
 * A copy of `old` with sorted entries put into it: each takes the place of that of its layer. `replaced` and
 * its company are copied. 0 or -ENOMEM.
 */
int tg_content_merge(const struct tg_content *old, const struct tg_cidr *entries, size_t count,
	struct tg_content *out);
/* Of sorted prefixes, those that are on `to` and not on `from`; with `flags`, also those with others there. */
int tg_content_gather(const struct tg_content *from, const struct tg_content *to, bool flags,
	const struct tg_cidr *prefixes, size_t count, struct tg_gathered *out);

/* Is it the list that is asked for: by its verdict, and by its name if one is given? */
bool tg_list_is(const struct tg_list_id *list, const struct tg_list_id *asked);
/* As tg_lists_find, of one list; with `found`: only what is longer than `entry`. */
bool tg_content_find(const struct tg_content *content, const struct tg_notes *notes,
	const struct tg_list_id *id, const struct tg_cidr *prefix, bool found,
	struct tg_list_entry *entry);
/* As tg_lists_page. */
size_t tg_content_page(const struct tg_content *content, const struct tg_notes *notes,
	const struct tg_list_id *id, const struct tg_cidr *after, struct tg_list_entry *entries,
	size_t room);

/* A list. */
struct tg_list_record {
	struct tg_list_id id;
	struct tg_content content;
};

struct tg_lists {
	struct tg_lists_sink sink;
	struct tg_list_record *list; /* ordered by name */
	size_t count;
	struct tg_notes notes;
	struct tg_list_record *before; /* of the last commit, until it is kept */
	size_t before_count;
	bool committing; /* `before` is valid */
	struct tg_list_record
		*restored; /* until the first commit: the layers of the lists adopted */
	size_t restored_count;
	char *path; /* tg_lists_restore's */
};

struct tg_list_record *tg_records_find(struct tg_list_record *list, size_t count, const char *name);
struct tg_list_record *tg_lists_get(const struct tg_lists *lists, const char *name);
/* A new record, in its place by name; or NULL. Moves the others. */
struct tg_list_record *tg_lists_insert(struct tg_lists *lists, const struct tg_list_id *id);
void tg_records_free(struct tg_list_record *list, size_t count);
/* Could there be such a list? -EEXIST, -ENOSPC. */
int tg_lists_check(
	const struct tg_lists *lists, const struct tg_list_id *id, struct tg_error *error);
/* Gives prefixes the flags of their terms; -EINVAL. */
int tg_lists_flags(struct tg_cidr *prefixes, size_t count, const struct tg_list_terms *terms,
	struct tg_error *error);
/* Sorts, and takes out doubles: the last one of them stays. 0 or -ENOMEM. */
int tg_lists_sort(struct tg_cidr *prefixes, size_t *count);

/* A list's content that shall be. */
struct tg_proposal {
	struct tg_list_id id;
	struct tg_content content; /* taken over */
	const struct tg_cidr *touched;   /* sorted prefixes that may differ; NULL: any */
	size_t touched_count;
	struct tg_gathered added, removed;
};
/* Finds out what comes and goes. 0 or -ENOMEM. */
int tg_proposals_compare(const struct tg_lists *lists, struct tg_proposal *proposals, size_t count);
/*
 * Puts proposals in force, all or none. Theirs are the former contents then, else they are left as they are;
 * free them with tg_proposals_free in any case.
 */
int tg_lists_apply(struct tg_lists *lists, struct tg_proposal *proposals, size_t count,
	struct tg_error *error);
void tg_proposals_free(struct tg_proposal *proposals, size_t count);

/* Writes the file, if there is a path; logs what goes wrong. */
void tg_lists_save(const struct tg_lists *lists);

/* core/draft.h: what files declare of a list, sorted, without doubles; `rank` FILE, `tag` the draft's notes. */
struct tg_draft_list {
	struct tg_list_id id;
	struct tg_cidr *entries;
	size_t count, room;
	bool settled;
};

struct tg_draft {
	struct tg_draft_list *list;
	size_t count;
	struct tg_notes notes;
};

#endif
