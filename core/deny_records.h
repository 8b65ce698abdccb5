/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The prefixes of one family, each with one of its classes: the truth that the tables of deny4.c and
 * deny6.c are made from. The records themselves lie in a mapped array (tidegate_abi.h), so that they
 * outlive the daemon; an index of them is this process's own. A record is written with its address
 * first, then `what`, and free when `what` is 0. One of IPv6 that was removed stands there for a while,
 * marked so: a packet under way may have been led to it.
 *
 * Addresses are 128 bits in host order, IPv4 in the first 32, so that prefixes of both families are
 * handled alike. Used under deny.c's lock.
 */
#ifndef TG_DENY_RECORDS_H
#define TG_DENY_RECORDS_H

#include "tidegate_abi.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TG_NO_RECORD UINT32_MAX

struct tg_deny_key {
	uint64_t high, low; /* host bits are 0 */
	uint8_t length;
};

struct tg_deny_store {
	bool v6;
	union {
		struct tg_deny4_records *records4; /* mapped */
		struct tg_deny6_records *records6;
	};
	uint32_t capacity, used;  /* records; those from `used` on were never used */
	uint32_t *index;	  /* {fingerprint:11, record + 1:21} */
	uint32_t *free, free_count;
	uint32_t *resting, resting_count; /* free, but packets may still read them (IPv6) */
	size_t live;
	size_t by_length[129], by_class[TG_DENY_CLASSES + 1];
	uint64_t allow; /* classes that allow: of equal prefixes they win */
};

/* Reads the records that are there, after tg_grace(). 0 or -ENOMEM; release also after a failure. */
int tg_deny_store_open(struct tg_deny_store *store, bool v6, void *records, uint64_t allow);
void tg_deny_store_close(struct tg_deny_store *store);

/* The key with its host bits cleared. */
struct tg_deny_key tg_deny_cut(uint64_t high, uint64_t low, uint8_t length);

/* Fetches what a question about this prefix will look at: some prefixes ahead, when there are many. */
void tg_deny_store_expect(const struct tg_deny_store *store, const struct tg_deny_key *key);
/* The record of a prefix in a class, or TG_NO_RECORD. */
uint32_t tg_deny_store_find(
	const struct tg_deny_store *store, const struct tg_deny_key *key, int class);
/* The record that decides for exactly this prefix, over all of `classes` (bits); or TG_NO_RECORD. */
uint32_t tg_deny_store_best(
	const struct tg_deny_store *store, const struct tg_deny_key *key, uint64_t classes);
/*
 * The record that decides of the longest prefix that covers the key and is `longest` bits at most and
 * `shortest` at least; or TG_NO_RECORD.
 */
uint32_t tg_deny_store_cover(const struct tg_deny_store *store, const struct tg_deny_key *key,
	int longest, int shortest, uint64_t classes);

/* A new record, which isn't there yet; TG_NO_RECORD: all are taken. */
uint32_t tg_deny_store_add(
	struct tg_deny_store *store, const struct tg_deny_key *key, int class, bool counted);
/*
 * A record is removed in two steps: after the first one it is no longer found, so that the tables can be
 * made without it; after the second it is gone. A daemon that dies in between finds it again.
 */
void tg_deny_store_remove(struct tg_deny_store *store, uint32_t record);
void tg_deny_store_clear(struct tg_deny_store *store, uint32_t record);
/* After tg_grace(): records removed before it can be used again. */
void tg_deny_store_rested(struct tg_deny_store *store);
/* How many can be added without that. */
size_t tg_deny_store_room(const struct tg_deny_store *store);

/* What a record says: TG_DENY_WHAT…, 0 if it is free; and its prefix. */
uint16_t tg_deny_store_what(const struct tg_deny_store *store, uint32_t record);
struct tg_deny_key tg_deny_store_key(const struct tg_deny_store *store, uint32_t record);
void tg_deny_store_count(struct tg_deny_store *store, uint32_t record, bool counted);

/* Bytes of the index and the lists. */
size_t tg_deny_store_memory(const struct tg_deny_store *store);

#endif
