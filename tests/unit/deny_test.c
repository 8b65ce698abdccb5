/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The deny lists, core/deny.c and the XDP program together: random changes of random prefixes, and packets
 * through the real program judged against a list that is searched from end to end. Also changes under
 * traffic, a daemon that is killed amid one, what there is no room for.
 */
#include "deny.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
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

static void open_switch(void)
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

static void close_switch(void)
{
	tg_deny_free(deny);
	tg_datapath_close(&dp);
}

static void unload_switch(void)
{
	struct tg_error error = { "" };

	CHECK_INT(0, tg_datapath_unload(instance, &error));
}

/* --- random numbers and prefixes --- */

static uint64_t random_state = 0x5eed;

static uint64_t draw(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state * 0x2545f4914f6cdd1dull;
}

static uint32_t below(uint32_t limit)
{
	return (draw() >> 32) * limit >> 32;
}

/* Bits of b from `length` on, those of a before. */
static void join(uint32_t out[4], const uint32_t a[4], const uint32_t b[4], int length)
{
	for (int i = 0; i < 4; i++) {
		int left = length - 32 * i;
		uint32_t mask = left <= 0 ? 0 : left >= 32 ? ~0u : ~0u << (32 - left);

		out[i] = htonl((ntohl(a[i]) & mask) | (ntohl(b[i]) & ~mask));
	}
}

/* Is it dropped whatever the lists say (bpf/bogus.h)? More than that is taken for it, by the first byte. */
static bool is_bogus(const uint32_t addr[4])
{
	uint8_t first = ntohl(addr[0]) >> 24;

	return first == 0 || first == 127 || first >= 224;
}

/* Near one of a few addresses, so that prefixes meet. */
static void draw_address(uint32_t addr[4], bool v6)
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

static struct tg_deny_prefix draw_prefix(bool v6)
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

static struct tg_deny_prefix cut(struct tg_deny_prefix prefix)
{
	static const uint32_t zeros[4];

	join(prefix.addr, prefix.addr, zeros, prefix.length);
	return prefix;
}

static bool same_prefix(const struct tg_deny_prefix *a, const struct tg_deny_prefix *b)
{
	return a->v6 == b->v6 && a->length == b->length && !memcmp(a->addr, b->addr, 16);
}

static size_t naive_find(struct tg_deny_prefix prefix, int list)
{
	prefix = cut(prefix);
	for (size_t i = 0; i < naive_count; i++)
		if (naive[i].list == list && same_prefix(&naive[i].prefix, &prefix))
			return i;
	return naive_count;
}

static void naive_add(struct tg_deny_prefix prefix, int list)
{
	if (naive_find(prefix, list) == naive_count)
		naive[naive_count++] = (struct entry){ cut(prefix), list };
}

static void naive_remove(struct tg_deny_prefix prefix, int list)
{
	size_t at = naive_find(prefix, list);

	if (at < naive_count)
		naive[at] = naive[--naive_count];
}

static bool covers(const struct tg_deny_prefix *prefix, const uint32_t addr[4], bool v6)
{
	uint32_t joined[4];

	if (prefix->v6 != v6)
		return false;
	join(joined, prefix->addr, addr, prefix->length);
	return !memcmp(joined, addr, v6 ? 16 : 4);
}

/* Does a decide before b, both covering? */
static bool decides(const struct entry *a, const struct entry *b)
{
	bool allows_a = lists[a->list].verdict == TG_DENY_ALLOW;
	bool allows_b = lists[b->list].verdict == TG_DENY_ALLOW;

	if (a->prefix.length != b->prefix.length)
		return a->prefix.length > b->prefix.length;
	return allows_a != allows_b ? allows_a : classes[a->list] < classes[b->list];
}

static const struct entry *naive_judge(const uint32_t addr[4], bool v6)
{
	const struct entry *best = NULL;

	for (size_t i = 0; i < naive_count; i++)
		if (covers(&naive[i].prefix, addr, v6) && (!best || decides(&naive[i], best)))
			best = &naive[i];
	return best;
}

