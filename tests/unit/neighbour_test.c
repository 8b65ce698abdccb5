/* SPDX-License-Identifier: GPL-2.0-only */
/* Links and next hops of core/neighbour.h, on veth pairs between two network namespaces. */
#include "seen.h"

/* ---- next hops ---- */

static void a_neighbour_on_a_link_is_resolved(void)
{
	struct seen v4, v6;
	char mac[32];

	watch(&v4, "10.0.0.2");
	watch(&v6, "fd00:0::2");
	CHECK_INT(0, v4.calls);		/* never from within the call */
	CHECK(becomes(&v4, TG_NEXTHOP_RESOLVED, "v0", "02:00:00:00:00:02"));
	CHECK(becomes(&v6, TG_NEXTHOP_RESOLVED, "v0", "02:00:00:00:00:02"));
	CHECK_STR("02:00:00:00:00:01", mac_text(v4.nexthop.smac, mac));
	CHECK_INT(v4.nexthop.device, v4.nexthop.ifindex);
	CHECK_INT(1500, v4.nexthop.mtu);
	CHECK(!v4.nexthop.routed);
	CHECK_STR("veth", v4.nexthop.kind);
	tg_nexthop_unwatch(v4.watch);
	tg_nexthop_unwatch(v6.watch);
}

static void watches_of_one_address_share_the_work(void)
{
	uint64_t before = tg_neighbour_stats(n)->queries;
	struct seen seen[20];

	for (int i = 0; i < 20; i++)
		watch(&seen[i], "10.0.0.2");
	for (int i = 0; i < 20; i++)
		CHECK(becomes(&seen[i], TG_NEXTHOP_RESOLVED, "v0", NULL));
	CHECK(tg_neighbour_stats(n)->queries - before <= 4);
	for (int i = 0; i < 20; i++)
		tg_nexthop_unwatch(seen[i].watch);
}

static void a_late_watch_is_told_once_and_the_others_not_again(void)
{
	struct seen first, late;

	watch(&first, "10.0.0.2");
	CHECK(becomes(&first, TG_NEXTHOP_RESOLVED, "v0", NULL));
	first.calls = 0;
	watch(&late, "10.0.0.2");
	CHECK(becomes(&late, TG_NEXTHOP_RESOLVED, "v0", NULL));
	run_for(50);
	CHECK_INT(1, late.calls);
	CHECK_INT(0, first.calls);
	tg_nexthop_unwatch(first.watch);
	tg_nexthop_unwatch(late.watch);
}

static void a_new_mac_of_the_neighbour_is_followed(void)
{
	struct seen v4, v6;

	watch(&v4, "10.0.0.2");
	watch(&v6, "fd00:0::2");
	CHECK(becomes(&v4, TG_NEXTHOP_RESOLVED, "v0", "02:00:00:00:00:02"));
	CHECK(becomes(&v6, TG_NEXTHOP_RESOLVED, "v0", "02:00:00:00:00:02"));
	there("sh -c 'echo 1 >/proc/sys/net/ipv4/conf/p0/arp_notify'");	/* gratuitous ARP */
	there("ip link set p0 address 02:00:00:00:00:03");
	here("ip neigh replace fd00:0::2 lladdr 02:00:00:00:00:03 dev v0 nud reachable");
	CHECK(becomes(&v4, TG_NEXTHOP_RESOLVED, "v0", "02:00:00:00:00:03"));
	CHECK(becomes(&v6, TG_NEXTHOP_RESOLVED, "v0", "02:00:00:00:00:03"));
	there("ip link set p0 address 02:00:00:00:00:02");
	here("ip neigh flush dev v0");	/* asked for again at once */
	CHECK(becomes(&v4, TG_NEXTHOP_RESOLVED, "v0", "02:00:00:00:00:02"));
	CHECK(becomes(&v6, TG_NEXTHOP_RESOLVED, "v0", "02:00:00:00:00:02"));
	tg_nexthop_unwatch(v4.watch);
	tg_nexthop_unwatch(v6.watch);
}

