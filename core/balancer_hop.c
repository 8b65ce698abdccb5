/* SPDX-License-Identifier: GPL-2.0-only */
/* Next hops: of each backend, and towards clients for nat's replies (see balancer.h). */
#include "balancer_internal.h"

#include "log.h"

#include <bpf/bpf.h>
#include <errno.h>

static struct tg_hop hop_of(const struct tg_nexthop *next)
{
	struct tg_hop hop = { .ifindex = next->ifindex };

	memcpy(hop.dmac, next->dmac, sizeof(hop.dmac));
	memcpy(hop.smac, next->smac, sizeof(hop.smac));
	return hop;
}

/*
 * Frames that XDP sends by such a device would be lost, uncounted, but for those of ports with generic XDP. In
 * nat the kernel can send them, which is what happens where no hop is known; else the packet is dropped
 * with the reason no-port.
 */
static bool is_refused(const struct tg_balancer *balancer, const struct tg_nexthop *next, bool nat)
{
	return next->ifindex && !tg_nexthop_is_sent(next) &&
	       (nat || __atomic_load_n(&balancer->dp->native, __ATOMIC_RELAXED));
}

static void tell_of_refusal(const struct backend *backend)
{
	char text[TG_ADDR_TEXT];

	tg_log(TG_LOG_WARN,
		"service %s: backend %s is reached by a device of kind %s, which native XDP can't "
		"send by: "
		"%s; route it by the port below",
		backend->service->name, tg_addr_print(&backend->addr, text), backend->hop.kind,
		backend->service->mode == TG_MODE_NAT ? "the kernel forwards its packets"
						      : "its packets are dropped");
}

/*
 * Frames may be redirected to this port from now on. The kernel takes a port that vanishes out of
 * the map itself.
 */
static void allow_port(struct tg_balancer *balancer, uint32_t ifindex)
{
	if (ifindex)
		tg_datapath_set(balancer->dp, TG_MAP_TX_PORTS, &ifindex, &ifindex);
}

/* The hop that is not in force is filled, then put in force by one store. */
static void write_hop(struct tg_backend *entry, const struct tg_hop *hop, uint32_t mtu)
{
	uint32_t other = !entry->current;

	mtu = mtu <= UINT16_MAX ? mtu : 0;
	if (entry->mtu != mtu)
		__atomic_store_n(&entry->mtu, mtu, __ATOMIC_RELAXED);
	if (!memcmp(&entry->hop[entry->current & 1], hop, sizeof(*hop)))
		return;
	entry->hop[other] = *hop;
	__atomic_store_n(&entry->current, other, __ATOMIC_RELEASE);
}

void tg_hop_publish(struct backend *backend)
{
	struct tg_balancer *balancer = backend->service->balancer;
	struct tg_hop hop = hop_of(&backend->hop);

	bool refused = is_refused(balancer, &backend->hop, backend->service->mode == TG_MODE_NAT);

	if (refused && !backend->refused)
		tell_of_refusal(backend);
	backend->refused = refused;
	if (refused || (backend->hop.routed && backend->service->mode == TG_MODE_L2DSR))
		hop = (struct tg_hop){ 0 }; /* a gateway would route the VIP, not deliver it */
	allow_port(balancer, hop.ifindex);
	write_hop(&balancer->dp->backends[backend->index], &hop, backend->hop.mtu);
}

void tg_balancer_publish_hops(struct tg_balancer *balancer)
{
	tg_list_each(position, &balancer->services) {
		struct service *service = service_of_list(position);

		tg_list_each(at, &service->backends)
			tg_hop_publish(backend_of_list(at));
	}
}

static void on_hop(void *user, const struct tg_nexthop *next)
{
	struct backend *backend = user;

	backend->hop = *next;
	tg_hop_publish(backend);
}

int tg_hop_follow(struct backend *backend)
{
	backend->watch = tg_nexthop_watch(
		backend->service->balancer->neighbour, &backend->addr, on_hop, backend);
	return backend->watch ? 0 : -ENOMEM;
}

void tg_hop_unfollow(struct backend *backend)
{
	if (backend->watch)
		tg_nexthop_unwatch(backend->watch);
	backend->watch = NULL;
}

static void clear_routes(struct tg_balancer *balancer, bool v6)
{
	int map = balancer->dp->maps[v6 ? TG_MAP_ROUTES6 : TG_MAP_ROUTES4];
	struct tg_route6_key key;

	while (!bpf_map_get_next_key(map, NULL, &key))
		if (bpf_map_delete_elem(map, &key))
			break;
}

/* With an entry missing, a shorter prefix would decide in its place: better none at all. */
static void give_up_routes(struct tg_balancer *balancer, bool v6, int code)
{
	tg_log(TG_LOG_WARN, "IPv%d routes: %s: the datapath asks the kernel for every reply of nat",
		v6 ? 6 : 4, strerror(-code));
	balancer->routes_full[v6] = true;
	clear_routes(balancer, v6);
}

static void on_route(void *user, const struct tg_prefix *prefix, const struct tg_nexthop *next)
{
	struct tg_balancer *balancer = user;
	bool v6 = is_v6(&prefix->addr);
	int map = balancer->dp->maps[v6 ? TG_MAP_ROUTES6 : TG_MAP_ROUTES4];
	struct tg_route6_key key = { .prefix_len = prefix->len };
	struct tg_route route = { 0 };

	if (balancer->routes_full[v6])
		return;
	memcpy(key.addr, prefix->addr.word,
		sizeof(key.addr)); /* an IPv4 key is this one's beginning */
	if (!next) {
		bpf_map_delete_elem(map, &key);
		return;
	}
	if (!is_refused(balancer, next, true)) {
		route.hop = hop_of(next);
		allow_port(balancer, next->ifindex);
	}
	route.mtu = next->mtu;
	route.flags = next->state == TG_NEXTHOP_LOCAL ? TG_ROUTE_LOCAL : 0;
	if (bpf_map_update_elem(map, &key, &route, BPF_ANY))
		give_up_routes(balancer, v6, -errno);
}

/*
 * While the view is incomplete there are no entries, and the datapath asks the kernel for every reply;
 * one to an address of the switch's own is then "not forwarded" and passes.
 */
static void on_mode(void *user, int family, const char *incomplete)
{
	struct tg_balancer *balancer = user;
	bool v6 = family == AF_INET6;

	if (incomplete)
		tg_log(TG_LOG_WARN,
			"IPv%d routes: %s: the datapath asks the kernel for every reply of nat",
			v6 ? 6 : 4, incomplete);
	balancer->routes_full[v6] = false;
}

/*
 * Mirrors the kernel's routes as soon as nat has its maps. What an earlier daemon wrote there is not
 * trusted: its routes may be gone.
 */
void tg_routes_follow(struct tg_balancer *balancer)
{
	struct tg_routes_user user = { .on_route = on_route, .on_mode = on_mode, .user = balancer };

	if (balancer->following_routes || balancer->dp->maps[TG_MAP_ROUTES4] < 0)
		return;
	clear_routes(balancer, false);
	clear_routes(balancer, true);
	balancer->following_routes = tg_routes_watch(balancer->neighbour, &user) == 0;
}
