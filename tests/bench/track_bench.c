/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * track_bench [--json FILE] [NAME…]: what a packet of a stateful policy costs in the TC program, IPv4; floor included:
 * value = with the program - with nothing in its place + floor, ratio = value / floor.
 *
 *	flow.hit	  TCP of one established flow
 *	flow.hit@random	  of one of 65,536, in the order of a generator
 *	flow.new	  UDP, each packet from another source: no flow, the rules (ten), a flow begins, in tables that
 *			  are full of others by then
 *
 * The cases take turns, ROUNDS times; printed are medians. That each round went the way it claims, the program's
 * own counters say.
 */
#include "flow_hash.h"
#include "policy.h"
#include "tidegate_abi.h"

#include "policy_bench.skel.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "policy_bench.h"

#define ROUNDS 9
#define REPEAT (1 << 19)
#define RULES  10
#define CASES  3

static struct bench {
	const char *name;
	uint32_t flows; /* 0: each packet begins one */
	struct policy_bench_bpf *object;
	double floor[ROUNDS], value[ROUNDS], ratio[ROUNDS];
} benches[CASES] = { { "flow.hit", 1, NULL, { 0 }, { 0 }, { 0 } },
	{ "flow.hit@random", POLICY_PACKETS, NULL, { 0 }, { 0 }, { 0 } },
	{ "flow.new", 0, NULL, { 0 }, { 0 }, { 0 } } };

static void die(const char *what)
{
	perror(what);
	exit(1);
}

/* A packet of flow i, from 10.x.x.x to 172.16.0.1. */
static void put_frame(struct policy_frame *frame, uint32_t i, uint8_t proto)
{
	uint8_t *at = (uint8_t *)frame;
	const uint8_t ip[20] = { 0x45, 0, 0, sizeof(*frame) - 14, 0, 0, 0, 0, 64, proto, 0, 0, 10,
		i >> 16, i >> 8, i, 172, 16, 0, 1 };
	const uint8_t l4[20] = { 0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 1, 5 << 4, 0x10, 16, 0 };

	memset(frame, 0, sizeof(*frame));
	at[12] = 8;
	memcpy(at + 14, ip, sizeof(ip));
	memcpy(at + 34, l4, sizeof(l4));
	if (proto == IPPROTO_UDP)
		at[39] = sizeof(*frame) - 34;
}

/* Ten rules, the last of which lets the packets in; by default drop. */
static void lay_out(struct tg_policy_pages *pages)
{
	static const uint8_t protos[] = { IPPROTO_TCP, IPPROTO_UDP };
	const struct tg_compiled_policy *policies[TG_MAX_POLICIES] = { 0 };
	struct tg_port_range ports[RULES];
	struct tg_rule rules[RULES] = { { 0 } };
	struct tg_policy_rule does[RULES];
	struct tg_policy_spec spec = { .rules = rules,
		.does = does,
		.count = RULES,
		.otherwise = { TG_ACTION_DROP, 0, 0, RULES },
		.flags = TG_POLICY_STATEFUL };
	struct tg_compiled_policy policy;
	struct tg_error error;

	for (int i = 0; i < RULES; i++) {
		ports[i] = (struct tg_port_range){ 71 + i, 71 + i };
		rules[i] = (struct tg_rule){
			.dport = &ports[i], .dport_count = 1, .protos = protos, .proto_count = 2
		};
		does[i] = (struct tg_policy_rule){ TG_ACTION_ACCEPT, 0, 0, i };
	}
	policies[TG_POLICY_OF_PORT(0, TG_INGRESS)] = &policy;
	if (tg_policy_compile(&spec, &policy, NULL, &error) ||
		tg_policy_lay_out(policies, pages, &error))
		die(error.text);
	tg_policy_free(&policy);
}

static void fill(struct bpf_map *map, size_t size, const void *from)
{
	void *to = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, bpf_map__fd(map), 0);

	if (to == MAP_FAILED)
		die("mmap");
	memcpy(to, from, size);
	munmap(to, size);
}

static __u64 now(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return ts.tv_sec * 1000000000ull + ts.tv_nsec;
}

/* An established flow that the packet of that number fits. */
static void enter_flow(const struct bench *b, const struct tg_policy_pages *pages, uint32_t i)
{
	const struct tg_policy_directory *directory = pages->pages;
	struct tg_track_side side = { .packets = 1,
		.bytes = 60,
		.end = 1,
		.ack = 1,
		.window = 1 << 20,
		.scale = 7,
		.flags = 0x12 };
	struct tg_track_id id = { .addr = { { 0, 0, htonl(0xffff), htonl(10 << 24 | i) },
					  { 0, 0, htonl(0xffff), htonl(0xac100001) } },
		.port = { htons(40000), htons(80) },
		.proto = IPPROTO_TCP };
	struct tg_track track = { .side = { side, side },
		.state = TG_TRACK_STATE_ESTABLISHED,
		.since = now(CLOCK_MONOTONIC_COARSE),
		.seen = now(CLOCK_MONOTONIC_COARSE),
		.generation = directory->generation,
		.detail = 2,
		.gate = {
			{ 1, 9, TG_POLICY_OF_PORT(0, TG_INGRESS) }, { 0, 0, TG_TRACK_NO_GATE } } };

	if (bpf_map_update_elem(bpf_map__fd(b->object->maps.flows), &id, &track, BPF_ANY))
		die("flows");
}