static bool has_first_smac(void *user)
{
	const struct seen *seen = user;
	char mac[32];

	return seen->calls && !strcmp(mac_text(seen->nexthop.smac, mac), "02:00:00:00:00:0a");
}

static void a_new_mac_of_the_own_port_is_followed(void)
{
	struct seen seen;

	watch(&seen, "10.0.0.2");
	CHECK(becomes(&seen, TG_NEXTHOP_RESOLVED, "v0", NULL));
	here("ip link set v0 address 02:00:00:00:00:0a");
	CHECK(netns_until(&loop, has_first_smac, &seen, 1000));
	CHECK(becomes(&seen, TG_NEXTHOP_RESOLVED, "v0", "02:00:00:00:00:02"));
	here("ip link set v0 address 02:00:00:00:00:01");
	tg_nexthop_unwatch(seen.watch);
}

static void a_route_that_moves_to_another_port_is_followed(void)
{
	struct tg_addr gateway = addr_of("10.0.1.2");
	struct seen seen;

	watch(&seen, "10.9.0.7");
	CHECK(becomes(&seen, TG_NEXTHOP_NO_ROUTE, NULL, NULL));
	here("ip route add 10.9.0.0/24 via 10.0.0.2");
	CHECK(becomes(&seen, TG_NEXTHOP_RESOLVED, "v0", "02:00:00:00:00:02"));
	here("ip route replace 10.9.0.0/24 via 10.0.1.2 mtu 1400");
	CHECK(becomes(&seen, TG_NEXTHOP_RESOLVED, "v1", "02:00:00:00:01:02"));
	CHECK(seen.nexthop.routed && tg_addr_equal(&seen.nexthop.gateway, &gateway));
	CHECK_INT(1400, seen.nexthop.mtu);
	here("ip route add 10.9.0.7/32 via 10.0.0.2");
	CHECK(becomes(&seen, TG_NEXTHOP_RESOLVED, "v0", "02:00:00:00:00:02"));
	here("ip route del 10.9.0.7/32; ip route del 10.9.0.0/24");
	CHECK(becomes(&seen, TG_NEXTHOP_NO_ROUTE, NULL, NULL));
	CHECK_INT(0, seen.nexthop.ifindex);
	tg_nexthop_unwatch(seen.watch);
}

static void routes_to_nowhere_are_told_apart(void)
{
	struct seen seen;

	watch(&seen, "10.9.0.7");
	here("ip route add blackhole 10.9.0.0/24");
	CHECK(becomes(&seen, TG_NEXTHOP_BLACKHOLE, NULL, NULL));
	here("ip route replace unreachable 10.9.0.0/24");
	CHECK(becomes(&seen, TG_NEXTHOP_UNREACHABLE, NULL, NULL));
	here("ip route replace prohibit 10.9.0.0/24");
	CHECK(becomes(&seen, TG_NEXTHOP_PROHIBIT, NULL, NULL));
	here("ip route del prohibit 10.9.0.0/24");
	tg_nexthop_unwatch(seen.watch);
}

static void a_route_through_a_link_that_goes_down_yields_to_the_backup(void)
{
	struct seen v4, v6;

	here("ip route add 10.9.0.0/24 via 10.0.0.2 metric 10; ip route add 10.9.0.0/24 via 10.0.1.2 metric 20");
	here("ip route add fd09::/64 via fd00:0::2 metric 10; ip route add fd09::/64 via fd00:1::2 metric 20");
	watch(&v4, "10.9.0.7");
	watch(&v6, "fd09::7");
	CHECK(becomes(&v4, TG_NEXTHOP_RESOLVED, "v0", NULL));
	CHECK(becomes(&v6, TG_NEXTHOP_RESOLVED, "v0", NULL));
	here("ip link set v0 down");
	CHECK(becomes(&v4, TG_NEXTHOP_RESOLVED, "v1", "02:00:00:00:01:02"));
	CHECK(becomes(&v6, TG_NEXTHOP_RESOLVED, "v1", "02:00:00:00:01:02"));
	here("ip link set v0 up; ip addr add fd00:0::1/64 dev v0");
	here("ip route add 10.9.0.0/24 via 10.0.0.2 metric 10");
	CHECK(becomes(&v4, TG_NEXTHOP_RESOLVED, "v0", "02:00:00:00:00:02"));
	here("ip route flush 10.9.0.0/24; ip route flush fd09::/64");
	tg_nexthop_unwatch(v4.watch);
	tg_nexthop_unwatch(v6.watch);
}

