/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * deny_bench [--json FILE] [NAME…]: what the whole deny pass costs a packet: parse, lookup, counters,
 * verdict.
 *
 *   value = wrapped - empty + floor, net = value - floor, ratio = value / floor
 *
 * as in xdp_bench.c, with the programs of deny_bench.bpf.c; the floor drops. All cases run in turn, ROUNDS
 * times, each run BENCH_ROUND packets on one CPU; printed are the medians. After each run the program's own
 * counters must say that every packet took the path.
 *
 *   deny4.hit    the source is on the list          .1, .100k, .1m: prefixes on it
 *   deny4.miss   it is not                          @random: 2^20 sources, each once; else always the same
 *   deny6.hit, deny6.miss                           likewise; misses are uniform in 2000::/3
 *   deny6.inside                                    not listed, but in a /32 where prefixes are listed
 *   filter.hit, filter.miss                         one denied host: the program as it is, no wrapper, beside
 *                                                   xdp-filter's (features ipv4) with the same host
 *
 * IPv4: 70 % /32, 20 % /24, the rest /16 … /31. IPv6: 70 % /128, 20 % /64, the rest /33 … /127, in 16,384
 * networks /32. Aims are of the net, but for `filter`: of the values' ratio, and "x.1m" without @random: of
 * its value against that of x.1.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <glob.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "datapath.h"
#include "deny.h"
#include "flow_hash.h"

#include "deny_bench.h"
#include "deny_bench.skel.h"

#define ROUNDS	  11
#define NETWORKS  (1 << 14)
#define FILTER	  "/usr/lib/*/bpf/xdpfilt_alw_ip.o" /* lets pass what no rule denies */
#define BY_SOURCE 1 /* xdp-filter's MAP_FLAG_SRC */

static const struct size {
	const char *name;
	__u32 prefixes;
} sizes[] = { { "1", 1 }, { "100k", 100000 }, { "1m", 1000000 } };
#define SIZES (sizeof(sizes) / sizeof(sizes[0]))

static const struct kind {
	const char *name;
	bool v6;
	int sources;
	double aim_random; /* ns, of the largest list */
} kinds[] = {
	{ "deny4.hit", false, BENCH_HIT, 30 },
	{ "deny4.miss", false, BENCH_MISS, 30 },
	{ "deny6.hit", true, BENCH_HIT, 0 },
	{ "deny6.miss", true, BENCH_MISS, 60 },
	{ "deny6.inside", true, BENCH_INSIDE, 300 },
};
#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

/* A list of one size and family, in a program of its own. */
struct list {
	struct deny_bench_bpf *object;
	struct tg_datapath dp;
	struct tg_deny *deny;
	struct tg_deny_prefix *prefixes;
	__u32 count;
	bool v6;
	__u8 *sources; /* mapped: of each kind BENCH_ROUND */
	__u8 frame[64];
};

struct bench {
	char name[40];
	struct list *list;
	int sources;
	bool random, filter;
	double aim, value[ROUNDS], floor[ROUNDS];
};

static struct bpf_object *filter; /* NULL: xdp-tools isn't there */

static void die(const char *what)
{
	fprintf(stderr, "deny_bench: %s: %s\n", what, strerror(errno));
	exit(3);
}

/* --- prefixes and sources ----------------------------------------------------------------------- */

static __u64 state;

/* splitmix64 (Steele, Lea, Flood 2014) */
static __u64 draw(void)
{
	__u64 x = state += 0x9e3779b97f4a7c15ull;

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ x >> 27) * 0x94d049bb133111ebull;
	return x ^ x >> 31;
}

/* Not a bogus one (bogus.h). */
static __be32 draw_unicast4(void)
{
	__u32 first = 1 + draw() % 223;

	return htonl((first == 127 ? 1 : first) << 24 | (draw() & 0xffffff));
}

static __be32 network(__u32 nth)
{
	return htonl(0x20000000 | (nth * 0x9e3779b1u >> 3));
}

static struct tg_deny_prefix draw_prefix(bool v6, __u32 nth)
{
	struct tg_deny_prefix prefix = { .v6 = v6 };
	__u32 kind = nth % 10;

	for (int i = 0; i < (v6 ? 4 : 0); i++)
		prefix.addr[i] = draw();
	prefix.addr[0] = v6 ? network(draw() % NETWORKS) : draw_unicast4();
	if (kind < 7)
		prefix.length = v6 ? 128 : 32;
	else if (kind < 9)
		prefix.length = v6 ? 64 : 24;
	else
		prefix.length = v6 ? 33 + draw() % 95 : 16 + draw() % 16;
	return prefix;
}

