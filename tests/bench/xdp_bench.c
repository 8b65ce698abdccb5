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
 * One service (and its VIP) with 10 backends of equal weight and 65,537 slots. lb* are l2dsr with a
 * program specialised for no nat, except where the name ends in "+nat"; "@1m" are 2^20 flows, each
 * once.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "endpoints.h"
#include "flow_hash.h"
#include "maglev.h"
#include "tidegate_abi.h"

#include "xdp_bench.skel.h"

#define ROUNDS	 11
#define REPEAT	 (1 << 20)
#define BACKENDS 10
#define SERVICE	 1
#define RING	 5

#define VIP4	"198.51.100.10"
#define VIP6	"2001:db8::10"
#define CLIENT4 "10.1.2.3"
#define CLIENT6 "2001:db8:1::a01:203"
#define OTHER4	"198.51.100.99"

enum path { FORWARD, MISS, REPLY };

struct bench_case {
	const char *name;
	bool v6;
	bool nat;  /* the program knows nat */
	__u8 mode; /* of the service */
	bool syn;
	enum path path;
	double aim; /* hot */
	double aim_random;
};

static const struct bench_case cases[] = {
	{ "lb4.flow", false, false, TG_MODE_L2DSR, false, FORWARD, 2.8, 3.3 },
	{ "lb4.syn", false, false, TG_MODE_L2DSR, true, FORWARD, 0, 0 },
	{ "lb6.flow", true, false, TG_MODE_L2DSR, false, FORWARD, 3.2, 0 },
	{ "lb.miss", false, false, TG_MODE_L2DSR, false, MISS, 2.0, 0 },
	{ "nat.forward", false, true, TG_MODE_NAT, false, FORWARD, 4.0, 4.0 },
	{ "nat.reply", false, true, TG_MODE_NAT, false, REPLY, 4.0, 4.0 },
	{ "nat6.forward", true, true, TG_MODE_NAT, false, FORWARD, 0, 0 },
	{ "nat6.reply", true, true, TG_MODE_NAT, false, REPLY, 0, 0 },
	{ "lb4.flow+nat", false, true, TG_MODE_L2DSR, false, FORWARD, 0, 0 },
	{ "lb.miss+nat", false, true, TG_MODE_L2DSR, false, MISS, 0, 0 },
};
#define CASES (sizeof(cases) / sizeof(cases[0]))

/* A case in one of its two sizes, loaded. */
struct bench {
	const struct bench_case *of;
	bool random;
	char name[32];
	struct xdp_bench_bpf *object;
	__u64 frame[10];
	__u32 words;
	double ratio[ROUNDS], value[ROUNDS], floor[ROUNDS];
};

static void die(const char *what)
{
	fprintf(stderr, "xdp_bench: %s: %s\n", what, strerror(errno));
	exit(3);
}

static void set(struct bpf_map *map, const void *key, const void *value)
{
	if (bpf_map_update_elem(bpf_map__fd(map), key, value, BPF_ANY))
		die(bpf_map__name(map));
}

static void set_at(struct bpf_map *map, __u32 index, const void *value)
{
	set(map, &index, value);
}

/* The backend's address, IPv4 in the first word. */
static void backend_address(bool v6, int i, __be32 addr[4])
{
	char text[INET6_ADDRSTRLEN];

	memset(addr, 0, 16);
	snprintf(text, sizeof(text), v6 ? "2001:db8:2::%x" : "192.0.2.%d", 10 + i);
	inet_pton(v6 ? AF_INET6 : AF_INET, text, addr);
}

/* --- the tables ------------------------------------------------------------------------------ */

static const struct tg_hop hop = { .ifindex = 1, .dmac = "\2\0\0\0\0\1", .smac = "\2\0\0\0\0\2" };

static const __u64 seed[2] = { 0x0123456789abcdef, 0xfedcba9876543210 };

static void publish_endpoints(struct xdp_bench_bpf *object, bool nat)
{
	int maps[] = { bpf_map__fd(object->maps.vips4), bpf_map__fd(object->maps.vips6),
		nat ? bpf_map__fd(object->maps.reverse4) : -1,
		nat ? bpf_map__fd(object->maps.reverse6) : -1 };
	struct tg_endpoints endpoints;

	errno = -tg_endpoints_open(&endpoints, bpf_map__fd(object->maps.clock),
		bpf_map__fd(object->maps.endpoint_lines), bpf_map__fd(object->maps.endpoints));
	if (!errno)
		errno = -tg_endpoints_publish(&endpoints, maps);
	if (errno)
		die("endpoint index");
	tg_endpoints_close(&endpoints);
}

