/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The IPv4 tables of the deny lists (tidegate_abi.h, bpf/deny.h): which bytes and entries follow from the
 * prefixes in a store. Each change is written so that a packet that is looked up meanwhile finds what
 * was there before or what is there after: an entry before the flag that leads to it, a new class over an
 * old one in one store, a flag that leads to nothing stays until tg_deny4_tidy. Used under deny.c's lock.
 */
#ifndef TG_DENY4_H
#define TG_DENY4_H

#include "deny_records.h"

struct tg_deny4 {
	struct tg_deny_store store;
	struct tg_deny4_marks *marks; /* mapped: a bit a /24; NULL amid mending */
	uint8_t *blocks;	      /* mapped: a byte a /24 */
	struct tg_deny_bucket *buckets;
	const struct tg_deny_state *state;
	uint8_t *depth; /* by /24: 1 + the length of the prefix whose class its byte has; 0: none */
	size_t stale;	/* entries removed since the flags were last made from the prefixes */
};

/* The mapped tables, in the order of bpf/maps.h. */
struct tg_deny4_maps {
	void *marks, *blocks, *buckets, *records;
};

/* Takes the mapped tables, reads the records back and mends the tables where they differ. 0 or -ENOMEM. */
int tg_deny4_open(struct tg_deny4 *tables, const struct tg_deny4_maps *maps,
	const struct tg_deny_state *state);
void tg_deny4_close(struct tg_deny4 *tables);

/* Writes what decides for exactly this prefix now that a record of it came or went. -ENOSPC: no room. */
int tg_deny4_apply(struct tg_deny4 *tables, const struct tg_deny_key *key);
/* As tg_deny_store_expect, of tg_deny4_apply. */
void tg_deny4_expect(const struct tg_deny4 *tables, const struct tg_deny_key *key);
/* Clears flags that lead to nothing, if they are many. After a change, now and then. */
void tg_deny4_tidy(struct tg_deny4 *tables);

size_t tg_deny4_memory(const struct tg_deny4 *tables);

#endif
