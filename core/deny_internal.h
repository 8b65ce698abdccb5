/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the files of the deny lists share: deny.c (life, classes), deny_change.c (adding and removing),
 * deny_read.c (questions and counters). Their manual is deny.h.
 */
#ifndef TG_DENY_INTERNAL_H
#define TG_DENY_INTERNAL_H

#include "deny.h"
#include "deny4.h"
#include "deny6.h"

#include <pthread.h>

struct tg_deny {
	struct tg_datapath *dp;
	pthread_mutex_t writer;	    /* held throughout a change, however long */
	pthread_mutex_t next, lock; /* held for a slice of one: tg_deny_lock */
	void *memory[TG_MAP_COUNT]; /* mapped tables */
	struct tg_deny_state *state; /* mapped; NULL as long as no family is open */
	struct tg_deny_class *classes;
	bool open[2];
	struct tg_deny4 four;
	struct tg_deny6 six;
	size_t counted; /* records with counters of their own */
};

/* The lock is fair: who changes a million prefixes lets the others in between two slices. */
void tg_deny_lock(struct tg_deny *deny);
void tg_deny_unlock(struct tg_deny *deny);

static inline struct tg_deny_store *tg_deny_store_of(struct tg_deny *deny, bool v6)
{
	return v6 ? &deny->six.store : &deny->four.store;
}

struct tg_deny_key tg_deny_key_of(const struct tg_deny_prefix *prefix);
struct tg_deny_prefix tg_deny_prefix_at(const struct tg_deny_store *store, uint32_t record);

static inline bool tg_deny_is_host(bool v6, int length)
{
	return length == (v6 ? 128 : 32);
}
/* Its key in `deny_hosts`. */
struct tg_host tg_deny_host_of(bool v6, const struct tg_deny_key *key);

#endif
