/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The first rule that matches, as a property: random lists of 1 to 1,024 rules are compiled, and random
 * packets of both families go through the real TC program, and, those that are for a VIP, through the
 * real XDP program. Each verdict is compared with that of a plain search through the rules
 * (tests/unit/random_rules.h), and after each list how often each rule counts to have decided.
 *
 *	classify_test [--sets N] [--packets N] [--seed S]
 *
 * Both programs read one large array of pages, which the test fills anew for each list; the daemon would load
 * programs anew (core/policy.c), which takes longer and is not what this is about.
 */
#include "flow_hash.h"
#include "policy.h"
#include "tidegate_abi.h"

#include "tc.skel.h"
#include "tc_trace.skel.h"
#include "xdp.skel.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <endian.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "random_rules.h"

#define PAGES	   8192
#define RULE_NONE  TG_POLICY_RULES /* the counter of the default */
#define LOOPBACK   1		   /* the interface that test runs come in by */
#define RING_SLOTS 7
#define VIPS	   8 /* of each family */
#define FRAME_ROOM 256
#define TC_PASS	   0xffffffffu
#define TC_DROP	   2

static struct {
	struct tc_bpf *tc;
	struct tc_trace_bpf *trace; /* TC's program as `trace` runs it */
	struct xdp_bpf *xdp;
	char *pages;		/* of both programs, mapped */
	struct tg_cidr vip[2][VIPS];
	uint16_t vip_port[VIPS];
	__u64 decided[TG_POLICY_RULES + 1]; /* by rule: packets that it should have decided */
	size_t set, count;
} w;

/* --- packets as bytes ------------------------------------------------------------------------------------ */

static uint8_t *put_address(uint8_t *at, const struct tg_cidr *host)
{
	uint64_t hi = htobe64(host->hi), lo = htobe64(host->lo);

	memcpy(at, &hi, host->family == 4 ? 4 : 8);
	if (host->family == 6)
		memcpy(at + 8, &lo, 8);
	return at + (host->family == 4 ? 4 : 16);
}

static uint8_t *put16(uint8_t *at, uint16_t value)
{
	*at++ = value >> 8;
	*at++ = value;
	return at;
}

/* The Ethernet header, at times with one or two VLAN tags. */
static uint8_t *put_ethernet(uint8_t *at, int family)
{
	uint32_t tags = one_in(3) ? 1 + below(2) : 0;

	memset(at, 2, 12);
	at += 12;
	for (uint32_t i = 0; i < tags; i++)
		at = put16(put16(at, i ? 0x8100 : 0x88a8), 7 + i);
	return put16(at, family == 4 ? 0x0800 : 0x86dd);
}

/* What follows the IP header: 24 bytes of TCP, UDP, ICMP or anything. */
#define PAYLOAD 24
static uint8_t *put_payload(uint8_t *at, const struct sample *s)
{
	memset(at, 0, PAYLOAD);
	if (s->part == LATER_OF_PACKET)
		return memset(at, 0xff, PAYLOAD), at + PAYLOAD;
	switch (s->proto) {
	case IPPROTO_TCP:
		at[12] = 5 << 4;
		at[13] = s->flags;
		/* fallthrough */
	case IPPROTO_UDP:
		put16(put16(at, s->sport), s->dport);
		break;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		at[0] = s->type;
		break;
	}
	return at + PAYLOAD;
}

static uint8_t *put_ipv4(uint8_t *at, const struct sample *s)
{
	uint32_t words = 5 + (one_in(4) ? below(11) : 0);
	uint16_t place = s->part == WHOLE_PACKET ? 0 : s->part == FIRST_OF_PACKET ? 0x2000 : 64;

	memset(at, 1, words * 4); /* options: no operation */
	at[0] = 0x40 | words;
	put16(put16(put16(at + 2, words * 4 + PAYLOAD), random64()), place);
	at[8] = 64;
	at[9] = s->proto;
	put_address(put_address(at + 12, &s->src), &s->dst);
	return put_payload(at + words * 4, s);
}

/* Extension headers of 8 bytes each: none, some, and a fragment header last. */
static uint8_t *put_ipv6(uint8_t *at, const struct sample *s)
{
	static const uint8_t kinds[] = { IPPROTO_HOPOPTS, IPPROTO_DSTOPTS, IPPROTO_ROUTING };
	uint32_t extensions = one_in(4) ? 1 + below(3) : 0, fragment = s->part != WHOLE_PACKET;
	uint8_t *ip = at, *next = ip + 6;

	memset(ip, 0, 8);
	ip[0] = 0x60;
	ip[7] = 64;
	put16(ip + 4, (extensions + fragment) * 8 + PAYLOAD);
	at = put_address(put_address(ip + 8, &s->src), &s->dst);
	for (uint32_t i = 0; i < extensions; i++, at += 8) {
		*next = kinds[i];
		next = at;
		memset(at, 0, 8);
		at[2] = 1; /* of options: PadN, 4 */
		at[3] = i == 2 ? 0 : 4;
	}
	if (fragment) {
		*next = IPPROTO_FRAGMENT;
		next = at;
		memset(at, 0, 8);
		put16(at + 2, s->part == FIRST_OF_PACKET ? 1 : 64 << 3);
		at += 8;
	}
	*next = s->proto;
	return put_payload(at, s);
}

