/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * policy_bench [--json FILE] [NAME…]: what a policy costs a packet in the TC program: parse, port, rule,
 * counter, verdict; floor included: value = with the program - with nothing in its place + floor, ratio =
 * value / floor.
 *
 * policyF.N is a policy of N rules for family F: a list of source prefixes, destinations, a protocol and
 * ports. The packet is one and the same, or ("@random") one of 65,536, nine of ten made to match a rule
 * chosen at random. The cases take turns, ROUNDS times; printed are medians, and what a policy of 1,000
 * rules costs against one of 10.
 */
#include "flow_hash.h"
#include "policy.h"
#include "tidegate_abi.h"

#include "policy_bench.skel.h"

#include <bpf/bpf.h>
#include <endian.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "policy_bench.h"
#include "median.h"

#define ROUNDS	   9
#define REPEAT	   (1 << 20)
#define MOST_RULES 1000
#define PREFIXES   3
#define CASES	   16

struct bench {
	char name[32];
	int family, rules;
	bool random;
	struct policy_bench_bpf *object;
	double floor[ROUNDS], value[ROUNDS], ratio[ROUNDS];
};

struct made_rule {
	struct tg_cidr src[PREFIXES], dst;
	struct tg_port_range dport;
	uint8_t proto;
};

static uint64_t random_state = 0x9e3779b97f4a7c15ull;

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static uint64_t random64(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	return random_state ^= random_state << 17;
}

/* --- rules and packets --------------------------------------------------------------------------------- */

static struct tg_cidr made_prefix(int family, uint64_t net4, uint64_t net6, bool host)
{
	static const uint8_t lengths4[] = { 16, 20, 24, 24, 28, 32, 32, 32 },
			     lengths6[] = { 32, 40, 48, 48, 56, 64, 64, 128 };
	uint64_t random = random64();
	struct tg_cidr prefix = { .family = family,
		.hi = family == 4 ? net4 << 32 | (random & 0xffffffull << 32)
				  : net6 << 32 | (random & 0xffffffff),
		.lo = family == 4 ? 0 : random64(),
		.length = (family == 4 ? lengths4 : lengths6)[host ? 5 + random % 3 : random % 8] };

	return tg_cidr_cut(&prefix, prefix.length);
}

static void make_rules(struct made_rule *made, struct tg_rule *rules, int count, int family)
{
	for (int i = 0; i < count; i++) {
		struct made_rule *m = &made[i];
		uint16_t port = random64() % 8 ? 1 + random64() % 1024 : random64() % 60000;

		for (int k = 0; k < PREFIXES; k++)
			m->src[k] = made_prefix(family, 10ull << 24, 0x20010db8, false);
		m->dst = made_prefix(family, 172ull << 24, 0x20010db9, true);
		m->dport = (struct tg_port_range){ port, port + (random64() % 4 ? 0 : 100) };
		m->proto = random64() % 3 ? IPPROTO_TCP : IPPROTO_UDP;
		rules[i] = (struct tg_rule){ .src = m->src,
			.src_count = 1 + random64() % PREFIXES,
			.dst = &m->dst,
			.dst_count = i % 4 ? 1 : 0,
			.dport = &m->dport,
			.dport_count = i % 8 ? 1 : 0,
			.protos = &m->proto,
			.proto_count = 1 };
	}
}

/* An address of the prefix. */
static void within(const struct tg_cidr *prefix, __u64 *hi, __u64 *lo)
{
	uint64_t keep_hi = prefix->length >= 64 ? ~0ull : ~(~0ull >> prefix->length);
	uint64_t keep_lo = prefix->length <= 64	   ? 0
			   : prefix->length == 128 ? ~0ull
						   : ~(~0ull >> (prefix->length - 64));

	*hi = prefix->hi | (random64() & ~keep_hi);
	*lo = prefix->lo | (random64() & ~keep_lo);
	if (prefix->family == 4) {
		*hi &= 0xffffffffull << 32;
		*lo = 0;
	}
}

/* A packet that a rule matches, or almost. */
struct made_packet {
	__u64 src_hi, src_lo, dst_hi, dst_lo; /* IPv4 in the upper bits */
	uint16_t sport, dport;
	uint8_t proto;
};

