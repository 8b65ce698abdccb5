/* SPDX-License-Identifier: GPL-2.0-only */
#include "table.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define FIRST_BUCKETS 64

static struct tg_table_node **slot(const struct tg_table *table, uint32_t hash)
{
	return &table->bucket[hash & (table->buckets - 1)];
}

static void put(struct tg_table *table, struct tg_table_node *node)
{
	struct tg_table_node **head = slot(table, node->hash);

	node->next = *head;
	*head = node;
}

static int grow(struct tg_table *table)
{
	struct tg_table larger = { .buckets = table->buckets ? table->buckets * 2 : FIRST_BUCKETS };
	struct tg_table_node *node, *next;

	larger.bucket = calloc(larger.buckets, sizeof(*larger.bucket));
	if (!larger.bucket)
		return -ENOMEM;
	for (uint32_t i = 0; i < table->buckets; i++) {
		for (node = table->bucket[i]; node; node = next) {
			next = node->next;
			put(&larger, node);
		}
	}
	free(table->bucket);
	table->bucket = larger.bucket;
	table->buckets = larger.buckets;
	return 0;
}

int tg_table_insert(struct tg_table *table, struct tg_table_node *node, uint32_t hash)
{
	/* A table that cannot grow gets slower, not wrong. */
	if (table->count >= table->buckets && grow(table) < 0 && !table->buckets)
		return -ENOMEM;
	node->hash = hash;
	put(table, node);
	table->count++;
	return 0;
}

void tg_table_remove(struct tg_table *table, struct tg_table_node *node)
{
	struct tg_table_node **at = slot(table, node->hash);

	while (*at != node)
		at = &(*at)->next;
	*at = node->next;
	table->count--;
}

static struct tg_table_node *same_hash(struct tg_table_node *node, uint32_t hash)
{
	while (node && node->hash != hash)
		node = node->next;
	return node;
}

struct tg_table_node *tg_table_first(const struct tg_table *table, uint32_t hash)
{
	return table->buckets ? same_hash(*slot(table, hash), hash) : NULL;
}

struct tg_table_node *tg_table_next(const struct tg_table_node *node)
{
	return same_hash(node->next, node->hash);
}

void tg_table_free(struct tg_table *table)
{
	free(table->bucket);
	memset(table, 0, sizeof(*table));
}

static uint64_t hash_seed;

static void choose_seed(void)
{
	if (getrandom(&hash_seed, sizeof(hash_seed), GRND_NONBLOCK) != sizeof(hash_seed))
		hash_seed = (uintptr_t)&hash_seed;
}

uint32_t tg_hash(const void *bytes, size_t size)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	const uint8_t *byte = bytes;
	uint64_t h;

	pthread_once(&once, choose_seed);
	h = hash_seed ^ size;
	for (size_t i = 0; i < size; i++)
		h = ((h ^ byte[i]) * 0x9e3779b97f4a7c15u) ^ (h >> 29);
	return (uint32_t)(h ^ (h >> 32));
}
