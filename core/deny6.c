/* SPDX-License-Identifier: GPL-2.0-only */
#include "deny6.h"

#include "deny_hash.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define TOP_LENGTH  16 /* prefixes up to this are painted, longer ones are in the hash */
#define TOP_CELLS   (1u << TOP_LENGTH)
#define TOP_CLASS   63
#define STALE_LEAST 4096

#define CELLS32 (1u << TG_DENY6_GUARD32_BITS)
#define CELLS48 (1u << TG_DENY6_GUARD48_BITS)
#define CELLS64 (1u << TG_DENY6_GUARD64_BITS)

static int level_of(int length)
{
	return (length + 3) / 4 * 4;
}

static uint64_t hash_of(const struct tg_deny6 *tables, const struct tg_deny_key *key, int level)
{
	struct tg_deny_key cut = tg_deny_cut(key->high, key->low, level);

	return tg_deny6_hash(tables->state, cut.high, cut.low, level);
}

#define store_if_other(at, value)                                                                  \
	do {                                                                                       \
		if (*(at) != (value))                                                              \
			__atomic_store_n(at, value, __ATOMIC_RELEASE);                             \
	} while (0)

/* --- entries of the hash --- */

/* A key of one level: what a prefix is cut up into. Its length is the level. */
static struct tg_deny_key part_of(const struct tg_deny_key *key, uint32_t nth)
{
	int level = level_of(key->length);
	struct tg_deny_key part = { key->high, key->low, level };

	if (level <= 64)
		part.high += (uint64_t)nth << (64 - level);
	else
		part.low += (uint64_t)nth << (128 - level);
	return part;
}

static uint32_t parts_of(const struct tg_deny_key *key)
{
	return 1u << (level_of(key->length) - key->length);
}

/* The last three bits of a part. */
static uint32_t bits_of(const struct tg_deny_key *part)
{
	int level = part->length;

	return (level <= 64 ? part->high >> (64 - level) : part->low >> (128 - level)) & 7;
}

/* Is this prefix one that gives the part? (bpf/deny.h: deny6_verify) */
static bool gives(const struct tg_deny_key *prefix, const struct tg_deny_key *part)
{
	struct tg_deny_key cut = tg_deny_cut(part->high, part->low, prefix->length);

	return level_of(prefix->length) == part->length && cut.high == prefix->high &&
	       cut.low == prefix->low;
}

struct place {
	struct tg_deny_bucket *bucket[2];
	uint32_t entry; /* what tells it from most others */
};

static struct place place_of(const struct tg_deny6 *tables, const struct tg_deny_key *part)
{
	uint64_t hash = hash_of(tables, part, part->length);
	uint32_t bucket = tg_deny6_bucket(hash);

	return (struct place){
		{ &tables->buckets[bucket], &tables->buckets[bucket ^ tg_deny6_move(hash)] },
		TG_DENY6_ENTRY(tg_deny6_tag(hash), bits_of(part)),
	};
}

static uint32_t *find_entry(
	const struct tg_deny6 *tables, const struct place *place, const struct tg_deny_key *part)
{
	for (int second = 0; second < 2; second++) {
		for (int i = 0; i < TG_DENY_BUCKET; i++) {
			uint32_t *entry = &place->bucket[second]->entry[i];

			if ((*entry ^ place->entry) > TG_DENY6_RECORD)
				continue;
			struct tg_deny_key key =
				tg_deny_store_key(&tables->store, *entry & TG_DENY6_RECORD);

			if (gives(&key, part))
				return entry;
		}
	}
	return NULL;
}

static uint32_t *free_entry(struct tg_deny_bucket *bucket)
{
	for (int i = 0; i < TG_DENY_BUCKET; i++)
		if (!(bucket->entry[i] & TG_DENY_VALID))
			return &bucket->entry[i];
	return NULL;
}

/* The part that an entry stands for. */
static struct tg_deny_key part_in(const struct tg_deny6 *tables, uint32_t entry)
{
	struct tg_deny_key part = tg_deny_store_key(&tables->store, entry & TG_DENY6_RECORD);
	int level = level_of(part.length);
	uint64_t bits = entry >> 20 & 7;

	if (level <= 64)
		part.high = (part.high & ~(7ull << (64 - level))) | bits << (64 - level);
	else
		part.low = (part.low & ~(7ull << (128 - level))) | bits << (128 - level);
	part.length = level;
	return part;
}

/* As deny4.c's: from the first place to the second one, never back. */
static uint32_t *spare_entry(const struct tg_deny6 *tables, struct tg_deny_bucket *bucket)
{
	for (int i = 0; i < TG_DENY_BUCKET; i++) {
		struct tg_deny_key part = part_in(tables, bucket->entry[i]);
		struct place place = place_of(tables, &part);
		uint32_t *to = place.bucket[0] == bucket ? free_entry(place.bucket[1]) : NULL;

		if (!to)
			continue;
		__atomic_store_n(to, bucket->entry[i], __ATOMIC_RELEASE);
		return &bucket->entry[i];
	}
	return NULL;
}

