/* SPDX-License-Identifier: GPL-2.0-only */
#include "maglev.h"

#include "tidegate_abi.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define NO_WALK UINT32_MAX

/* A backend on its way through its permutation. */
struct walk {
	uint32_t at;	 /* the slot it looks at next */
	uint32_t skip;
	uint32_t back;	 /* the inverse of skip; 0: not computed yet */
	uint32_t next;	 /* in the list of the round it has its next turn in */
	uint64_t due;	 /* that turn, in rounds, 32.32 fixed point */
	uint64_t stride; /* rounds between turns, likewise */
};

/* Below this many free slots, looking for the nearest is cheaper than walking to it (see nearest_free). */
#define FEW 128

struct table {
	uint32_t *slots;
	uint64_t *taken;  /* a bit a slot: small enough to stay in the first-level cache */
	uint32_t *rounds; /* the first walk that has a turn in each round */
	uint32_t size, free;
	uint32_t last_round; /* by then the table is full */
	uint32_t few[FEW], few_count;
};

/* SplitMix64's finalizer (Steele, Lea, Flood 2014). */
static uint64_t mix(uint64_t x)
{
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
	x = (x ^ x >> 27) * 0x94d049bb133111eb;
	return x ^ x >> 31;
}

uint64_t tg_maglev_key(const void *bytes, size_t size)
{
	const uint8_t *at = bytes;
	uint64_t key = size, word;

	for (; size; at += sizeof(word)) {
		size_t n = size < sizeof(word) ? size : sizeof(word);

		word = 0;
		memcpy(&word, at, n);
		key = mix(key + word + 0x9e3779b97f4a7c15);
		size -= n;
	}
	return key;
}

bool tg_is_prime(uint64_t n)
{
	if (n < 4)
		return n >= 2;
	if (n % 2 == 0)
		return false;
	for (uint64_t i = 3; i * i <= n; i += 2)
		if (n % i == 0)
			return false;
	return true;
}

uint32_t tg_maglev_default_size(size_t backends)
{
	uint64_t size = backends * 100;

	if (size <= TG_DEFAULT_SLOTS)
		return TG_DEFAULT_SLOTS;
	while (!tg_is_prime(size))
		size++;
	return size < TG_MAGLEV_MAX_SLOTS ? size : 16777213; /* the largest prime below 2^24 */
}

static bool before(const struct tg_maglev_backend *a, const struct tg_maglev_backend *b)
{
	return a->key != b->key ? a->key < b->key : a->id < b->id;
}

/* Sorts by key into `out`: keys are hashes, so their top bits are already nearly the position. */
static void sort_by_key(const struct tg_maglev_backend *backends, size_t count,
	struct tg_maglev_backend *out, uint32_t *starts)
{
	memset(starts, 0, (count + 1) * sizeof(*starts));
	for (size_t i = 0; i < count; i++)
		starts[((backends[i].key >> 32) * count >> 32) + 1]++;
	for (size_t i = 1; i <= count; i++)
		starts[i] += starts[i - 1];
	for (size_t i = 0; i < count; i++)
		out[starts[(backends[i].key >> 32) * count >> 32]++] = backends[i];
	for (size_t i = 1, at; i < count; i++) {
		struct tg_maglev_backend moving = out[i];

		for (at = i; at > 0 && before(&moving, &out[at - 1]); at--)
			out[at] = out[at - 1];
		out[at] = moving;
	}
}

/* a^-1 modulo the prime p, by Euclid's extended algorithm. */
static uint32_t inverse(uint32_t a, uint32_t p)
{
	int64_t t = 0, next_t = 1, r = p, next_r = a;

	while (next_r) {
		int64_t q = r / next_r, rest = r - q * next_r, turn = t - q * next_t;

		r = next_r;
		next_r = rest;
		t = next_t;
		next_t = turn;
	}
	return t < 0 ? t + p : t;
}

static bool is_taken(const struct table *table, uint32_t slot)
{
	return table->taken[slot / 64] >> slot % 64 & 1;
}

/* Fills few[] when FEW slots are left. */
static void list_free_slots(struct table *table)
{
	table->few_count = 0;
	for (uint32_t slot = 0; slot < table->size; slot++)
		if (!is_taken(table, slot))
			table->few[table->few_count++] = slot;
}

/*
 * Which of the last free slots a walk comes to first. Walking there takes size/free steps, half of
 * all steps of a build; slot s is (s - at) / skip steps away, modulo the size.
 */
static uint32_t nearest_free(struct table *table, struct walk *walk)
{
	uint64_t best = UINT64_MAX;
	uint32_t chosen = 0, slot;

	if (!walk->back)
		walk->back = inverse(walk->skip, table->size);

	for (uint32_t i = 0; i < table->few_count; i++) {
		uint64_t steps = (uint64_t)(table->few[i] + table->size - walk->at) * walk->back % table->size;

		if (steps < best) {
			best = steps;
			chosen = i;
		}
	}
	slot = table->few[chosen];
	table->few[chosen] = table->few[--table->few_count];
	return slot;
}

