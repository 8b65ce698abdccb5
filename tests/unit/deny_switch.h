/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * For the tests of the deny lists: a switch with four lists, packets through its program, and a naive list
 * beside it that is searched from end to end.
 */
#include "deny.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "unit.h"

#define CLASSES	 4
#define MOST	 6000 /* prefixes on the naive list */
#define FEATURES (TG_FEATURE_DENY4 | TG_FEATURE_DENY6 | TG_FEATURE_DENY_COUNT)

static char instance[32];
static struct tg_datapath dp;
static struct tg_deny *deny;
static int classes[CLASSES]; /* two that deny, two that allow */

static const struct {
	const char *name;
	enum tg_deny_verdict verdict;
} lists[CLASSES] = { { "first", TG_DENY_DENY }, { "friends", TG_DENY_ALLOW },
	{ "second", TG_DENY_DENY }, { "staff", TG_DENY_ALLOW } };

static inline void open_switch(void)
{
	struct tg_error error = { "" };
	__u64 seed[2] = { 1, 2 };
	bool replaced;

	CHECK_INT(0, tg_datapath_open(&dp, instance, seed, &replaced, &error));
	CHECK_INT(0, tg_datapath_specialise(&dp, FEATURES, &error));
	deny = tg_deny_new(&dp);
	CHECK_INT(0, tg_deny_open(deny, &error));
	CHECK_STR("", error.text);
	for (int i = 0; i < CLASSES; i++) {
		classes[i] = tg_deny_class(deny, lists[i].name, lists[i].verdict, &error);
		CHECK(classes[i] > 0);
	}
}

static inline void close_switch(void)
{
	tg_deny_free(deny);
	tg_datapath_close(&dp);
}

static inline void unload_switch(void)
{
	struct tg_error error = { "" };

	CHECK_INT(0, tg_datapath_unload(instance, &error));
}

/* --- random numbers and prefixes --- */

static uint64_t random_state = 0x5eed;

static inline uint64_t draw(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state * 0x2545f4914f6cdd1dull;
}

static inline uint32_t below(uint32_t limit)
{
	return (draw() >> 32) * limit >> 32;
}

/* Bits of b from `length` on, those of a before. */
static inline void join(uint32_t out[4], const uint32_t a[4], const uint32_t b[4], int length)
{
	for (int i = 0; i < 4; i++) {
		int left = length - 32 * i;
		uint32_t mask = left <= 0 ? 0 : left >= 32 ? ~0u : ~0u << (32 - left);

		out[i] = htonl((ntohl(a[i]) & mask) | (ntohl(b[i]) & ~mask));
	}
}

/* Is it dropped whatever the lists say (bpf/bogus.h)? More than that is taken for it, by the first byte. */
static inline bool is_bogus(const uint32_t addr[4])
{
	uint8_t first = ntohl(addr[0]) >> 24;

	return first == 0 || first == 127 || first >= 224;
}

/* Near one of a few addresses, so that prefixes meet. */
static inline void draw_address(uint32_t addr[4], bool v6)
{
	static uint32_t bases[8][4];
	uint32_t noise[4] = { draw(), draw(), draw(), draw() };
	int bits = v6 ? 128 : 32;

	if (!bases[0][0])
		for (int i = 0; i < 8; i++)
			for (int w = 0; w < 4; w++)
				bases[i][w] = draw() | htonl(w ? 0 : 0x01000000);
	join(addr, bases[below(8)], noise, below(bits + 1));
	if (!v6)
		memset(&addr[1], 0, 12);
}

static inline struct tg_deny_prefix draw_prefix(bool v6)
{
	static const uint8_t usual4[] = { 32, 32, 32, 32, 24, 24, 16, 28 };
	static const uint8_t usual6[] = { 128, 128, 128, 64, 64, 48, 32, 56 };
	struct tg_deny_prefix prefix = { .v6 = v6 };

	draw_address(prefix.addr, v6);
	prefix.length = below(2) ? (v6 ? usual6 : usual4)[below(8)] : below(v6 ? 129 : 33);
	return prefix;
}

/* --- the naive list --- */

struct entry {
	struct tg_deny_prefix prefix; /* its host bits are 0 */
	int list;		      /* index in classes */
};

static struct entry naive[MOST];
static size_t naive_count;

static inline struct tg_deny_prefix cut(struct tg_deny_prefix prefix)
{
	static const uint32_t zeros[4];

	join(prefix.addr, prefix.addr, zeros, prefix.length);
	return prefix;
}

static inline bool same_prefix(const struct tg_deny_prefix *a, const struct tg_deny_prefix *b)
{
	return a->v6 == b->v6 && a->length == b->length && !memcmp(a->addr, b->addr, 16);
}