/* Room for an entry: in the second bucket only when the first is full, which is what lookups go by. */
static uint32_t *new_entry(const struct tg_deny6 *tables, const struct place *place)
{
	uint32_t *entry = NULL;

	for (int i = 0; !entry && i < 4; i++)
		entry = i < 2 ? free_entry(place->bucket[i & 1])
			      : spare_entry(tables, place->bucket[i & 1]);
	return entry;
}

/* Leads a part to the record, unless to a longer prefix's. -ENOSPC: both its buckets are full. */
static int set_entry(
	struct tg_deny6 *tables, const struct tg_deny_key *part, uint32_t record, int length)
{
	struct place place = place_of(tables, part);
	uint32_t *entry = find_entry(tables, &place, part), led;

	if (entry) {
		led = *entry & TG_DENY6_RECORD;
		if (tg_deny_store_key(&tables->store, led).length > length)
			return 0;
	} else {
		entry = new_entry(tables, &place);
		if (!entry)
			return -ENOSPC;
	}
	store_if_other(entry, place.entry | record);
	return 0;
}

/* The prefix left a part: what covers it instead, at this level, or nothing. */
static void leave_entry(struct tg_deny6 *tables, const struct tg_deny_key *part, int length)
{
	struct place place = place_of(tables, part);
	uint32_t *entry = find_entry(tables, &place, part), cover;

	if (!entry || tg_deny_store_key(&tables->store, *entry & TG_DENY6_RECORD).length != length)
		return;
	cover = tg_deny_store_cover(&tables->store, part, length - 1, part->length - 3, ~0ull);
	if (cover == TG_NO_RECORD)
		tables->stale++;
	__atomic_store_n(entry, cover == TG_NO_RECORD ? TG_DENY_GONE : place.entry | cover,
		__ATOMIC_RELEASE);
}

/* --- guards --- */

/* Lets the guards lead to a prefix longer than TOP_LENGTH: the longest first, as lookups come the other way. */
static void guard(const struct tg_deny6 *tables, const struct tg_deny6_guards *guards,
	const struct tg_deny_key *key)
{
	int level = level_of(key->length);
	uint16_t *top = &guards->top[key->high >> 48];

	if (level > 64) {
		uint16_t *at = &guards->by64[tg_deny6_guard(
			hash_of(tables, key, 64), TG_DENY6_GUARD64_BITS)];

		store_if_other(at, *at | 1 << (level - 68) / 4);
	}
	if (level > 48) {
		uint8_t *at = &guards->by48[tg_deny6_guard(
			hash_of(tables, key, 48), TG_DENY6_GUARD48_BITS)];

		store_if_other(at, *at | 1 << (level > 64 ? 4 : (level - 52) / 4));
	}
	if (level > 32) {
		uint8_t *at = &guards->by32[tg_deny6_guard(
			hash_of(tables, key, 32), TG_DENY6_GUARD32_BITS)];

		store_if_other(at, *at | 1 << (level > 48 ? 4 : (level - 36) / 4));
	}
	store_if_other(top, *top | TG_DENY6_MORE(level > 32 ? 36 : level));
}

void tg_deny6_expect(const struct tg_deny6 *tables, const struct tg_deny_key *key)
{
	struct tg_deny_key part = { key->high, key->low, level_of(key->length) };
	struct place place;

	tg_deny_store_expect(&tables->store, key);
	if (key->length <= TOP_LENGTH)
		return;
	place = place_of(tables, &part);
	__builtin_prefetch(place.bucket[0]);
	__builtin_prefetch(place.bucket[1]);
	if (part.length > 64)
		__builtin_prefetch(&tables->guards.by64[tg_deny6_guard(
			hash_of(tables, key, 64), TG_DENY6_GUARD64_BITS)]);
	if (part.length > 48)
		__builtin_prefetch(&tables->guards.by48[tg_deny6_guard(
			hash_of(tables, key, 48), TG_DENY6_GUARD48_BITS)]);
}

static bool make_guards(struct tg_deny6_guards *guards)
{
	guards->top = calloc(TOP_CELLS, sizeof(*guards->top));
	guards->by32 = calloc(CELLS32, 1);
	guards->by48 = calloc(CELLS48, 1);
	guards->by64 = calloc(CELLS64, sizeof(*guards->by64));
	return guards->top && guards->by32 && guards->by48 && guards->by64;
}

static void free_guards(struct tg_deny6_guards *guards)
{
	free(guards->top);
	free(guards->by32);
	free(guards->by48);
	free(guards->by64);
}

static void write_guards(struct tg_deny6_guards *to, const struct tg_deny6_guards *from)
{
	for (uint32_t i = 0; i < CELLS64; i++)
		store_if_other(&to->by64[i], from->by64[i]);
	for (uint32_t i = 0; i < CELLS48; i++)
		store_if_other(&to->by48[i], from->by48[i]);
	for (uint32_t i = 0; i < CELLS32; i++)
		store_if_other(&to->by32[i], from->by32[i]);
	for (uint32_t i = 0; i < TOP_CELLS; i++)
		store_if_other(&to->top[i], (to->top[i] & TOP_CLASS) | from->top[i]);
}