/* --- packets --- */

/* One run each: the kernel waits for two grace periods about a run that repeats. */
static uint32_t send_packets(const uint32_t addr[4], bool v6, int count)
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

static __u64 class_packets(int class)
{
	return tg_datapath_counter(&dp, TG_MAP_DENY_COUNTERS, class).packets;
}

static void judge(const uint32_t addr[4], bool v6)
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
static void judge_many(int count)
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
static void compare_contents(void)
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

static void add_some(int list)
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

static void remove_some(int list)
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
static void replace_list(int list)
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

static void clear_all(void)
{
	struct tg_error error;

	for (int i = 0; i < CLASSES; i++)
		CHECK_INT(0, tg_deny_replace(deny, classes[i], NULL, 0, NULL, &error));
	naive_count = 0;
}

static void random_changes_are_judged_as_a_plain_search_would(void)
{
	for (int step = 0; step < unit_some(120) && unit_faults < 5; step++) {
		int list = below(CLASSES);

		if (naive_count > MOST - 2 * BATCH || !below(8))
			replace_list(list);
		else if (below(3))
			add_some(list);
		else
			remove_some(list);
		judge_many(unit_some(400));
	}
	compare_contents();
}

static void a_later_daemon_finds_what_was_there(void)
{
	close_switch();
	open_switch();
	compare_contents();
	judge_many(unit_some(5000));
	for (int step = 0; step < 20 && unit_faults < 5; step++) {
		if (below(2))
			add_some(below(CLASSES));
		else
			remove_some(below(CLASSES));
		judge_many(unit_some(200));
	}
}

static void what_is_removed_leaves_nothing(void)
{
	uint32_t addr[4];

	judge_many(10);
	clear_all();
	CHECK_INT(0, tg_deny_features(deny));
	for (int i = 0; i < 2000; i++) {
		bool v6 = below(2);

		draw_address(addr, v6);
		CHECK(is_bogus(addr) || send_packets(addr, v6, 1) == XDP_PASS);
	}
}

static struct tg_deny_prefix prefix_of(const char *text)
{
	struct tg_deny_prefix prefix = { .v6 = strchr(text, ':') != NULL };
	char addr[64];
	int length;

	CHECK_INT(2, sscanf(text, "%63[^/]/%d", addr, &length));
	CHECK_INT(1, inet_pton(prefix.v6 ? AF_INET6 : AF_INET, addr, prefix.addr));
	prefix.length = length;
	return prefix;
}

static void add(int list, const char *text)
{
	struct tg_deny_prefix prefix = prefix_of(text);
	struct tg_error error;

	CHECK_INT(0, tg_deny_add(deny, classes[list], &prefix, 1, NULL, &error));
}

static void removed(int list, const char *text)
{
	struct tg_deny_prefix prefix = prefix_of(text);
	struct tg_deny_change change;

	tg_deny_remove(deny, classes[list], &prefix, 1, &change);
	CHECK_INT(1, change.removed);
}

static uint32_t verdict_of(const char *text)
{
	uint32_t addr[4] = { 0 };
	bool v6 = strchr(text, ':');

	CHECK_INT(1, inet_pton(v6 ? AF_INET6 : AF_INET, text, addr));
	return send_packets(addr, v6, 1);
}

