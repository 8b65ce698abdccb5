/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Deny and allow lists as their users know them: named lists of prefixes, each prefix with who says so,
 * why, and for how long. What the datapath has to hold of it is told to a sink (core/lists_deny.c: the
 * tables); this module knows neither tables nor Lua, and no clock: times are given.
 *
 * A list has layers; the highest one that says something of a prefix decides whether it is on the list:
 *
 *	FILE      what the files declare; also what they declare with a time to live
 *	REPLACED  a whole content that was put in FILE's place (tg_lists_replace). It stays over
 *	          reloads while the script that put it is loaded (an operator's: always), unless what the
 *	          files declare of this list has changed since: then that counts again
 *	TASK      what tasks of the generation in force added or removed
 *	OPERATOR  what an operator did: stays until it ends, is undone, or the files say the same
 *
 * Life of a change of generation: files are loaded into a draft (core/draft.h); tg_lists_plan says
 * what putting it in force would change, tg_lists_commit does so. Every change here is all or nothing.
 * What is on a list before and after one stays in the tables throughout, also where it changes lists:
 * first everything new is added, then what is over removed (only where the tables have no room for both, the
 * other way round).
 *
 * One thread at a time. Calls with many prefixes take long: not in a loop's thread.
 */
#ifndef TG_LISTS_H
#define TG_LISTS_H

#include "cidr.h"
#include "error.h"
#include "feed.h"

#define TG_LIST_NAME 64 /* bytes, with the final 0 */
#define TG_LISTS_MAX 63 /* lists that hold something */

enum tg_list_verdict { TG_LIST_DENY, TG_LIST_ALLOW };

enum tg_list_layer {
	TG_LAYER_FILE,
	TG_LAYER_REPLACED,
	TG_LAYER_TASK,
	TG_LAYER_OPERATOR,
};

/* In tg_cidr.flags. */
#define TG_LIST_REMOVED 0x01 /* this layer says: not on the list */
#define TG_LIST_COUNT	0x02 /* with counters of its own; whole addresses only */

struct tg_lists;
struct tg_draft;

/* Where the tables are. Prefixes to add are sorted; `flags` may have TG_LIST_COUNT. */
struct tg_lists_sink {
	void *user;
	/* Adds to the list's prefixes, all or none; those that are there get `flags` as given. */
	int (*add)(void *user, const char *list, enum tg_list_verdict verdict,
		const struct tg_cidr *prefixes, size_t count, struct tg_error *error);
	void (*remove)(void *user, const char *list, const struct tg_cidr *prefixes, size_t count);
	/* The list is empty and of no use any more. */
	void (*drop)(void *user, const char *list);
};

struct tg_lists *tg_lists_new(const struct tg_lists_sink *sink);
void tg_lists_free(struct tg_lists *lists);

/* Which list is meant: the binding has checked the name. */
struct tg_list_id {
	char name[TG_LIST_NAME];
	enum tg_list_verdict verdict;
};

/* What goes with prefixes that are added. */
struct tg_list_terms {
	double ttl;	    /* seconds; 0: no end */
	const char *reason; /* or NULL */
	bool count;	    /* TG_LIST_COUNT for whole addresses, others are refused */
};

/* Who does it. */
struct tg_list_actor {
	enum tg_list_layer layer; /* TASK or OPERATOR */
	const char *who;	  /* "web.lua:12", "uid 0" */
	const char *script;	  /* path of the script, for tg_lists_replace; NULL: the operator */
};

/* Milliseconds: `now` on a clock that never jumps and outlives the daemon (CLOCK_BOOTTIME), `date` since 1970. */
struct tg_list_time {
	int64_t now, date;
};
struct tg_list_time tg_list_time(void);

/*
 * Before the first commit: the sink has this list already, with these prefixes (sorted, without doubles, taken
 * over). 0 or -ENOMEM.
 */
int tg_lists_adopt(struct tg_lists *lists, const struct tg_list_id *id, struct tg_cidr *prefixes,
	size_t count);

/* ---- changes while a generation runs ---- */

/*
 * Adds prefixes (sorted here); *added tells how many were not on the list before. -EPERM: it is one
 * prefix, and a higher layer has removed it; of many, such ones are passed over.
 */
int tg_lists_add(struct tg_lists *lists, const struct tg_list_id *id, struct tg_cidr *prefixes,
	size_t count, const struct tg_list_terms *terms, const struct tg_list_actor *actor,
	struct tg_list_time time, size_t *added, struct tg_error *error);
/* Removes a prefix; *removed is false if it was not there. -EPERM: a higher layer has added it. */
int tg_lists_remove(struct tg_lists *lists, const struct tg_list_id *id,
	const struct tg_cidr *prefix, const struct tg_list_actor *actor, struct tg_list_time time,
	bool *removed, struct tg_error *error);

struct tg_list_change {
	size_t count, added, removed; /* on the list now; came; went */
};
/*
 * Puts prefixes in the place of what the files declare of the list, or of what was put there before. -ENODATA:
 * there are fewer than `min`.
 */
int tg_lists_replace(struct tg_lists *lists, const struct tg_list_id *id, struct tg_cidr *prefixes,
	size_t count, size_t min, const struct tg_list_terms *terms,
	const struct tg_list_actor *actor, struct tg_list_time time, struct tg_list_change *change,
	struct tg_error *error);

/* Takes away what has expired. Returns when the next entry does, or INT64_MAX. */
int64_t tg_lists_expire(struct tg_lists *lists, int64_t now);

/* ---- generations ---- */

struct tg_list_plan {
	struct tg_list_id id;
	size_t before, after; /* prefixes */
	size_t added, removed;
	size_t changed;	    /* prefixes that stay, with another reason or time to live */
	size_t absorbed;    /* the operator's, that the files say themselves now */
	bool declared_anew; /* the files' content counts again, not what replaced it */
};

/* What a draft would change, list by list: `*plans` is malloc's. `scripts` are the generation's files, then NULL. */
int tg_lists_plan(struct tg_lists *lists, struct tg_draft *draft, char *const *scripts,
	struct tg_list_time time, struct tg_list_plan **plans, size_t *count,
	struct tg_error *error);
/* What tables have to know for prefixes that stay when a draft is put in force; at most: some may not stay. */
#define TG_LISTS_NEED_V4    0x01
#define TG_LISTS_NEED_V6    0x02
#define TG_LISTS_NEED_COUNT 0x04
unsigned int tg_lists_needs(const struct tg_lists *lists);
/*
 * Puts a draft in force; its notes are used up, also on failure. Until tg_lists_keep nothing is forgotten, and
 * tg_lists_undo takes it back; there are no other changes in between.
 */
int tg_lists_commit(struct tg_lists *lists, struct tg_draft *draft, char *const *scripts,
	struct tg_list_time time, struct tg_error *error);
int tg_lists_undo(struct tg_lists *lists, struct tg_error *error);
void tg_lists_keep(struct tg_lists *lists);

/* ---- questions ---- */

struct tg_list_entry {
	struct tg_cidr prefix;
	const char *list; /* name; valid until the next change, as are the texts below */
	enum tg_list_verdict verdict;
	enum tg_list_layer layer;
	const char *reason, *who; /* or NULL */
	int64_t expires;	  /* on the clock of `now`; INT64_MAX: never */
	int64_t date;		  /* when it was added, milliseconds since 1970; 0: not known */
};

/* The longest prefix on a list of that verdict (with a name: on that list) that covers the given one wholly. */
bool tg_lists_find(struct tg_lists *lists, const struct tg_list_id *id,
	const struct tg_cidr *prefix, struct tg_list_entry *entry);
/*
 * Up to `room` entries of a list, in order, after the prefix `after` (NULL: from the first on). Returns
 * how many. Without a list of that name: 0.
 */
size_t tg_lists_page(struct tg_lists *lists, const struct tg_list_id *id,
	const struct tg_cidr *after, struct tg_list_entry *entries, size_t room);

struct tg_list_status {
	struct tg_list_id id;
	size_t entries;
	size_t timed;	    /* of them, those that expire */
	size_t of_layer[4]; /* of them, by the layer that decided */
	size_t suppressed;  /* prefixes that a task or an operator removed */
	bool replaced;
	const char *replaced_by; /* "feeds.lua", or "" for an operator */
	int64_t replaced_date;
	size_t memory; /* bytes of this module's */
};
/* All lists, ordered by name: malloc's, or NULL without memory; texts as above. */
struct tg_list_status *tg_lists_status(struct tg_lists *lists, size_t *count);

/* ---- restarts ---- */

/*
 * The file for what a restart must not lose: operators' changes, replaced contents, times to live. It is
 * written at each change of those. tg_lists_restore reads it, before the first commit; without a file there
 * is nothing to restore. -EBADMSG: it is damaged; it is left out then.
 */
int tg_lists_restore(struct tg_lists *lists, const char *path, struct tg_error *error);

#endif
