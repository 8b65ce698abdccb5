/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * mirror_bench [--json FILE] [NAME…]: what mirrors cost a packet in the TC program that are configured and not started,
 * floor included: value = with the program - with nothing in its place + floor, ratio = value / floor.
 *
 *	mirror.off	 none is at work
 *	mirror.elsewhere one is at work on another port
 *
 * The cases take turns, ROUNDS times; printed are medians. The program and its wrapper are policy_bench.bpf.c's.
 */
#include "flow_hash.h"
#include "tidegate_abi.h"

#include "policy_bench.skel.h"

#include <bpf/bpf.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "policy_bench.h"
#include "median.h"

#define ROUNDS 9
#define REPEAT (1 << 20)
#define AIM_NS 3.0

struct bench {
	const char *name;
	__u32 at_work; /* taps, on another port */
	struct policy_bench_bpf *object;
	double floor[ROUNDS], value[ROUNDS];
};

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void *map_memory(struct bpf_map *map, size_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, bpf_map__fd(map), 0);

	if (memory == MAP_FAILED)
		die("mmap");
	return memory;
}

/* Any packet will do: an IPv4 header behind Ethernet. */
static void fill_frames(struct bpf_map *map)
{
	const size_t size = POLICY_PACKETS * sizeof(struct policy_frame);
	unsigned char *frame = map_memory(map, size);

	frame[12] = 0x08;
	frame[14] = 0x45;
	munmap(frame, size);
}

static void load(struct bench *b)
{
	struct tg_port port = { .flags = TG_PORT_NEAR };
	struct tg_clock *clock;
	__u32 loopback = 1;

	b->object = policy_bench_bpf__open();
	if (!b->object)
		die("open");
	b->object->rodata->features = TG_FEATURE_TAP;
	if (policy_bench_bpf__load(b->object))
		die("load");
	if (bpf_map_update_elem(bpf_map__fd(b->object->maps.near_ports), &loopback, &port, BPF_ANY))
		die("ports");
	fill_frames(b->object->maps.frames);
	clock = map_memory(b->object->maps.clock, sizeof(*clock));
	clock->taps = b->at_work;
	munmap(clock, sizeof(*clock));
}

/* Nanoseconds a packet. */
static double run(struct bpf_program *program)
{
	static const char frame[sizeof(struct policy_frame)] = { 0 };
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = frame, .data_size_in = sizeof(frame),
		.repeat = REPEAT);
	double start = thread_ns();

	if (bpf_prog_test_run_opts(bpf_program__fd(program), &opts) || opts.retval)
		die("test run");
	return (thread_ns() - start) / REPEAT;
}

static void measure(struct bench *b, int round)
{
	double floor = run(b->object->progs.bench_floor);
	double empty = run(b->object->progs.bench_empty);
	__u64 before = b->object->bss->accepted;
	double with = run(b->object->progs.bench_wrapped);

	if (b->object->bss->accepted - before != REPEAT) {
		fprintf(stderr, "mirror_bench: %s: not all packets went on\n", b->name);
		exit(1);
	}
	b->floor[round] = floor;
	b->value[round] = with - empty + floor;
}

static void report(struct bench *b, FILE *json)
{
	double value = median_of(b->value, ROUNDS), floor = median_of(b->floor, ROUNDS);

	printf("%-18s %8.1f ns %8.1f ns %6.2f   net %.1f ns%s\n", b->name, value, floor, value / floor,
		value - floor, b->at_work ? "" : value - floor <= AIM_NS ? ", aim 3" : ", aim 3  MISSED");
	if (json)
		fprintf(json, "{\"name\":\"%s\",\"value\":%.2f,\"unit\":\"ns\",\"floor\":%.2f,\"ratio\":%.3f}\n",
			b->name, value, floor, value / floor);
}

static bool wanted(const char *name, char **names, int count)
{
	for (int i = 0; i < count; i++)
		if (!strncmp(name, names[i], strlen(names[i])))
			return true;
	return !count;
}

int main(int argc, char **argv)
{
	static struct bench benches[] = { { .name = "mirror.off" },
		{ .name = "mirror.elsewhere", .at_work = 1 } };
	const int all = sizeof(benches) / sizeof(*benches);
	bool json_asked = argc > 2 && !strcmp(argv[1], "--json");
	int skip = json_asked ? 3 : 1;
	FILE *json = json_asked ? fopen(argv[2], "a") : NULL;
	cpu_set_t cpu;

	if (json_asked && !json)
		die(argv[2]);
	CPU_ZERO(&cpu);
	CPU_SET(libbpf_num_possible_cpus() - 1, &cpu);
	sched_setaffinity(0, sizeof(cpu), &cpu);
	for (int i = 0; i < all; i++)
		load(&benches[i]);
	for (int round = 0; round < ROUNDS; round++)
		for (int i = 0; i < all; i++)
			measure(&benches[i], round);
	printf("%-18s %11s %11s %6s\n", "mirrors", "a packet", "floor", "ratio");
	for (int i = 0; i < all; i++)
		if (wanted(benches[i].name, argv + skip, argc - skip))
			report(&benches[i], json);
	if (json)
		fclose(json);
	return 0;
}