/* An address below a prefix of this length: random from there on. */
static void draw_below(__be32 addr[4], const struct tg_deny_prefix *prefix, int length)
{
	for (int i = 0; i < (prefix->v6 ? 4 : 1); i++) {
		int bits = length - i * 32;
		__u32 keep = bits <= 0 ? 0 : bits >= 32 ? ~0u : ~0u << (32 - bits);

		addr[i] = htonl((ntohl(prefix->addr[i]) & keep) | ((__u32)draw() & ~keep));
	}
}

static void draw_source(const struct list *list, int kind, __be32 addr[4])
{
	const struct tg_deny_prefix *prefix = &list->prefixes[draw() % list->count];
	struct tg_deny_prefix anywhere = { { htonl(0x20000000) }, .v6 = list->v6 };

	if (kind == BENCH_HIT)
		draw_below(addr, prefix, prefix->length);
	else if (kind == BENCH_INSIDE)
		draw_below(addr, prefix, 32);
	else if (list->v6)
		draw_below(addr, &anywhere, 3);
	else
		addr[0] = draw_unicast4();
}

static void fill_sources(const struct list *list)
{
	size_t size = list->v6 ? 16 : 4;

	for (__u32 i = 0; i < (list->v6 ? BENCH_KINDS : 2) * BENCH_ROUND; i++) {
		struct tg_deny_prefix host = { .v6 = list->v6, .length = list->v6 ? 128 : 32 }, by;

		do
			draw_source(list, i / BENCH_ROUND, host.addr);
		while (tg_deny_find(list->deny, ~0ull, &host, &by) != (i / BENCH_ROUND == BENCH_HIT));
		memcpy(list->sources + i * size, host.addr, size);
	}
}

/* --- programs ------------------------------------------------------------------------------------ */

static void fill_frame(struct list *list)
{
	struct ethhdr *eth = (void *)list->frame;
	struct iphdr *ip = (void *)(eth + 1);
	struct ipv6hdr *ip6 = (void *)(eth + 1);

	eth->h_proto = htons(list->v6 ? ETH_P_IPV6 : ETH_P_IP);
	if (list->v6) {
		ip6->version = 6;
		ip6->nexthdr = IPPROTO_UDP;
		ip6->payload_len = htons(sizeof(list->frame) - sizeof(*eth) - sizeof(*ip6));
		inet_pton(AF_INET6, "2001:db8::1", &ip6->daddr);
		return;
	}
	ip->version = 4;
	ip->ihl = 5;
	ip->protocol = IPPROTO_UDP;
	ip->tot_len = htons(sizeof(list->frame) - sizeof(*eth));
	inet_pton(AF_INET, "198.51.100.99", &ip->daddr);
}