static void the_longest_prefix_decides_and_of_equal_ones_allow(void)
{
	add(0, "0.0.0.0/0");
	add(0, "::/0");
	CHECK_INT(XDP_DROP, verdict_of("192.0.2.1"));
	CHECK_INT(XDP_DROP, verdict_of("2001:db8::1"));
	add(1, "192.0.2.0/24");
	add(1, "2001:db8::/32");
	CHECK_INT(XDP_PASS, verdict_of("192.0.2.1"));
	CHECK_INT(XDP_DROP, verdict_of("192.0.3.1"));
	CHECK_INT(XDP_PASS, verdict_of("2001:db8::1"));
	add(2, "192.0.2.1/32");
	add(2, "2001:db8::1/128");
	CHECK_INT(XDP_DROP, verdict_of("192.0.2.1"));
	CHECK_INT(XDP_PASS, verdict_of("192.0.2.2"));
	CHECK_INT(XDP_DROP, verdict_of("2001:db8::1"));
	add(3, "192.0.2.1/32");
	add(3, "2001:db8::1/128");
	CHECK_INT(XDP_PASS, verdict_of("192.0.2.1"));
	CHECK_INT(XDP_PASS, verdict_of("2001:db8::1"));
	removed(3, "192.0.2.1/32");
	removed(3, "2001:db8::1/128");
	CHECK_INT(XDP_DROP, verdict_of("192.0.2.1"));
	CHECK_INT(XDP_DROP, verdict_of("2001:db8::1"));
	clear_all();
	CHECK_INT(XDP_PASS, verdict_of("192.0.3.1"));
}

static void a_prefix_knows_what_covers_it(void)
{
	struct tg_deny_prefix host = prefix_of("198.51.100.7/32"), found;
	uint64_t first = 1ull << classes[0], second = 1ull << classes[2];

	add(0, "198.51.0.0/16");
	add(2, "198.51.100.4/30");
	CHECK(tg_deny_find(deny, ~0ull, &host, &found) && found.length == 30);
	CHECK(tg_deny_find(deny, first, &host, &found) && found.length == 16);
	CHECK_INT(classes[0], found.class);
	host = prefix_of("198.51.100.0/24");
	CHECK(tg_deny_find(deny, first | second, &host, &found) && found.length == 16);
	CHECK(!tg_deny_find(deny, second, &host, &found));
	CHECK(!tg_deny_has(deny, classes[0], &host));
	host = prefix_of("198.51.255.255/16"); /* host bits are not looked at */
	CHECK(tg_deny_has(deny, classes[0], &host));
	clear_all();
}

static void addresses_count_on_request(void)
{
	struct tg_deny_prefix hosts[] = { prefix_of("192.0.2.1/32"), prefix_of("2001:db8::1/128"),
		prefix_of("192.0.2.2/32") };
	struct tg_counter counter;
	struct tg_error error;

	hosts[0].count = hosts[1].count = 1;
	CHECK_INT(0, tg_deny_add(deny, classes[0], hosts, 3, NULL, &error));
	CHECK_INT(FEATURES, tg_deny_features(deny));
	send_packets(hosts[0].addr, false, 3);
	send_packets(hosts[1].addr, true, 2);
	send_packets(hosts[2].addr, false, 1);
	CHECK_INT(0, tg_deny_host_counter(deny, &hosts[0], &counter));
	CHECK_INT(3, counter.packets);
	CHECK_INT(3 * (14 + 28), counter.bytes);
	CHECK_INT(0, tg_deny_host_counter(deny, &hosts[1], &counter));
	CHECK_INT(2, counter.packets);
	CHECK_INT(-ENOENT, tg_deny_host_counter(deny, &hosts[2], &counter));
	hosts[0].count = 0;
	hosts[2].count = 1;
	CHECK_INT(0, tg_deny_add(deny, classes[0], hosts, 3, NULL, &error));
	send_packets(hosts[2].addr, false, 1);
	CHECK_INT(-ENOENT, tg_deny_host_counter(deny, &hosts[0], &counter));
	CHECK_INT(0, tg_deny_host_counter(deny, &hosts[2], &counter));
	CHECK_INT(1, counter.packets);
	clear_all();
	CHECK_INT(-ENOENT, tg_deny_host_counter(deny, &hosts[1], &counter));
}

