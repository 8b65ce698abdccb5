/* SPDX-License-Identifier: GPL-2.0-only */
#include "map.h"

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pinned.h"

#define ENOTSUPP  524		/* the kernel's own; not in libc */
#define SET_CHUNK (1u << 16)	/* keys a system call */
#define RETRIES	  4		/* of a batch that was interrupted */
#define PAGE_ROOM (4u << 20)	/* bytes of values in a cursor's page */

/* ---- kinds ---- */

enum {
	INDEXED = 1,		/* keys are u32 indices below max_entries */
	PER_CPU = 2,
	HOLDS_OBJECTS = 4,	/* maps or programs, by descriptor */
};

/* What differs from an ordinary kind. */
static uint32_t traits(uint32_t type)
{
	switch (type) {
	case BPF_MAP_TYPE_ARRAY:
	case BPF_MAP_TYPE_DEVMAP:
	case BPF_MAP_TYPE_CPUMAP:
	case BPF_MAP_TYPE_XSKMAP:
	case BPF_MAP_TYPE_SOCKMAP:
	case BPF_MAP_TYPE_PERF_EVENT_ARRAY:
	case BPF_MAP_TYPE_CGROUP_ARRAY:
		return INDEXED;
	case BPF_MAP_TYPE_PERCPU_ARRAY:
		return INDEXED | PER_CPU;
	case BPF_MAP_TYPE_PERCPU_HASH:
	case BPF_MAP_TYPE_LRU_PERCPU_HASH:
	case BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE:
		return PER_CPU;
	case BPF_MAP_TYPE_PROG_ARRAY:
	case BPF_MAP_TYPE_ARRAY_OF_MAPS:
		return INDEXED | HOLDS_OBJECTS;
	case BPF_MAP_TYPE_HASH_OF_MAPS:
		return HOLDS_OBJECTS;
	default:
		return 0;
	}
}

const char *tg_map_kind(const struct tg_map *map)
{
	return libbpf_bpf_map_type_str(map->info.type);
}

bool tg_map_holds_objects(const struct tg_map *map)
{
	return traits(map->info.type) & HOLDS_OBJECTS;
}

/* ---- opening ---- */

static int size_values(struct tg_map *map, struct tg_error *error)
{
	int cpus = 1;

	map->per_cpu = traits(map->info.type) & PER_CPU;
	if (map->per_cpu)
		cpus = libbpf_num_possible_cpus();
	if (cpus < 0)
		return tg_fail(error, cpus, "the possible CPUs: %s", strerror(-cpus));
	map->cpus = cpus;
	map->value_step = map->info.value_size;
	if (map->per_cpu)
		map->value_step = (map->value_step + 7) & ~7u;
	if ((uint64_t)map->value_step * map->cpus > TG_TYPE_MAX_SIZE)
		return tg_fail(error, -E2BIG, "values of %u bytes on %d CPUs are too large",
			map->info.value_size, cpus);
	map->value_bytes = map->value_step * map->cpus;
	return 0;
}

int tg_map_open(struct tg_map *map, const char *path, struct tg_error *error)
{
	uint32_t length = sizeof(map->info);
	int err;

	memset(map, 0, sizeof(*map));
	map->fd = tg_pinned_open(path, "map", error);
	if (map->fd < 0)
		return map->fd;
	err = bpf_obj_get_info_by_fd(map->fd, &map->info, &length);
	if (err)
		err = tg_fail(error, err, "%s: %s", path, strerror(-err));
	else
		err = size_values(map, error);
	if (err)
		tg_map_close(map);
	return err;
}

void tg_map_close(struct tg_map *map)
{
	if (map->fd >= 0)
		close(map->fd);
	map->fd = -1;
	tg_types_free(&map->types);
	map->key = map->value = NULL;
}

static int load_btf(struct tg_map *map, struct btf **btf, struct tg_error *error)
{
	*btf = btf__load_from_kernel_by_id(map->info.btf_id);
	if (*btf)
		return 0;
	if (errno == EPERM)
		return tg_fail(error, -EPERM, "reading the map's BTF needs CAP_SYS_ADMIN (or give "
			"the types: { key = \"bytes:%u\", value = \"bytes:%u\" })",
			map->info.key_size, map->info.value_size);
	return tg_fail(error, -errno, "the map's BTF: %s", strerror(errno));
}

/* Types one side from BTF type `id`, unless the caller has; adds the way out where that fails. */
static int type_side(struct tg_map *map, const struct btf *btf, const char *side, uint32_t id,
	uint32_t size, const struct tg_type **type, struct tg_error *error)
{
	struct tg_error reason;
	int err;

	if (*type || !size || !id)
		return 0;
	err = tg_type_from_btf(&map->types, btf, id, side, type, &reason);
	return err ? tg_fail(error, err, "%.400s (open it with { %s = \"bytes:%u\" } for raw bytes)",
		reason.text, side, size) : 0;
}

