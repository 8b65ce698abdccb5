/* SPDX-License-Identifier: GPL-2.0-only */
#include "deny4.h"

#include "deny_hash.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define BLOCKS	    (1u << 24)
#define CLOSER	    (TG_DENY4_CLOSER28 | TG_DENY4_CLOSER32)
#define STALE_LEAST 4096
#define RIVAL_LEAST 1000

static uint32_t addr_of(const struct tg_deny_key *key)
{
	return key->high >> 32;
}

/* Up to which length the prefix is cut up: 24, 28 or 32. */
static int level_of(int length)
{
	return length <= 24 ? 24 : length <= 28 ? 28 : 32;
}

static uint8_t closer_of(int length)
{
	return length <= 28 ? TG_DENY4_CLOSER28 : TG_DENY4_CLOSER32;
}

static void store_bit(struct tg_deny4_marks *bits, uint32_t block, bool value)
{
	uint64_t mark = TG_DENY4_MARK(block), *word = (uint64_t *)&bits->word[block / 64];

	if (!(*word & mark) == value)
		__atomic_store_n(word, *word ^ mark, __ATOMIC_RELEASE);
}

/* Writes the byte of a /24, and then its marks: a lookup that sees a mark sees what it leads to. */
static void store_block(struct tg_deny4 *tables, uint32_t block, uint8_t value)
{
	if (tables->blocks[block] != value)
		__atomic_store_n(&tables->blocks[block], value, __ATOMIC_RELEASE);
	if (!tables->marks)
		return;
	store_bit(tables->marks, block, value);
	store_bit(tables->plain, block, value && value == tables->state->favourite);
}

/* --- entries of the hash, by number: those of bucket n are 4 n … 4 n + 3 --- */

#define NO_ENTRY UINT32_MAX
#define MOVES	 2 /* entries that are moved, at most, to make room for one */

/* What is to stand in an entry: its kind, and what is said of it. */
struct tells {
	uint8_t kind, said;
};

static struct tells told_by(const struct tg_deny4 *tables, uint32_t record, int level)
{
	uint16_t what = tg_deny_store_what(&tables->store, record);
	int class = TG_DENY_CLASS(what);
	struct tells tells = { .said = class | TG_DENY4_LENGTH(TG_DENY_WHAT_LENGTH(what)) };

	if (level == 28)
		tells.kind = TG_DENY4_28;
	else if (TG_DENY_WHAT_COUNTED(what))
		tells.kind = TG_DENY4_COUNTED;
	else
		tells.kind =
			class == (int)tables->state->favourite ? TG_DENY4_FAVOURITE : TG_DENY4_HOST;
	return tells;
}

/* The length of the prefix that an entry of this level stands for. */
static int length_in(uint8_t said, int level)
{
	int low = said >> 6;

	return low ? level - 4 + low : level;
}

static uint32_t entry_at(const struct tg_deny4 *tables, uint32_t at)
{
	return TG_DENY4_ENTRY(tables->buckets[at / TG_DENY4_BUCKET], at % TG_DENY4_BUCKET);
}

static void store_entry(struct tg_deny4 *tables, uint32_t at, uint32_t entry)
{
	uint64_t *bucket = &tables->buckets[at / TG_DENY4_BUCKET];
	uint64_t changed = (uint64_t)(entry_at(tables, at) ^ entry) << 16 * (at % TG_DENY4_BUCKET);

	__atomic_store_n(bucket, *bucket ^ changed, __ATOMIC_RELEASE);
}

/* Another key's entry: a lookup that read what is said of it asks again whose it is. */
static void replace_entry(struct tg_deny4 *tables, uint32_t at, uint32_t entry, uint8_t said)
{
	if (entry_at(tables, at))
		store_entry(tables, at, TG_DENY4_GONE);
	__atomic_store_n(&tables->said[at], said, __ATOMIC_RELEASE);
	store_entry(tables, at, entry);
}

/* The same key's entry: what is said is there before a kind that asks for it, and until it doesn't. */
static void change_entry(struct tg_deny4 *tables, uint32_t at, struct tells tells)
{
	uint32_t entry = (entry_at(tables, at) & ~3u) | tells.kind;

	if (tells.kind == TG_DENY4_FAVOURITE)
		store_entry(tables, at, entry);
	__atomic_store_n(&tables->said[at], tells.said, __ATOMIC_RELEASE);
	store_entry(tables, at, entry);
}

struct place {
	uint32_t bucket[2];
	uint32_t entry[2]; /* in each of them, without the kind */
};