static void open_maps(struct list *list)
{
#define MAP_FD(symbol, name, needed_for)                                                           \
	list->dp.maps[TG_MAP_##symbol] =                                                           \
		bpf_object__find_map_fd_by_name(list->object->obj, #name);
	TG_MAPS(MAP_FD)
#undef MAP_FD
}

/* Tables of what is not measured would only take memory. */
static void load_object(struct list *list)
{
	struct bpf_map *map;

	list->object = deny_bench_bpf__open();
	if (!list->object)
		die("open");
	list->object->rodata->features = list->v6 ? TG_FEATURE_DENY6 : TG_FEATURE_DENY4;
	list->object->rodata->v6 = list->v6;
	bpf_object__for_each_map(map, list->object->obj)
		if (strstr(bpf_map__name(map), list->v6 ? "deny4_" : "deny6_"))
			bpf_map__set_autocreate(map, false);
	if (deny_bench_bpf__load(list->object))
		die("load");
	list->sources = mmap(NULL, BENCH_SOURCES * 16, PROT_READ | PROT_WRITE, MAP_SHARED,
		bpf_map__fd(list->object->maps.bench_sources), 0);
	if (list->sources == MAP_FAILED)
		die("sources");
	open_maps(list);
}

static void load(struct list *list, bool v6, __u32 count)
{
	struct tg_error error = { "" };
	int class;

	list->v6 = v6;
	list->count = count;
	fill_frame(list);
	load_object(list);
	list->deny = tg_deny_new(&list->dp);
	list->prefixes = calloc(count, sizeof(*list->prefixes));
	for (__u32 i = 0; i < count; i++)
		list->prefixes[i] = draw_prefix(v6, i);
	if (tg_deny_open(list->deny, &error))
		goto failed;
	class = tg_deny_class(list->deny, "bench", TG_DENY_DENY, &error);
	if (class < 0 ||
		tg_deny_add(list->deny, class, list->prefixes, count, NULL, &error))
		goto failed;
	fill_sources(list);
	return;
failed:
	fprintf(stderr, "deny_bench: %s\n", error.text);
	exit(3);
}

static struct bpf_object *open_filter(void)
{
	struct bpf_object *object = NULL;
	glob_t found;

	if (glob(FILTER, 0, NULL, &found))
		return NULL;
	libbpf_set_print(NULL); /* it speaks of sections that it skips */
	object = bpf_object__open_file(found.gl_pathv[0], NULL);
	globfree(&found);
	return libbpf_get_error(object) ? NULL : object;
}

/* xdp-filter with one host denied: the one on the list. */
static void load_filter(const struct list *list)
{
	int cpus = libbpf_num_possible_cpus();
	struct bpf_map *map;
	__u64 flags[cpus];

	filter = open_filter();
	if (!filter)
		return;
	bpf_object__for_each_map(map, filter)
		bpf_map__set_pin_path(map, NULL);
	if (bpf_object__load(filter))
		die(FILTER);
	for (int i = 0; i < cpus; i++)
		flags[i] = BY_SOURCE;
	if (bpf_map_update_elem(bpf_object__find_map_fd_by_name(filter, "filter_ipv4"),
		    list->sources, flags, BPF_ANY))
		die("filter_ipv4");
}

/* --- runs ---------------------------------------------------------------------------------------- */

static double thread_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return now.tv_sec * 1e9 + now.tv_nsec;
}

/* Nanoseconds a packet. */
static double run(const struct bench *b, const struct bpf_program *program, __u32 want)
{
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = b->list->frame,
		.data_size_in = sizeof(b->list->frame), .repeat = BENCH_ROUND);
	double start = thread_ns();

	if (bpf_prog_test_run_opts(bpf_program__fd(program), &opts))
		die("test run");
	if (opts.retval != want) {
		fprintf(stderr, "deny_bench: %s: verdict %u, not %u\n", b->name, opts.retval, want);
		exit(1);
	}
	return (thread_ns() - start) / BENCH_ROUND;
}

static __u64 counted(const struct bench *b)
{
	__u32 index = b->sources == BENCH_HIT ? TG_REASON_DENIED : TG_REASON_NOT_VIP;
	int cpus = libbpf_num_possible_cpus();
	__u64 values[cpus], packets = 0;

	bpf_map_lookup_elem(bpf_map__fd(b->list->object->maps.reasons), &index, values);
	for (int i = 0; i < cpus; i++)
		packets += values[i];
	return packets;
}

static void set_source(const struct bench *b)
{
	struct deny_bench_bpf *object = b->list->object;
	size_t size = b->list->v6 ? 16 : 4;

	object->bss->from = b->sources * BENCH_ROUND;
	object->bss->mask = b->random ? BENCH_ROUND - 1 : 0;
	memcpy(b->list->frame + (b->list->v6 ? 22 : 26),
		b->list->sources + b->sources * BENCH_ROUND * size, size);
}

static void measure(struct bench *b, int round)
{
	struct deny_bench_bpf *object = b->list->object;
	__u32 want = b->sources == BENCH_HIT ? XDP_DROP : XDP_PASS;
	__u64 before = counted(b);

	set_source(b);
	if (b->filter) {
		b->floor[round] = run(b, bpf_object__next_program(filter, NULL), want);
		b->value[round] = run(b, object->progs.bench_direct, want);
	} else {
		b->floor[round] = run(b, object->progs.bench_floor, XDP_DROP);
		b->value[round] = b->floor[round] - run(b, object->progs.bench_empty, XDP_DROP) +
				  run(b, object->progs.bench_wrapped, want);
	}
	if (counted(b) - before == BENCH_ROUND)
		return;
	fprintf(stderr, "deny_bench: %s: %llu of %u packets took the path\n", b->name,
		counted(b) - before, BENCH_ROUND);
	exit(1);
}

/* --- the report ---------------------------------------------------------------------------------- */

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(const double *values)
{
	double sorted[ROUNDS];

	memcpy(sorted, values, sizeof(sorted));
	qsort(sorted, ROUNDS, sizeof(*sorted), compare);
	return sorted[ROUNDS / 2];
}

