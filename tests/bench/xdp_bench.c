/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * xdp_bench [--json FILE] [NAME…]: what the datapath costs a packet, as a multiple of the floor, a
 * program that only returns XDP_TX under a test run.
 *
 *   value = wrapped - empty + floor, ratio = value / floor
 *
 * where `wrapped` is a program that writes the packet anew and calls the unmodified tidegate_xdp,
 * `empty` one that calls an empty function instead (see xdp_bench.bpf.c). The three run in turn,
 * ROUNDS times over all cases; printed is the median of the rounds' ratios. Time is this thread's
 * CPU time, on one CPU. After each run the program's own counters must say that every packet took
 * the path.
 *
 * "transition": every slot moves to the next backend, and every flow has an entry in the line table, of
 * its own size (16 MiB); "strict" likewise, with slots that rest. A flow in a hundred finds its line full.
 *
 * One service (and its VIP) with 10 backends of equal weight and 65,537 slots. lb* are l2dsr with a
 * program specialised for no nat, except where the name ends in "+nat", or for the tunnel that the name
 * ends in (4in4 and 6in6); no program knows port ranges but where the name has "range", and then there
 * are 1,001 of them; "@1m" are 2^20 flows, each once.
 */
#include "xdp_bench_tables.h"
#include "median.h"

#include <sched.h>
#include <time.h>

/* A mode in all states, both families; aims of FLOW (IPv4, its 1m, IPv6) and of slots that move. */
/* clang-format off */
#define CASES_OF(suffix, nat, mode, aim4, random4, aim6, moving, moving1m) \
	{ "lb4.flow" suffix, false, nat, mode, FLOW, FORWARD, aim4, random4 }, \
	{ "lb4.syn" suffix, false, nat, mode, SYN, FORWARD, 0, 0 }, \
	{ "lb4.transition" suffix, false, nat, mode, TRANSITION, FORWARD, moving, moving1m }, \
	{ "lb4.strict" suffix, false, nat, mode, STRICT, FORWARD, moving, moving1m }, \
	{ "lb6.flow" suffix, true, nat, mode, FLOW, FORWARD, aim6, 0 }, \
	{ "lb6.syn" suffix, true, nat, mode, SYN, FORWARD, 0, 0 }, \
	{ "lb6.transition" suffix, true, nat, mode, TRANSITION, FORWARD, 0, 0 }, \
	{ "lb6.strict" suffix, true, nat, mode, STRICT, FORWARD, 0, 0 }
/* clang-format on */

static const struct bench_case cases[] = {
	CASES_OF("", false, TG_MODE_L2DSR, 2.7, 3.2, 3.0, 3.8, 11),
	CASES_OF(".ipip", false, TG_MODE_IPIP, 3.5, 0, 3.5, 0, 0),
	CASES_OF(".gue", false, TG_MODE_GUE, 4.5, 0, 4.5, 0, 0),
	CASES_OF(".nat", true, TG_MODE_NAT, 4.0, 4.0, 0, 0, 0),
	{ "nat.reply", false, true, TG_MODE_NAT, FLOW, REPLY, 4.0, 4.0 },
	{ "nat6.reply", true, true, TG_MODE_NAT, FLOW, REPLY, 0, 0 },
	{ "lb4.flow+nat", false, true, TG_MODE_L2DSR, FLOW, FORWARD, 0, 0 },
	{ "lb.miss", false, false, TG_MODE_L2DSR, FLOW, MISS, 1.8, 0 },
	{ "lb.miss+nat", false, true, TG_MODE_L2DSR, FLOW, MISS, 0, 0 },
	{ "lb4.quic", false, false, TG_MODE_L2DSR, FLOW, FORWARD, 0, 0 },
	{ "lb4.range", false, false, TG_MODE_L2DSR, FLOW, FORWARD, 0, 0 },
	{ "lb.miss+ranges", false, false, TG_MODE_L2DSR, FLOW, MISS, 0, 0 },
};
#define CASES (sizeof(cases) / sizeof(cases[0]))

/* --- programs -------------------------------------------------------------------------------- */

static void without_nat(struct xdp_bench_bpf *object)
{
	struct bpf_map *maps[] = { object->maps.reverse4, object->maps.reverse6,
		object->maps.routes4, object->maps.routes6 };

	for (size_t i = 0; i < sizeof(maps) / sizeof(maps[0]); i++)
		bpf_map__set_autocreate(maps[i], false);
}

static bool tunnels(const struct bench_case *c)
{
	return c->mode == TG_MODE_IPIP || c->mode == TG_MODE_GUE;
}

/* What the program is specialised for. */
static __u32 features_of(const struct bench_case *c)
{
	return TG_FEATURE_V4 | TG_FEATURE_V6 | (c->nat ? TG_FEATURE_NAT : 0) |
	       (strstr(c->name, "range") ? TG_FEATURE_RANGES : 0) |
	       (tunnels(c) ? TG_FEATURE_TUNNEL : 0) | (is_quic(c) ? TG_FEATURE_QUIC : 0);
}

