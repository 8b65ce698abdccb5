/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * map_bench [--json FILE] [NAME…]: keys a second that Lua sets in a map (tg.map), beside the same
 * system calls made in C from arrays that are ready.
 *
 *   value = keys a second from Lua, floor = from C, ratio = value / floor
 *
 * A hash of KEYS random u32 keys that all exist; values a u64 or a struct of four fields. C and Lua
 * take turns in one process on one CPU, ROUNDS times, by this thread's CPU time; printed is the
 * median. After each run the map must hold what was written: every run writes other values.
 */
#include <errno.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <time.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <lauxlib.h>
#include <lualib.h>

#define KEYS   100000u
#define ROUNDS 9

int luaopen_tidegate_core_map(lua_State *L);

struct backend {	/* the struct value: what a table of four fields costs */
	uint32_t address;
	uint16_t port;
	uint16_t weight;
	uint64_t packets;
};

static const char script[] =
	"local map, path, struct, keys = ...\n"
	"local value = struct and { { 'address', 'u32' }, { 'port', 'u16' }, { 'weight', 'u16' },\n"
	"  { 'packets', 'u64' } } or 'u64'\n"
	"local m, t = assert(map.open(path, { key = 'u32', value = value })), {}\n"
	"local function fill(add)\n"
	"  local key = 1\n"
	"  for i = 1, keys do\n"
	"    key = (key * 1664525 + 1013904223) & 0xffffffff\n"
	"    local n = key + add\n"
	"    t[key] = struct and { address = key, port = 80, weight = 1, packets = n } or n\n"
	"  end\n"
	"end\n"
	"local function set() for k, v in pairs(t) do m:set(k, v) end end\n"
	"local function batch_set() assert(m:batch_set(t) == keys) end\n"
	"return fill, set, batch_set\n";

enum way { SET, BATCH };

static const struct bench {
	const char *name;
	enum way way;
	bool is_struct;
	double aim;	/* of the ratio; 0: none */
} benches[] = {
	{ "map.set", SET, false, 0 },
	{ "map.batch_set", BATCH, false, 0.5 },
	{ "map.set.struct", SET, true, 0 },
	{ "map.batch_set.struct", BATCH, true, 0 },
};
#define BENCHES (sizeof(benches) / sizeof(*benches))

/* One map with what both sides write to it. */
struct subject {
	int fd;
	bool is_struct;
	lua_State *L;
	uint32_t keys[KEYS];
	uint64_t numbers[KEYS];
	struct backend backends[KEYS];
};

static char directory[] = "/tmp/tidegate_bench_XXXXXX";

static void clean_up(void)
{
	umount(directory);
	rmdir(directory);
}

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "map_bench: %s: %s\n", what, strerror(errno));
	exit(3);
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return now.tv_sec * 1000000000ull + now.tv_nsec;
}

/* Full period: no key twice. */
static void keys(struct subject *s)
{
	uint32_t key = 1;

	for (uint32_t i = 0; i < KEYS; i++) {
		key = key * 1664525u + 1013904223u;
		s->keys[i] = key;
	}
}

static void fill(struct subject *s, uint64_t add)
{
	for (uint32_t i = 0; i < KEYS; i++) {
		s->numbers[i] = s->keys[i] + add;
		s->backends[i] = (struct backend){ s->keys[i], 80, 1, s->numbers[i] };
	}
}

/* Lua's functions stay on its stack: 1 fill, 2 set, 3 batch_set. */
static void start_lua(struct subject *s, const char *path)
{
	s->L = luaL_newstate();
	if (!s->L)
		die("Lua");
	luaL_openlibs(s->L);
	if (luaL_loadstring(s->L, script))
		die(lua_tostring(s->L, -1));
	luaL_requiref(s->L, "map", luaopen_tidegate_core_map, false);
	lua_pushstring(s->L, path);
	lua_pushboolean(s->L, s->is_struct);
	lua_pushinteger(s->L, KEYS);
	if (lua_pcall(s->L, 4, 3, 0))
		die(lua_tostring(s->L, -1));
}

static void call_lua(struct subject *s, int function, lua_Integer argument)
{
	lua_pushvalue(s->L, function);
	lua_pushinteger(s->L, argument);
	if (lua_pcall(s->L, 1, 0, 0))
		die(lua_tostring(s->L, -1));
}

static struct subject *new_subject(bool is_struct)
{
	struct subject *s = calloc(1, sizeof(*s));
	char path[64];

	if (!s)
		die("memory");
	s->is_struct = is_struct;
	s->fd = bpf_map_create(BPF_MAP_TYPE_HASH, "bench", sizeof(uint32_t),
		is_struct ? sizeof(struct backend) : sizeof(uint64_t), 1 << 17, NULL);
	snprintf(path, sizeof(path), "%s/%s", directory, is_struct ? "struct" : "number");
	if (s->fd < 0 || bpf_obj_pin(s->fd, path))
		die("a map");
	keys(s);
	start_lua(s, path);
	return s;
}