static size_t put_frame(uint8_t *frame, const struct sample *s)
{
	uint8_t *ip = put_ethernet(frame, s->family);

	return (s->family == 4 ? put_ipv4(ip, s) : put_ipv6(ip, s)) - frame;
}

/* Is its protocol's header, if it has one, nothing that would be looked into? */
static bool is_plain(const struct sample *s)
{
	static const uint8_t extensions[] = { IPPROTO_HOPOPTS, IPPROTO_DSTOPTS, IPPROTO_ROUTING,
		IPPROTO_FRAGMENT, IPPROTO_AH };

	return s->family == 4 || !memchr(extensions, s->proto, sizeof(extensions));
}

/* --- the programs ---------------------------------------------------------------------------------------- */

/* What they would have alike is the test's: one array of pages, counters, ports. */
static void share_maps(struct bpf_object *with)
{
	struct bpf_map *map;

	bpf_object__for_each_map(map, w.xdp->obj) {
		const char *name = bpf_map__name(map);
		struct bpf_map *same = bpf_object__find_map_by_name(with, name);

		if (same && strcmp(name, "rare_programs") && !strchr(name, '.'))
			bpf_map__reuse_fd(same, bpf_map__fd(map));
	}
}

static void load_programs(void)
{
	struct tg_port port = { .slot = 0, .flags = TG_PORT_TC };
	__u32 loopback = LOOPBACK;

	w.xdp = xdp_bpf__open();
	w.tc = tc_bpf__open();
	w.trace = tc_trace_bpf__open();
	w.xdp->rodata->features = TG_FEATURE_V4 | TG_FEATURE_V6 | TG_FEATURE_POLICY;
	w.tc->rodata->features = w.trace->rodata->features = TG_FEATURE_POLICY;
	bpf_map__set_max_entries(w.xdp->maps.policy_pages, PAGES);
	bpf_map__set_map_flags(w.xdp->maps.policy_pages, BPF_F_MMAPABLE); /* to be written: the daemon's can't */
	if (xdp_bpf__load(w.xdp))
		exit((perror("the XDP program"), 1));
	share_maps(w.tc->obj);
	share_maps(w.trace->obj);
	if (tc_bpf__load(w.tc) || tc_trace_bpf__load(w.trace))
		exit((perror("the TC programs"), 1));
	w.pages = mmap(NULL, (size_t)PAGES * TG_POLICY_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED,
		bpf_map__fd(w.xdp->maps.policy_pages), 0);
	if (w.pages == MAP_FAILED)
		exit((perror("the pages"), 1));
	bpf_map_update_elem(bpf_map__fd(w.xdp->maps.ports), &loopback, &port, BPF_ANY);
}

/* A ring without a backend: what a policy lets go on to it passes, with a reason of its own. */
static void make_ring(void)
{
	LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = BPF_F_MMAPABLE | BPF_F_INNER_MAP);
	int ring = bpf_map_create(BPF_MAP_TYPE_ARRAY, "ring", 4, 8, TG_RING_ELEMENTS(RING_SLOTS), &options);
	__u32 first = 0;

	if (ring < 0 || bpf_map_update_elem(bpf_map__fd(w.xdp->maps.rings), &first, &ring, BPF_ANY))
		exit((perror("the ring"), 1));
	close(ring);
}

static void add_vip(const struct tg_cidr *host, uint16_t port, uint8_t proto)
{
	struct tg_vip vip = { .slots = RING_SLOTS, .fail = TG_FAIL_PASS };
	struct tg_vip6_key key6 = { .port = htons(port), .proto = proto };
	struct tg_vip4_key key4 = { .port = htons(port), .proto = proto };

	put_address(host->family == 4 ? (uint8_t *)&key4.addr : (uint8_t *)key6.addr, host);
	if (host->family == 4)
		bpf_map_update_elem(bpf_map__fd(w.xdp->maps.vips4), &key4, &vip, BPF_ANY);
	else
		bpf_map_update_elem(bpf_map__fd(w.xdp->maps.vips6), &key6, &vip, BPF_ANY);
}

