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
	struct tg_deny4_marks *plain; /* likewise */
	uint8_t *blocks;	      /* mapped: a byte a /24 */
	uint64_t *buckets;
	uint8_t *said; /* by entry */
	struct tg_deny_state *state;
	uint8_t *depth; /* by /24: 1 + the length of the prefix whose class its byte has; 0: none */
	size_t stale;	/* entries removed since the flags were last made from the prefixes */
};

/* The mapped tables, in the order of bpf/maps.h. */
struct tg_deny4_maps {
	void *marks, *plain, *blocks, *buckets, *said, *records;
};

/* Takes the mapped tables, reads the records back and mends the tables where they differ. 0 or -ENOMEM. */
int tg_deny4_open(
	struct tg_deny4 *tables, const struct tg_deny4_maps *maps, struct tg_deny_state *state);
void tg_deny4_close(struct tg_deny4 *tables);

/* Writes what decides for exactly this prefix now that a record of it came or went. -ENOSPC: no room. */
int tg_deny4_apply(struct tg_deny4 *tables, const struct tg_deny_key *key);
/* As tg_deny_store_expect, of tg_deny4_apply. */
void tg_deny4_expect(const struct tg_deny4 *tables, const struct tg_deny_key *key);

/*
 * The favourite is the class whose addresses are told at once (tidegate_abi.h). tg_deny4_prefer makes it one
 * if there is none yet. tg_deny4_rival names the class that should be it by now, as it has far more
 * prefixes; 0: none. It takes its place in steps, each of which leaves all answers as they are:
 * tg_deny4_unseat, tg_grace(), tg_deny4_seat.
 */
void tg_deny4_prefer(struct tg_deny4 *tables, int class);
int tg_deny4_rival(const struct tg_deny4 *tables);
void tg_deny4_unseat(struct tg_deny4 *tables);
void tg_deny4_seat(struct tg_deny4 *tables, int class);

/* Clears flags that lead to nothing, if they are many. After a change, now and then. */
void tg_deny4_tidy(struct tg_deny4 *tables);

size_t tg_deny4_memory(const struct tg_deny4 *tables);

#endif