static void the_heaviest_sources_are_known(void)
{
	struct tg_deny_prefix heavy = prefix_of("203.0.113.77/32"),
			      heavy6 = prefix_of("2001:db8::77/128");
	struct tg_deny_source top[3];

	add(0, "203.0.113.0/24");
	add(2, "2001:db8::/32");
	tg_deny_top_reset(deny);
	CHECK_INT(0, tg_deny_top(deny, top, 3));
	for (int i = 0; i < 256; i++) {
		uint32_t other[4] = { htonl(0xcb007100 + i) };

		send_packets(other, false, 20);
		send_packets(heavy.addr, false, 500);
		send_packets(heavy6.addr, true, 200);
	}
	CHECK_INT(3, tg_deny_top(deny, top, 3));
	CHECK(top[0].addr[0] == heavy.addr[0] && !top[0].v6 && top[0].class == classes[0]);
	CHECK(top[0].packets > 500 * 256 * 9 / 10 && top[0].packets < 500 * 256 * 11 / 10);
	CHECK_INT(top[0].packets * (14 + 28), top[0].bytes);
	CHECK(!memcmp(top[1].addr, heavy6.addr, 16) && top[1].v6 && top[1].class == classes[2]);
	CHECK(top[2].packets < 2000);
	clear_all();
}

/* --- under traffic --- */

static volatile bool traffic_ends;

struct traffic {
	const char *from;
	volatile __u64 sent;
};

static void *send_traffic(void *arg)
{
	struct traffic *traffic = arg;
	struct tg_deny_prefix prefix = prefix_of(traffic->from);

	while (!traffic_ends) {
		send_packets(prefix.addr, prefix.v6, 1000);
		traffic->sent += 1000;
	}
	return NULL;
}

static void replace(int list, const char *const *texts)
{
	struct tg_deny_prefix prefixes[8];
	struct tg_error error;
	size_t count = 0;

	for (; texts[count]; count++)
		prefixes[count] = prefix_of(texts[count]);
	CHECK_INT(0, tg_deny_replace(deny, classes[list], prefixes, count, NULL, &error));
}

/* Each list of prefixes covers the address that sends; nothing of it may pass while they take turns. */
static void no_packet_passes(const char *from, const char *const (*turns)[8], int count)
{
	struct traffic traffic = { .from = from };
	__u64 dropped = tg_datapath_reason(&dp, TG_REASON_DENIED);
	pthread_t thread;

	replace(0, turns[0]);
	traffic_ends = false;
	pthread_create(&thread, NULL, send_traffic, &traffic);
	while (!traffic.sent) /* a busy machine may take its time to start it */
		sched_yield();
	for (int i = 1; i <= unit_some(18); i++) {
		replace(0, turns[i % count]);
		if (i % 3)
			continue;
		add(2, turns[i % count][0]); /* on two lists, and on the other alone */
		replace(0, (const char *const[]){ NULL });
		replace(0, turns[(i + 1) % count]);
		removed(2, turns[i % count][0]);
	}
	traffic_ends = true;
	pthread_join(thread, NULL);
	CHECK(traffic.sent > 0);
	CHECK_INT(traffic.sent, tg_datapath_reason(&dp, TG_REASON_DENIED) - dropped);
	clear_all();
}

static void what_is_denied_before_and_after_is_denied_throughout(void)
{
	static const char *const turns4[][8] = {
		{ "192.0.2.7/32", "192.0.2.8/32" },
		{ "192.0.2.0/24" },
		{ "192.0.2.0/28", "192.0.2.9/32" },
		{ "192.0.2.7/32", "192.0.0.0/16" },
		{ "0.0.0.0/0" },
		{ "192.0.2.6/31", "192.0.2.7/32" },
	};
	static const char *const turns6[][8] = {
		{ "2001:db8::7/128", "2001:db8::8/128" },
		{ "2001:db8::/32" },
		{ "2001:db8::/64", "2001:db8::9/128" },
		{ "::/0" },
		{ "2001:db8::6/127", "2001:db8::7/128" },
		{ "2001:db8::/49", "2000::/3" },
	};

	no_packet_passes("192.0.2.7/32", turns4, 6);
	no_packet_passes("2001:db8::7/128", turns6, 6);
}

/* --- a daemon that dies --- */