static void open_program(struct bench *b, const struct tg_policy_pages *pages)
{
	struct tg_port port = { .flags = TG_PORT_NEAR };
	__u32 loopback = 1;

	b->object = policy_bench_bpf__open();
	if (!b->object)
		die("open");
	b->object->rodata->features = TG_FEATURE_POLICY | TG_FEATURE_FLOW;
	b->object->rodata->policy_words = pages->words;
	b->object->rodata->packet_mask = b->flows ? b->flows - 1 : 0;
	b->object->rodata->renew = !b->flows;
	bpf_map__set_max_entries(b->object->maps.policy_pages, pages->count);
	bpf_map__set_map_flags(b->object->maps.policy_pages, BPF_F_MMAPABLE);
	bpf_map__set_max_entries(b->object->maps.flows, 2 * POLICY_PACKETS);
	if (policy_bench_bpf__load(b->object))
		die("load");
	if (bpf_map_update_elem(bpf_map__fd(b->object->maps.near_ports), &loopback, &port, BPF_ANY))
		die("ports");
}

static void load(struct bench *b)
{
	static struct policy_frame frames[POLICY_PACKETS];
	struct tg_policy_pages pages;

	lay_out(&pages);
	open_program(b, &pages);
	for (uint32_t i = 0; i < POLICY_PACKETS; i++) /* 40503 is odd: each flow once */
		put_frame(&frames[i], i * 40503 % POLICY_PACKETS,
			b->flows ? IPPROTO_TCP : IPPROTO_UDP);
	for (uint32_t i = 0; i < b->flows; i++)
		enter_flow(b, &pages, i);
	fill(b->object->maps.policy_pages, (size_t)pages.count * TG_POLICY_PAGE, pages.pages);
	fill(b->object->maps.frames, sizeof(frames), frames);
	tg_policy_pages_free(&pages);
}

/* Nanoseconds a packet. */
static double run(struct bpf_program *program)
{
	static const char frame[sizeof(struct policy_frame)] = { 0 };
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = frame, .data_size_in = sizeof(frame),
		.repeat = REPEAT);
	__u64 start = now(CLOCK_THREAD_CPUTIME_ID);

	if (bpf_prog_test_run_opts(bpf_program__fd(program), &opts) || opts.retval)
		die("test run");
	return (double)(now(CLOCK_THREAD_CPUTIME_ID) - start) / REPEAT;
}

static __u64 begun(const struct bench *b)
{
	__u64 values[256] = { 0 }, sum = 0;
	__u32 key = TG_TRACK_BEGUN;

	bpf_map_lookup_elem(bpf_map__fd(b->object->maps.track_counters), &key, values);
	for (int i = 0; i < libbpf_num_possible_cpus(); i++)
		sum += values[i];
	return sum;
}

static void measure(struct bench *b, int round)
{
	double floor = run(b->object->progs.bench_floor);
	double empty = run(b->object->progs.bench_empty);
	__u64 accepted = b->object->bss->accepted, before = begun(b);
	double with = run(b->object->progs.bench_wrapped);

	accepted = b->object->bss->accepted - accepted;
	before = begun(b) - before;
	if (accepted != REPEAT || before != (b->flows ? 0 : REPEAT)) {
		fprintf(stderr,
			"track_bench: %s: of %d packets %llu were accepted, %llu began a flow\n",
			b->name, REPEAT, accepted, before);
		exit(1);
	}
	b->floor[round] = floor;
	b->value[round] = with - empty + floor;
	b->ratio[round] = b->value[round] / floor;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *values)
{
	qsort(values, ROUNDS, sizeof(*values), compare);
	return values[ROUNDS / 2];
}

static void report(struct bench *b, FILE *json)
{
	double value = median(b->value), floor = median(b->floor), ratio = median(b->ratio);

	printf("%-24s %8.1f ns %8.1f ns %6.2f\n", b->name, value, floor, ratio);
	if (json)
		fprintf(json,
			"{\"name\":\"%s\",\"value\":%.2f,\"unit\":\"ns\",\"floor\":%.2f,\"ratio\":%"
			".3f}\n",
			b->name, value, floor, ratio);
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
	FILE *json = NULL;
	int skip = 1;
	cpu_set_t cpu;

	if (argc > 2 && !strcmp(argv[1], "--json")) {
		json = fopen(argv[2], "a");
		if (!json)
			die(argv[2]);
		skip = 3;
	}
	CPU_ZERO(&cpu);
	CPU_SET(libbpf_num_possible_cpus() - 1, &cpu);
	sched_setaffinity(0, sizeof(cpu), &cpu);
	for (int i = 0; i < CASES; i++)
		if (wanted(benches[i].name, argv + skip, argc - skip))
			load(&benches[i]);
	for (int round = 0; round < ROUNDS; round++)
		for (int i = 0; i < CASES; i++)
			if (benches[i].object)
				measure(&benches[i], round);
	printf("%-24s %11s %11s %6s\n", "flows", "a packet", "floor", "ratio");
	for (int i = 0; i < CASES; i++)
		if (benches[i].object)
			report(&benches[i], json);
	if (json)
		fclose(json);
	return 0;
}