/* No source that is bogus. */
static bool is_sound(const struct tg_cidr *host)
{
	uint8_t first = host->hi >> 56;

	return host->family == 4 ? first && first != 127 && first < 224 : first && first != 0xff;
}

static bool is_vip(const struct tg_cidr *host)
{
	for (int i = 0; i < VIPS; i++)
		if (!tg_cidr_compare(host, &w.vip[host->family == 6][i]))
			return true;
	return false;
}

static void make_vips(void)
{
	for (int i = 0; i < VIPS; i++)
		w.vip_port[i] = random_port();
	for (int i = 0; i < 2 * VIPS; i++) {
		struct tg_cidr *vip = &w.vip[i / VIPS][i % VIPS];

		do
			*vip = random_host(i / VIPS ? 6 : 4);
		while (!is_sound(vip));
		for (int port = 0; port < VIPS; port++) {
			add_vip(vip, w.vip_port[port], IPPROTO_TCP);
			add_vip(vip, w.vip_port[port], IPPROTO_UDP);
		}
	}
}

/* --- one list ---------------------------------------------------------------------------------------------- */

static struct tg_policy_rule does[TG_POLICY_RULES];

static enum tg_action action_of(uint32_t rule)
{
	return rule == RULE_NONE ? TG_ACTION_DROP : does[rule].action;
}

static void compile_set(void)
{
	const struct tg_compiled_policy *policies[TG_MAX_POLICIES] = { 0 };
	struct tg_policy_spec spec = { .rules = rules, .does = does, .count = w.count,
		.otherwise = { TG_ACTION_DROP, 0, 0, RULE_NONE } };
	struct tg_compiled_policy policy;
	struct tg_policy_pages pages;
	struct tg_error error;

	for (size_t i = 0; i < w.count; i++)
		does[i] = (struct tg_policy_rule){ one_in(2) ? TG_ACTION_ACCEPT : TG_ACTION_DROP, 0, 0, i };
	if (tg_policy_compile(&spec, &policy, NULL, &error))
		exit((fprintf(stderr, "%s\n", error.text), 1));
	policies[TG_POLICY_OF_PORT(0, TG_INGRESS)] = &policy;
	if (tg_policy_lay_out(policies, &pages, &error) || pages.count > PAGES)
		exit((fprintf(stderr, "%u pages\n", pages.count), 1));
	memcpy(w.pages, pages.pages, (size_t)pages.count * TG_POLICY_PAGE);
	tg_policy_pages_free(&pages);
	tg_policy_free(&policy);
	memset(w.decided, 0, sizeof(w.decided));
}

static void describe(const char *program, const struct sample *s, uint32_t rule, uint32_t verdict)
{
	char src[TG_CIDR_TEXT], dst[TG_CIDR_TEXT];

	fprintf(stderr,
		"list %zu of %zu rules: %s: %s:%u > %s:%u, protocol %u, flags %#x, type %u, part %d: "
		"verdict %d, though rule %u decides: %s\n",
		w.set, w.count, program, tg_cidr_print(&s->src, src), s->sport,
		tg_cidr_print(&s->dst, dst), s->dport, s->proto, s->flags, s->type, s->part,
		(int)verdict, rule, action_of(rule) == TG_ACTION_ACCEPT ? "accept" : "drop");
}

/* Runs a program on a packet, whose verdict should be what the rule says. */
static bool agrees(const char *name, int program, const struct sample *s, uint32_t pass, uint32_t drop,
	void *context, __u32 context_size)
{
	uint32_t rule = plain_search(w.count, s);
	uint8_t frame[FRAME_ROOM];
	LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = frame, .data_size_in = put_frame(frame, s),
		.ctx_in = context, .ctx_size_in = context_size, .repeat = 1);
	int result = bpf_prog_test_run_opts(program, &run);

	if (result)
		exit((fprintf(stderr, "%s: %s\n", name, strerror(-result)), 1));
	w.decided[rule]++;
	if (run.retval == (action_of(rule) == TG_ACTION_ACCEPT ? pass : drop))
		return true;
	describe(name, s, rule, run.retval);
	return false;
}

static bool tc_agrees(void)
{
	struct __sk_buff context = { .ifindex = LOOPBACK };
	struct sample s;

	do
		s = random_sample();
	while (!is_plain(&s));
	if (one_in(10)) { /* what a trace says, and it counts nothing */
		uint32_t rule = plain_search(w.count, &s);

		if (!agrees("a trace", bpf_program__fd(w.trace->progs.tidegate_ingress), &s, TC_PASS,
			    TC_DROP, &context, sizeof(context)))
			return false;
		w.decided[rule]--;
	}
	return agrees("TC", bpf_program__fd(w.tc->progs.tidegate_ingress), &s, TC_PASS, TC_DROP,
		&context, sizeof(context));
}

