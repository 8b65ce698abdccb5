/* SPDX-License-Identifier: GPL-2.0-only */
#include "intern.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void tg_interned_init(struct tg_interned *interned, size_t size, size_t most)
{
	*interned = (struct tg_interned){ .size = size, .most = most };
}

static void *thing_at(const struct tg_interned *interned, size_t number)
{
	return (char *)interned->things + number * interned->size;
}

/* FNV-1a (Fowler, Noll, Vo) by words; `size` is a multiple of 8. */
static uint64_t hash_of(const void *thing, size_t size)
{
	const uint64_t *words = thing;
	uint64_t hash = 0xcbf29ce484222325ull;

	for (size_t i = 0; i < size / 8; i++)
		hash = (hash ^ words[i]) * 0x100000001b3ull;
	return hash ^ hash >> 32;
}

/* The bucket that has the thing, or is free for it. */
static uint32_t *bucket_of(const struct tg_interned *interned, const void *thing)
{
	size_t mask = interned->bucket_count - 1, at = hash_of(thing, interned->size) & mask;

	while (interned->buckets[at] &&
		memcmp(thing_at(interned, interned->buckets[at] - 1), thing, interned->size))
		at = (at + 1) & mask;
	return &interned->buckets[at];
}

/* At most half of the buckets are taken. */
static int grow(struct tg_interned *interned)
{
	size_t room = interned->room ? interned->room * 2 : 64;
	void *things = realloc(interned->things, room * interned->size);
	uint32_t *buckets = calloc(room * 2, sizeof(*buckets));

	if (things)
		interned->things = things;
	if (!things || !buckets) {
		free(buckets);
		return -ENOMEM;
	}
	free(interned->buckets);
	interned->buckets = buckets;
	interned->bucket_count = room * 2;
	interned->room = room;
	for (size_t i = 0; i < interned->count; i++)
		*bucket_of(interned, thing_at(interned, i)) = i + 1;
	return 0;
}

int tg_intern(struct tg_interned *interned, const void *thing)
{
	uint32_t *bucket;

	if (interned->count == interned->room && grow(interned))
		return -ENOMEM;
	bucket = bucket_of(interned, thing);
	if (*bucket)
		return *bucket - 1;
	if (interned->count == interned->most) {
		interned->full = true;
		return -ENOSPC;
	}
	memcpy(thing_at(interned, interned->count), thing, interned->size);
	*bucket = ++interned->count;
	return interned->count - 1;
}

void tg_interned_free(struct tg_interned *interned)
{
	free(interned->things);
	free(interned->buckets);
	interned->things = NULL;
	interned->buckets = NULL;
	interned->count = interned->room = interned->bucket_count = 0;
}
