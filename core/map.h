/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A BPF map of any program, with the types of its keys and values. Opened by its pin; typed by the
 * caller (map.key, map.value) or by tg_map_types() from the map's BTF; closed once. Keys and values
 * are in the kernel's layout: `info.key_size` and `value_bytes` bytes. A per-CPU map has a value for
 * each possible CPU behind one another, `value_step` apart.
 *
 * Whole maps are read by a cursor and written by tg_map_set_all(), in batches where the map's kind
 * has them and one by one where it has not.
 */
#ifndef TG_MAP_H
#define TG_MAP_H

#include <linux/bpf.h>
#include <stdbool.h>
#include <stdint.h>

#include "error.h"
#include "value.h"

struct tg_map {
	int fd;				/* -1: closed */
	struct bpf_map_info info;
	struct tg_types types;
	const struct tg_type *key;	/* NULL: its kind has no keys (queue, stack, bloom filter) */
	const struct tg_type *value;
	bool per_cpu;
	bool no_batch;			/* found out at the first try */
	uint32_t cpus;			/* values of a key: the possible CPUs, or 1 */
	uint32_t value_step;		/* bytes from one CPU's value to the next */
	uint32_t value_bytes;		/* of all values of a key */
};

/* Opens the map pinned at `path`, without types yet. */
int tg_map_open(struct tg_map *map, const char *path, struct tg_error *error);
/*
 * Types the key and the value from BTF where the caller has not, and checks all sizes. -EPERM: BTF
 * of other programs needs CAP_SYS_ADMIN; -ENOTSUP: a kind that can't be carried; -EINVAL: no BTF, or
 * a given type of another size.
 */
int tg_map_types(struct tg_map *map, struct tg_error *error);
void tg_map_close(struct tg_map *map);

/* "hash", "percpu_array" …, NULL for a kind newer than this program. */
const char *tg_map_kind(const struct tg_map *map);
/* Its values are maps or programs: written as descriptors, read as ids. */
bool tg_map_holds_objects(const struct tg_map *map);

int tg_map_get(struct tg_map *map, const void *key, void *value, struct tg_error *error);
int tg_map_pop(struct tg_map *map, const void *key, void *value, struct tg_error *error);
int tg_map_set(struct tg_map *map, const void *key, const void *value, uint64_t flags,
	struct tg_error *error);
int tg_map_delete(struct tg_map *map, const void *key, struct tg_error *error);

/*
 * Sets `count` keys to their values. On failure `*done` of them are set; they need not be the first
 * ones of the arrays, but are those before the one that failed.
 */
int tg_map_set_all(struct tg_map *map, const void *keys, const void *values, uint32_t count,
	uint32_t *done, struct tg_error *error);

/*
 * Reads a map page by page. The page after the one in hand has been read already, so deleting keys
 * of the page in hand harms nothing. Keys set meanwhile may or may not be seen; in a map without
 * batches, keys deleted further on may make others be seen twice, but never more than max_entries
 * in all.
 */
struct tg_map_page {
	void *keys, *values;
	uint32_t count;
};

struct tg_map_cursor {
	struct tg_map *map;
	struct tg_map_page page[2];
	void *token;		/* where the kernel goes on */
	uint32_t room;		/* keys a page, fewer than asked for if the values are large */
	uint32_t left;		/* keys that may still come */
	uint8_t filled;		/* which page was read last */
	bool started, ended;
};

int tg_map_cursor_open(struct tg_map_cursor *cursor, struct tg_map *map, uint32_t room,
	struct tg_error *error);
/* The next page; its count is 0 at the end. It is valid until the next call. */
int tg_map_cursor_next(struct tg_map_cursor *cursor, struct tg_map_page **page,
	struct tg_error *error);
void tg_map_cursor_close(struct tg_map_cursor *cursor);

#endif
