/* SPDX-License-Identifier: GPL-2.0-only */
#include "datapath_load.h"

#include "datapath_program.h"
#include "datapath_tracks.h"
#include "flow_hash.h"

#include "tc.skel.h"
#include "xdp.skel.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Settings stand first in the read-only data of every object, in the order of bpf/maps.h. */
#define SAME_PLACE(setting)                                                                        \
	_Static_assert(offsetof(struct xdp_bpf__rodata, setting) ==                                \
			       offsetof(struct tc_bpf__rodata, setting),                           \
		"settings")
SAME_PLACE(features);
SAME_PLACE(flow_key);
SAME_PLACE(line_count);
SAME_PLACE(policy_words);

static const struct {
	const char *name;
	__u32 needed_for; /* one of these features; 0: always */
} map_table[] = {
#define MAP_ROW(symbol, name, needed_for) [TG_MAP_##symbol] = { #name, needed_for },
	TG_MAPS(MAP_ROW)
#undef MAP_ROW
};

static bool is_needed(enum tg_map map, __u32 features)
{
	return !map_table[map].needed_for || map_table[map].needed_for & features;
}

const char *tg_load_map_name(enum tg_map map)
{
	return map_table[map].name;
}

/* libbpf's last warning: more telling than an errno. */
static _Thread_local char last_warning[256];

static int keep_warning(enum libbpf_print_level level, const char *format, va_list args)
{
	if (level != LIBBPF_WARN)
		return 0;
	vsnprintf(last_warning, sizeof(last_warning), format, args);
	last_warning[strcspn(last_warning, "\n")] = 0;
	if (getenv("TIDEGATE_LIBBPF_LOG"))
		fprintf(stderr, "%s\n", last_warning);
	return 0;
}

void tg_load_listen(void)
{
	libbpf_set_print(keep_warning);
}

/* Does a pinned map have the shape that the program needs? The kernel adds flags of its own: not compared. */
static bool fits(int fd, const struct bpf_map *map)
{
	struct bpf_map_info info = { 0 };
	__u32 size = sizeof(info);

	return !bpf_obj_get_info_by_fd(fd, &info, &size) && info.type == bpf_map__type(map) &&
	       info.key_size == bpf_map__key_size(map) &&
	       info.value_size == bpf_map__value_size(map) &&
	       info.max_entries == bpf_map__max_entries(map);
}

/* Reuses the map that is pinned. 1: there is none. */
static int reuse_map(struct bpf_map *map, const char *path, struct tg_error *error)
{
	int fd = bpf_obj_get(path), result;

	if (fd < 0)
		return errno == ENOENT
			       ? 1
			       : tg_fail(error, -errno, "can't open %s: %s", path, strerror(errno));
	if (fits(fd, map))
		result = bpf_map__reuse_fd(map, fd) ? -errno : 0;
	else
		result = tg_fail(error, -EPROTO,
			"%s has another shape than this version's: `tidegate unload` removes it",
			path);
	close(fd);
	return result;
}

/* Lets every map be the pinned one, or be made and pinned. */
static int prepare_maps(const struct tg_datapath *dp, struct bpf_object *object, __u32 features,
	struct tg_error *error)
{
	char path[192];
	int result = 0;

	for (int i = 0; result >= 0 && i < TG_MAP_COUNT; i++) {
		struct bpf_map *map = bpf_object__find_map_by_name(object, map_table[i].name);

		snprintf(path, sizeof(path), "%s/maps/%s", dp->dir, map_table[i].name);
		result = map ? reuse_map(map, path, error) : -ENOENT;
		if (result == 1 && !is_needed(i, features))
			bpf_map__set_autocreate(map, false);
		else if (result == 1)
			result = bpf_map__set_pin_path(map, path) ? -errno : 0;
	}
	return result < 0 ? result : 0;
}

static int keep_descriptors(struct tg_datapath *dp, const struct bpf_object *object)
{
	for (int i = 0; i < TG_MAP_COUNT; i++) {
		int fd = bpf_object__find_map_fd_by_name(object, map_table[i].name);

		if (dp->maps[i] >= 0 || fd < 0)
			continue;
		dp->maps[i] = dup(fd);
		if (dp->maps[i] < 0)
			return -errno;
	}
	return 0;
}

/* The engine's thread may be reading `out` meanwhile. */
static int map_memory(int fd, size_t size, void **out)
{
	void *memory;

	if (fd < 0 || *out)
		return 0;
	memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (memory == MAP_FAILED)
		return -errno;
	__atomic_store_n(out, memory, __ATOMIC_RELEASE);
	return 0;
}

struct mapping {
	enum tg_map map;
	size_t size;
	void **memory; /* where it is noted */
};

#define MAPPINGS 8

