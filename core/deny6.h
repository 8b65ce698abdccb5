/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The IPv6 tables of the deny lists (tidegate_abi.h, bpf/deny.h): which cells, guards and entries follow
 * from the prefixes in a store. As deny4.h: a packet that is looked up amid a change finds what was there
 * before or what is there after. Guards are filled from the longest to the shortest, after the entry that
 * they lead to; what leads to nothing stays until tg_deny6_tidy. Used under deny.c's lock.
 */
#ifndef TG_DENY6_H
#define TG_DENY6_H

#include "deny_records.h"

struct tg_deny6_guards {
	uint16_t *top; /* only its flags */
	uint8_t *by32, *by48;
	uint16_t *by64;
};

struct tg_deny6 {
	struct tg_deny_store store;
	struct tg_deny6_guards guards; /* mapped */
	struct tg_deny_bucket *buckets;
	const struct tg_deny_state *state;
	uint8_t *depth; /* by the first 16 bits, as of tg_deny4 */
	size_t stale;
};

/* The mapped tables, in the order of bpf/maps.h. */
struct tg_deny6_maps {
	void *top, *guard32, *guard48, *guard64, *buckets, *records;
};

/* As tg_deny4_open and so on. */
int tg_deny6_open(struct tg_deny6 *tables, const struct tg_deny6_maps *maps,
	const struct tg_deny_state *state);
void tg_deny6_close(struct tg_deny6 *tables);
int tg_deny6_apply(struct tg_deny6 *tables, const struct tg_deny_key *key);
void tg_deny6_expect(const struct tg_deny6 *tables, const struct tg_deny_key *key);
void tg_deny6_tidy(struct tg_deny6 *tables);
size_t tg_deny6_memory(const struct tg_deny6 *tables);

#endif