/* Queues the walk for the round of its next turn. A round beyond the last never comes. */
static void queue(struct table *table, struct walk *walks, uint32_t i)
{
	uint64_t round = (walks[i].due + UINT32_MAX) >> 32;

	if (round > table->last_round)
		return;
	walks[i].next = table->rounds[round];
	table->rounds[round] = i;
}

static uint32_t walk_to_free(const struct table *table, const struct walk *walk)
{
	uint32_t at = walk->at, size = table->size, skip = walk->skip;

	while (is_taken(table, at)) {
		at += skip;
		at -= at >= size ? size : 0;
	}
	return at;
}

static void take_turn(struct table *table, struct walk *walk, uint32_t id)
{
	uint32_t at;

	if (table->free == FEW)
		list_free_slots(table);
	at = table->free <= FEW && table->few_count ? nearest_free(table, walk) :
						      walk_to_free(table, walk);
	table->taken[at / 64] |= 1ull << at % 64;
	table->slots[at] = id;
	table->free--;
	walk->at = at;
}

/*
 * The heaviest weight, and the round by which the table is full: r rounds have at least
 * r * (sum of weights) / heaviest - count / 2 turns.
 */
static uint32_t plan_rounds(struct table *table, const struct tg_maglev_backend *backends, size_t count)
{
	uint64_t sum = 0, rounds;
	uint32_t heaviest = 0;

	for (size_t i = 0; i < count; i++) {
		sum += backends[i].weight;
		if (backends[i].weight > heaviest)
			heaviest = backends[i].weight;
	}
	rounds = (table->size + count) * heaviest / sum + 2;
	table->last_round = rounds < table->size ? rounds : table->size;
	return heaviest;
}

static void start_walks(struct table *table, struct walk *walks,
	const struct tg_maglev_backend *backends, size_t count, uint32_t heaviest)
{
	for (size_t i = count; i-- > 0;) {
		const struct tg_maglev_backend *b = &backends[i];
		uint64_t stride = 1ull << 32;

		if (b->weight && b->weight != heaviest)
			stride = ((uint64_t)heaviest << 32) / b->weight;

		walks[i] = (struct walk){
			.at = (mix(b->key) >> 32) * table->size >> 32,
			.skip = ((mix(~b->key) >> 32) * (table->size - 1) >> 32) + 1,
			.stride = stride,
			.due = stride / 2,
		};
		if (b->weight)
			queue(table, walks, i);
	}
}

/* Each round's list is emptied into later rounds; a full table ends it. */
static void fill(struct table *table, struct walk *walks, const struct tg_maglev_backend *backends)
{
	for (uint32_t round = 1; table->free; round++) {
		uint32_t i = table->rounds[round], next;

		for (; i != NO_WALK && table->free; i = next) {
			next = walks[i].next;
			take_turn(table, &walks[i], backends[i].id);
			walks[i].due += walks[i].stride;
			queue(table, walks, i);
		}
	}
}

int tg_maglev_build(
	const struct tg_maglev_backend *backends, size_t count, uint32_t *slots, uint32_t size)
{
	struct table table = { .slots = slots, .size = size, .free = size };
	struct tg_maglev_backend *sorted;
	struct walk *walks;
	uint32_t *starts;
	uint32_t heaviest;
	bool any = false;
	int result = -ENOMEM;

	if (size > TG_MAGLEV_MAX_SLOTS || !tg_is_prime(size))
		return -EINVAL;
	for (size_t i = 0; i < count; i++)
		any |= backends[i].weight > 0;
	if (!any) {
		memset(slots, 0, size * sizeof(*slots));
		return 0;
	}

	heaviest = plan_rounds(&table, backends, count);
	sorted = malloc(count * sizeof(*sorted));
	walks = malloc(count * sizeof(*walks));
	starts = malloc((count + 1) * sizeof(*starts));
	table.taken = calloc(size / 64 + 1, sizeof(*table.taken));
	table.rounds = malloc((table.last_round + 1) * sizeof(*table.rounds));
	if (sorted && walks && starts && table.taken && table.rounds) {
		sort_by_key(backends, count, sorted, starts);
		memset(table.rounds, 0xff, (table.last_round + 1) * sizeof(*table.rounds));
		start_walks(&table, walks, sorted, count, heaviest);
		fill(&table, walks, sorted);
		result = 0;
	}
	free(sorted);
	free(walks);
	free(starts);
	free(table.taken);
	free(table.rounds);
	return result;
}