static void change_until_killed(int ready)
{
	random_state = getpid();
	CHECK(freopen("/dev/null", "w", stderr)); /* it doesn't know what is there */
	add_some(0);
	CHECK_INT(1, write(ready, "", 1));
	for (;;) {
		naive_count = 0; /* what is there doesn't matter here */
		add_some(below(CLASSES));
		if (!below(3))
			replace_list(below(CLASSES));
	}
}

static void adopt_contents(void)
{
	struct tg_deny_prefix page[100];
	size_t cursor = 0, n;

	naive_count = 0;
	while ((n = tg_deny_each(deny, ~0ull, &cursor, page, 100)))
		for (size_t i = 0; i < n && naive_count < MOST; i++)
			for (int list = 0; list < CLASSES; list++)
				if (classes[list] == page[i].class)
					naive_add(page[i], list);
}

static void a_daemon_killed_amid_a_change_leaves_whole_prefixes(void)
{
	for (int i = 0; i < unit_some(12) && unit_faults < 5; i++) {
		int ready[2];
		char byte;
		pid_t child;

		CHECK_INT(0, pipe(ready));
		child = fork();
		if (child == 0) {
			close_switch();
			open_switch();
			change_until_killed(ready[1]);
		}
		CHECK_INT(1, read(ready[0], &byte, 1));
		close(ready[0]);
		close(ready[1]);
		usleep(below(30000));
		kill(child, SIGKILL);
		CHECK(waitpid(child, NULL, 0) == child);
		close_switch();
		open_switch();
		adopt_contents();
		CHECK(naive_count > 0);
		judge_many(unit_some(1000));
		if (naive_count > MOST / 2)
			clear_all();
	}
	clear_all();
}

/* --- what there is no room for --- */

static void refusals_change_nothing(void)
{
	struct tg_deny_prefix *many = calloc(TG_DENY6_MAX + 1, sizeof(*many));
	struct tg_deny_change change;
	struct tg_error error = { "" };

	for (uint32_t i = 0; i <= TG_DENY6_MAX; i++)
		many[i] = (struct tg_deny_prefix){
			.addr = { htonl(0x20010db8), htonl(i * 5) }, .v6 = 1, .length = 64
		};
	add(0, "2001:db8::/32");
	CHECK_INT(-ENOSPC, tg_deny_add(deny, classes[1], many, TG_DENY6_MAX + 1, &change, &error));
	CHECK(strstr(error.text, "no room"));
	CHECK_INT(0, change.added);
	CHECK_INT(XDP_DROP, verdict_of("2001:db8::1"));
	CHECK_INT(0, tg_deny_add(deny, classes[1], many, TG_DENY6_MAX - 1, &change, &error));
	CHECK_INT(TG_DENY6_MAX - 1, change.added);
	CHECK_INT(XDP_PASS, verdict_of("2001:db8::1"));
	CHECK_INT(XDP_DROP, verdict_of("2001:db8:0:1::1"));
	clear_all();
	many[0].length = 129;
	CHECK_INT(-EINVAL, tg_deny_add(deny, classes[0], many, 1, &change, &error));
	CHECK_INT(-EEXIST, tg_deny_class(deny, "first", TG_DENY_ALLOW, &error));
	CHECK_STR("list \"first\" denies, it can't allow as well", error.text);
	free(many);
}

/* Prefixes of /29 and /61 stand for eight entries each: three quarters of all entries can be had. */
static void the_hashes_can_be_filled(void)
{
	enum { COUNT = (1 << TG_DENY_BUCKET_BITS) * 3 / 4 };
	struct tg_deny_prefix *many = calloc(COUNT, sizeof(*many));
	struct tg_error error = { "" };

	for (int v6 = 0; v6 < 2; v6++) {
		for (uint32_t i = 0; i < COUNT; i++) {
			uint32_t addr = i * 2654435761u & ~7u; /* all different, far apart */

			many[i] = (struct tg_deny_prefix){ .v6 = v6, .length = v6 ? 61 : 29 };
			many[i].addr[v6] = htonl(addr ^ addr >> 29 << 3);
			many[i].addr[0] |= v6 ? htonl(0x20010db8) : 0;
		}
		CHECK_INT(0, tg_deny_replace(deny, classes[0], many, COUNT, NULL, &error));
		CHECK_STR("", error.text);
		for (uint32_t i = 0; i < COUNT; i += 97) {
			uint32_t addr[4];

			memcpy(addr, many[i].addr, 16);
			addr[v6] |= htonl(i % 8);
			CHECK_INT(XDP_DROP, send_packets(addr, v6, 1));
		}
	}
	clear_all();
	free(many);
}

