// SPDX-License-Identifier: GPL-2.0-only
/* All that an instance has pinned, as a sum for each map: what nobody changed has the same sums. */
#include "fuzz.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <dirent.h>
#include <errno.h>
#include <linux/bpf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define VALUE_ROOM (1 << 20) /* bytes: a per-CPU value */

static void die(const char *what)
{
	fprintf(stderr, "xdp_fuzz: %s: %s\n", what, strerror(errno));
	exit(3);
}

static uint64_t add_bytes(uint64_t sum, const void *bytes, size_t size)
{
	const uint8_t *at = bytes;

	for (; size >= 8; size -= 8, at += 8)
		sum = (sum ^ *(const uint64_t *)at) * 0x9e3779b97f4a7c15u, sum ^= sum >> 29;
	for (; size; size--, at++)
		sum = (sum ^ *at) * 0x9e3779b97f4a7c15u;
	return sum;
}

static uint64_t sum_mapped(int fd, const struct bpf_map_info *info)
{
	size_t stride = (info->value_size + 7) / 8 * 8, page = sysconf(_SC_PAGESIZE);
	size_t size = (stride * info->max_entries + page - 1) / page * page;
	void *memory = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
	uint64_t sum;

	if (memory == MAP_FAILED)
		die(info->name);
	sum = add_bytes(1, memory, stride * info->max_entries);
	munmap(memory, size);
	return sum;
}

static size_t value_bytes(const struct bpf_map_info *info)
{
	switch (info->type) {
	case BPF_MAP_TYPE_PERCPU_ARRAY:
	case BPF_MAP_TYPE_PERCPU_HASH:
	case BPF_MAP_TYPE_LRU_PERCPU_HASH:
		return (info->value_size + 7) / 8 * 8 * libbpf_num_possible_cpus();
	default:
		return info->value_size;
	}
}

static uint64_t sum_entries(int fd, const struct bpf_map_info *info)
{
	static uint8_t value[VALUE_ROOM] __attribute__((aligned(8)));
	uint8_t key[2][256] = { 0 }, *last = NULL, *next = key[0];
	size_t size = value_bytes(info);
	uint64_t sum = 1;

	while (!bpf_map_get_next_key(fd, last, next)) {
		if (!bpf_map_lookup_elem(fd, next, value)) /* an array of maps has holes */
			sum = add_bytes(add_bytes(sum, next, info->key_size), value, size);
		last = next;
		next = next == key[0] ? key[1] : key[0];
	}
	return sum;
}

static void read_pin(struct tables *tables, const char *dir, const char *name)
{
	struct bpf_map_info info = { 0 };
	__u32 size = sizeof(info);
	struct table_sum *table;
	char path[512];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = bpf_obj_get(path);
	if (fd < 0 || bpf_obj_get_info_by_fd(fd, &info, &size))
		die(path);
	if (tables->count == FUZZ_MAX_TABLES)
		die("too many maps");
	table = &tables->table[tables->count++];
	snprintf(table->name, sizeof(table->name), "%.63s", name);
	table->sum =
		info.map_flags & BPF_F_MMAPABLE ? sum_mapped(fd, &info) : sum_entries(fd, &info);
	close(fd);
}

void tables_read(struct tables *tables, const char *pins)
{
	static const char *const dirs[] = { "maps", "rings" };
	struct dirent *entry;
	char path[256];
	DIR *dir;

	tables->count = 0;
	for (size_t i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "%s/%s", pins, dirs[i]);
		dir = opendir(path);
		while (dir && (entry = readdir(dir)))
			if (entry->d_name[0] != '.')
				read_pin(tables, path, entry->d_name);
		if (dir)
			closedir(dir);
	}
}

const char *tables_differ(const struct tables *before, const struct tables *after)
{
	if (before->count != after->count)
		return "their number";
	for (size_t i = 0; i < before->count; i++)
		if (strcmp(before->table[i].name, after->table[i].name) ||
			before->table[i].sum != after->table[i].sum)
			return before->table[i].name;
	return NULL;
}
