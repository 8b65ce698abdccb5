/* SPDX-License-Identifier: GPL-2.0-only */
/* The view of all routes of core/neighbour.h, on veth pairs between two network namespaces. */
#include "neighbour.h"

#include "netns.h"
#include "unit.h"

#define ENTRIES 20000

static uv_loop_t loop;
static struct tg_neighbour *n;

/* ---- what was reported ---- */

static struct {
	struct tg_prefix prefix;
	struct tg_nexthop nexthop;
} entries[ENTRIES];
static int count, calls, bad_calls;
static const char *incomplete[2];	/* IPv4, IPv6 */
static int mode_calls;

static int find(const struct tg_prefix *prefix)
{
	int i = 0;

	while (i < count && memcmp(&entries[i].prefix, prefix, sizeof(*prefix)))
		i++;
	return i;
}

static void on_route(void *user, const struct tg_prefix *prefix, const struct tg_nexthop *nexthop)
{
	int i = find(prefix);

	calls++;
	if (!nexthop) {
		bad_calls += i == count;	/* what was never there goes away */
		if (i < count)
			entries[i] = entries[--count];
		return;
	}
	if (i == count && count < ENTRIES)
		entries[count++].prefix = *prefix;
	else
		bad_calls += !memcmp(&entries[i].nexthop, nexthop, sizeof(*nexthop));	/* no change */
	entries[i].nexthop = *nexthop;
}

static void on_mode(void *user, int family, const char *why)
{
	mode_calls++;
	incomplete[family == AF_INET6] = why;
}

static const struct tg_routes_user reader = { on_route, on_mode, NULL };

/* ---- what is awaited of a prefix ---- */

#define GONE -1

struct awaited {
	struct tg_prefix prefix;
	int state;
	const char *device, *dmac;
};

static struct tg_prefix prefix_of(const char *text)
{
	struct tg_prefix prefix = { 0 };
	char addr[64];

	if (sscanf(text, "%63[^/]/%u", addr, &prefix.len) != 2 || tg_addr_parse(addr, &prefix.addr) < 0)
		abort();
	return prefix;
}

static bool is_as_awaited(void *user)
{
	const struct awaited *want = user;
	int i = find(&want->prefix);
	const struct tg_nexthop *is = &entries[i].nexthop;
	const struct tg_link *link;
	char mac[32];

	if (i == count || want->state == GONE)
		return i == count && want->state == GONE;
	if ((int)is->state != want->state || (is->ifindex != 0) != (want->state == TG_NEXTHOP_RESOLVED))
		return false;
	link = tg_link_by_index(n, is->ifindex);
	snprintf(mac, sizeof(mac), "%02x:%02x:%02x:%02x:%02x:%02x", is->dmac[0], is->dmac[1],
		is->dmac[2], is->dmac[3], is->dmac[4], is->dmac[5]);
	return (!want->device || (link && !strcmp(link->name, want->device))) &&
	       (!want->dmac || !strcmp(mac, want->dmac));
}

static bool becomes(const char *prefix, int state, const char *device, const char *dmac)
{
	struct awaited want = { prefix_of(prefix), state, device, dmac };
	int i;

	if (netns_until(&loop, is_as_awaited, &want, 2500))
		return true;
	i = find(&want.prefix);
	fprintf(stderr, "%s is %s\n", prefix,
		i == count ? "not there" : tg_nexthop_state_name(entries[i].nexthop.state));
	return false;
}

static bool never(void *user)
{
	return false;
}

static void run_for(int ms)
{
	netns_until(&loop, never, NULL, ms);
}

static bool both_modes_told(void *user)
{
	return mode_calls >= 2;
}

/* ---- the view ---- */