static const void *values(const struct subject *s)
{
	return s->is_struct ? (const void *)s->backends : s->numbers;
}

static void run_c(struct subject *s, enum way way)
{
	size_t size = s->is_struct ? sizeof(struct backend) : sizeof(uint64_t);
	uint32_t count = KEYS;

	if (way == BATCH && bpf_map_update_batch(s->fd, s->keys, values(s), &count, NULL))
		die("batch");
	for (uint32_t i = 0; way == SET && i < KEYS; i++)
		if (bpf_map_update_elem(s->fd, &s->keys[i], (const char *)values(s) + i * size, 0))
			die("set");
}

/* Each hundredth key, against what was last written: key + add. */
static void check(struct subject *s, uint64_t add)
{
	for (uint32_t i = 0; i < KEYS; i += 100) {
		struct backend got = { 0 };
		uint64_t number;

		if (bpf_map_lookup_elem(s->fd, &s->keys[i], &got))
			die("a key is missing");
		memcpy(&number, s->is_struct ? (void *)&got.packets : (void *)&got, sizeof(number));
		if (number == s->keys[i] + add && (!s->is_struct || got.port == 80))
			continue;
		fprintf(stderr, "map_bench: key %u has the wrong value\n", s->keys[i]);
		exit(1);
	}
}

/* Keys a second. */
static double measure(struct subject *s, enum way way, bool lua)
{
	static uint64_t add;
	uint64_t begin, spent;

	add++;
	if (lua)
		call_lua(s, 1, add);
	else
		fill(s, add);
	lua_gc(s->L, LUA_GCCOLLECT);	/* of what fill() threw away */
	begin = now_ns();
	if (lua)
		call_lua(s, way == SET ? 2 : 3, 0);
	else
		run_c(s, way);
	spent = now_ns() - begin;
	check(s, add);
	return KEYS * 1e9 / spent;
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *values)
{
	qsort(values, ROUNDS, sizeof(*values), by_size);
	return values[ROUNDS / 2];
}

static void report(const struct bench *b, double *lua, double *c, double *ratios, FILE *json)
{
	double value = median(lua), floor = median(c), ratio = median(ratios);

	printf("%-22s %12.0f /s %12.0f /s %6.2f", b->name, value, floor, ratio);
	printf(b->aim ? "  aim %.2f%s\n" : "\n", b->aim, ratio >= b->aim ? "" : "  MISSED");
	if (json)
		fprintf(json,
			"{\"name\":\"%s\",\"value\":%.0f,\"unit\":\"1/s\",\"floor\":%.0f,\"ratio\":%.3f}\n",
			b->name, value, floor, ratio);
}

static bool wanted(const char *name, char **names, int count)
{
	for (int i = 0; i < count; i++)
		if (!strncmp(name, names[i], strlen(names[i])))
			return true;
	return !count;
}

static void stay_on_one_cpu(void)
{
	cpu_set_t cpu;

	CPU_ZERO(&cpu);
	CPU_SET(sched_getcpu(), &cpu);
	sched_setaffinity(0, sizeof(cpu), &cpu);
}

int main(int argc, char **argv)
{
	static double lua[BENCHES][ROUNDS], c[BENCHES][ROUNDS], ratios[BENCHES][ROUNDS];
	FILE *json = NULL;
	struct subject *subjects[2];
	int skip = 1;

	if (argc > 2 && !strcmp(argv[1], "--json")) {
		json = fopen(argv[2], "a");
		if (!json)
			die(argv[2]);
		skip = 3;
	}
	stay_on_one_cpu();
	if (!mkdtemp(directory) || mount("bpf", directory, "bpf", 0, NULL))
		die("a BPF file system");
	atexit(clean_up);
	subjects[0] = new_subject(false);
	subjects[1] = new_subject(true);
	for (int round = -1; round < ROUNDS; round++) {	/* the first one only warms up */
		for (size_t i = 0; i < BENCHES; i++) {
			struct subject *s = subjects[benches[i].is_struct];
			int r = round < 0 ? 0 : round;

			if (!wanted(benches[i].name, argv + skip, argc - skip))
				continue;
			c[i][r] = measure(s, benches[i].way, false);
			lua[i][r] = measure(s, benches[i].way, true);
			ratios[i][r] = lua[i][r] / c[i][r];
		}
	}
	printf("%-22s %15s %15s %6s\n", "map", "from Lua", "from C", "ratio");
	for (size_t i = 0; i < BENCHES; i++)
		if (wanted(benches[i].name, argv + skip, argc - skip))
			report(&benches[i], lua[i], c[i], ratios[i], json);
	if (json)
		fclose(json);
	return 0;
}