static int types_from_btf(struct tg_map *map, struct tg_error *error)
{
	struct bpf_map_info *info = &map->info;
	struct btf *btf;
	int err;

	if ((map->key && map->value) || !info->btf_id)
		return 0;
	err = load_btf(map, &btf, error);
	if (err)
		return err;
	err = type_side(map, btf, "key", info->btf_key_type_id, info->key_size, &map->key, error);
	if (!err)
		err = type_side(map, btf, "value", info->btf_value_type_id, info->value_size,
			&map->value, error);
	btf__free(btf);
	return err;
}

static int check_side(const char *side, const struct tg_type *type, uint32_t size,
	struct tg_error *error)
{
	if (!type && size)
		return tg_fail(error, -EINVAL, "the map has no BTF for its %s: give its type, such "
			"as { %s = \"bytes:%u\" }", side, side, size);
	if (type && type->size != size)
		return tg_fail(error, -EINVAL, "%s: the type has %u bytes, the map's %s %u", side,
			type->size, side, size);
	return 0;
}

int tg_map_types(struct tg_map *map, struct tg_error *error)
{
	int err = types_from_btf(map, error);

	if (err)
		return err;
	/* Sections and objects come without these types, and need none. */
	if (!map->key && traits(map->info.type) & INDEXED)
		map->key = tg_type_int(&map->types, 4, false, false);
	if (!map->value && tg_map_holds_objects(map))
		map->value = tg_type_int(&map->types, 4, false, false);
	err = check_side("key", map->key, map->info.key_size, error);
	return err ? err : check_side("value", map->value, map->info.value_size, error);
}

/* ---- one key ---- */

static int explain(struct tg_map *map, int code, struct tg_error *error)
{
	if (code == -E2BIG && traits(map->info.type) & INDEXED)
		return tg_fail(error, code, "no such index: the map has %u entries, from 0",
			map->info.max_entries);
	if (code == -E2BIG || code == -ENOSPC)
		return tg_fail(error, code, "map is full (%u entries)", map->info.max_entries);
	if (code == -ENOENT)
		return tg_fail(error, code, "no such key");
	if (code == -EEXIST)
		return tg_fail(error, code, "the key exists");
	if (code == -EPERM)
		return tg_fail(error, code, "not permitted (the map is read-only or frozen, or "
			"CAP_BPF is missing)");
	if (code == -EINVAL || code == -ENOTSUPP || code == -EOPNOTSUPP)
		return tg_fail(error, code == -ENOTSUPP ? -ENOTSUP : code,
			"a map of kind %s does not do this with this key or value",
			tg_map_kind(map) ? tg_map_kind(map) : "unknown");
	return tg_fail(error, code, "%s", strerror(-code));
}

int tg_map_get(struct tg_map *map, const void *key, void *value, struct tg_error *error)
{
	int err = bpf_map_lookup_elem(map->fd, key, value);

	return err ? explain(map, err, error) : 0;
}

int tg_map_pop(struct tg_map *map, const void *key, void *value, struct tg_error *error)
{
	int err = bpf_map_lookup_and_delete_elem(map->fd, key, value);

	return err ? explain(map, err, error) : 0;
}

int tg_map_set(struct tg_map *map, const void *key, const void *value, uint64_t flags,
	struct tg_error *error)
{
	int err = bpf_map_update_elem(map->fd, key, value, flags);

	return err ? explain(map, err, error) : 0;
}

int tg_map_delete(struct tg_map *map, const void *key, struct tg_error *error)
{
	int err = bpf_map_delete_elem(map->fd, key);

	return err ? explain(map, err, error) : 0;
}

/* ---- many keys ---- */

static int set_one_by_one(struct tg_map *map, const char *keys, const char *values, uint32_t *count)
{
	for (uint32_t i = 0; i < *count; i++) {
		int err = bpf_map_update_elem(map->fd, keys + (size_t)i * map->info.key_size,
			values + (size_t)i * map->value_bytes, BPF_ANY);

		if (err) {
			*count = i;
			return err;
		}
	}
	return 0;
}

/* Sets up to SET_CHUNK keys; on return `*count` is how many are set. */
static int set_chunk(struct tg_map *map, const char *keys, const char *values, uint32_t *count)
{
	uint32_t wanted = *count;
	int err;

	if (map->no_batch)
		return set_one_by_one(map, keys, values, count);
	err = bpf_map_update_batch(map->fd, keys, values, count, NULL);
	if (err == -EFAULT)	/* then the kernel's count says nothing */
		*count = 0;
	if (err != -ENOTSUPP)
		return err;
	map->no_batch = true;
	*count = wanted;
	return set_one_by_one(map, keys, values, count);
}