static void a_cable_pulled_at_the_other_end_is_noticed(void)
{
	struct seen seen;

	here("ip route add 10.9.0.0/24 via 10.0.0.2 metric 10; ip route add 10.9.0.0/24 via 10.0.1.2 metric 20");
	watch(&seen, "10.9.0.7");
	CHECK(becomes(&seen, TG_NEXTHOP_RESOLVED, "v0", NULL));
	there("ip link set p0 down");
	CHECK(becomes(&seen, TG_NEXTHOP_LINK_DOWN, "v0", NULL));	/* the kernel keeps the route */
	there("ip link set p0 up");
	CHECK(becomes(&seen, TG_NEXTHOP_RESOLVED, "v0", "02:00:00:00:00:02"));
	netns_sysctl("ipv4/conf/v0/ignore_routes_with_linkdown", "1");
	there("ip link set p0 down");
	CHECK(becomes(&seen, TG_NEXTHOP_RESOLVED, "v1", "02:00:00:00:01:02"));
	there("ip link set p0 up");
	netns_addresses_there(0);
	CHECK(becomes(&seen, TG_NEXTHOP_RESOLVED, "v0", "02:00:00:00:00:02"));
	here("ip route flush 10.9.0.0/24");
	tg_nexthop_unwatch(seen.watch);
}

static void a_neighbour_that_dies_and_comes_back_is_noticed(void)
{
	struct seen seen;

	watch(&seen, "10.0.1.77");
	CHECK(becomes(&seen, TG_NEXTHOP_NO_NEIGHBOUR, "v1", NULL));
	CHECK_INT(0, seen.nexthop.ifindex);
	run_for(500);	/* asked for, failed */
	there("ip addr add 10.0.1.77/24 dev p1");
	CHECK(becomes(&seen, TG_NEXTHOP_RESOLVED, "v1", "02:00:00:00:01:02"));
	there("ip addr del 10.0.1.77/24 dev p1");
	here("ip neigh change 10.0.1.77 dev v1 nud probe");	/* as when its time has come */
	CHECK(becomes(&seen, TG_NEXTHOP_NO_NEIGHBOUR, "v1", NULL));
	there("ip addr add 10.0.1.77/24 dev p1");
	CHECK(becomes(&seen, TG_NEXTHOP_RESOLVED, "v1", "02:00:00:00:01:02"));
	tg_nexthop_unwatch(seen.watch);
}

static void link_local_gateways_are_resolved_on_their_link(void)
{
	struct seen v6, v4;

	here("ip route add default via fe80::1:2 dev v1; ip route add 10.9.0.0/24 via inet6 fe80::1:2 dev v1");
	watch(&v6, "2001:db8::1");
	watch(&v4, "10.9.0.1");
	CHECK(becomes(&v6, TG_NEXTHOP_RESOLVED, "v1", "02:00:00:00:01:02"));
	CHECK(becomes(&v4, TG_NEXTHOP_RESOLVED, "v1", "02:00:00:00:01:02"));
	CHECK_INT(AF_INET6, v4.nexthop.gateway.family);
	here("ip -6 route replace default via fe80::0:2 dev v0");
	CHECK(becomes(&v6, TG_NEXTHOP_RESOLVED, "v0", "02:00:00:00:00:02"));
	here("ip -6 route del default; ip route del 10.9.0.0/24");
	CHECK(becomes(&v6, TG_NEXTHOP_NO_ROUTE, NULL, NULL));
	tg_nexthop_unwatch(v6.watch);
	tg_nexthop_unwatch(v4.watch);
}