static inline size_t naive_find(struct tg_deny_prefix prefix, int list)
{
	prefix = cut(prefix);
	for (size_t i = 0; i < naive_count; i++)
		if (naive[i].list == list && same_prefix(&naive[i].prefix, &prefix))
			return i;
	return naive_count;
}

static inline void naive_add(struct tg_deny_prefix prefix, int list)
{
	if (naive_find(prefix, list) == naive_count)
		naive[naive_count++] = (struct entry){ cut(prefix), list };
}

static inline void naive_remove(struct tg_deny_prefix prefix, int list)
{
	size_t at = naive_find(prefix, list);

	if (at < naive_count)
		naive[at] = naive[--naive_count];
}

static inline bool covers(const struct tg_deny_prefix *prefix, const uint32_t addr[4], bool v6)
{
	uint32_t joined[4];

	if (prefix->v6 != v6)
		return false;
	join(joined, prefix->addr, addr, prefix->length);
	return !memcmp(joined, addr, v6 ? 16 : 4);
}

/* Does a decide before b, both covering? */
static inline bool decides(const struct entry *a, const struct entry *b)
{
	bool allows_a = lists[a->list].verdict == TG_DENY_ALLOW;
	bool allows_b = lists[b->list].verdict == TG_DENY_ALLOW;

	if (a->prefix.length != b->prefix.length)
		return a->prefix.length > b->prefix.length;
	return allows_a != allows_b ? allows_a : classes[a->list] < classes[b->list];
}

static inline const struct entry *naive_judge(const uint32_t addr[4], bool v6)
{
	const struct entry *best = NULL;

	for (size_t i = 0; i < naive_count; i++)
		if (covers(&naive[i].prefix, addr, v6) && (!best || decides(&naive[i], best)))
			best = &naive[i];
	return best;
}

/* --- packets --- */

/* One run each: the kernel waits for two grace periods about a run that repeats. */
static inline uint32_t send_packets(const uint32_t addr[4], bool v6, int count)
{
	struct {
		struct ethhdr eth;
		union {
			struct iphdr ip4;
			struct ipv6hdr ip6;
		};
		char rest[10];
	} __attribute__((packed)) frame = { .eth.h_proto = htons(v6 ? ETH_P_IPV6 : ETH_P_IP) };
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = &frame, .data_size_in = sizeof(frame));

	if (v6) {
		frame.ip6.version = 6;
		frame.ip6.nexthdr = IPPROTO_UDP;
		memcpy(&frame.ip6.saddr, addr, 16);
	} else {
		frame.ip4.version = 4;
		frame.ip4.ihl = 5;
		frame.ip4.tot_len = htons(28);
		frame.ip4.saddr = addr[0];
	}
	while (count--)
		CHECK_INT(0, bpf_prog_test_run_opts(dp.program, &opts));
	return opts.retval;
}

static inline __u64 class_packets(int class)
{
	return tg_datapath_counter(&dp, TG_MAP_DENY_COUNTERS, class).packets;
}

static inline void judge(const uint32_t addr[4], bool v6)
{
	const struct entry *want = naive_judge(addr, v6);
	int class = want ? classes[want->list] : 0;
	bool drop = want && lists[want->list].verdict == TG_DENY_DENY;
	__u64 before = class ? class_packets(class) : 0;
	uint32_t verdict = send_packets(addr, v6, 1);
	char text[INET6_ADDRSTRLEN];

	if (verdict != (drop ? XDP_DROP : XDP_PASS) ||
		(class && class_packets(class) != before + 1))
		printf("# %s: verdict %u, expected class %d by a prefix of %d bits\n",
			inet_ntop(v6 ? AF_INET6 : AF_INET, addr, text, sizeof(text)), verdict,
			class, want ? want->prefix.length : -1);
	CHECK_INT(drop ? XDP_DROP : XDP_PASS, verdict);
	CHECK(!class || class_packets(class) == before + 1);
}

/* Addresses in, and around, what is on the lists. */
static inline void judge_many(int count)
{
	for (int i = 0; i < count && unit_faults < 5; i++) {
		bool v6 = below(2);
		uint32_t addr[4];

		draw_address(addr, v6);
		if (naive_count && below(4)) {
			const struct entry *near = &naive[below(naive_count)];

			v6 = near->prefix.v6;
			draw_address(addr, v6);
			join(addr, near->prefix.addr, addr,
				near->prefix.length - below(2) * below(4));
			if (!v6)
				memset(&addr[1], 0, 12);
		}
		if (!is_bogus(addr))
			judge(addr, v6);
	}
}

