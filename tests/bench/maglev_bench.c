/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * maglev_bench [--json FILE] [NAME…]: milliseconds to build a table of 65,537 slots, and to publish one.
 *
 *   maglev.build.N   N backends of weight 1; floor: the same slots written in a random order,
 *                    the least that any builder does
 *   maglev.publish   every slot of a ring (a mapped BPF array) changed; floor: memcpy of as much
 *
 * Rounds are interleaved with their floor; printed is the median of ROUNDS.
 */
#include "datapath.h"
#include "maglev.h"

#include <bpf/bpf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define SLOTS  65537
#define ROUNDS 15
#define MOST   10000

static struct tg_maglev_backend backends[MOST];
static uint32_t order[SLOTS], slots[SLOTS], other[SLOTS];
static struct tg_ring ring;
static uint64_t copy[2][SLOTS];
static FILE *json;

static double now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

static void prepare(void)
{
	uint32_t x = 1;

	for (uint32_t i = 0; i < MOST; i++)
		backends[i] = (struct tg_maglev_backend){ tg_maglev_key(&i, sizeof(i)), i + 1, 1 };
	for (uint32_t i = 0; i < SLOTS; i++)
		order[i] = i;
	for (uint32_t i = SLOTS - 1; i > 0; i--) {
		uint32_t j = (x = x * 1664525 + 1013904223) % (i + 1), swap = order[i];

		order[i] = order[j];
		order[j] = swap;
	}
}

static double build(size_t count)
{
	double start = now_ms();

	tg_maglev_build(backends, count, slots, SLOTS);
	return now_ms() - start;
}

static double build_floor(size_t count)
{
	double start = now_ms();

	for (uint32_t i = 0; i < SLOTS; i++)
		((volatile uint32_t *)slots)[order[i]] = i % count;
	return now_ms() - start;
}

static double publish(size_t round)
{
	double start = now_ms();

	tg_ring_retarget(&ring, round % 2 ? slots : other, NULL, false, 0);
	return now_ms() - start;
}

static double publish_floor(size_t round)
{
	double start = now_ms();

	memcpy(copy[0], copy[1], sizeof(copy[0]));
	__asm__ volatile("" : : "r"(copy) : "memory");
	return now_ms() - start;
}

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static void measure(const char *name, double (*run)(size_t), double (*floor_run)(size_t), size_t count)
{
	double values[ROUNDS], floors[ROUNDS], value, floor;

	for (size_t i = 0; i < ROUNDS; i++) {
		floors[i] = floor_run(count ? count : i);
		values[i] = run(count ? count : i);
	}
	qsort(values, ROUNDS, sizeof(*values), ascending);
	qsort(floors, ROUNDS, sizeof(*floors), ascending);
	value = values[ROUNDS / 2];
	floor = floors[ROUNDS / 2];
	printf("%-22s %9.4f ms   floor %9.4f ms   ratio %6.2f\n", name, value, floor, value / floor);
	if (json)
		fprintf(json, "{\"name\":\"%s\",\"value\":%.5f,\"unit\":\"ms\",\"floor\":%.5f,\"ratio\":%.3f}\n",
			name, value, floor, value / floor);
}

static int make_ring(void)
{
	LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = BPF_F_MMAPABLE);

	ring.fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, "bench_ring", 4, 8, SLOTS, &options);
	ring.size = SLOTS;
	if (ring.fd < 0)
		return -1;
	ring.slots = mmap(NULL, SLOTS * 8, PROT_READ | PROT_WRITE, MAP_SHARED, ring.fd, 0);
	return ring.slots == MAP_FAILED ? -1 : 0;
}

static int is_wanted(const char *name, int argc, char **argv)
{
	for (int i = 0; i < argc; i++)
		if (!strncmp(name, argv[i], strlen(argv[i])))
			return 1;
	return argc == 0;
}

int main(int argc, char **argv)
{
	static const size_t counts[] = { 10, 100, 1000, 10000 };
	char name[32];

	if (argc > 2 && !strcmp(argv[1], "--json")) {
		json = fopen(argv[2], "a");
		argv += 2;
		argc -= 2;
	}
	prepare();
	for (size_t i = 0; i < sizeof(counts) / sizeof(*counts); i++) {
		snprintf(name, sizeof(name), "maglev.build.%zu", counts[i]);
		if (is_wanted(name, argc - 1, argv + 1))
			measure(name, build, build_floor, counts[i]);
	}
	tg_maglev_build(backends, 10, slots, SLOTS);
	for (uint32_t i = 0; i < SLOTS; i++)
		other[i] = slots[i] + 1;
	if (is_wanted("maglev.publish", argc - 1, argv + 1)) {
		if (make_ring()) {
			perror("maglev.publish: can't make a ring");
			return 1;
		}
		measure("maglev.publish", publish, publish_floor, 0);
	}
	return 0;
}