static void the_first_view_has_what_the_kernel_has(void)
{
	here("ip route add 10.9.0.0/24 via 10.0.0.2; ip route add fd09::/64 via fd00:0::2");
	CHECK_INT(0, tg_routes_watch(n, &reader));
	CHECK_INT(-EBUSY, tg_routes_watch(n, &reader));
	CHECK_INT(0, calls);
	CHECK(netns_until(&loop, both_modes_told, NULL, 1000));
	CHECK(!incomplete[0] && !incomplete[1]);
	CHECK(becomes("10.0.0.1/32", TG_NEXTHOP_LOCAL, NULL, NULL));
	CHECK(becomes("127.0.0.0/8", TG_NEXTHOP_LOCAL, NULL, NULL));
	CHECK(becomes("fd00:0::1/128", TG_NEXTHOP_LOCAL, NULL, NULL));
	CHECK(becomes("10.0.0.0/24", TG_NEXTHOP_ASK_KERNEL, NULL, NULL));
	CHECK(becomes("fd00::/64", TG_NEXTHOP_ASK_KERNEL, NULL, NULL));
	CHECK(becomes("10.0.0.255/32", TG_NEXTHOP_ASK_KERNEL, NULL, NULL));
	CHECK(becomes("ff00::/8", TG_NEXTHOP_ASK_KERNEL, NULL, NULL));
	/* Its gateway was asked for, without anybody's traffic, and is an entry as well. */
	CHECK(becomes("10.9.0.0/24", TG_NEXTHOP_RESOLVED, "v0", "02:00:00:00:00:02"));
	CHECK(becomes("fd09::/64", TG_NEXTHOP_RESOLVED, "v0", "02:00:00:00:00:02"));
	CHECK(becomes("10.0.0.2/32", TG_NEXTHOP_RESOLVED, "v0", "02:00:00:00:00:02"));
	CHECK(becomes("fd00:0::2/128", TG_NEXTHOP_RESOLVED, "v0", "02:00:00:00:00:02"));
}

static void only_changes_are_reported(void)
{
	int before;

	run_for(150);
	before = calls;
	here("ip route add 10.10.0.0/24 via 10.0.0.2");
	CHECK(becomes("10.10.0.0/24", TG_NEXTHOP_RESOLVED, "v0", NULL));
	here("ip route del 10.10.0.0/24");
	CHECK(becomes("10.10.0.0/24", GONE, NULL, NULL));
	CHECK_INT(before + 2, calls);
}

static void local_addresses_come_and_go(void)
{
	here("ip addr add 10.0.0.55/32 dev lo; ip addr add fd00:5::5/128 dev lo");
	CHECK(becomes("10.0.0.55/32", TG_NEXTHOP_LOCAL, NULL, NULL));
	CHECK(becomes("fd00:5::5/128", TG_NEXTHOP_LOCAL, NULL, NULL));
	here("ip addr del 10.0.0.55/32 dev lo; ip addr del fd00:5::5/128 dev lo");
	CHECK(becomes("10.0.0.55/32", GONE, NULL, NULL));
	CHECK(becomes("fd00:5::5/128", GONE, NULL, NULL));
}

static void neighbours_are_host_entries_while_they_are_reachable(void)
{
	here("ip neigh replace 10.0.0.80 lladdr 02:00:00:00:00:80 dev v0 nud stale");
	CHECK(becomes("10.0.0.80/32", TG_NEXTHOP_RESOLVED, "v0", "02:00:00:00:00:80"));
	here("ip neigh replace 10.0.0.80 lladdr 02:00:00:00:00:81 dev v0 nud stale");
	CHECK(becomes("10.0.0.80/32", TG_NEXTHOP_RESOLVED, "v0", "02:00:00:00:00:81"));
	here("ip neigh del 10.0.0.80 dev v0");
	CHECK(becomes("10.0.0.80/32", GONE, NULL, NULL));
}

static void a_neighbour_counts_only_on_the_link_that_its_route_leads_to(void)
{
	here("ip neigh replace 10.0.0.81 lladdr 02:00:00:00:00:81 dev v1 nud permanent");
	here("ip neigh replace 10.0.0.82 lladdr 02:00:00:00:00:82 dev v0 nud permanent");
	CHECK(becomes("10.0.0.82/32", TG_NEXTHOP_RESOLVED, "v0", NULL));
	CHECK(becomes("10.0.0.81/32", GONE, NULL, NULL));
	here("ip route add 10.0.0.80/30 dev v1");	/* covers both */
	CHECK(becomes("10.0.0.81/32", TG_NEXTHOP_RESOLVED, "v1", "02:00:00:00:00:81"));
	CHECK(becomes("10.0.0.82/32", GONE, NULL, NULL));
	here("ip route del 10.0.0.80/30 dev v1");
	CHECK(becomes("10.0.0.81/32", GONE, NULL, NULL));
	here("ip route add 10.0.0.82/32 via 10.0.1.2");
	CHECK(becomes("10.0.0.82/32", TG_NEXTHOP_RESOLVED, "v1", "02:00:00:00:01:02"));
	here("ip route del 10.0.0.82/32");
	CHECK(becomes("10.0.0.82/32", TG_NEXTHOP_RESOLVED, "v0", "02:00:00:00:00:82"));
	here("ip route add 10.0.0.82/32 dev v0");	/* a host route on the link, as containers have */
	run_for(30);
	CHECK(becomes("10.0.0.82/32", TG_NEXTHOP_RESOLVED, "v0", "02:00:00:00:00:82"));
	here("ip route del 10.0.0.82/32; ip neigh del 10.0.0.81 dev v1; ip neigh del 10.0.0.82 dev v0");
	CHECK(becomes("10.0.0.82/32", GONE, NULL, NULL));
}

