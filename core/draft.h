/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A draft: the lists (core/lists.h) that a generation's files declare, gathered while they are loaded.
 * Operations count in their order: what is removed after it was added is not declared. Not locked: one
 * caller at a time.
 */
#ifndef TG_DRAFT_H
#define TG_DRAFT_H

#include "lists.h"

struct tg_draft *tg_draft_new(void);
void tg_draft_free(struct tg_draft *draft);

/*
 * The number of a list of the draft, made if there is none. -EEXIST: the name is that of a list of the other
 * verdict; -ENOSPC: there are TG_LISTS_MAX; -ENOMEM.
 */
int tg_draft_list(struct tg_draft *draft, const struct tg_list_id *id, struct tg_error *error);
/* Names a list by its number; false: there is none. */
bool tg_draft_id(const struct tg_draft *draft, int list, struct tg_list_id *id);
/* Declares prefixes. 0, -ENOMEM, or -EINVAL: counters are for whole addresses. Slow with many. */
int tg_draft_add(struct tg_draft *draft, int list, const struct tg_cidr *prefixes, size_t count,
	const struct tg_list_terms *terms, const char *who, struct tg_error *error);
/* Takes a prefix back, if it is declared so far. */
int tg_draft_remove(struct tg_draft *draft, int list, const struct tg_cidr *prefix);
/* Takes back all that is declared of the list so far. */
void tg_draft_clear(struct tg_draft *draft, int list);

/* Sorts a list after changes: before the questions. Slow with many. 0 or -ENOMEM. */
int tg_draft_settle(struct tg_draft *draft, int list);
/* How many prefixes are declared. */
size_t tg_draft_count(const struct tg_draft *draft, int list);
/* TG_LISTS_NEED_*: what tables have to know for it. */
unsigned int tg_draft_needs(const struct tg_draft *draft);
/* As tg_lists_find and tg_lists_page, of a draft that is settled. */
bool tg_draft_find(const struct tg_draft *draft, const struct tg_list_id *id,
	const struct tg_cidr *prefix, struct tg_list_entry *entry);
size_t tg_draft_page(const struct tg_draft *draft, const struct tg_list_id *id,
	const struct tg_cidr *after, struct tg_list_entry *entries, size_t room);

#endif
