/* SPDX-License-Identifier: GPL-2.0-only */
#include "datapath.h"

#include "flow_hash.h"
#include "log.h"
#include "datapath_pins.h"
#include "datapath_program.h"

#include "xdp.skel.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

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

static int read_instance(int fd, struct tg_instance_record *info)
{
	struct bpf_map_info map_info = { 0 };
	__u32 size = sizeof(map_info), zero = 0;

	if (bpf_obj_get_info_by_fd(fd, &map_info, &size))
		return -errno;
	if (map_info.value_size != sizeof(*info))
		return -EPROTO; /* another version's */
	return bpf_map_lookup_elem(fd, &zero, info) ? -errno : 0;
}

/* Tells what is pinned: 0 ours, -ENOENT nothing, -EPROTO another ABI's, -EEXIST not ours. */
static int inspect_pins(const char *dir, const char *instance, struct tg_instance_record *info)
{
	char path[192];
	int fd, result;

	if (access(dir, F_OK))
		return errno == ENOENT ? -ENOENT : -errno;
	snprintf(path, sizeof(path), "%s/maps/instance", dir);
	fd = bpf_obj_get(path);
	if (fd < 0)
		return errno == ENOENT ? (tg_pins_empty(dir) ? -ENOENT : -EEXIST) : -errno;
	result = read_instance(fd, info);
	close(fd);
	if (result)
		return result;
	if (info->abi == 0)
		return -ENOENT; /* a daemon died between making the maps and owning them */
	if (info->abi != TG_ABI_VERSION)
		return -EPROTO;
	return strncmp(info->name, instance, sizeof(info->name)) ? -EEXIST : 0;
}

static int not_ours(const char *dir, struct tg_error *error)
{
	return tg_fail(error, -EEXIST,
		"%s holds pins that are not this instance's: remove them or name another "
		"--instance",
		dir);
}

static int draw_seed(__u64 seed[2])
{
	return getrandom(seed, 2 * sizeof(*seed), 0) == 2 * sizeof(*seed) ? 0 : -EIO;
}

/* The seed is a constant of the program, which its tag doesn't cover: the pinned one is not ours then. */
static int set_seed(struct tg_datapath *dp, const __u64 seed[2])
{
	if (!memcmp(dp->info.seed, seed, sizeof(dp->info.seed)))
		return 0;
	memcpy(dp->info.seed, seed, sizeof(dp->info.seed));
	memset(dp->info.program_tag, 0, sizeof(dp->info.program_tag));
	return 0;
}

static __u64 current_netns(void)
{
	struct stat st;

	return stat("/proc/thread-self/ns/net", &st) ? 0 : st.st_ino;
}

/* How many lines the pinned table has; 0: there is none. It keeps its size, and the flows in it. */
static size_t pinned_lines(const struct tg_datapath *dp)
{
	struct bpf_map_info info = { 0 };
	__u32 size = sizeof(info);
	char path[192];
	int fd;

	snprintf(path, sizeof(path), "%s/maps/lines", dp->dir);
	fd = bpf_obj_get(path);
	if (fd < 0)
		return 0;
	if (bpf_obj_get_info_by_fd(fd, &info, &size))
		info.max_entries = 0;
	close(fd);
	return info.max_entries;
}

void tg_datapath_size(struct tg_datapath *dp, size_t flows)
{
	if (!dp->lines_pinned)
		dp->line_count = flows ? (flows + TG_LINE_ENTRIES - 1) / TG_LINE_ENTRIES
				       : TG_DEFAULT_LINES;
}