static void link_local_neighbours_are_no_clients(void)
{
	here("ip -6 route del fe80::/64 dev v1");	/* not a question of which link */
	here("ip -6 neigh replace fe80::77 lladdr 02:00:00:00:00:77 dev v0 nud permanent");
	here("ip -6 neigh replace fd00:0::77 lladdr 02:00:00:00:00:77 dev v0 nud permanent");
	CHECK(becomes("fd00:0::77/128", TG_NEXTHOP_RESOLVED, "v0", NULL));
	run_for(30);
	CHECK(becomes("fe80::77/128", GONE, NULL, NULL));
	here("ip -6 route add fe80::/64 dev v1; ip -6 neigh del fe80::77 dev v0; ip -6 neigh del fd00:0::77 dev v0");
}

static void gateways_are_followed(void)
{
	here("ip neigh replace 10.0.0.2 lladdr 02:00:00:00:00:0b dev v0 nud permanent");
	CHECK(becomes("10.9.0.0/24", TG_NEXTHOP_RESOLVED, "v0", "02:00:00:00:00:0b"));
	here("ip neigh del 10.0.0.2 dev v0");		/* asked for again at once */
	CHECK(becomes("10.9.0.0/24", TG_NEXTHOP_RESOLVED, "v0", "02:00:00:00:00:02"));
	here("ip route replace 10.9.0.0/24 via 10.0.1.2");
	CHECK(becomes("10.9.0.0/24", TG_NEXTHOP_RESOLVED, "v1", "02:00:00:00:01:02"));
	here("ip route replace 10.9.0.0/24 via 10.0.1.99");
	CHECK(becomes("10.9.0.0/24", TG_NEXTHOP_NO_NEIGHBOUR, NULL, NULL));
	here("ip route replace 10.9.0.0/24 via 10.0.0.2");
	CHECK(becomes("10.9.0.0/24", TG_NEXTHOP_RESOLVED, "v0", NULL));
}

static void link_local_gateways_are_followed(void)
{
	here("ip -6 route add default via fe80::0:2 dev v0");
	CHECK(becomes("::/0", TG_NEXTHOP_RESOLVED, "v0", "02:00:00:00:00:02"));
	here("ip -6 route replace default via fe80::1:2 dev v1");
	CHECK(becomes("::/0", TG_NEXTHOP_RESOLVED, "v1", "02:00:00:00:01:02"));
	here("ip -6 route add default via fe80::0:2 dev v0 metric 5");
	CHECK(becomes("::/0", TG_NEXTHOP_RESOLVED, "v0", "02:00:00:00:00:02"));
	here("ip -6 route flush ::/0");
	CHECK(becomes("::/0", GONE, NULL, NULL));
}

static void the_lowest_metric_counts_and_links_without_carrier_do_not(void)
{
	here("ip route add 10.11.0.0/24 via 10.0.1.2 metric 20; ip route add 10.11.0.0/24 via 10.0.0.2 metric 10");
	CHECK(becomes("10.11.0.0/24", TG_NEXTHOP_RESOLVED, "v0", NULL));
	there("ip link set p0 down");
	CHECK(becomes("10.11.0.0/24", TG_NEXTHOP_RESOLVED, "v1", "02:00:00:00:01:02"));
	there("ip link set p0 up");
	netns_addresses_there(0);
	CHECK(becomes("10.11.0.0/24", TG_NEXTHOP_RESOLVED, "v0", "02:00:00:00:00:02"));
	here("ip route flush 10.11.0.0/24");
	CHECK(becomes("10.11.0.0/24", GONE, NULL, NULL));
}

