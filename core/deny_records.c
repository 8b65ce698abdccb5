/* SPDX-License-Identifier: GPL-2.0-only */
#include "deny_records.h"

#include "flow_hash.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define INDEX_BITS	    21 /* slots: at most 62 % are taken */
#define INDEX_SIZE	    (1u << INDEX_BITS)
#define RECORD_OF(entry)    (((entry) & (INDEX_SIZE - 1)) - 1)
#define ENTRY(hash, record) ((uint32_t)(hash) << INDEX_BITS | ((record) + 1))

static_assert(
	TG_DENY4_MAX < INDEX_SIZE && TG_DENY6_MAX < INDEX_SIZE, "an entry names every record");

struct tg_deny_key tg_deny_cut(uint64_t high, uint64_t low, uint8_t length)
{
	struct tg_deny_key key = { .length = length };

	key.high = length == 0 ? 0 : length >= 64 ? high : high & ~0ull << (64 - length);
	key.low = length <= 64 ? 0 : length == 128 ? low : low & ~0ull << (128 - length);
	return key;
}

uint16_t tg_deny_store_what(const struct tg_deny_store *store, uint32_t record)
{
	uint32_t at = record / TG_DENY_RECORDS, i = record % TG_DENY_RECORDS;

	uint16_t what = store->v6 ? store->records6[at].what[i] : store->records4[at].what[i];

	return what & TG_DENY_WHAT_GONE ? 0 : what;
}

struct tg_deny_key tg_deny_store_key(const struct tg_deny_store *store, uint32_t record)
{
	uint32_t at = record / TG_DENY_RECORDS, i = record % TG_DENY_RECORDS;
	struct tg_deny_key key = { 0 };

	if (store->v6) {
		key.high = store->records6[at].addr[i][0];
		key.low = store->records6[at].addr[i][1];
	} else {
		key.high = (uint64_t)store->records4[at].addr[i] << 32;
	}
	key.length = TG_DENY_WHAT_LENGTH(tg_deny_store_what(store, record));
	return key;
}

static void write_what(struct tg_deny_store *store, uint32_t record, uint16_t what)
{
	uint32_t at = record / TG_DENY_RECORDS, i = record % TG_DENY_RECORDS;

	__atomic_store_n(store->v6 ? &store->records6[at].what[i] : &store->records4[at].what[i],
		what, __ATOMIC_RELEASE);
}

static void write_record(
	struct tg_deny_store *store, uint32_t record, const struct tg_deny_key *key, uint16_t what)
{
	uint32_t at = record / TG_DENY_RECORDS, i = record % TG_DENY_RECORDS;

	if (store->v6) {
		store->records6[at].addr[i][0] = key->high;
		store->records6[at].addr[i][1] = key->low;
	} else {
		store->records4[at].addr[i] = key->high >> 32;
	}
	write_what(store, record, what);
}

/* --- the index: linear probing, without a mark for what was removed --- */

static uint64_t hash_of(const struct tg_deny_key *key)
{
	return tg_mix((key->high ^ key->length) * 0x9e3779b97f4a7c15ull +
		      key->low * 0xc2b2ae3d27d4eb4full);
}

static uint32_t home_of(uint64_t hash)
{
	return hash >> (64 - INDEX_BITS);
}

static bool is_prefix(
	const struct tg_deny_store *store, uint32_t record, const struct tg_deny_key *key)
{
	struct tg_deny_key has = tg_deny_store_key(store, record);

	return has.high == key->high && has.low == key->low && has.length == key->length;
}

/* Calls for each record of the prefix: `record` is set in the body. */
#define each_record(store, key, record)                                                            \
	for (uint64_t hash_ = hash_of(key), slot_ = home_of(hash_), record = 0;                    \
		(store)->index[slot_]; slot_ = (slot_ + 1) & (INDEX_SIZE - 1))                     \
		if (((store)->index[slot_] >> INDEX_BITS) ==                                       \
				((uint32_t)(hash_) & (UINT32_MAX >> INDEX_BITS)) &&                \
			is_prefix(store, record = RECORD_OF((store)->index[slot_]), key))

static void index_add(struct tg_deny_store *store, const struct tg_deny_key *key, uint32_t record)
{
	uint64_t hash = hash_of(key);
	uint32_t slot = home_of(hash);

	while (store->index[slot])
		slot = (slot + 1) & (INDEX_SIZE - 1);
	store->index[slot] = ENTRY(hash, record);
}

/* Fills the hole with what would otherwise not be found past it. */
static void index_close(struct tg_deny_store *store, uint32_t hole)
{
	uint32_t slot = hole;

	for (;;) {
		slot = (slot + 1) & (INDEX_SIZE - 1);
		if (!store->index[slot])
			break;
		struct tg_deny_key key = tg_deny_store_key(store, RECORD_OF(store->index[slot]));
		uint32_t home = home_of(hash_of(&key));

		if (((slot - home) & (INDEX_SIZE - 1)) < ((slot - hole) & (INDEX_SIZE - 1)))
			continue;
		store->index[hole] = store->index[slot];
		hole = slot;
	}
	store->index[hole] = 0;
}

static void index_remove(
	struct tg_deny_store *store, const struct tg_deny_key *key, uint32_t record)
{
	uint64_t hash = hash_of(key);
	uint32_t slot = home_of(hash);

	while (store->index[slot] != ENTRY(hash, record))
		slot = (slot + 1) & (INDEX_SIZE - 1);
	index_close(store, slot);
}

/* --- the store --- */