int tg_map_set_all(struct tg_map *map, const void *keys, const void *values, uint32_t count,
	uint32_t *done, struct tg_error *error)
{
	*done = 0;
	while (*done < count) {
		uint32_t chunk = count - *done < SET_CHUNK ? count - *done : SET_CHUNK;
		int err = set_chunk(map, (const char *)keys + (size_t)*done * map->info.key_size,
			(const char *)values + (size_t)*done * map->value_bytes, &chunk);

		*done += chunk;
		if (err)
			return explain(map, err, error);
	}
	return 0;
}

/* ---- reading a map whole ---- */

static int page_resize(struct tg_map_cursor *cursor, struct tg_map_page *page)
{
	void *keys = realloc(page->keys, (size_t)cursor->room * cursor->map->info.key_size);
	void *values = realloc(page->values, (size_t)cursor->room * cursor->map->value_bytes);

	page->keys = keys ? keys : page->keys;
	page->values = values ? values : page->values;
	return keys && values ? 0 : -ENOMEM;
}

/* Without batches: key after key. The token is the last key. */
static int fill_one_by_one(struct tg_map_cursor *cursor, struct tg_map_page *page)
{
	struct tg_map *map = cursor->map;

	page->count = 0;
	while (page->count < cursor->room) {
		char *key = (char *)page->keys + (size_t)page->count * map->info.key_size;
		char *value = (char *)page->values + (size_t)page->count * map->value_bytes;
		int err = bpf_map_get_next_key(map->fd, cursor->started ? cursor->token : NULL, key);

		if (err)
			return err;
		memcpy(cursor->token, key, map->info.key_size);
		cursor->started = true;
		if (!cursor->left--)
			return -ENOENT;		/* round in circles: keys vanish under us */
		err = bpf_map_lookup_elem(map->fd, key, value);
		if (!err)
			page->count++;
		else if (err != -ENOENT)	/* else: deleted meanwhile, or an empty index */
			return err;
	}
	return 0;
}

/* A hash needs room for its fullest bucket: -ENOSPC says that it has more. */
static int fill_by_batch(struct tg_map_cursor *cursor, struct tg_map_page *page)
{
	int err;

	for (int try = 0;; try++) {
		page->count = cursor->room;
		err = bpf_map_lookup_batch(cursor->map->fd, cursor->started ? cursor->token : NULL,
			cursor->token, page->keys, page->values, &page->count, NULL);
		if (err == -ENOSPC && !page->count) {
			cursor->room *= 2;
			if (page_resize(cursor, page))
				return -ENOMEM;
		} else if (err != -EINTR || try == RETRIES) {
			break;
		}
	}
	if (!err || err == -ENOENT || err == -ENOSPC) {
		cursor->started = true;
		if (page->count > cursor->left)
			page->count = cursor->left;
		cursor->left -= page->count;
	}
	return err == -ENOSPC ? 0 : err;
}

static int fill(struct tg_map_cursor *cursor, struct tg_map_page *page, struct tg_error *error)
{
	int err = page_resize(cursor, page);

	if (!err && !cursor->map->no_batch)
		err = fill_by_batch(cursor, page);
	if (err == -ENOTSUPP)
		cursor->map->no_batch = true;
	if ((!err || err == -ENOTSUPP) && cursor->map->no_batch)
		err = fill_one_by_one(cursor, page);
	cursor->ended = err == -ENOENT || !cursor->left;
	return err && !cursor->ended ? explain(cursor->map, err, error) : 0;
}

int tg_map_cursor_open(struct tg_map_cursor *cursor, struct tg_map *map, uint32_t room,
	struct tg_error *error)
{
	int err;

	memset(cursor, 0, sizeof(*cursor));
	if (!map->key)
		return tg_fail(error, -ENOTSUP, "a map of kind %s has no keys to go through",
			tg_map_kind(map));
	cursor->map = map;
	cursor->room = room < map->info.max_entries ? room : map->info.max_entries;
	if (cursor->room > PAGE_ROOM / map->value_bytes)
		cursor->room = PAGE_ROOM / map->value_bytes + 1;
	cursor->left = map->info.max_entries;
	cursor->token = calloc(1, map->info.key_size + sizeof(uint64_t));
	err = cursor->token ? fill(cursor, &cursor->page[0], error)
			    : tg_fail(error, -ENOMEM, "no memory");
	if (err)
		tg_map_cursor_close(cursor);
	return err;
}

int tg_map_cursor_next(struct tg_map_cursor *cursor, struct tg_map_page **page,
	struct tg_error *error)
{
	struct tg_map_page *ahead = &cursor->page[!cursor->filled];

	*page = &cursor->page[cursor->filled];
	cursor->filled = !cursor->filled;
	ahead->count = 0;
	return cursor->ended ? 0 : fill(cursor, ahead, error);
}

void tg_map_cursor_close(struct tg_map_cursor *cursor)
{
	for (int i = 0; i < 2; i++) {
		free(cursor->page[i].keys);
		free(cursor->page[i].values);
	}
	free(cursor->token);
	memset(cursor, 0, sizeof(*cursor));
}
