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

/* Writes the byte of a /24, and then its mark: a lookup that sees the mark sees what it leads to. */
static void store_block(struct tg_deny4 *tables, uint32_t block, uint8_t value)
{
	uint64_t mark = TG_DENY4_MARK(block), *word;

	if (tables->blocks[block] != value)
		__atomic_store_n(&tables->blocks[block], value, __ATOMIC_RELEASE);
	if (!tables->marks)
		return;
	word = (uint64_t *)&tables->marks->word[block / 64];
	if (!(*word & mark) != !value)
		__atomic_store_n(word, *word ^ mark, __ATOMIC_RELEASE);
}

/* --- entries of the hash --- */

/* What an entry says of a record. */
static uint32_t said_by(const struct tg_deny_store *store, uint32_t record)
{
	uint16_t what = tg_deny_store_what(store, record);

	return TG_DENY_CLASS(what) | TG_DENY4_LENGTH(TG_DENY_WHAT_LENGTH(what)) |
	       (TG_DENY_WHAT_COUNTED(what) ? TG_DENY_COUNTED : 0);
}

/* The length of the prefix that an entry of this level stands for. */
static int length_in(uint32_t entry, int level)
{
	int low = entry >> 6 & 3;

	return low ? level - 4 + low : level;
}

struct place {
	struct tg_deny_bucket *bucket[2];
	uint32_t entry[2]; /* in each of them, what tells it from others */
};

static struct place place_of(const struct tg_deny4 *tables, uint32_t addr, int level)
{
	uint32_t hash = tg_deny4_hash(tables->state, level == 28 ? addr >> 4 : addr);
	uint32_t entry = tg_deny4_entry(hash, level == 28 ? TG_DENY4_KIND28 : 0);
	uint32_t bucket = tg_deny4_bucket(hash);

	return (struct place){
		{ &tables->buckets[bucket], &tables->buckets[bucket ^ tg_deny4_move(hash)] },
		{ entry, entry | TG_DENY4_SECOND },
	};
}

static uint32_t *find_entry(const struct place *place)
{
	for (int second = 0; second < 2; second++)
		for (int i = 0; i < TG_DENY_BUCKET; i++)
			if ((place->bucket[second]->entry[i] ^ place->entry[second]) <=
				TG_DENY4_FOUND)
				return &place->bucket[second]->entry[i];
	return NULL;
}

static uint32_t *free_entry(struct tg_deny_bucket *bucket)
{
	for (int i = 0; i < TG_DENY_BUCKET; i++)
		if (!(bucket->entry[i] & TG_DENY_VALID))
			return &bucket->entry[i];
	return NULL;
}

/*
 * An entry of a full bucket that stands in its second place, too, from now on: it may be overwritten.
 * Never the other way round: lookups ask the first place first, and could miss what moved behind them.
 */
static uint32_t *spare_entry(const struct tg_deny4 *tables, struct tg_deny_bucket *bucket)
{
	uint32_t index = bucket - tables->buckets;

	for (int i = 0; i < TG_DENY_BUCKET; i++) {
		uint32_t entry = bucket->entry[i], *to;

		if (entry & TG_DENY4_SECOND)
			continue;
		to = free_entry(&tables->buckets[index ^ tg_deny4_move(entry / TG_DENY4_TAG(1))]);
		if (!to)
			continue;
		__atomic_store_n(to, entry | TG_DENY4_SECOND, __ATOMIC_RELEASE);
		return &bucket->entry[i];
	}
	return NULL;
}

/* Room for an entry: in the second bucket only when the first is full, which is what lookups go by. */
static uint32_t *new_entry(const struct tg_deny4 *tables, const struct place *place, int *second)
{
	uint32_t *entry = NULL;

	for (int i = 0; !entry && i < 4; i++) {
		*second = i & 1;
		entry = i < 2 ? free_entry(place->bucket[i & 1])
			      : spare_entry(tables, place->bucket[i & 1]);
	}
	return entry;
}

/* Sets the entry of one /28 or /32, unless a longer prefix has it. -ENOSPC: both its buckets are full. */
static int set_entry(struct tg_deny4 *tables, uint32_t addr, int level, int length, uint32_t said)
{
	struct place place = place_of(tables, addr, level);
	uint32_t *entry = find_entry(&place);
	int second;

	if (entry) {
		if (length_in(*entry, level) <= length)
			__atomic_store_n(
				entry, (*entry & ~TG_DENY4_FOUND) | said, __ATOMIC_RELEASE);
		return 0;
	}
	entry = new_entry(tables, &place, &second);
	if (!entry)
		return -ENOSPC;
	__atomic_store_n(entry, place.entry[second] | said, __ATOMIC_RELEASE);
	return 0;
}

/* The prefix left the entry of one /28 or /32: what covers it instead, at this level, or nothing. */
static void leave_entry(struct tg_deny4 *tables, uint32_t addr, int level, int length)
{
	struct place place = place_of(tables, addr, level);
	struct tg_deny_key key = tg_deny_cut((uint64_t)addr << 32, 0, level);
	uint32_t *entry = find_entry(&place), cover;

	if (!entry || length_in(*entry, level) != length)
		return;
	cover = tg_deny_store_cover(&tables->store, &key, length - 1, level - 3, ~0ull);
	if (cover == TG_NO_RECORD) {
		__atomic_store_n(entry, TG_DENY_GONE, __ATOMIC_RELEASE);
		tables->stale++;
	} else {
		__atomic_store_n(entry, (*entry & ~TG_DENY4_FOUND) | said_by(&tables->store, cover),
			__ATOMIC_RELEASE);
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
	uint32_t said = said_by(&tables->store, record), addr = addr_of(key);

	for (uint32_t i = 0; i < 1u << (level - key->length); i++)
		if (set_entry(tables, addr + (i << (32 - level)), level, key->length, said))
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
	__builtin_prefetch(&tables->blocks[addr_of(key) >> 8]);
	__builtin_prefetch(&tables->depth[addr_of(key) >> 8]);
	if (key->length <= 24)
		return;
	place = place_of(tables, addr_of(key), level_of(key->length));
	__builtin_prefetch(place.bucket[0]);
	__builtin_prefetch(place.bucket[1]);
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

int tg_deny4_open(struct tg_deny4 *tables, const struct tg_deny4_maps *maps,
	const struct tg_deny_state *state)
{
	int result = tg_deny_store_open(&tables->store, false, maps->records, state->allow);

	tables->marks = maps->marks;
	tables->blocks = maps->blocks;
	tables->buckets = maps->buckets;
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