static struct made_packet made_packet(const struct tg_rule *rule, int family)
{
	static const struct tg_cidr any4 = { .family = 4, .hi = 172ull << 56, .length = 8 },
				    any6 = { .family = 6, .hi = 0x20010db9ull << 32, .length = 32 };
	const struct tg_cidr *any = family == 4 ? &any4 : &any6;
	struct made_packet packet = { .proto = rule->protos[0] };

	within(&rule->src[0], &packet.src_hi, &packet.src_lo);
	within(rule->dst_count && random64() % 10 ? rule->dst : any, &packet.dst_hi, &packet.dst_lo);
	packet.sport = 1024 + random64() % 60000;
	packet.dport = rule->dport_count ? rule->dport->first : random64();
	return packet;
}

static uint8_t *put(uint8_t *at, uint64_t value, int bytes)
{
	for (int i = bytes - 1; i >= 0; i--)
		*at++ = value >> i * 8;
	return at;
}

static void put_frame(struct policy_frame *frame, const struct made_packet *p, int family)
{
	uint8_t *at = (uint8_t *)frame, *end = at + sizeof(*frame);

	memset(frame, 0, sizeof(*frame));
	at = put(at + 12, family == 4 ? 0x0800 : 0x86dd, 2);
	if (family == 4) {
		put(at, 0x4500, 2);
		put(at + 2, end - at, 2);
		put(at + 8, 64 << 8 | p->proto, 2);
		at = put(put(at + 12, p->src_hi >> 32, 4), p->dst_hi >> 32, 4);
	} else {
		put(at, 0x60, 1);
		put(at + 4, end - at - 40, 2);
		put(at + 6, p->proto << 8 | 64, 2);
		at = put(put(at + 8, p->src_hi, 8), p->src_lo, 8);
		at = put(put(at, p->dst_hi, 8), p->dst_lo, 8);
	}
	put(put(at, p->sport, 2), p->dport, 2);
	put(at + 12, p->proto == IPPROTO_TCP ? 0x5010 : 0, 2);
}

/* --- the program --------------------------------------------------------------------------------------- */

static void fill(struct bpf_map *map, size_t size, const void *from)
{
	void *to = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, bpf_map__fd(map), 0);

	if (to == MAP_FAILED)
		die("mmap");
	memcpy(to, from, size);
	munmap(to, size);
}

/* The rules' policy, of the ingress of the port that test runs come in by. */
static void lay_out(const struct tg_rule *rules, int count, struct tg_policy_pages *pages)
{
	const struct tg_compiled_policy *policies[TG_MAX_POLICIES] = { 0 };
	static struct tg_policy_rule does[MOST_RULES];
	struct tg_policy_spec spec = { .rules = rules, .does = does, .count = count,
		.otherwise = { TG_ACTION_DROP, 0, 0, MOST_RULES } };
	struct tg_compiled_policy policy;
	struct tg_error error;

	for (int i = 0; i < count; i++)
		does[i].counter = i;
	policies[TG_POLICY_OF_PORT(0, TG_INGRESS)] = &policy;
	if (tg_policy_compile(&spec, &policy, NULL, &error) ||
		tg_policy_lay_out(policies, pages, &error)) {
		fprintf(stderr, "policy_bench: %s\n", error.text);
		exit(1);
	}
	tg_policy_free(&policy);
}

static void open_program(struct bench *b, const struct tg_policy_pages *pages)
{
	struct tg_port port = { .flags = TG_PORT_NEAR };
	__u32 loopback = 1;

	b->object = policy_bench_bpf__open();
	if (!b->object)
		die("open");
	b->object->rodata->features = TG_FEATURE_POLICY;
	b->object->rodata->policy_words = pages->words;
	b->object->rodata->packet_mask = b->random ? POLICY_PACKETS - 1 : 0;
	bpf_map__set_max_entries(b->object->maps.policy_pages, pages->count);
	bpf_map__set_map_flags(b->object->maps.policy_pages, BPF_F_MMAPABLE);
	if (policy_bench_bpf__load(b->object))
		die("load");
	if (bpf_map_update_elem(bpf_map__fd(b->object->maps.near_ports), &loopback, &port, BPF_ANY))
		die("ports");
}