static void what_only_the_kernel_can_decide_is_left_to_it(void)
{
	here("ip route add 10.11.0.0/24 nexthop via 10.0.0.2 nexthop via 10.0.1.2");
	here("ip -6 route add fd11::/64 nexthop via fd00:0::2 nexthop via fd00:1::2");
	here("ip route add 10.12.0.0/24 via 10.0.0.2 tos 0x10; ip route add 10.12.0.0/24 via 10.0.1.2");
	here("ip -6 route add fd12::/64 from fd00:5::/64 via fd00:0::2");
	here("ip route add blackhole 10.13.0.0/24; ip route add unreachable fd13::/64");
	CHECK(becomes("10.11.0.0/24", TG_NEXTHOP_ASK_KERNEL, NULL, NULL));
	CHECK(becomes("fd11::/64", TG_NEXTHOP_ASK_KERNEL, NULL, NULL));
	CHECK(becomes("10.12.0.0/24", TG_NEXTHOP_ASK_KERNEL, NULL, NULL));
	CHECK(becomes("fd12::/64", TG_NEXTHOP_ASK_KERNEL, NULL, NULL));
	CHECK(becomes("10.13.0.0/24", TG_NEXTHOP_BLACKHOLE, NULL, NULL));
	CHECK(becomes("fd13::/64", TG_NEXTHOP_UNREACHABLE, NULL, NULL));
	here("ip route del 10.11.0.0/24; ip -6 route del fd11::/64; ip route del blackhole 10.13.0.0/24");
	here("ip route del 10.12.0.0/24 tos 0x10; ip -6 route del fd12::/64 from fd00:5::/64; ip -6 route del fd13::/64");
	CHECK(becomes("fd13::/64", GONE, NULL, NULL));
	CHECK(becomes("10.12.0.0/24", TG_NEXTHOP_RESOLVED, "v1", NULL));
	here("ip route del 10.12.0.0/24");
}

static void the_local_table_hides_longer_prefixes_of_main(void)
{
	here("ip route add 10.14.1.0/24 via 10.0.0.2");
	CHECK(becomes("10.14.1.0/24", TG_NEXTHOP_RESOLVED, "v0", NULL));
	here("ip route add local 10.14.0.0/16 dev lo");
	CHECK(becomes("10.14.0.0/16", TG_NEXTHOP_LOCAL, NULL, NULL));
	CHECK(becomes("10.14.1.0/24", GONE, NULL, NULL));
	here("ip route del local 10.14.0.0/16 dev lo");
	CHECK(becomes("10.14.1.0/24", TG_NEXTHOP_RESOLVED, "v0", NULL));
	here("ip route del 10.14.1.0/24");
}

static void routes_vanish_with_their_link(void)
{
	netns_pair(2);
	here("ip route add 10.15.0.0/24 via 10.0.2.2; ip -6 route add fd15::/64 via fd00:2::2");
	CHECK(becomes("10.15.0.0/24", TG_NEXTHOP_RESOLVED, "v2", NULL));
	CHECK(becomes("fd15::/64", TG_NEXTHOP_RESOLVED, "v2", NULL));
	CHECK(becomes("10.0.2.2/32", TG_NEXTHOP_RESOLVED, "v2", NULL));
	here("ip link set v2 down");
	CHECK(becomes("10.15.0.0/24", GONE, NULL, NULL));
	CHECK(becomes("fd15::/64", GONE, NULL, NULL));
	here("ip link del v2");
	CHECK(becomes("10.0.2.1/32", GONE, NULL, NULL));
	CHECK(becomes("10.0.2.2/32", GONE, NULL, NULL));
}

/* ---- when the view can't be complete ---- */

static bool v4_is_incomplete(void *user)
{
	return incomplete[0] && count < 50;
}

static bool v4_is_complete(void *user)
{
	return !incomplete[0];
}

static void policy_rules_make_a_family_incomplete(void)
{
	here("ip rule add fwmark 7 table 100");
	CHECK(netns_until(&loop, v4_is_incomplete, NULL, 1000));
	CHECK(becomes("10.9.0.0/24", GONE, NULL, NULL));
	CHECK(becomes("10.0.0.1/32", GONE, NULL, NULL));
	CHECK(becomes("fd09::/64", TG_NEXTHOP_RESOLVED, "v0", NULL));
	CHECK(!incomplete[1]);
	here("ip rule del fwmark 7 table 100");
	CHECK(netns_until(&loop, v4_is_complete, NULL, 1000));
	CHECK(becomes("10.9.0.0/24", TG_NEXTHOP_RESOLVED, "v0", NULL));
}

static void routes_in_table_default_make_it_incomplete(void)
{
	here("ip route add 10.16.0.0/24 via 10.0.0.2 table default");
	CHECK(netns_until(&loop, v4_is_incomplete, NULL, 1000));
	here("ip route del 10.16.0.0/24 table default");
	CHECK(netns_until(&loop, v4_is_complete, NULL, 1000));
}