/* What is judged: against which case or what else, the header says. */
static double judged(const struct bench *b, const struct bench *one)
{
	double value = median(b->value), floor = median(b->floor);

	if (b->filter)
		return value / floor;
	return one ? value / median(one->value) : value - floor;
}

static void report(const struct bench *b, const struct bench *one, FILE *json)
{
	double value = median(b->value), floor = median(b->floor), seen = judged(b, one);

	printf("%-22s %8.1f ns %8.1f ns %6.2f", b->name, value, floor, value / floor);
	printf(b->filter ? "            " : " %8.1f ns", value - floor);
	if (b->aim)
		printf("  %5.2f%s aim %g%s", seen, b->filter ? " of its" : one ? " of .1's" : " ns",
			b->aim, seen <= b->aim ? "" : "  MISSED");
	printf("\n");
	if (json)
		fprintf(json,
			"{\"name\":\"%s\",\"value\":%.2f,\"unit\":\"ns\",\"floor\":%.2f,\"ratio\":%"
			".3f}\n",
			b->name, value, floor, value / floor);
}

static bool wanted(const char *name, char **names, int count)
{
	for (int i = 0; i < count; i++)
		if (!strncmp(name, names[i], strlen(names[i])))
			return true;
	return !count;
}

/* --- cases --------------------------------------------------------------------------------------- */

static struct bench benches[2 * KINDS * SIZES + 2];
static size_t bench_count;

static struct list *list_of(bool v6, __u32 prefixes)
{
	static struct list lists[2 * SIZES];
	struct list *list = lists;

	while (list->count && (list->v6 != v6 || list->count != prefixes))
		list++;
	if (!list->count)
		load(list, v6, prefixes);
	return list;
}

static void add_bench(const struct bench *b, bool v6, __u32 prefixes, char **names, int count)
{
	if (!wanted(b->name, names, count))
		return;
	benches[bench_count] = *b;
	benches[bench_count++].list = list_of(v6, prefixes);
}

static void add_lists(char **names, int count)
{
	for (size_t i = 0; i < KINDS * SIZES * 2; i++) {
		const struct kind *kind = &kinds[i / 2 / SIZES];
		const struct size *size = &sizes[i / 2 % SIZES];
		struct bench b = { .sources = kind->sources, .random = i % 2 };

		snprintf(b.name, sizeof(b.name), "%s.%s%s", kind->name, size->name,
			b.random ? "@random" : "");
		if (size == &sizes[SIZES - 1])
			b.aim = b.random ? kind->aim_random : 1.5;
		add_bench(&b, kind->v6, size->prefixes, names, count);
	}
}

static void add_filter(char **names, int count)
{
	static const struct bench hit = { "filter.hit", NULL, BENCH_HIT, .filter = true,
		.aim = 0.7 };
	static const struct bench miss = { "filter.miss", NULL, BENCH_MISS, .filter = true,
		.aim = 0.7 };

	if (!wanted(hit.name, names, count) && !wanted(miss.name, names, count))
		return;
	load_filter(list_of(false, 1));
	if (!filter) {
		printf("filter: no %s (Debian: xdp-tools)\n", FILTER);
		return;
	}
	add_bench(&hit, false, 1, names, count);
	add_bench(&miss, false, 1, names, count);
}

/* The same with one prefix, as far as "x.1m" is judged by "x.1". */
static const struct bench *one_of(const struct bench *b)
{
	for (const struct bench *one = benches; !b->random && b->aim && one < b; one++)
		if (one->sources == b->sources && !one->random && one->list->count == 1 &&
			one->list->v6 == b->list->v6)
			return one;
	return NULL;
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
	FILE *json = NULL;
	int skip = 1;

	if (argc > 2 && !strcmp(argv[1], "--json")) {
		json = fopen(argv[2], "a");
		if (!json)
			die(argv[2]);
		skip = 3;
	}
	stay_on_one_cpu();
	add_lists(argv + skip, argc - skip);
	add_filter(argv + skip, argc - skip);
	for (int round = 0; round < ROUNDS; round++)
		for (size_t i = 0; i < bench_count; i++)
			measure(&benches[i], round);
	printf("%-22s %11s %11s %6s %11s\n", "deny", "a packet", "floor", "ratio", "net");
	for (size_t i = 0; i < bench_count; i++)
		report(&benches[i], one_of(&benches[i]), json);
	if (json)
		fclose(json);
	return 0;
}