static void an_own_address_is_local_while_it_is_there(void)
{
	struct seen v4, v6;

	watch(&v4, "10.0.0.55");
	watch(&v6, "fd00:0::55");
	here("ip addr add 10.0.0.55/24 dev v0; ip addr add fd00:0::55/64 dev v0");
	CHECK(becomes(&v4, TG_NEXTHOP_LOCAL, NULL, NULL));
	CHECK(becomes(&v6, TG_NEXTHOP_LOCAL, NULL, NULL));
	here("ip addr del 10.0.0.55/24 dev v0; ip addr del fd00:0::55/64 dev v0");
	CHECK(becomes(&v4, TG_NEXTHOP_NO_NEIGHBOUR, "v0", NULL));
	CHECK(becomes(&v6, TG_NEXTHOP_NO_NEIGHBOUR, "v0", NULL));
	tg_nexthop_unwatch(v4.watch);
	tg_nexthop_unwatch(v6.watch);
}

static void a_port_that_is_deleted_and_made_again_is_found(void)
{
	struct seen seen;
	uint32_t first;

	netns_pair(2);
	watch(&seen, "10.0.2.2");
	CHECK(becomes(&seen, TG_NEXTHOP_RESOLVED, "v2", NULL));
	first = seen.nexthop.ifindex;
	here("ip link del v2");
	CHECK(becomes(&seen, TG_NEXTHOP_NO_ROUTE, NULL, NULL));
	netns_pair(2);
	CHECK(becomes(&seen, TG_NEXTHOP_RESOLVED, "v2", "02:00:00:00:02:02"));
	CHECK(seen.nexthop.ifindex != first);
	tg_nexthop_unwatch(seen.watch);
	here("ip link del v2");
}

static void devices_that_are_not_ports_are_named_by_kind(void)
{
	struct seen bridge, tun, noarp;

	here("ip link add br0 type bridge; ip addr add 10.7.0.1/24 dev br0; ip link set br0 up");
	here("ip tuntap add mode tun t0; ip addr add 10.6.0.1/24 dev t0; ip link set t0 up");
	netns_pair(2);
	netns_pair(3);
	here("ip addr flush dev v2; ip link set v2 master br0; ip link set v3 arp off");
	here("ip neigh replace 10.7.0.2 lladdr 02:00:00:00:07:02 dev br0 nud permanent");
	watch(&bridge, "10.7.0.2");
	watch(&tun, "10.6.0.2");
	watch(&noarp, "10.0.3.2");
	CHECK(becomes(&bridge, TG_NEXTHOP_RESOLVED, "br0", "02:00:00:00:07:02"));
	CHECK_STR("bridge", bridge.nexthop.kind);
	CHECK(becomes(&tun, TG_NEXTHOP_ASK_KERNEL, "t0", NULL));
	CHECK(becomes(&noarp, TG_NEXTHOP_RESOLVED, "v3", NULL));	/* no ARP, and no announcement */
	here("ip link del br0; ip link del t0; ip link del v2; ip link del v3");
	tg_nexthop_unwatch(bridge.watch);
	tg_nexthop_unwatch(tun.watch);
	tg_nexthop_unwatch(noarp.watch);
}

static void one_that_fails_is_replaced_by_another_path(void)
{
	struct seen seen;

	netns_sysctl("ipv4/fib_multipath_use_neigh", "1");
	here("ip route add 10.9.0.0/24 nexthop via 10.0.0.99 nexthop via 10.0.1.2");
	watch(&seen, "10.9.0.7");
	CHECK(becomes(&seen, TG_NEXTHOP_RESOLVED, "v1", "02:00:00:00:01:02"));
	here("ip route replace 10.9.0.0/24 nexthop via 10.0.0.2 nexthop via 10.0.1.99");
	CHECK(becomes(&seen, TG_NEXTHOP_RESOLVED, "v0", "02:00:00:00:00:02"));
	here("ip route del 10.9.0.0/24");
	tg_nexthop_unwatch(seen.watch);
}