static void too_many_routes_make_it_incomplete(void)
{
	here("for i in $(seq 0 255); do for j in $(seq 0 16 255); do echo route add 10.200.$i.$j/32 via 10.0.0.2; "
	     "done; done | ip -batch -");	/* 4,096, and those that are there */
	CHECK(netns_until(&loop, v4_is_incomplete, NULL, 2000));
	CHECK(!incomplete[1]);
	here("ip route flush root 10.200.0.0/17");
	CHECK(netns_until(&loop, v4_is_complete, NULL, 2000));
	CHECK(becomes("10.200.255.16/32", TG_NEXTHOP_RESOLVED, "v0", "02:00:00:00:00:02"));
	CHECK(count > 2048);
	here("ip neigh replace 10.0.0.2 lladdr 02:00:00:00:00:0b dev v0 nud permanent");
	CHECK(becomes("10.200.255.16/32", TG_NEXTHOP_RESOLVED, "v0", "02:00:00:00:00:0b"));
	here("ip route flush root 10.200.0.0/16; ip neigh del 10.0.0.2 dev v0");
	CHECK(becomes("10.200.255.16/32", GONE, NULL, NULL));
	CHECK(becomes("10.9.0.0/24", TG_NEXTHOP_RESOLVED, "v0", "02:00:00:00:00:02"));
}

static void nothing_was_reported_twice_or_taken_back_twice(void)
{
	CHECK_INT(0, bad_calls);
}

/* ---- callbacks that end it ---- */

static int calls_after_end;

static void on_route_end(void *user, const struct tg_prefix *prefix, const struct tg_nexthop *nexthop)
{
	calls_after_end++;
	tg_routes_unwatch(n);
}

static const struct tg_routes_user ender = { on_route_end, on_mode, NULL };

static bool ended(void *user)
{
	return calls_after_end > 0;
}

static void a_callback_may_end_the_watch(void)
{
	tg_routes_unwatch(n);
	CHECK_INT(0, tg_routes_watch(n, &ender));
	CHECK(netns_until(&loop, ended, NULL, 1000));
	here("ip route add 10.10.0.0/24 via 10.0.0.2; ip route del 10.10.0.0/24");
	run_for(50);
	CHECK_INT(1, calls_after_end);
}

static void on_route_close(void *user, const struct tg_prefix *prefix, const struct tg_nexthop *nexthop)
{
	struct tg_neighbour **other = user;

	calls_after_end++;
	tg_neighbour_close(*other, NULL, NULL);
}

static void a_callback_may_close_everything(void)
{
	struct tg_neighbour *other;
	struct tg_routes_user closer = { on_route_close, on_mode, &other };

	calls_after_end = 0;
	CHECK_INT(0, tg_neighbour_open(&loop, &other, NULL));
	CHECK_INT(0, tg_routes_watch(other, &closer));
	CHECK(netns_until(&loop, ended, NULL, 1000));
	run_for(20);
	CHECK_INT(1, calls_after_end);
}

int main(void)
{
	struct tg_error error;

	if (netns_enter() < 0)
		return netns_skipped();
	here("ip link set lo up");
	netns_pair(0);
	netns_pair(1);
	uv_loop_init(&loop);
	if (tg_neighbour_open(&loop, &n, &error) < 0) {
		fprintf(stderr, "%s\n", error.text);
		return 1;
	}
	RUN(the_first_view_has_what_the_kernel_has);
	RUN(only_changes_are_reported);
	RUN(local_addresses_come_and_go);
	RUN(neighbours_are_host_entries_while_they_are_reachable);
	RUN(a_neighbour_counts_only_on_the_link_that_its_route_leads_to);
	RUN(link_local_neighbours_are_no_clients);
	RUN(gateways_are_followed);
	RUN(link_local_gateways_are_followed);
	RUN(the_lowest_metric_counts_and_links_without_carrier_do_not);
	RUN(what_only_the_kernel_can_decide_is_left_to_it);
	RUN(the_local_table_hides_longer_prefixes_of_main);
	RUN(routes_vanish_with_their_link);
	RUN(policy_rules_make_a_family_incomplete);
	RUN(routes_in_table_default_make_it_incomplete);
	RUN(too_many_routes_make_it_incomplete);
	RUN(nothing_was_reported_twice_or_taken_back_twice);
	RUN(a_callback_may_end_the_watch);
	RUN(a_callback_may_close_everything);
	tg_neighbour_close(n, NULL, NULL);
	uv_run(&loop, UV_RUN_DEFAULT);
	CHECK_INT(0, uv_loop_close(&loop));
	netns_leave();
	return unit_result();
}
