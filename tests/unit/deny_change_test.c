/* SPDX-License-Identifier: GPL-2.0-only */
/* core/deny.h: lists that change under traffic, whose daemon dies, and that have no room left. */
#include "deny_switch.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>

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

/* --- the favourite --- */

static uint32_t favourite(void)
{
	struct tg_deny_state state = { 0 };
	__u32 zero = 0;

	CHECK_INT(0, bpf_map_lookup_elem(dp.maps[TG_MAP_DENY_STATE], &zero, &state));
	return state.favourite;
}

/* Hosts and /24s by turns; `nth` tells lists apart. */
static size_t fill(struct tg_deny_prefix *prefixes, size_t count, uint32_t nth)
{
	for (uint32_t i = 0; i < count; i++)
		prefixes[i] = (struct tg_deny_prefix){ .addr = { htonl((40 + nth) << 24 | i << 8) },
			.length = i % 2 ? 32 : 24 };
	return count;
}

static void takes_over(int list, size_t count)
{
	struct tg_deny_prefix *prefixes = calloc(count, sizeof(*prefixes));
	struct tg_error error = { "" };

	fill(prefixes, count, list);
	CHECK_INT(0, tg_deny_add(deny, classes[list], prefixes, count, NULL, &error));
	CHECK_INT(classes[list], favourite());
	for (size_t i = 0; i < count; i += 53) {
		__u64 before = class_packets(classes[list]);

		CHECK_INT(lists[list].verdict == TG_DENY_DENY ? XDP_DROP : XDP_PASS,
			send_packets(prefixes[i].addr, false, 1));
		CHECK_INT(before + 1, class_packets(classes[list]));
	}
	free(prefixes);
}

/* Whose addresses are told at once must not matter: neither for what is said of them, nor amid the change. */
static void a_longer_list_becomes_the_favourite(void)
{
	struct traffic traffic[2] = { { .from = "192.0.2.7/32" }, { .from = "198.51.100.9/32" } };
	pthread_t thread[2];
	__u64 before;

	clear_all();
	add(0, "192.0.2.7/32");
	add(0, "198.51.100.0/24");
	before = class_packets(classes[0]);
	traffic_ends = false;
	for (int i = 0; i < 2; i++)
		pthread_create(&thread[i], NULL, send_traffic, &traffic[i]);
	while (!traffic[0].sent || !traffic[1].sent)
		sched_yield();
	takes_over(1, 4000);
	takes_over(2, 16000);
	takes_over(3, 64000);
	traffic_ends = true;
	for (int i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
	CHECK_INT(traffic[0].sent + traffic[1].sent, class_packets(classes[0]) - before);
	clear_all();
	takes_over(0, 2000);
	clear_all();
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

static void all(void)
{
	RUN(what_is_denied_before_and_after_is_denied_throughout);
	RUN(a_longer_list_becomes_the_favourite);
	RUN(a_daemon_killed_amid_a_change_leaves_whole_prefixes);
	RUN(the_hashes_can_be_filled);
	RUN(refusals_change_nothing);
}

int main(void)
{
	return test_lists(all);
}