static void there_are_63_lists(void)
{
	struct tg_deny_class_info info;
	struct tg_error error;
	char name[16];

	for (int i = CLASSES; i < TG_DENY_CLASSES; i++) {
		snprintf(name, sizeof(name), "list%d", i);
		CHECK(tg_deny_class(deny, name, TG_DENY_DENY, &error) > 0);
	}
	CHECK_INT(-ENOSPC, tg_deny_class(deny, "one more", TG_DENY_DENY, &error));
	for (int i = CLASSES; i < TG_DENY_CLASSES; i++) {
		snprintf(name, sizeof(name), "list%d", i);
		tg_deny_class_drop(deny, tg_deny_class_find(deny, name));
		CHECK_INT(-ENOENT, tg_deny_class_find(deny, name));
	}
	CHECK(!tg_deny_class_info(deny, 60, &info));
	CHECK(tg_deny_class(deny, "one more", TG_DENY_ALLOW, &error) > 0);
	tg_deny_class_drop(deny, tg_deny_class_find(deny, "one more"));
}

static void tables_without_prefixes_are_given_back(void)
{
	struct tg_error error = { "" };
	struct tg_deny_prefix host = prefix_of("192.0.2.1/32");

	add(0, "2001:db8::/32");
	CHECK_INT(0, tg_datapath_specialise(&dp, TG_FEATURE_DENY6, &error));
	tg_deny_release(deny);
	CHECK(dp.maps[TG_MAP_DENY4_BLOCKS] < 0 && dp.maps[TG_MAP_DENY6_TOP] >= 0);
	CHECK_INT(0, tg_deny_memory(deny).tables[0]);
	CHECK(tg_deny_memory(deny).tables[1] <= 32 << 20);
	CHECK_INT(-ENODEV, tg_deny_add(deny, classes[0], &host, 1, NULL, &error));
	CHECK_INT(XDP_DROP, verdict_of("2001:db8::1"));
	CHECK_INT(0, tg_datapath_specialise(&dp, FEATURES, &error));
	CHECK_INT(0, tg_deny_open(deny, &error));
	CHECK_INT(0, tg_deny_add(deny, classes[0], &host, 1, NULL, &error));
	CHECK_INT(XDP_DROP, verdict_of("192.0.2.1"));
	CHECK(tg_deny_memory(deny).tables[0] <= 32 << 20);
	clear_all();
}

int main(void)
{
	if (geteuid()) {
		printf("skipped: needs root, to load BPF programs\n");
		return 0;
	}
	snprintf(instance, sizeof(instance), "deny-test-%d", getpid());
	open_switch();
	RUN(the_longest_prefix_decides_and_of_equal_ones_allow);
	RUN(a_prefix_knows_what_covers_it);
	RUN(addresses_count_on_request);
	RUN(the_heaviest_sources_are_known);
	RUN(random_changes_are_judged_as_a_plain_search_would);
	RUN(a_later_daemon_finds_what_was_there);
	RUN(what_is_removed_leaves_nothing);
	RUN(what_is_denied_before_and_after_is_denied_throughout);
	RUN(a_daemon_killed_amid_a_change_leaves_whole_prefixes);
	RUN(the_hashes_can_be_filled);
	RUN(there_are_63_lists);
	RUN(refusals_change_nothing);
	RUN(tables_without_prefixes_are_given_back);
	close_switch();
	unload_switch();
	return unit_result();
}