static void load(struct bench *b)
{
	static struct made_rule made[MOST_RULES];
	static struct tg_rule rules[MOST_RULES];
	static struct policy_frame frames[POLICY_PACKETS];
	struct tg_policy_pages pages;

	random_state = 0x9e3779b97f4a7c15ull;
	make_rules(made, rules, b->rules, b->family);
	lay_out(rules, b->rules, &pages);
	for (int i = 0; i < POLICY_PACKETS; i++) {
		struct made_packet packet =
			made_packet(&rules[random64() % b->rules], b->family);

		put_frame(&frames[i], &packet, b->family);
	}
	open_program(b, &pages);
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
	double start = thread_ns();

	if (bpf_prog_test_run_opts(bpf_program__fd(program), &opts) || opts.retval)
		die("test run");
	return (thread_ns() - start) / REPEAT;
}

static void measure(struct bench *b, int round)
{
	double floor = run(b->object->progs.bench_floor);
	double empty = run(b->object->progs.bench_empty);
	__u64 before = b->object->bss->accepted, accepted;
	double with = run(b->object->progs.bench_wrapped);

	accepted = b->object->bss->accepted - before;
	if (accepted < REPEAT / 2) {
		fprintf(stderr, "policy_bench: %s: %llu of %d packets matched a rule\n", b->name, accepted,
			REPEAT);
		exit(1);
	}
	b->floor[round] = floor;
	b->value[round] = with - empty + floor;
	b->ratio[round] = b->value[round] / floor;
}

/* --- the table ----------------------------------------------------------------------------------------- */

static void report(struct bench *b, FILE *json)
{
	double value = median_of(b->value, ROUNDS), floor = median_of(b->floor, ROUNDS), ratio = median_of(b->ratio, ROUNDS);

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

/* One of a thousand rules against one of ten. */
static void report_growth(const struct bench *ten, const struct bench *thousand)
{
	double growth = thousand->value[ROUNDS / 2] / ten->value[ROUNDS / 2],
	       aim = ten->random ? 1.5 : 1.3;

	printf("policy%d, 1,000 against 10 rules%s: %.2f, aim %.1f%s\n", ten->family,
		ten->random ? ", random" : "", growth, aim, growth <= aim ? "" : "  MISSED");
	if (ten->random)
		printf("policy%d.1000@random, net: %.1f ns, aim 120\n", ten->family,
			thousand->value[ROUNDS / 2] - thousand->floor[ROUNDS / 2]);
}

static int make_benches(struct bench *benches, char **names, int name_count)
{
	static const int sizes[] = { 1, 10, 100, 1000 };
	int count = 0;

	for (int i = 0; i < CASES; i++) {
		struct bench *b = &benches[count];

		*b = (struct bench){
			.family = i / 8 ? 6 : 4, .random = i / 4 % 2, .rules = sizes[i % 4]
		};
		snprintf(b->name, sizeof(b->name), "policy%d.%d%s", b->family, b->rules,
			b->random ? "@random" : "");
		if (!wanted(b->name, names, name_count))
			continue;
		load(b);
		count++;
	}
	return count;
}

static void report_comparisons(const struct bench *benches, int count)
{
	for (int i = 0; i + 2 < count; i++)
		if (benches[i].rules == 10 && benches[i + 2].rules == 1000)
			report_growth(&benches[i], &benches[i + 2]);
}

int main(int argc, char **argv)
{
	static struct bench benches[CASES];
	FILE *json = NULL;
	int skip = 1, count;
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
	count = make_benches(benches, argv + skip, argc - skip);
	for (int round = 0; round < ROUNDS; round++)
		for (int i = 0; i < count; i++)
			measure(&benches[i], round);
	printf("%-24s %11s %11s %6s\n", "policy", "a packet", "floor", "ratio");
	for (int i = 0; i < count; i++)
		report(&benches[i], json);
	report_comparisons(benches, count);
	if (json)
		fclose(json);
	return 0;
}