/* ---- callbacks that change what is watched ---- */

static struct tg_nexthop_watch *siblings[5];
static int sibling_calls;

static void on_change_end_all(void *user, const struct tg_nexthop *nexthop)
{
	sibling_calls++;
	for (int i = 0; i < 5; i++)
		tg_nexthop_unwatch(siblings[i]);
}

static bool sibling_called(void *user)
{
	return sibling_calls > 0;
}

static void a_callback_may_end_every_watch(void)
{
	struct tg_addr addr = addr_of("10.0.0.2");

	sibling_calls = 0;
	for (int i = 0; i < 5; i++)
		siblings[i] = tg_nexthop_watch(n, &addr, on_change_end_all, NULL);
	CHECK(netns_until(&loop, sibling_called, NULL, 1000));
	here("ip route add 10.9.0.0/24 via 10.0.0.2; ip route del 10.9.0.0/24");
	run_for(50);
	CHECK_INT(1, sibling_calls);
}

static struct seen *restarted;

static void on_change_restart(void *user, const struct tg_nexthop *nexthop)
{
	tg_nexthop_unwatch(siblings[0]);
	watch(restarted, "10.0.0.2");
}

static void a_callback_may_watch_the_same_address_again(void)
{
	struct tg_addr addr = addr_of("10.0.0.2");
	struct seen seen = { 0 };

	restarted = &seen;
	siblings[0] = tg_nexthop_watch(n, &addr, on_change_restart, NULL);
	CHECK(becomes(&seen, TG_NEXTHOP_RESOLVED, "v0", NULL));
	tg_nexthop_unwatch(seen.watch);
}

static void on_change_close(void *user, const struct tg_nexthop *nexthop)
{
	struct tg_neighbour **other = user;

	sibling_calls++;
	tg_neighbour_close(*other, NULL, NULL);
}

static void a_callback_may_close_everything(void)
{
	struct tg_addr addr = addr_of("10.0.0.2");
	struct tg_neighbour *other;

	sibling_calls = 0;
	CHECK_INT(0, tg_neighbour_open(&loop, &other, NULL));
	for (int i = 0; i < 5; i++)
		CHECK(tg_nexthop_watch(other, &addr, on_change_close, &other) != NULL);
	CHECK(netns_until(&loop, sibling_called, NULL, 1000));
	run_for(20);
	CHECK_INT(1, sibling_calls);
}

/* ---- links ---- */

static char link_log[512];

static void on_link(void *user, enum tg_link_event event, const struct tg_link *link)
{
	static const char *const names[] = { "appeared", "vanished", "up", "down", "changed" };
	size_t length = strlen(link_log);

	if (link->name[0] == 'w')
		snprintf(link_log + length, sizeof(link_log) - length, "%s %s; ", link->name, names[event]);
}

static bool log_ends_with(void *user)
{
	size_t length = strlen(link_log), tail = strlen(user);

	return length >= tail && !strcmp(link_log + length - tail, user);
}

static void links_come_change_and_go(void)
{
	struct tg_link_watch *watch = tg_link_watch(n, on_link, NULL);
	const struct tg_link *link;

	here("ip link add w0 mtu 1400 type veth peer name x0");
	CHECK(netns_until(&loop, log_ends_with, "w0 appeared; ", 1000));
	link = tg_link_by_name(n, "w0");
	CHECK(link && !link->up && !link->carrier && link->mtu == 1400 && !strcmp(link->kind, "veth"));
	here("ip link set x0 up; ip link set w0 up");
	CHECK(netns_until(&loop, log_ends_with, "w0 up; ", 1000));
	here("ip link set w0 mtu 1300");
	CHECK(netns_until(&loop, log_ends_with, "w0 changed; ", 1000));
	here("ip link set x0 down");
	CHECK(netns_until(&loop, log_ends_with, "w0 down; ", 1000));
	here("ip link del w0");
	CHECK(netns_until(&loop, log_ends_with, "w0 vanished; ", 1000));
	CHECK(!tg_link_by_name(n, "w0"));
	CHECK(tg_link_by_name(n, "lo")->loopback);
	tg_link_unwatch(watch);
}