static struct place place_of(const struct tg_deny4 *tables, uint32_t addr, int level)
{
	uint32_t hash = tg_deny4_hash(tables->state, level == 28 ? addr >> 4 : addr, level);
	uint32_t entry = tg_deny4_entry(hash, level), bucket = tg_deny4_bucket(hash, level);

	return (struct place){
		{ bucket, bucket ^ tg_deny4_move(entry) },
		{ entry, entry | TG_DENY4_SECOND },
	};
}

static uint32_t find_entry(const struct tg_deny4 *tables, const struct place *place, int level)
{
	uint32_t kinds = level == 28 ? 1 : 3, least = level == 28 ? 0 : TG_DENY4_FAVOURITE;

	for (int second = 0; second < 2; second++)
		for (int i = 0; i < TG_DENY4_BUCKET; i++) {
			uint32_t at = place->bucket[second] * TG_DENY4_BUCKET + i;

			if ((entry_at(tables, at) ^ place->entry[second]) - least < kinds)
				return at;
		}
	return NO_ENTRY;
}

static uint32_t free_entry(const struct tg_deny4 *tables, uint32_t bucket)
{
	for (int i = 0; i < TG_DENY4_BUCKET; i++) {
		uint32_t at = bucket * TG_DENY4_BUCKET + i, entry = entry_at(tables, at);

		if (!entry || entry == TG_DENY4_GONE)
			return at;
	}
	return NO_ENTRY;
}

/*
 * An entry of a full bucket that stands in its second place, too, from now on: it may be overwritten.
 * Never the other way round: lookups ask the first place first, and could miss what moved behind them.
 */
static uint32_t spare_entry(struct tg_deny4 *tables, uint32_t bucket, int moves)
{
	for (int i = 0; moves && i < TG_DENY4_BUCKET; i++) {
		uint32_t at = bucket * TG_DENY4_BUCKET + i, entry = entry_at(tables, at), other, to;

		if (entry & TG_DENY4_SECOND)
			continue;
		other = bucket ^ tg_deny4_move(entry);
		to = free_entry(tables, other);
		if (to == NO_ENTRY)
			to = spare_entry(tables, other, moves - 1);
		if (to == NO_ENTRY)
			continue;
		replace_entry(tables, to, entry | TG_DENY4_SECOND, tables->said[at]);
		return at;
	}
	return NO_ENTRY;
}

/* Room for an entry: in the second bucket only when the first is full, which is what lookups go by. */
static uint32_t new_entry(struct tg_deny4 *tables, const struct place *place, int *second)
{
	uint32_t at = NO_ENTRY;

	for (int i = 0; at == NO_ENTRY && i < 2 * (MOVES + 1); i++) {
		*second = i & 1;
		at = i < 2 ? free_entry(tables, place->bucket[i & 1])
			   : spare_entry(tables, place->bucket[i & 1], i / 2);
	}
	return at;
}

/* Sets the entry of one /28 or /32, unless a longer prefix has it. -ENOSPC: no room can be made for it. */
static int set_entry(
	struct tg_deny4 *tables, uint32_t addr, int level, int length, struct tells tells)
{
	struct place place = place_of(tables, addr, level);
	uint32_t at = find_entry(tables, &place, level);
	int second;

	if (at != NO_ENTRY) {
		if (length_in(tables->said[at], level) <= length)
			change_entry(tables, at, tells);
		return 0;
	}
	at = new_entry(tables, &place, &second);
	if (at == NO_ENTRY)
		return -ENOSPC;
	replace_entry(tables, at, place.entry[second] | tells.kind, tells.said);
	return 0;
}

/* The prefix left the entry of one /28 or /32: what covers it instead, at this level, or nothing. */
static void leave_entry(struct tg_deny4 *tables, uint32_t addr, int level, int length)
{
	struct place place = place_of(tables, addr, level);
	struct tg_deny_key key = tg_deny_cut((uint64_t)addr << 32, 0, level);
	uint32_t at = find_entry(tables, &place, level), cover;

	if (at == NO_ENTRY || length_in(tables->said[at], level) != length)
		return;
	cover = tg_deny_store_cover(&tables->store, &key, length - 1, level - 3, ~0ull);
	if (cover == TG_NO_RECORD) {
		store_entry(tables, at, TG_DENY4_GONE);
		tables->stale++;
	} else {
		change_entry(tables, at, told_by(tables, cover, level));
	}
}

static void leave_entries(struct tg_deny4 *tables, const struct tg_deny_key *key, uint32_t count)
{
	int level = level_of(key->length);

	for (uint32_t i = 0; i < count; i++)
		leave_entry(tables, addr_of(key) + (i << (32 - level)), level, key->length);
}

