/* SPDX-License-Identifier: GPL-2.0-only */
/* core/neighbour.h with many watched addresses and many changes. */
#include "seen.h"

#define MANY 10000

static int many_resolved, many_calls;
static struct tg_nexthop_watch *many[MANY];
static const char *many_device;

static void on_many(void *user, const struct tg_nexthop *nexthop)
{
	many_calls++;
	if (nexthop->ifindex && !strcmp(device_name(nexthop->ifindex), many_device))
		many_resolved++;
}

static bool all_resolved(void *user)
{
	uint64_t *queries = user, now = tg_neighbour_stats(n)->queries;

	CHECK(now - *queries <= 256);	/* in one iteration of the loop */
	*queries = now;
	return many_resolved >= MANY;
}

static bool all_resolve(const char *device)
{
	uint64_t start = uv_hrtime(), before = tg_neighbour_stats(n)->queries, queries = before;
	bool done;

	many_device = device;
	many_resolved = many_calls = 0;
	done = netns_until(&loop, all_resolved, &queries, 5000);
	printf("# %d of %d through %s after %.0f ms, %llu queries\n", many_resolved, MANY, device,
		(uv_hrtime() - start) / 1e6, (unsigned long long)(tg_neighbour_stats(n)->queries - before));
	return done;
}

static void ten_thousand_addresses_follow_a_route(void)
{
	struct tg_addr addr = addr_of("10.128.0.0");
	struct seen gateway;

	watch(&gateway, "10.0.1.2");
	CHECK(becomes(&gateway, TG_NEXTHOP_RESOLVED, "v1", NULL));
	here("ip route add 10.128.0.0/16 via 10.0.0.2");
	for (int i = 0; i < MANY; i++) {
		addr.word[0] = htonl(0x0a800000 + i);
		many[i] = tg_nexthop_watch(n, &addr, on_many, NULL);
	}
	CHECK(all_resolve("v0"));
	here("ip route replace 10.128.0.0/16 via 10.0.1.2");
	CHECK(all_resolve("v1"));
	CHECK_INT(MANY, many_calls);
	for (int i = 0; i < MANY; i++)
		tg_nexthop_unwatch(many[i]);
	tg_nexthop_unwatch(gateway.watch);
	here("ip route del 10.128.0.0/16");
}

static bool asked_since(void *user)
{
	return tg_neighbour_stats(n)->queries > *(uint64_t *)user;
}

static void a_burst_of_route_changes_is_one_round_of_work(void)
{
	uint64_t before;
	struct seen seen;

	watch(&seen, "10.0.0.2");
	CHECK(becomes(&seen, TG_NEXTHOP_RESOLVED, "v0", NULL));
	run_for(150);
	before = tg_neighbour_stats(n)->queries;
	here("for i in $(seq 0 250); do for j in 1 2 3 4 5 6 7 8; do echo route add 10.200.$i.$j via 10.0.0.2; "
	     "done; done | ip -batch -; ip route flush root 10.200.0.0/16");
	CHECK(netns_until(&loop, asked_since, &before, 5000));
	run_for(200);
	CHECK(tg_neighbour_stats(n)->queries - before <= 40);	/* for 4,000 events */
	tg_nexthop_unwatch(seen.watch);
}

static void a_change_amid_a_storm_of_others_is_acted_on(void)
{
	uint64_t before, start;
	struct seen seen;
	FILE *storm;

	watch(&seen, "10.9.0.7");
	CHECK(becomes(&seen, TG_NEXTHOP_NO_ROUTE, NULL, NULL));
	storm = popen("for i in $(seq 1 20000); do echo route replace 10.202.0.0/24 via 10.0.0.2; "
		      "echo route replace 10.202.0.0/24 via 10.0.1.2; done | ip -batch -", "w");
	run_for(50);
	before = tg_neighbour_stats(n)->queries;
	start = uv_hrtime();
	here("ip route add 10.9.0.0/24 via 10.0.0.2");
	CHECK(becomes(&seen, TG_NEXTHOP_RESOLVED, "v0", NULL));
	printf("# seen after %.0f ms, %llu queries\n", (uv_hrtime() - start) / 1e6,
		(unsigned long long)(tg_neighbour_stats(n)->queries - before));
	/* Not because the storm was over. */
	before = tg_neighbour_stats(n)->events;
	run_for(20);
	CHECK(tg_neighbour_stats(n)->events > before);
	CHECK_INT(0, pclose(storm));
	here("ip route del 10.9.0.0/24; ip route del 10.202.0.0/24");
	tg_nexthop_unwatch(seen.watch);
}

static bool overran(void *user)
{
	return tg_neighbour_stats(n)->overruns > 0;
}

static void events_lost_in_a_flood_are_made_up_for(void)
{
	struct seen seen;

	watch(&seen, "10.0.0.66");
	here("ip neigh replace 10.0.0.66 lladdr 02:00:00:00:66:66 dev v0 nud permanent");
	CHECK(becomes(&seen, TG_NEXTHOP_RESOLVED, "v0", "02:00:00:00:66:66"));
	here("for i in $(seq 1 12000); do echo neigh replace 10.0.0.66 lladdr 02:00:00:00:00:aa dev v0 nud permanent; "
	     "echo neigh replace 10.0.0.66 lladdr 02:00:00:00:00:bb dev v0 nud permanent; done | ip -batch -");
	here("ip neigh replace 10.0.0.66 lladdr 02:00:00:00:00:cc dev v0 nud permanent; "
	     "ip link add lost0 type bridge");
	CHECK(netns_until(&loop, overran, NULL, 1000));
	CHECK(becomes(&seen, TG_NEXTHOP_RESOLVED, "v0", "02:00:00:00:00:cc"));
	CHECK(tg_link_by_name(n, "lost0") != NULL);
	/* And what comes next is heard as before. */
	here("ip neigh replace 10.0.0.66 lladdr 02:00:00:00:00:dd dev v0 nud permanent");
	CHECK(becomes(&seen, TG_NEXTHOP_RESOLVED, "v0", "02:00:00:00:00:dd"));
	here("ip neigh del 10.0.0.66 dev v0; ip link del lost0");
	tg_nexthop_unwatch(seen.watch);
}

int main(void)
{
	if (!open_network())
		return netns_skipped();
	RUN(ten_thousand_addresses_follow_a_route);
	RUN(a_burst_of_route_changes_is_one_round_of_work);
	RUN(a_change_amid_a_storm_of_others_is_acted_on);
	RUN(events_lost_in_a_flood_are_made_up_for);
	tg_neighbour_close(n, NULL, NULL);
	uv_run(&loop, UV_RUN_DEFAULT);
	CHECK_INT(0, uv_loop_close(&loop));
	netns_leave();
	return unit_result();
}