static void account(struct tg_deny_store *store, uint16_t what, int by)
{
	store->live += by;
	store->by_length[TG_DENY_WHAT_LENGTH(what)] += by;
	store->by_class[TG_DENY_CLASS(what)] += by;
}

static void read_back(struct tg_deny_store *store)
{
	uint32_t last = store->capacity;

	while (last && !tg_deny_store_what(store, last - 1))
		write_what(store, --last, 0);
	store->used = last;
	for (uint32_t record = last; record-- > 0;) {
		uint16_t what = tg_deny_store_what(store, record);
		struct tg_deny_key key = tg_deny_store_key(store, record);

		if (what) {
			account(store, what, 1);
			index_add(store, &key, record);
		} else {
			write_what(store, record, 0);
			store->free[store->free_count++] = record;
		}
	}
}

int tg_deny_store_open(struct tg_deny_store *store, bool v6, void *records, uint64_t allow)
{
	memset(store, 0, sizeof(*store));
	store->v6 = v6;
	store->records4 = records;
	store->allow = allow;
	store->capacity = v6 ? TG_DENY6_MAX : TG_DENY4_MAX;
	store->index = calloc(INDEX_SIZE, sizeof(*store->index));
	store->free = calloc(store->capacity, sizeof(*store->free));
	store->resting = v6 ? calloc(store->capacity, sizeof(*store->resting)) : NULL;
	if (!store->index || !store->free || (v6 && !store->resting))
		return -ENOMEM;
	read_back(store);
	return 0;
}

void tg_deny_store_close(struct tg_deny_store *store)
{
	free(store->index);
	free(store->free);
	free(store->resting);
	memset(store, 0, sizeof(*store));
}

void tg_deny_store_expect(const struct tg_deny_store *store, const struct tg_deny_key *key)
{
	__builtin_prefetch(&store->index[home_of(hash_of(key))]);
}

uint32_t tg_deny_store_find(
	const struct tg_deny_store *store, const struct tg_deny_key *key, int class)
{
	if (!store->by_length[key->length])
		return TG_NO_RECORD;
	each_record(store, key, record) if (TG_DENY_CLASS(tg_deny_store_what(store, record)) ==
					    class) return record;
	return TG_NO_RECORD;
}

/* Does class a decide before class b? */
static bool decides(const struct tg_deny_store *store, int a, int b)
{
	bool allows_a = store->allow >> a & 1, allows_b = store->allow >> b & 1;

	return allows_a != allows_b ? allows_a : a < b;
}

uint32_t tg_deny_store_best(
	const struct tg_deny_store *store, const struct tg_deny_key *key, uint64_t classes)
{
	uint32_t best = TG_NO_RECORD;
	int best_class = 0;

	if (!store->by_length[key->length])
		return TG_NO_RECORD;
	each_record(store, key, record)
	{
		int class = TG_DENY_CLASS(tg_deny_store_what(store, record));

		if (!(classes >> class & 1) ||
			(best != TG_NO_RECORD && !decides(store, class, best_class)))
			continue;
		best = record;
		best_class = class;
	}
	return best;
}

uint32_t tg_deny_store_cover(const struct tg_deny_store *store, const struct tg_deny_key *key,
	int longest, int shortest, uint64_t classes)
{
	for (int length = longest; length >= shortest; length--) {
		struct tg_deny_key cover;
		uint32_t record;

		if (!store->by_length[length])
			continue;
		cover = tg_deny_cut(key->high, key->low, length);
		record = tg_deny_store_best(store, &cover, classes);
		if (record != TG_NO_RECORD)
			return record;
	}
	return TG_NO_RECORD;
}

uint32_t tg_deny_store_add(
	struct tg_deny_store *store, const struct tg_deny_key *key, int class, bool counted)
{
	uint16_t what = TG_DENY_WHAT(class, counted, key->length);
	uint32_t record;

	if (store->free_count)
		record = store->free[--store->free_count];
	else if (store->used < store->capacity)
		record = store->used++;
	else
		return TG_NO_RECORD;
	write_record(store, record, key, what);
	index_add(store, key, record);
	account(store, what, 1);
	return record;
}

void tg_deny_store_remove(struct tg_deny_store *store, uint32_t record)
{
	struct tg_deny_key key = tg_deny_store_key(store, record);

	account(store, tg_deny_store_what(store, record), -1);
	index_remove(store, &key, record);
}

void tg_deny_store_clear(struct tg_deny_store *store, uint32_t record)
{
	if (store->v6) {
		write_what(store, record, tg_deny_store_what(store, record) | TG_DENY_WHAT_GONE);
		store->resting[store->resting_count++] = record;
	} else {
		write_what(store, record, 0);
		store->free[store->free_count++] = record;
	}
}

void tg_deny_store_rested(struct tg_deny_store *store)
{
	while (store->resting_count) {
		uint32_t record = store->resting[--store->resting_count];

		write_what(store, record, 0);
		store->free[store->free_count++] = record;
	}
}

size_t tg_deny_store_room(const struct tg_deny_store *store)
{
	return store->free_count + store->capacity - store->used;
}

void tg_deny_store_count(struct tg_deny_store *store, uint32_t record, bool counted)
{
	uint16_t what = tg_deny_store_what(store, record);

	write_what(store, record,
		TG_DENY_WHAT(TG_DENY_CLASS(what), counted, TG_DENY_WHAT_LENGTH(what)));
}

size_t tg_deny_store_memory(const struct tg_deny_store *store)
{
	size_t lists = store->capacity * sizeof(*store->free) * (store->v6 ? 2 : 1);

	return store->index ? INDEX_SIZE * sizeof(*store->index) + lists : 0;
}