/* What is said of the lists is what the naive one has. */
static inline void compare_contents(void)
{
	struct tg_deny_prefix page[100];
	size_t cursor = 0, total = 0, n;
	struct tg_deny_class_info info;

	while ((n = tg_deny_each(deny, ~0ull, &cursor, page, 100))) {
		for (size_t i = 0; i < n; i++) {
			int list = 0;

			while (list < CLASSES - 1 && classes[list] != page[i].class)
				list++;
			CHECK(naive_find(page[i], list) < naive_count);
		}
		total += n;
	}
	CHECK_INT(naive_count, total);
	for (int i = 0; i < CLASSES; i++) {
		CHECK(tg_deny_class_info(deny, classes[i], &info));
		total -= info.prefixes[0] + info.prefixes[1];
	}
	CHECK_INT(0, total);
}

/* --- changes --- */

#define BATCH 200

static inline void add_some(int list)
{
	struct tg_deny_prefix batch[BATCH];
	size_t count = below(BATCH) + 1, before = naive_count;
	struct tg_deny_change change;
	struct tg_error error;

	for (size_t i = 0; i < count; i++) {
		batch[i] = i && !below(20) ? batch[below(i)] : draw_prefix(below(2));
		if (naive_count && !below(5)) { /* on two lists */
			batch[i] = naive[below(naive_count)].prefix;
			batch[i].count = 0;
		}
		naive_add(batch[i], list);
	}
	CHECK_INT(0, tg_deny_add(deny, classes[list], batch, count, &change, &error));
	CHECK_INT(naive_count - before, change.added);
	CHECK_INT(count - change.added, change.kept);
}

static inline void remove_some(int list)
{
	struct tg_deny_prefix batch[BATCH];
	size_t count = below(BATCH) + 1, before = naive_count;
	struct tg_deny_change change;

	for (size_t i = 0; i < count; i++) {
		batch[i] = naive_count && below(5) ? naive[below(naive_count)].prefix
						   : draw_prefix(below(2));
		naive_remove(batch[i], list);
	}
	tg_deny_remove(deny, classes[list], batch, count, &change);
	CHECK_INT(before - naive_count, change.removed);
}

/* About half of it stays. */
static inline void replace_list(int list)
{
	static struct tg_deny_prefix batch[MOST];
	size_t count = 0, gone = 0, kept = 0;
	struct tg_deny_change change;
	struct tg_error error;

	for (size_t i = 0; i < naive_count; i++) {
		if (naive[i].list != list)
			continue;
		if (below(2)) {
			batch[count++] = naive[i].prefix;
			kept++;
		} else {
			naive[i--] = naive[--naive_count];
			gone++;
		}
	}
	for (size_t fresh = below(BATCH); fresh && count < MOST; fresh--) {
		struct tg_deny_prefix prefix = draw_prefix(below(2));

		if (naive_find(prefix, list) < naive_count)
			continue;
		naive_add(prefix, list);
		batch[count++] = prefix;
	}
	CHECK_INT(0, tg_deny_replace(deny, classes[list], batch, count, &change, &error));
	CHECK(change.kept >= kept); /* some of the fresh ones were there before */
	CHECK_INT(gone - change.removed, change.kept - kept);
	CHECK_INT(count, change.kept + change.added);
}

static inline void clear_all(void)
{
	struct tg_error error;

	for (int i = 0; i < CLASSES; i++)
		CHECK_INT(0, tg_deny_replace(deny, classes[i], NULL, 0, NULL, &error));
	naive_count = 0;
}

static inline struct tg_deny_prefix prefix_of(const char *text)
{
	struct tg_deny_prefix prefix = { .v6 = strchr(text, ':') != NULL };
	char addr[64];
	int length;

	CHECK_INT(2, sscanf(text, "%63[^/]/%d", addr, &length));
	CHECK_INT(1, inet_pton(prefix.v6 ? AF_INET6 : AF_INET, addr, prefix.addr));
	prefix.length = length;
	return prefix;
}

static inline void add(int list, const char *text)
{
	struct tg_deny_prefix prefix = prefix_of(text);
	struct tg_error error;

	CHECK_INT(0, tg_deny_add(deny, classes[list], &prefix, 1, NULL, &error));
}

static inline void removed(int list, const char *text)
{
	struct tg_deny_prefix prefix = prefix_of(text);
	struct tg_deny_change change;

	tg_deny_remove(deny, classes[list], &prefix, 1, &change);
	CHECK_INT(1, change.removed);
}

static inline uint32_t verdict_of(const char *text)
{
	uint32_t addr[4] = { 0 };
	bool v6 = strchr(text, ':');

	CHECK_INT(1, inet_pton(v6 ? AF_INET6 : AF_INET, text, addr));
	return send_packets(addr, v6, 1);
}

static int test_lists(void (*tests)(void))
{
	if (geteuid()) {
		printf("skipped: needs root, to load BPF programs\n");
		return 0;
	}
	snprintf(instance, sizeof(instance), "deny-test-%d", getpid());
	open_switch();
	tests();
	close_switch();
	unload_switch();
	return unit_result();
}
