/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A network of two veth pairs, a struct tg_neighbour on it, and watched addresses whose next hops are
 * awaited: for the tests of core/neighbour.h.
 */
#ifndef TG_TEST_SEEN_H
#define TG_TEST_SEEN_H

#include "neighbour.h"

#include "netns.h"
#include "unit.h"

static uv_loop_t loop;
static struct tg_neighbour *n;

/* ---- one watched address ---- */

struct seen {
	struct tg_nexthop_watch *watch;
	struct tg_nexthop nexthop;
	int calls;
	/* awaited: */
	enum tg_nexthop_state state;
	const char *device, *dmac;
};

static void on_change(void *user, const struct tg_nexthop *nexthop)
{
	struct seen *seen = user;

	seen->nexthop = *nexthop;
	seen->calls++;
}

static inline struct tg_addr addr_of(const char *text)
{
	struct tg_addr addr;

	if (tg_addr_parse(text, &addr) < 0)
		abort();
	return addr;
}

static inline void watch(struct seen *seen, const char *dst)
{
	struct tg_addr addr = addr_of(dst);

	memset(seen, 0, sizeof(*seen));
	seen->watch = tg_nexthop_watch(n, &addr, on_change, seen);
}

static const char *mac_text(const uint8_t *mac, char *text)
{
	sprintf(text, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
	return text;
}

static const char *device_name(uint32_t ifindex)
{
	const struct tg_link *link = tg_link_by_index(n, ifindex);

	return link ? link->name : "?";
}

static bool is_as_awaited(void *user)
{
	const struct seen *seen = user;
	char mac[32];

	return seen->calls && seen->nexthop.state == seen->state &&
	       (!seen->device || !strcmp(device_name(seen->nexthop.device), seen->device)) &&
	       (!seen->dmac || !strcmp(mac_text(seen->nexthop.dmac, mac), seen->dmac));
}

static inline bool becomes(struct seen *seen, enum tg_nexthop_state state, const char *device,
	const char *dmac)
{
	char mac[32];

	seen->state = state;
	seen->device = device;
	seen->dmac = dmac;
	if (netns_until(&loop, is_as_awaited, seen, 2500))
		return true;
	fprintf(stderr, "%d calls; is %s, device %s, dmac %s; want %s, %s, %s\n", seen->calls,
		tg_nexthop_state_name(seen->nexthop.state), device_name(seen->nexthop.device),
		mac_text(seen->nexthop.dmac, mac), tg_nexthop_state_name(state), device ? device : "any",
		dmac ? dmac : "any");
	return false;
}

static bool never(void *user)
{
	return false;
}

static inline void run_for(int ms)
{
	netns_until(&loop, never, NULL, ms);
}

/* false, after saying why, where no network can be made: main() then returns netns_skipped(). */
static inline bool open_network(void)
{
	struct tg_error error;

	if (netns_enter() < 0)
		return false;
	here("ip link set lo up");
	netns_pair(0);
	netns_pair(1);
	uv_loop_init(&loop);
	if (tg_neighbour_open(&loop, &n, &error) < 0) {
		fprintf(stderr, "%s\n", error.text);
		exit(1);
	}
	return true;
}

#endif
