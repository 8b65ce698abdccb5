/* SPDX-License-Identifier: GPL-2.0-only */
/* Next hops: of each backend, and towards clients for nat's replies (see balancer.h). */
#include "balancer_internal.h"

#include <bpf/bpf.h>
#include <errno.h>

static struct tg_hop hop_of(const struct tg_nexthop *next)
{
	struct tg_hop hop = { .ifindex = next->ifindex };

	memcpy(hop.dmac, next->dmac, sizeof(hop.dmac));
	memcpy(hop.smac, next->smac, sizeof(hop.smac));
	return hop;
}

/* Frames may be redirected to this port from now on. */
static void allow_port(struct tg_balancer *balancer, uint32_t ifindex)
{
	if (ifindex)
		bpf_map_update_elem(balancer->dp->maps[TG_MAP_TX_PORTS], &ifindex, &ifindex, BPF_ANY);
}

/* The hop that is not in force is filled, then put in force by one store. */
static void publish_hop(struct tg_backend *entry, const struct tg_nexthop *next)
{
	uint32_t other = !entry->current;

	entry->hop[other] = hop_of(next);
	__atomic_store_n(&entry->mtu, next->mtu < UINT16_MAX ? next->mtu : 0, __ATOMIC_RELAXED);
	__atomic_store_n(&entry->current, other, __ATOMIC_RELEASE);
}

static void on_hop(void *user, const struct tg_nexthop *next)
{
	struct backend *backend = user;
	struct tg_balancer *balancer = backend->service->balancer;
	struct tg_nexthop usable = *next;

	backend->hop = *next;
	if (next->routed && backend->service->mode == TG_MODE_L2DSR)
		usable.ifindex = 0; /* a gateway would route the VIP, not deliver it */
	allow_port(balancer, usable.ifindex);
	publish_hop(&balancer->dp->backends[backend->index], &usable);
}

int tg_hop_follow(struct backend *backend)
{
	backend->watch = tg_nexthop_watch(backend->service->balancer->neighbour, &backend->addr, on_hop, backend);
	return backend->watch ? 0 : -ENOMEM;
}

void tg_hop_unfollow(struct backend *backend)
{
	if (backend->watch)
		tg_nexthop_unwatch(backend->watch);
	backend->watch = NULL;
}

static void on_route(void *user, const struct tg_prefix *prefix, const struct tg_nexthop *next)
{
	struct tg_balancer *balancer = user;
	bool is_v4 = prefix->addr.family == AF_INET;
	int map = balancer->dp->maps[is_v4 ? TG_MAP_ROUTES4 : TG_MAP_ROUTES6];
	struct tg_route6_key key = { .prefix_len = prefix->len };
	struct tg_route route = { 0 };

	memcpy(key.addr, prefix->addr.word, sizeof(key.addr)); /* an IPv4 key is this one's beginning */
	if (!next) {
		bpf_map_delete_elem(map, &key);
		return;
	}
	route.hop = hop_of(next);
	route.mtu = next->mtu;
	route.flags = next->state == TG_NEXTHOP_LOCAL ? TG_ROUTE_LOCAL : 0;
	allow_port(balancer, next->ifindex);
	bpf_map_update_elem(map, &key, &route, BPF_ANY);
}

static void on_mode(void *user, int family, const char *incomplete)
{
	/* While incomplete there are no entries, and the datapath asks the kernel. */
}

/* What an earlier daemon wrote is not ours to trust: its routes may be gone. */
static void clear_routes(struct tg_balancer *balancer)
{
	for (int map = TG_MAP_ROUTES4; map <= TG_MAP_ROUTES6; map++) {
		struct tg_route6_key key;

		while (!bpf_map_get_next_key(balancer->dp->maps[map], NULL, &key))
			if (bpf_map_delete_elem(balancer->dp->maps[map], &key))
				break;
	}
}

/* Mirrors the kernel's routes as soon as nat has its maps. */
void tg_routes_follow(struct tg_balancer *balancer)
{
	struct tg_routes_user user = { .on_route = on_route, .on_mode = on_mode, .user = balancer };

	if (balancer->following_routes || balancer->dp->maps[TG_MAP_ROUTES4] < 0)
		return;
	clear_routes(balancer);
	balancer->following_routes = tg_routes_watch(balancer->neighbour, &user) == 0;
}