static bool xdp_agrees(void)
{
	struct sample s;

	do
		s = random_sample();
	while (!is_sound(&s.src) || is_vip(&s.src));
	s.dst = w.vip[s.family == 6][below(VIPS)];
	s.dport = w.vip_port[below(VIPS)];
	s.proto = one_in(2) ? IPPROTO_TCP : IPPROTO_UDP;
	s.part = WHOLE_PACKET;
	return agrees("XDP", bpf_program__fd(w.xdp->progs.tidegate_xdp), &s, XDP_PASS, XDP_DROP, NULL, 0);
}

/* Each rule has counted the packets that it decided, and begins anew. */
static bool counters_agree(void)
{
	int map = bpf_map__fd(w.xdp->maps.rule_counters), cpus = libbpf_num_possible_cpus();
	struct tg_rule_counter *values = calloc(cpus, sizeof(*values));
	bool agree = true;

	for (__u32 rule = 0; rule <= TG_POLICY_RULES; rule++) {
		__u64 sum = 0;

		if (!w.decided[rule])
			continue;
		bpf_map_lookup_elem(map, &rule, values);
		for (int cpu = 0; cpu < cpus; cpu++)
			sum += values[cpu].packets;
		if (sum != w.decided[rule])
			fprintf(stderr, "list %zu: rule %u counted %llu packets, not %llu\n", w.set,
				rule, sum, w.decided[rule]);
		agree &= sum == w.decided[rule];
		memset(values, 0, cpus * sizeof(*values));
		bpf_map_update_elem(map, &rule, values, BPF_ANY);
	}
	free(values);
	return agree;
}

static bool set_agrees(bool (*packet_agrees)(void), size_t packets)
{
	memset(w.decided, 0, sizeof(w.decided));
	for (size_t i = 0; i < packets; i++)
		if (!packet_agrees())
			return false;
	return counters_agree();
}

/* Lists of few rules are as many as those of hundreds. */
static size_t random_count(void)
{
	uint32_t most = 1u << below(11);

	return 1 + below(most);
}

static size_t option(int argc, char **argv, const char *name, size_t otherwise)
{
	for (int i = 1; i + 1 < argc; i++)
		if (!strcmp(argv[i], name))
			return strtoull(argv[i + 1], NULL, 10);
	return otherwise;
}

struct task {
	size_t sets, packets, seed;
	size_t failed[2], rules; /* out */
};

static void run_sets(struct task *task)
{
	random_state = task->seed;
	load_programs();
	make_ring();
	make_vips();
	for (w.set = 0; w.set < task->sets; w.set++) {
		w.count = w.set == 0 ? TG_POLICY_RULES : random_count();
		random_set(w.count);
		compile_set();
		task->failed[0] += !set_agrees(tc_agrees, task->packets);
		task->failed[1] += !set_agrees(xdp_agrees, task->packets);
		task->rules += w.count;
	}
}

/* Two processes share the work. */
static bool run_beside(struct task *tasks)
{
	pid_t child = fork();
	int status;

	if (child < 0)
		return false;
	run_sets(&tasks[!child]);
	if (!child)
		_exit(0);
	return waitpid(child, &status, 0) == child && status == 0;
}

int main(int argc, char **argv)
{
	size_t sets = option(argc, argv, "--sets", 1000), seed = option(argc, argv, "--seed", 1);
	size_t packets = option(argc, argv, "--packets", 10000), failed = 0;
	struct task *tasks = mmap(NULL, 2 * sizeof(*tasks), PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (geteuid())
		return fprintf(stderr, "needs root, to load BPF programs\n"), 1;
	libbpf_set_print(NULL);
	tasks[0] = (struct task){ .sets = sets - sets / 2, .packets = packets, .seed = 2 * seed };
	tasks[1] = (struct task){ .sets = sets / 2, .packets = packets, .seed = 2 * seed + 1 };
	if (!run_beside(tasks))
		return fprintf(stderr, "one of the two processes failed\n"), 1;
	for (int i = 0; i < 2; i++) {
		bool all = !tasks[0].failed[i] && !tasks[1].failed[i];

		printf("%s %s decides as a plain search: %zu lists, %zu rules in all, %zu packets each\n",
			all ? "ok" : "not ok", i ? "XDP, of what is balanced," : "TC", sets,
			tasks[0].rules + tasks[1].rules, packets);
		failed += !all;
	}
	printf("%zu passed, %zu failed\n", 2 - failed, failed);
	return failed != 0;
}