static int set_entries(struct tg_deny4 *tables, const struct tg_deny_key *key, uint32_t record)
{
	int level = level_of(key->length);
	struct tells tells = told_by(tables, record, level);
	uint32_t addr = addr_of(key);

	for (uint32_t i = 0; i < 1u << (level - key->length); i++)
		if (set_entry(tables, addr + (i << (32 - level)), level, key->length, tells))
			return -ENOSPC; /* the caller takes the record away and applies again */
	store_block(tables, addr >> 8, tables->blocks[addr >> 8] | closer_of(key->length));
	return 0;
}

/* --- bytes of the blocks --- */

/* Paints the /24s of a prefix, those excepted that longer ones have. */
static void paint(
	struct tg_deny4 *tables, const struct tg_deny_key *key, uint8_t class, uint8_t depth)
{
	uint32_t first = addr_of(key) >> 8, count = 1u << (24 - key->length);

	for (uint32_t i = first; i < first + count; i++) {
		if (tables->depth[i] > key->length + 1)
			continue;
		tables->depth[i] = depth;
		store_block(tables, i, (tables->blocks[i] & CLOSER) | class);
	}
}

static void apply_blocks(struct tg_deny4 *tables, const struct tg_deny_key *key, uint32_t record)
{
	const struct tg_deny_store *store = &tables->store;

	if (record == TG_NO_RECORD)
		record = tg_deny_store_cover(store, key, key->length - 1, 0, ~0ull);
	if (record == TG_NO_RECORD)
		paint(tables, key, 0, 0);
	else
		paint(tables, key, TG_DENY_CLASS(tg_deny_store_what(store, record)),
			tg_deny_store_key(store, record).length + 1);
}

int tg_deny4_apply(struct tg_deny4 *tables, const struct tg_deny_key *key)
{
	uint32_t record = tg_deny_store_best(&tables->store, key, ~0ull);

	if (key->length <= 24)
		apply_blocks(tables, key, record);
	else if (record == TG_NO_RECORD)
		leave_entries(tables, key, 1u << (level_of(key->length) - key->length));
	else
		return set_entries(tables, key, record);
	return 0;
}

void tg_deny4_expect(const struct tg_deny4 *tables, const struct tg_deny_key *key)
{
	struct place place;

	tg_deny_store_expect(&tables->store, key);
	__builtin_prefetch(&tables->marks->word[addr_of(key) >> 14]);
	__builtin_prefetch(&tables->plain->word[addr_of(key) >> 14]);
	__builtin_prefetch(&tables->blocks[addr_of(key) >> 8]);
	__builtin_prefetch(&tables->depth[addr_of(key) >> 8]);
	if (key->length <= 24)
		return;
	place = place_of(tables, addr_of(key), level_of(key->length));
	__builtin_prefetch(&tables->buckets[place.bucket[0]]);
	__builtin_prefetch(&tables->said[place.bucket[0] * TG_DENY4_BUCKET]);
}

/* --- flags made from the prefixes --- */

/* A bit for each flag of each /24: first all that hold for CLOSER28, then those for CLOSER32. */
static uint8_t *needed_flags(const struct tg_deny4 *tables)
{
	const struct tg_deny_store *store = &tables->store;
	uint8_t *needed = calloc(2, BLOCKS / 8);

	for (uint32_t record = 0; needed && record < store->used; record++) {
		struct tg_deny_key key = tg_deny_store_key(store, record);
		uint32_t block = addr_of(&key) >> 8;

		if (key.length > 24)
			needed[(key.length > 28) * (BLOCKS / 8) + block / 8] |= 1 << block % 8;
	}
	return needed;
}

static void write_flags(struct tg_deny4 *tables)
{
	uint8_t *needed = needed_flags(tables);

	for (uint32_t i = 0; needed && i < BLOCKS; i++) {
		uint8_t flags = (needed[i / 8] >> i % 8 & 1 ? TG_DENY4_CLOSER28 : 0) |
				(needed[BLOCKS / 8 + i / 8] >> i % 8 & 1 ? TG_DENY4_CLOSER32 : 0);

		store_block(tables, i, (tables->blocks[i] & ~CLOSER) | flags);
	}
	if (needed)
		tables->stale = 0;
	free(needed);
}

void tg_deny4_tidy(struct tg_deny4 *tables)
{
	if (tables->stale > STALE_LEAST && tables->stale > tables->store.live / 8)
		write_flags(tables);
}

/* --- the favourite --- */

void tg_deny4_prefer(struct tg_deny4 *tables, int class)
{
	if (!tables->state->favourite)
		__atomic_store_n(&tables->state->favourite, class, __ATOMIC_RELEASE);
}