static void fill_ring(struct xdp_bench_bpf *object)
{
	LIBBPF_OPTS(bpf_map_create_opts, opts, .map_flags = BPF_F_MMAPABLE | BPF_F_INNER_MAP);
	struct tg_maglev_backend backends[BACKENDS];
	static __u32 table[TG_DEFAULT_SLOTS];
	__u32 index = RING;
	int fd;

	for (int i = 0; i < BACKENDS; i++)
		backends[i] = (struct tg_maglev_backend){ tg_maglev_key(&i, sizeof(i)), i + 1, 1 };
	if (tg_maglev_build(backends, BACKENDS, table, TG_DEFAULT_SLOTS))
		die("maglev");
	fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, "ring", 4, 8, TG_DEFAULT_SLOTS, &opts);
	if (fd < 0)
		die("ring");
	for (__u32 i = 0; i < TG_DEFAULT_SLOTS; i++) {
		__u64 slot = TG_SLOT(table[i], table[i], 0);

		bpf_map_update_elem(fd, &i, &slot, BPF_ANY);
	}
	set(object->maps.rings, &index, &fd);
}

static void fill_backends(struct xdp_bench_bpf *object, const struct bench_case *c)
{
	for (int i = 0; i < BACKENDS; i++) {
		struct tg_backend backend = { .hop = { hop, hop },
			.mtu = 1500,
			.port = c->mode == TG_MODE_NAT ? htons(8080) : 0 };

		backend_address(c->v6, i, backend.addr);
		set_at(object->maps.backends, i + 1, &backend);
	}
}

static void fill_vip(struct xdp_bench_bpf *object, const struct bench_case *c)
{
	struct tg_vip vip = { RING, TG_DEFAULT_SLOTS, SERVICE, c->mode, 0, 0 };
	struct tg_vip4_key key4 = { .port = htons(80), .proto = IPPROTO_TCP };
	struct tg_vip6_key key6 = { .port = htons(80), .proto = IPPROTO_TCP };

	inet_pton(AF_INET, VIP4, &key4.addr);
	inet_pton(AF_INET6, VIP6, &key6.addr);
	set(c->v6 ? object->maps.vips6 : object->maps.vips4, c->v6 ? (void *)&key6 : (void *)&key4,
		&vip);
}

static void fill_reverse(struct xdp_bench_bpf *object, bool v6)
{
	for (int i = 0; i < BACKENDS; i++) {
		struct tg_vip6_key key6 = { .port = htons(8080), .proto = IPPROTO_TCP };
		struct tg_vip4_key key4 = { .port = htons(8080), .proto = IPPROTO_TCP };
		struct tg_reverse4 to4 = {
			.port = htons(80), .service = SERVICE, .backend = i + 1
		};
		struct tg_reverse6 to6 = {
			.port = htons(80), .service = SERVICE, .backend = i + 1
		};

		backend_address(v6, i, key6.addr);
		key4.addr = key6.addr[0];
		inet_pton(AF_INET, VIP4, &to4.addr);
		inet_pton(AF_INET6, VIP6, to6.addr);
		if (v6)
			set(object->maps.reverse6, &key6, &to6);
		else
			set(object->maps.reverse4, &key4, &to4);
	}
}

static void add_route(
	struct xdp_bench_bpf *object, bool v6, const char *prefix, __u32 length, bool local)
{
	struct {
		__u32 length;
		__be32 addr[4];
	} key = { .length = length };
	struct tg_route route = { .hop = local ? (struct tg_hop){} : hop,
		.flags = local ? TG_ROUTE_LOCAL : 0,
		.mtu = 1500 };

	inet_pton(v6 ? AF_INET6 : AF_INET, prefix, key.addr);
	set(v6 ? object->maps.routes6 : object->maps.routes4, &key, &route);
}

