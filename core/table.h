/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Intrusive hash tables. The element holds a struct tg_table_node, the owner compares keys:
 *
 *	for (node = tg_table_first(&t, hash); node; node = tg_table_next(node))
 *		if (key_of(node) is the key) …
 *
 * The table doubles when it holds as many elements as buckets, and never shrinks. It does not own
 * its elements.
 */
#ifndef TG_TABLE_H
#define TG_TABLE_H

#include <stddef.h>
#include <stdint.h>

struct tg_table_node {
	struct tg_table_node *next;
	uint32_t hash;
};

struct tg_table {
	struct tg_table_node **bucket;
	uint32_t buckets;	/* a power of two, or 0 before the first element */
	uint32_t count;
};

/* An empty table is all zero. 0, or -ENOMEM when the first buckets cannot be had. */
int tg_table_insert(struct tg_table *table, struct tg_table_node *node, uint32_t hash);
void tg_table_remove(struct tg_table *table, struct tg_table_node *node);
struct tg_table_node *tg_table_first(const struct tg_table *table, uint32_t hash);
/* The next element with the same hash. */
struct tg_table_node *tg_table_next(const struct tg_table_node *node);
/* Frees the buckets, not the elements. */
void tg_table_free(struct tg_table *table);

/* A hash of bytes, different in every process, so that nobody can choose addresses that collide. */
uint32_t tg_hash(const void *bytes, size_t size);

#endif