/* ---- keeping warm: begun first, looked at last, as it takes nine seconds ---- */

static struct seen kept, permanent;
static uint64_t kept_since;

static void begin_keeping_warm(void)
{
	netns_pair(9);
	watch(&kept, "10.0.9.2");
	CHECK(becomes(&kept, TG_NEXTHOP_RESOLVED, "v9", NULL));
	here("ip neigh change 10.0.9.2 dev v9 nud stale");
	here("ip neigh replace 10.0.9.3 lladdr 02:00:00:00:09:03 dev v9 nud permanent");
	watch(&permanent, "10.0.9.3");		/* looked up before the announcement is read */
	CHECK(becomes(&permanent, TG_NEXTHOP_RESOLVED, "v9", "02:00:00:00:09:03"));
	kept.calls = 0;
	kept_since = uv_hrtime();
}

static void a_stale_neighbour_in_use_is_confirmed_in_time(void)
{
	int elapsed_ms = (uv_hrtime() - kept_since) / 1000000;

	if (elapsed_ms < 9500)
		run_for(9500 - elapsed_ms);
	CHECK_INT(0, here("ip neigh show 10.0.9.2 dev v9 | grep -q REACHABLE"));
	CHECK_INT(0, kept.calls);	/* confirmed means: nothing to tell */
	tg_nexthop_unwatch(kept.watch);
}

/* The kernel takes NTF_USE on a permanent entry for an order to forget it. */
static void a_permanent_neighbour_stays_permanent(void)
{
	CHECK_INT(0, here("ip neigh show 10.0.9.3 dev v9 | grep -q PERMANENT"));
	CHECK_STR("v9", device_name(permanent.nexthop.ifindex));
	tg_nexthop_unwatch(permanent.watch);
}

static void count_closed(void *user)
{
	++*(int *)user;
}

int main(void)
{
	int closed = 0;

	if (!open_network())
		return netns_skipped();
	RUN(begin_keeping_warm);
	RUN(a_neighbour_on_a_link_is_resolved);
	RUN(watches_of_one_address_share_the_work);
	RUN(a_late_watch_is_told_once_and_the_others_not_again);
	RUN(a_new_mac_of_the_neighbour_is_followed);
	RUN(a_new_mac_of_the_own_port_is_followed);
	RUN(a_route_that_moves_to_another_port_is_followed);
	RUN(routes_to_nowhere_are_told_apart);
	RUN(a_route_through_a_link_that_goes_down_yields_to_the_backup);
	RUN(a_cable_pulled_at_the_other_end_is_noticed);
	RUN(a_neighbour_that_dies_and_comes_back_is_noticed);
	RUN(link_local_gateways_are_resolved_on_their_link);
	RUN(an_own_address_is_local_while_it_is_there);
	RUN(a_port_that_is_deleted_and_made_again_is_found);
	RUN(devices_that_are_not_ports_are_named_by_kind);
	RUN(one_that_fails_is_replaced_by_another_path);
	RUN(a_callback_may_end_every_watch);
	RUN(a_callback_may_watch_the_same_address_again);
	RUN(a_callback_may_close_everything);
	RUN(links_come_change_and_go);
	RUN(a_stale_neighbour_in_use_is_confirmed_in_time);
	RUN(a_permanent_neighbour_stays_permanent);
	tg_neighbour_close(n, count_closed, &closed);
	uv_run(&loop, UV_RUN_DEFAULT);
	CHECK_INT(1, closed);
	CHECK_INT(0, uv_loop_close(&loop));
	netns_leave();
	return unit_result();
}