/* Makes the guards from the prefixes, aside, and writes what differs. */
static int mend_guards(struct tg_deny6 *tables)
{
	struct tg_deny6_guards aside;
	int result = make_guards(&aside) ? 0 : -ENOMEM;

	for (uint32_t i = 0; !result && i < tables->store.used; i++) {
		struct tg_deny_key key = tg_deny_store_key(&tables->store, i);

		if (key.length > TOP_LENGTH)
			guard(tables, &aside, &key);
	}
	if (!result) {
		write_guards(&tables->guards, &aside);
		tables->stale = 0;
	}
	free_guards(&aside);
	return result;
}

void tg_deny6_tidy(struct tg_deny6 *tables)
{
	if (tables->stale > STALE_LEAST && tables->stale > tables->store.live / 8)
		mend_guards(tables);
}

/* --- cells of the top --- */

static void paint(struct tg_deny6 *tables, uint16_t *top, const struct tg_deny_key *key,
	uint16_t class, uint8_t depth)
{
	uint32_t first = key->high >> 48, count = 1u << (TOP_LENGTH - key->length);

	for (uint32_t i = first; i < first + count; i++) {
		if (tables->depth[i] > key->length + 1)
			continue;
		tables->depth[i] = depth;
		store_if_other(&top[i], (top[i] & ~TOP_CLASS) | class);
	}
}

static void apply_top(
	struct tg_deny6 *tables, uint16_t *top, const struct tg_deny_key *key, uint32_t record)
{
	const struct tg_deny_store *store = &tables->store;

	if (record == TG_NO_RECORD)
		record = tg_deny_store_cover(store, key, key->length - 1, 0, ~0ull);
	if (record == TG_NO_RECORD)
		paint(tables, top, key, 0, 0);
	else
		paint(tables, top, key, TG_DENY_CLASS(tg_deny_store_what(store, record)),
			tg_deny_store_key(store, record).length + 1);
}

int tg_deny6_apply(struct tg_deny6 *tables, const struct tg_deny_key *key)
{
	uint32_t record = tg_deny_store_best(&tables->store, key, ~0ull);

	if (key->length <= TOP_LENGTH) {
		apply_top(tables, tables->guards.top, key, record);
		return 0;
	}
	for (uint32_t i = 0; i < parts_of(key); i++) {
		struct tg_deny_key part = part_of(key, i);

		if (record == TG_NO_RECORD)
			leave_entry(tables, &part, key->length);
		else if (set_entry(tables, &part, record, key->length))
			return -ENOSPC; /* the caller takes the record away and applies again */
	}
	if (record != TG_NO_RECORD)
		guard(tables, &tables->guards, key);
	return 0;
}

/* --- adoption --- */

static int mend_top(struct tg_deny6 *tables)
{
	uint16_t *aside = calloc(TOP_CELLS, sizeof(*aside)), *live = tables->guards.top;

	if (!aside)
		return -ENOMEM;
	for (int length = 0; length <= TOP_LENGTH; length++) {
		for (uint32_t i = 0; tables->store.by_length[length] && i < tables->store.used;
			i++) {
			struct tg_deny_key key = tg_deny_store_key(&tables->store, i);

			if (tg_deny_store_what(&tables->store, i) && key.length == length)
				apply_top(tables, aside, &key,
					tg_deny_store_best(&tables->store, &key, ~0ull));
		}
	}
	for (uint32_t i = 0; i < TOP_CELLS; i++)
		store_if_other(&live[i], (live[i] & ~TOP_CLASS) | aside[i]);
	free(aside);
	return 0;
}

static int mend(struct tg_deny6 *tables)
{
	int result = mend_top(tables);

	for (uint32_t i = 0; !result && i < tables->store.used; i++) {
		struct tg_deny_key key = tg_deny_store_key(&tables->store, i);

		if (key.length > TOP_LENGTH)
			tg_deny6_apply(tables, &key);
	}
	return result ? result : mend_guards(tables);
}

int tg_deny6_open(struct tg_deny6 *tables, const struct tg_deny6_maps *maps,
	const struct tg_deny_state *state)
{
	int result = tg_deny_store_open(&tables->store, true, maps->records, state->allow);

	tables->guards =
		(struct tg_deny6_guards){ maps->top, maps->guard32, maps->guard48, maps->guard64 };
	tables->buckets = maps->buckets;
	tables->state = state;
	tables->stale = 0;
	tables->depth = calloc(TOP_CELLS, sizeof(*tables->depth));
	if (!result && !tables->depth)
		result = -ENOMEM;
	return result || !tables->store.live ? result : mend(tables);
}

void tg_deny6_close(struct tg_deny6 *tables)
{
	tg_deny_store_close(&tables->store);
	free(tables->depth);
	memset(tables, 0, sizeof(*tables));
}

size_t tg_deny6_memory(const struct tg_deny6 *tables)
{
	return tables->depth ? TOP_CELLS + tg_deny_store_memory(&tables->store) : 0;
}