/* Those of a switch with two ports: its addresses, their networks, a neighbour, a default. */
static void fill_routes(struct xdp_bench_bpf *object, bool v6)
{
	add_route(object, v6, v6 ? "::" : "0.0.0.0", 0, false);
	add_route(object, v6, v6 ? "2001:db8:2::" : "192.0.2.0", v6 ? 64 : 24, false);
	add_route(object, v6, v6 ? "2001:db8:2::1" : "192.0.2.1", v6 ? 128 : 32, true);
	add_route(object, v6, v6 ? "2001:db8:3::" : "203.0.113.0", v6 ? 64 : 24, false);
	add_route(object, v6, v6 ? "2001:db8:3::1" : "203.0.113.1", v6 ? 128 : 32, true);
	add_route(object, v6, v6 ? "2001:db8:3::9" : "203.0.113.9", v6 ? 128 : 32, false);
	add_route(object, v6, v6 ? "::1" : "127.0.0.1", v6 ? 128 : 32, true);
}

/* --- the packet ------------------------------------------------------------------------------ */

static void fill_tcp(struct tcphdr *tcp, const struct bench_case *c)
{
	tcp->source = htons(c->path == REPLY ? 8080 : 40000);
	tcp->dest = htons(c->path == REPLY ? 40000 : 80);
	tcp->doff = 5;
	tcp->ack = !c->syn;
	tcp->syn = c->syn;
	tcp->check = 0x1234;
}

static void fill_frame4(struct bench *b)
{
	struct ethhdr *eth = (void *)b->frame;
	struct iphdr *ip = (void *)(eth + 1);
	__be32 backend[4];

	b->words = 8;
	eth->h_proto = htons(ETH_P_IP);
	ip->version = 4;
	ip->ihl = 5;
	ip->ttl = 64;
	ip->protocol = IPPROTO_TCP;
	ip->tot_len = htons(b->words * 8 - sizeof(*eth));
	ip->check = 0x4321;
	backend_address(false, 3, backend);
	inet_pton(AF_INET, CLIENT4, b->of->path == REPLY ? &ip->daddr : &ip->saddr);
	if (b->of->path == REPLY)
		ip->saddr = backend[0];
	else
		inet_pton(AF_INET, b->of->path == MISS ? OTHER4 : VIP4, &ip->daddr);
	fill_tcp((void *)(ip + 1), b->of);
}

static void fill_frame6(struct bench *b)
{
	struct ethhdr *eth = (void *)b->frame;
	struct ipv6hdr *ip = (void *)(eth + 1);

	b->words = 10;
	eth->h_proto = htons(ETH_P_IPV6);
	ip->version = 6;
	ip->nexthdr = IPPROTO_TCP;
	ip->hop_limit = 64;
	ip->payload_len = htons(b->words * 8 - sizeof(*eth) - sizeof(*ip));
	inet_pton(AF_INET6, CLIENT6, b->of->path == REPLY ? &ip->daddr : &ip->saddr);
	if (b->of->path == REPLY)
		backend_address(true, 3, ip->saddr.s6_addr32);
	else
		inet_pton(AF_INET6, VIP6, &ip->daddr);
	fill_tcp((void *)(ip + 1), b->of);
}

/* --- programs -------------------------------------------------------------------------------- */

static void without_nat(struct xdp_bench_bpf *object)
{
	struct bpf_map *maps[] = { object->maps.reverse4, object->maps.reverse6,
		object->maps.routes4, object->maps.routes6, object->maps.lines,
		object->maps.line_marks };

	object->rodata->features &= ~TG_FEATURE_NAT;
	for (size_t i = 0; i < sizeof(maps) / sizeof(maps[0]); i++)
		bpf_map__set_autocreate(maps[i], false);
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
	if (!b->of->nat)
		without_nat(object);
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
	fill_ring(b->object);
	fill_backends(b->object, b->of);
	fill_vip(b->object, b->of);
	if (b->of->nat) {
		fill_reverse(b->object, b->of->v6);
		fill_routes(b->object, b->of->v6);
	}
	publish_endpoints(b->object, b->of->nat);
}

/* --- runs ------------------------------------------------------------------------------------ */

static double thread_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return now.tv_sec * 1e9 + now.tv_nsec;
}

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
	double aim = b->random ? b->of->aim_random : b->of->aim;
	double ratio = median(b->ratio), value = median(b->value), floor = median(b->floor);

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