/* What is mapped as long as the datapath is open. */
static void list_mappings(struct tg_datapath *dp, struct mapping list[MAPPINGS])
{
	const struct mapping all[MAPPINGS] = {
		{ TG_MAP_BACKENDS, TG_MAX_BACKENDS * sizeof(struct tg_backend),
			(void **)&dp->backends },
		{ TG_MAP_CLOCK, sizeof(struct tg_clock), (void **)&dp->clock },
		{ TG_MAP_TUNNELS, sizeof(struct tg_tunnel), (void **)&dp->tunnel },
		{ TG_MAP_LINES, dp->line_count * sizeof(struct tg_line), (void **)&dp->lines },
		{ TG_MAP_LINE_MARKS, (dp->line_count + 63) / 64 * 8, (void **)&dp->line_marks },
		{ TG_MAP_RANGES, 2 * TG_MAX_RANGES * sizeof(struct tg_endpoint),
			(void **)&dp->ranges },
		{ TG_MAP_RANGE_TABLE, sizeof(struct tg_range_table), (void **)&dp->range_table },
		{ TG_MAP_VIP_MARKS, sizeof(struct tg_vip_marks), (void **)&dp->vip_marks },
	};

	memcpy(list, all, sizeof(all));
}

static int map_all(struct tg_datapath *dp)
{
	struct mapping list[MAPPINGS];
	int result = 0;

	list_mappings(dp, list);
	for (int i = 0; !result && i < MAPPINGS; i++)
		result = map_memory(dp->maps[list[i].map], list[i].size, list[i].memory);
	return result;
}

void tg_load_unmap(struct tg_datapath *dp)
{
	struct mapping list[MAPPINGS];

	list_mappings(dp, list);
	for (int i = 0; i < MAPPINGS; i++) {
		if (*list[i].memory)
			munmap(*list[i].memory, list[i].size);
		*list[i].memory = NULL;
	}
}

int tg_load_keep_maps(
	struct tg_datapath *dp, const struct bpf_object *object, struct tg_error *error)
{
	int result = keep_descriptors(dp, object);

	if (!result)
		result = map_all(dp);
	return result ? tg_load_error(result, error) : 0;
}

int tg_load_error(int code, struct tg_error *error)
{
	if (error->text[0])
		return code;
	if (code == -EPERM || code == -EACCES)
		return tg_fail(error, -EPERM,
			"no privilege to load BPF programs: run as root, or with CAP_BPF, "
			"CAP_NET_ADMIN and CAP_PERFMON (%s)",
			last_warning);
	return tg_fail(error, code, "the datapath can't be loaded: %s (%s)", last_warning,
		strerror(-code));
}

/* Gives the line table its size. */
static int size_lines(const struct tg_datapath *dp, struct bpf_object *object)
{
	struct bpf_map *lines = bpf_object__find_map_by_name(object, "lines");
	struct bpf_map *marks = bpf_object__find_map_by_name(object, "line_marks");
	int result = lines && marks ? 0 : -ENOENT;

	if (!result)
		result = bpf_map__set_max_entries(lines, dp->line_count);
	return result ? result : bpf_map__set_max_entries(marks, (dp->line_count + 63) / 64);
}

/* Policies come as a map of their own size, or not at all. */
static int set_policies(
	struct bpf_object *object, __u32 features, const struct tg_policies *policies)
{
	struct bpf_map *map = bpf_object__find_map_by_name(object, "policy_pages");

	if (!map)
		return -ENOENT;
	if (!(features & TG_FOR_POLICY) || policies->map < 0)
		return bpf_map__set_autocreate(map, false);
	return bpf_map__reuse_fd(map, policies->map);
}

static void set_settings(const struct tg_datapath *dp, struct xdp_bpf__rodata *settings,
	__u32 features, const struct tg_policies *policies)
{
	settings->features = features;
	settings->line_count = dp->line_count;
	settings->policy_words = policies->words;
	tg_flow_key(dp->info.seed, &settings->flow_key);
}

int tg_load_object(const struct tg_datapath *dp, struct bpf_object_skeleton *skeleton,
	void *settings, __u32 features, const struct tg_policies *policies, struct tg_error *error)
{
	int result;

	error->text[0] = 0;
	set_settings(dp, settings, features, policies);
	result = size_lines(dp, *skeleton->obj);
	if (!result)
		result = tg_tracks_size(dp, *skeleton->obj);
	if (!result)
		result = set_policies(*skeleton->obj, features, policies);
	if (!result)
		result = prepare_maps(dp, *skeleton->obj, features, error);
	if (!result)
		result = bpf_object__load_skeleton(skeleton);
	return result ? tg_load_error(result, error) : 0;
}

int tg_datapath_load(const struct tg_datapath *dp, struct bpf_object_skeleton *skeleton,
	void *settings, __u32 features, struct tg_error *error)
{
	struct tg_policies policies = { dp->policy_pages, dp->info.policy_words,
		dp->info.policy_hash };
	int result = tg_load_object(
		dp, skeleton, settings, tg_features_of_xdp(features), &policies, error);

	if (!result)
		result = tg_program_enter_rare(*skeleton->obj);
	return result ? tg_load_error(result, error) : 0;
}