/* It costs a walk over all tables: not for a little more, nor for a few. */
int tg_deny4_rival(const struct tg_deny4 *tables)
{
	const size_t *by_class = tables->store.by_class;
	int favourite = tables->state->favourite, best = favourite;

	for (int class = 1; class <= TG_DENY_CLASSES; class ++)
		if (by_class[class] > by_class[best])
			best = class;
	return by_class[best] > 2 * by_class[favourite] + RIVAL_LEAST ? best : 0;
}

/* Hosts of one kind become of another, those of a class alone (0: of all). */
static void change_kinds(struct tg_deny4 *tables, uint32_t from, uint32_t to, int class)
{
	for (uint32_t at = 0; at < TG_DENY4_BUCKET << TG_DENY4_BUCKET_BITS; at++) {
		uint32_t entry = entry_at(tables, at);

		if ((entry & 3) == from && (!class || TG_DENY_CLASS(tables->said[at]) == class))
			store_entry(tables, at, entry ^ from ^ to);
	}
}

void tg_deny4_unseat(struct tg_deny4 *tables)
{
	for (uint32_t i = 0; i < BLOCKS / 64; i++)
		if (tables->plain->word[i])
			__atomic_store_n(&tables->plain->word[i], 0, __ATOMIC_RELEASE);
	change_kinds(tables, TG_DENY4_FAVOURITE, TG_DENY4_HOST, 0);
}

void tg_deny4_seat(struct tg_deny4 *tables, int class)
{
	__atomic_store_n(&tables->state->favourite, class, __ATOMIC_RELEASE);
	change_kinds(tables, TG_DENY4_HOST, TG_DENY4_FAVOURITE, class);
	for (uint32_t i = 0; i < BLOCKS; i++)
		if (tables->blocks[i] == class)
			store_bit(tables->plain, i, true);
}

/* --- adoption --- */

/*
 * Paints what the prefixes up to /24 say into memory aside, the short ones first, then mends the bytes
 * that differ: a byte that is right is never written, not even with the same.
 */
static int mend_blocks(struct tg_deny4 *tables)
{
	struct tg_deny4_marks *marks = tables->marks;
	uint8_t *live = tables->blocks, *aside = calloc(BLOCKS, 1);

	if (!aside)
		return -ENOMEM;
	tables->blocks = aside;
	tables->marks = NULL;
	for (int length = 0; length <= 24; length++) {
		for (uint32_t i = 0; tables->store.by_length[length] && i < tables->store.used;
			i++) {
			struct tg_deny_key key = tg_deny_store_key(&tables->store, i);

			if (tg_deny_store_what(&tables->store, i) && key.length == length)
				tg_deny4_apply(tables, &key);
		}
	}
	tables->blocks = live;
	tables->marks = marks;
	for (uint32_t i = 0; i < BLOCKS; i++)
		store_block(tables, i, (live[i] & CLOSER) | aside[i]);
	free(aside);
	return 0;
}

/* Entries that are missing: of a daemon that died between a record and its entries. */
static void mend_entries(struct tg_deny4 *tables)
{
	for (uint32_t i = 0; i < tables->store.used; i++) {
		struct tg_deny_key key = tg_deny_store_key(&tables->store, i);

		if (tg_deny_store_what(&tables->store, i) && key.length > 24)
			tg_deny4_apply(tables, &key);
	}
	write_flags(tables);
}

int tg_deny4_open(
	struct tg_deny4 *tables, const struct tg_deny4_maps *maps, struct tg_deny_state *state)
{
	int result = tg_deny_store_open(&tables->store, false, maps->records, state->allow);

	tables->marks = maps->marks;
	tables->plain = maps->plain;
	tables->blocks = maps->blocks;
	tables->buckets = maps->buckets;
	tables->said = maps->said;
	tables->state = state;
	tables->stale = 0;
	/* Pages that no prefix needs are never touched. */
	tables->depth =
		mmap(NULL, BLOCKS, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (tables->depth == MAP_FAILED) {
		tables->depth = NULL;
		return -ENOMEM;
	}
	if (result || !tables->store.live)
		return result;
	result = mend_blocks(tables);
	if (!result)
		mend_entries(tables);
	return result;
}

void tg_deny4_close(struct tg_deny4 *tables)
{
	tg_deny_store_close(&tables->store);
	if (tables->depth)
		munmap(tables->depth, BLOCKS);
	memset(tables, 0, sizeof(*tables));
}

size_t tg_deny4_memory(const struct tg_deny4 *tables)
{
	return tables->depth ? BLOCKS + tg_deny_store_memory(&tables->store) : 0;
}