int tg_datapath_open(struct tg_datapath *dp, const char *instance, const __u64 seed[2],
	bool *replaced, struct tg_error *error)
{
	struct tg_instance_record info;
	int result;

	memset(dp, 0, sizeof(*dp));
	memset(dp->maps, 0xff, sizeof(dp->maps));
	dp->program = -1;
	*replaced = false;
	libbpf_set_print(keep_warning);
	snprintf(dp->dir, sizeof(dp->dir), TG_PIN_DIR "/%s", instance);
	result = tg_instance_need_bpffs(error);
	if (result)
		return result;
	result = inspect_pins(dp->dir, instance, &info);
	if (result == -EEXIST)
		return not_ours(dp->dir, error);
	if (result == -EPROTO) {
		*replaced = true;
		tg_pins_remove(dp->dir);
	} else if (result && result != -ENOENT) {
		return tg_fail(
			error, result, "can't read the pins in %s: %s", dp->dir, strerror(-result));
	}
	dp->adopted = result == 0;
	dp->line_count = dp->adopted ? pinned_lines(dp) : 0;
	dp->lines_pinned = dp->line_count != 0;
	tg_datapath_size(dp, 0);
	dp->info = (struct tg_instance_record){ .abi = TG_ABI_VERSION };
	if (dp->adopted)
		dp->info = info;
	snprintf(dp->info.name, sizeof(dp->info.name), "%s", instance);
	dp->info.netns = current_netns();
	if (seed[0] || seed[1])
		return set_seed(dp, seed);
	return dp->adopted ? 0 : draw_seed(dp->info.seed);
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

/* Keeps descriptors of the maps for longer than the skeleton lives. */
static int keep_maps(struct tg_datapath *dp, struct xdp_bpf *skeleton)
{
	for (int i = 0; i < TG_MAP_COUNT; i++) {
		struct bpf_map *map = bpf_object__find_map_by_name(skeleton->obj, map_table[i].name);
		int fd = bpf_map__fd(map);

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

#define RANGES_SIZE (2 * TG_MAX_RANGES * sizeof(struct tg_endpoint))

static int map_all(struct tg_datapath *dp)
{
	int result;

	result = map_memory(dp->maps[TG_MAP_BACKENDS], TG_MAX_BACKENDS * sizeof(struct tg_backend),
		(void **)&dp->backends);
	if (!result)
		result = map_memory(
			dp->maps[TG_MAP_CLOCK], sizeof(struct tg_clock), (void **)&dp->clock);
	if (!result)
		result = map_memory(dp->maps[TG_MAP_TUNNELS], sizeof(struct tg_tunnel),
			(void **)&dp->tunnel);
	if (!result)
		result = map_memory(dp->maps[TG_MAP_LINES], dp->line_count * sizeof(struct tg_line),
			(void **)&dp->lines);
	if (!result)
		result = map_memory(
			dp->maps[TG_MAP_LINE_MARKS], (dp->line_count + 63) / 64 * 8, (void **)&dp->line_marks);
	if (!result)
		result = map_memory(
			dp->maps[TG_MAP_RANGES], RANGES_SIZE, (void **)&dp->ranges);
	if (!result)
		result = map_memory(dp->maps[TG_MAP_RANGE_TABLE], sizeof(struct tg_range_table),
			(void **)&dp->range_table);
	if (!result)
		result = map_memory(dp->maps[TG_MAP_VIP_MARKS], sizeof(struct tg_vip_marks),
			(void **)&dp->vip_marks);
	return result;
}

static int load_error(int code, struct tg_error *error)
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

int tg_datapath_load(const struct tg_datapath *dp, struct bpf_object_skeleton *skeleton,
	void *settings, __u32 features, struct tg_error *error)
{
	struct xdp_bpf__rodata *rodata = settings;
	int result;

	error->text[0] = 0;
	rodata->features = features;
	rodata->line_count = dp->line_count;
	tg_flow_key(dp->info.seed, &rodata->flow_key);
	result = size_lines(dp, *skeleton->obj);
	if (!result)
		result = prepare_maps(dp, *skeleton->obj, features, error);
	if (!result)
		result = bpf_object__load_skeleton(skeleton);
	if (!result)
		result = tg_program_enter_rare(*skeleton->obj);
	return result ? load_error(result, error) : 0;
}

int tg_datapath_specialise(struct tg_datapath *dp, __u32 features, struct tg_error *error)
{
	struct xdp_bpf *skeleton;
	int result;

	if (dp->program >= 0 && dp->info.features == features)
		return 0;
	error->text[0] = 0;
	skeleton = xdp_bpf__open();
	if (!skeleton)
		return load_error(-errno, error);
	result = tg_pins_make_dirs(dp->dir, error);
	if (!result)
		result = tg_datapath_load(
			dp, skeleton->skeleton, skeleton->rodata, features, error);
	if (result)
		goto out;
	result = keep_maps(dp, skeleton);
	if (!result)
		result = map_all(dp);
	result = result ? load_error(result, error) : tg_program_put_in_force(dp, skeleton, features, error);
out:
	xdp_bpf__destroy(skeleton);
	return result;
}

int tg_datapath_set(
	const struct tg_datapath *dp, enum tg_map map, const void *key, const void *value)
{
	static _Thread_local time_t logged;
	time_t now = time(NULL);
	int result;

	if (!bpf_map_update_elem(dp->maps[map], key, value, BPF_ANY))
		return 0;
	result = -errno;
	if (logged != now)
		tg_log(TG_LOG_ERROR, "map %s can't be written: %s", map_table[map].name,
			strerror(-result));
	logged = now;
	return result;
}

void *tg_datapath_read(
	const struct tg_datapath *dp, enum tg_map map, size_t value_size, __u32 count)
{
	__u32 *keys = calloc(count, sizeof(*keys)), position = 0, got = count;
	void *values = calloc(count, value_size);
	bool failed = !keys || !values;

	if (!failed &&
		bpf_map_lookup_batch(dp->maps[map], NULL, &position, keys, values, &got, NULL))
		failed = errno != ENOENT; /* which says that these were the last */
	free(keys);
	if (!failed && got == count)
		return values;
	free(values);
	return NULL;
}

struct tg_counter tg_datapath_counter(const struct tg_datapath *dp, enum tg_map map, __u32 index)
{
	struct tg_counter sum = { 0 },
			  *values = calloc(libbpf_num_possible_cpus(), sizeof(*values));

	if (!values || dp->maps[map] < 0 || bpf_map_lookup_elem(dp->maps[map], &index, values))
		goto out;
	for (int i = 0; i < libbpf_num_possible_cpus(); i++) {
		sum.packets += values[i].packets;
		sum.bytes += values[i].bytes;
	}
out:
	free(values);
	return sum;
}

/* Sums an element of a per-CPU array of __u64. */
static __u64 sum_of(const struct tg_datapath *dp, enum tg_map map, __u32 index)
{
	__u64 sum = 0, *values = calloc(libbpf_num_possible_cpus(), sizeof(*values));

	if (values && dp->maps[map] >= 0 && !bpf_map_lookup_elem(dp->maps[map], &index, values))
		for (int i = 0; i < libbpf_num_possible_cpus(); i++)
			sum += values[i];
	free(values);
	return sum;
}

__u64 tg_datapath_reason(const struct tg_datapath *dp, enum tg_reason reason)
{
	return sum_of(dp, TG_MAP_REASONS, reason);
}

__u64 tg_datapath_flows(const struct tg_datapath *dp, enum tg_flow_count what)
{
	return sum_of(dp, TG_MAP_FLOW_COUNTERS, what);
}

void tg_datapath_reset_counter(const struct tg_datapath *dp, enum tg_map map, __u32 index)
{
	struct tg_counter *zeros = calloc(libbpf_num_possible_cpus(), sizeof(*zeros));

	if (zeros && dp->maps[map] >= 0)
		bpf_map_update_elem(dp->maps[map], &index, zeros, BPF_ANY);
	free(zeros);
}

void tg_datapath_remove_map(struct tg_datapath *dp, enum tg_map map)
{
	char path[192];

	if (dp->maps[map] < 0)
		return;
	snprintf(path, sizeof(path), "%s/maps/%s", dp->dir, map_table[map].name);
	unlink(path);
	close(dp->maps[map]);
	dp->maps[map] = -1;
}

static void unmap(void *memory, size_t size)
{
	if (memory)
		munmap(memory, size);
}

void tg_datapath_close(struct tg_datapath *dp)
{
	unmap(dp->backends, TG_MAX_BACKENDS * sizeof(struct tg_backend));
	unmap(dp->clock, sizeof(struct tg_clock));
	unmap(dp->tunnel, sizeof(struct tg_tunnel));
	unmap(dp->lines, dp->line_count * sizeof(struct tg_line));
	unmap(dp->line_marks, (dp->line_count + 63) / 64 * 8);
	unmap(dp->ranges, RANGES_SIZE);
	unmap(dp->range_table, sizeof(struct tg_range_table));
	unmap(dp->vip_marks, sizeof(struct tg_vip_marks));
	for (int i = 0; i < TG_MAP_COUNT; i++)
		if (dp->maps[i] >= 0)
			close(dp->maps[i]);
	if (dp->program >= 0)
		close(dp->program);
	memset(dp->maps, 0xff, sizeof(dp->maps));
	dp->program = -1;
}

int tg_datapath_unload(const char *instance, struct tg_error *error)
{
	struct tg_instance_record info;
	char dir[128];
	int result;

	snprintf(dir, sizeof(dir), TG_PIN_DIR "/%s", instance);
	result = inspect_pins(dir, instance, &info);
	if (result == -EEXIST)
		return not_ours(dir, error);
	if (result == -ENOENT && access(dir, F_OK))
		return tg_fail(error, -ENOENT, "nothing is loaded for instance %s", instance);
	if (result && result != -EPROTO && result != -ENOENT)
		return tg_fail(
			error, result, "can't read the pins in %s: %s", dir, strerror(-result));
	result = tg_pins_remove(dir);
	return result ? tg_fail(error, result, "can't remove %s: %s", dir, strerror(-result)) : 0;
}
