/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The deny lists, core/deny.c and the XDP program together: random changes of random prefixes, and packets
 * through the real program judged against a list that is searched from end to end.
 */
#include "deny_switch.h"

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

static void all(void)
{
	RUN(the_longest_prefix_decides_and_of_equal_ones_allow);
	RUN(a_prefix_knows_what_covers_it);
	RUN(addresses_count_on_request);
	RUN(the_heaviest_sources_are_known);
	RUN(random_changes_are_judged_as_a_plain_search_would);
	RUN(a_later_daemon_finds_what_was_there);
	RUN(what_is_removed_leaves_nothing);
	RUN(there_are_63_lists);
	RUN(tables_without_prefixes_are_given_back);
}

int main(void)
{
	return test_lists(all);
}