static void load_object(struct bench *b)
{
	struct xdp_bench_bpf *object = xdp_bench_bpf__open();
	bool reply = b->of->path == REPLY;

	if (!object)
		die("open");
	memcpy((void *)object->rodata->frame, b->frame, sizeof(b->frame));
	object->rodata->words = b->words;
	object->rodata->flow_mask = b->random ? REPEAT - 1 : 0;
	object->rodata->addr_offset = b->of->v6 ? (reply ? 14 + 36 : 14 + 20) : (reply ? 30 : 26);
	object->rodata->port_offset = (b->of->v6 ? 54 : 34) + (reply ? 2 : 0);
	tg_flow_key(seed, &object->rodata->flow_key);
	object->rodata->features = features_of(b->of);
	if (!b->of->nat)
		without_nat(object);
	if (enters(b->of)) {
		object->rodata->line_count = TG_DEFAULT_LINES;
		bpf_map__set_max_entries(object->maps.lines, TG_DEFAULT_LINES);
		bpf_map__set_max_entries(object->maps.line_marks, TG_DEFAULT_LINES / 64);
	}
	object->rodata->shifted = tunnels(b->of);
	bpf_map__set_autocreate(object->maps.tunnels, tunnels(b->of));
	if (xdp_bench_bpf__load(object))
		die("load");
	b->object = object;
}

static void load(struct bench *b)
{
	if (b->of->v6)
		fill_frame6(b);
	else
		fill_frame4(b);
	load_object(b);
	fill_ring(b->object, b->of);
	fill_backends(b->object, b->of);
	if (features_of(b->of) & TG_FEATURE_RANGES)
		fill_ranges(b->object, b->of);
	else
		fill_vip(b->object, b->of);
	if (is_quic(b->of))
		fill_quic(b->object);
	if (tunnels(b->of))
		fill_tunnel(b->object);
	if (b->of->nat) {
		fill_reverse(b->object, b->of->v6);
		fill_routes(b->object, b->of->v6);
	}
	publish_endpoints(b->object, b->of->nat);
	if (enters(b->of))
		fill_lines(b);
}

/* --- runs ------------------------------------------------------------------------------------ */

/* Nanoseconds a packet. */
static double run(const struct bench *b, struct bpf_program *program, __u32 want)
{
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = b->frame, .data_size_in = b->words * 8,
		.repeat = REPEAT);
	double start = thread_ns();

	if (bpf_prog_test_run_opts(bpf_program__fd(program), &opts))
		die("test run");
	if (opts.retval != want) {
		fprintf(stderr, "xdp_bench: %s: verdict %u, not %u\n", b->name, opts.retval, want);
		exit(1);
	}
	return (thread_ns() - start) / REPEAT;
}

/* Packets counted on the way that this case claims to go. */
static __u64 counted(const struct bench *b)
{
	int cpus = libbpf_num_possible_cpus();
	__u64 packets = 0;

	if (b->of->path == MISS) {
		__u64 values[cpus];
		__u32 index = TG_REASON_NOT_VIP;

		bpf_map_lookup_elem(bpf_map__fd(b->object->maps.reasons), &index, values);
		for (int i = 0; i < cpus; i++)
			packets += values[i];
		return packets;
	}
	for (__u32 index = 1; index <= BACKENDS; index++) {
		struct tg_counter values[cpus];

		bpf_map_lookup_elem(
			bpf_map__fd(b->of->path == REPLY ? b->object->maps.reply_counters
							 : b->object->maps.backend_counters),
			&index, values);
		for (int i = 0; i < cpus; i++)
			packets += values[i].packets;
	}
	return packets;
}

static void measure(struct bench *b, int round)
{
	__u64 before = counted(b);
	double floor = run(b, b->object->progs.bench_floor, XDP_TX);
	double empty = run(b, b->object->progs.bench_empty, XDP_TX);
	double wrapped =
		run(b, b->object->progs.bench_wrapped, b->of->path == MISS ? XDP_PASS : XDP_TX);

	if (counted(b) - before != REPEAT) {
		fprintf(stderr, "xdp_bench: %s: %llu of %u packets took the path\n", b->name,
			counted(b) - before, REPEAT);
		exit(1);
	}
	b->floor[round] = floor;
	b->value[round] = wrapped - empty + floor;
	b->ratio[round] = b->value[round] / floor;
}

static void report(struct bench *b, FILE *json)
{
	double aim = b->random ? b->of->aim_random : b->of->aim;
	double ratio = median_of(b->ratio, ROUNDS), value = median_of(b->value, ROUNDS), floor = median_of(b->floor, ROUNDS);

	printf("%-18s %8.1f ns %8.1f ns %6.2f", b->name, value, floor, ratio);
	printf(aim ? "  aim %.1f%s\n" : "\n", aim, ratio <= aim ? "" : "  MISSED");
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

static void stay_on_one_cpu(void)
{
	cpu_set_t cpu;

	CPU_ZERO(&cpu);
	CPU_SET(libbpf_num_possible_cpus() - 1, &cpu);
	sched_setaffinity(0, sizeof(cpu), &cpu);
}

int main(int argc, char **argv)
{
	static struct bench benches[2 * CASES];
	size_t count = 0;
	FILE *json = NULL;
	int skip = 1;

	if (argc > 2 && !strcmp(argv[1], "--json")) {
		json = fopen(argv[2], "a");
		if (!json)
			die(argv[2]);
		skip = 3;
	}
	stay_on_one_cpu();
	for (size_t i = 0; i < 2 * CASES; i++) {
		struct bench *b = &benches[count];

		b->of = &cases[i / 2];
		b->random = i % 2;
		snprintf(b->name, sizeof(b->name), "%s%s", b->of->name, b->random ? "@1m" : "");
		if (!wanted(b->name, argv + skip, argc - skip))
			continue;
		load(b);
		count++;
	}
	for (int round = 0; round < ROUNDS; round++)
		for (size_t i = 0; i < count; i++)
			measure(&benches[i], round);
	printf("%-18s %11s %11s %6s\n", "xdp", "a packet", "floor", "ratio");
	for (size_t i = 0; i < count; i++)
		report(&benches[i], json);
	if (json)
		fclose(json);
	return 0;
}
