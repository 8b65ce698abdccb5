/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * nat: to the backend's address and port, and on the way back to the VIP's. The switch routes here,
 * so the TTL is decremented and the MTU minded. Clients are not hidden from backends (no source
 * translation), so backends must answer through the switch.
 *
 * The way back is not simply "the source is a backend, so it becomes the VIP": that would break the
 * switch's own health probes and clients that talk to a backend directly. A reply is recognised by
 * its source, an endpoint in `reverse*`, and then:
 *   - to an address of the switch itself: a probe's answer, untouched;
 *   - of a flow in the line table, entered when its client sent to the endpoint, not to the VIP,
 *     and forgotten when it begins a flow to the VIP from the same port: untouched;
 *   - all else is un-translated.
 *
 * Where the next hop is not known, the kernel is asked; if it has no neighbour yet (or can't tell),
 * the packet goes translated to the stack, which resolves and forwards it, TTL included.
 */
#ifndef TIDEGATE_NAT_H
#define TIDEGATE_NAT_H

#include "count.h"
#include "csum.h"
#include "endpoint.h"
#include "hop.h"
#include "icmp.h"
#include "lines.h"
#include "maps.h"
#include "packet.h"
#include "range.h"
#include "top.h"
#include "trace.h"
#include "vip_policy.h"
#include "vip_tap.h"

static __always_inline __u8 ttl_of(const struct packet *pkt, const bool v6)
{
	return v6 ? pkt->ip6->hop_limit : pkt->ip4->ttl;
}

/* Replaces an address; the change to checksums that cover it. */
static __always_inline __u64 set_address(
	struct packet *pkt, const enum side side, const __be32 *to, const bool v6)
{
	__be32 *at = address_of(pkt, side, v6);
	__u64 change = 0;

#pragma unroll
	for (int i = 0; i < (v6 ? 4 : 1); i++) {
		change += csum_change32(at[i], to[i]);
		at[i] = to[i];
	}
	return change;
}

/* Replaces a port; the change to the transport checksum. */
static __always_inline __u64 set_port(struct packet *pkt, const enum side side, __be16 to)
{
	__be16 *at = &pkt->l4[side];
	__u64 change = csum_change16(*at, to);

	*at = to;
	return change;
}

/* One less; the change to IPv4's header checksum. */
static __always_inline __u64 decrement_ttl(struct packet *pkt, const bool v6)
{
	__be16 *at, old;

	if (v6) {
		pkt->ip6->hop_limit--;
		return 0;
	}
	at = (__be16 *)&pkt->ip4->ttl; /* with the protocol, a checksum's word */
	old = *at;
	pkt->ip4->ttl--;
	return csum_change16(old, *at);
}

/* Gives one side of the packet another port, too; `change` is what its address brings. */
static __always_inline void translate_transport(
	struct packet *pkt, const enum side side, __be16 port, __u64 change)
{
	change += set_port(pkt, side, port);
	if (!pkt->check)
		return;
	if (pkt->proto == IPPROTO_TCP)
		csum_apply(pkt->check, change);
	else
		csum_apply_udp(pkt->check, change);
}

/*
 * The quote of an ICMP error gets the other endpoint on the other side: what was sent to it comes back.
 * The error's checksum covers all of the quote, the quoted checksums among it, and `change`, what the
 * outer addresses bring.
 */
static __always_inline void translate_quote(struct packet *pkt, const enum side side,
	const __be32 *addr, __be16 port, __u64 change, const bool v6)
{
	struct packet *about = pkt->about;
	__sum16 header = v6 ? 0 : about->ip4->check, check = about->check ? *about->check : 0;
	__be16 old = about->l4[side];
	__u64 moved = set_address(about, side, addr, v6);

	if (!v6) {
		csum_apply(&about->ip4->check, moved);
		change += csum_change16(header, about->ip4->check);
	}
	translate_transport(about, side, port, moved);
	change += moved + csum_change16(old, port);
	if (about->check)
		change += csum_change16(check, *about->check);
	csum_apply(pkt->check, change);
}

/* Does that side of an ICMP error name the other end of what it quotes? Not if a router in between sent it. */
static __always_inline bool is_of_end(
	const struct packet *pkt, const enum side side, const bool v6)
{
	return same_address(address_of(pkt, side, v6), address_of(pkt->about, other(side), v6), v6);
}

/* Gives one side of the packet another endpoint, with all checksums. `routed`: the TTL too. */
static __always_inline void translate(struct packet *pkt, const enum side side, const __be32 *addr,
	__be16 port, bool routed, const bool v6)
{
	__u64 change = 0, header;

	if (pkt->kind != ICMP_ERROR || is_of_end(pkt, side, v6))
		change = set_address(pkt, side, addr, v6);
	header = change;
	if (routed)
		header += decrement_ttl(pkt, v6);
	if (!v6)
		csum_apply(&pkt->ip4->check, header);
	if (pkt->kind == ICMP_ERROR) /* of IPv4, its checksum covers no address of its own */
		translate_quote(pkt, other(side), addr, port, v6 ? change : 0, v6);
	else if (pkt->kind != LATER_FRAGMENT)
		translate_transport(pkt, side, port, change);
}

/* Is the port one that frames may be redirected to (or the one this came in by)? */
static __always_inline bool can_leave_by(const struct xdp_md *ctx, __u32 ifindex)
{
	return ifindex == ctx->ingress_ifindex || bpf_map_lookup_elem(&tx_ports, &ifindex);
}

/*
 * Fills in `out` from the kernel if it has no next hop. NONE: leave by `out`. NAT_STACK: let the
 * stack route the translated packet. `unreachable` is the reason where no route leads.
 */
static __always_inline enum tg_reason nat_resolve(struct xdp_md *ctx, const struct packet *pkt,
	const __be32 dest[4], struct egress *out, enum tg_reason unreachable, const bool v6)
{
	if (likely(out->ifindex))
		return TG_REASON_NONE;
	switch (egress_ask(ctx, pkt, dest, out, false, v6)) {
	case BPF_FIB_LKUP_RET_SUCCESS:
		return can_leave_by(ctx, out->ifindex) ? TG_REASON_NONE : TG_REASON_NAT_STACK;
	case BPF_FIB_LKUP_RET_FRAG_NEEDED:
		return TG_REASON_TOO_BIG;
	case BPF_FIB_LKUP_RET_NOT_FWDED:
	case BPF_FIB_LKUP_RET_FWD_DISABLED: /* said before it looks whose address it is */
		return unreachable;
	case BPF_FIB_LKUP_RET_BLACKHOLE:
	case BPF_FIB_LKUP_RET_UNREACHABLE:
	case BPF_FIB_LKUP_RET_PROHIBIT:
		return TG_REASON_UNRESOLVED;
	default: /* no neighbour yet, an encapsulating route, an error */
		return TG_REASON_NAT_STACK;
	}
}

/* Translates and leaves by `out` (reason NONE) or goes to the stack (NAT_STACK). */
static __always_inline enum tg_reason nat_leave(struct xdp_md *ctx, struct packet *pkt,
	enum tg_reason reason, const struct egress *out, const enum side side, const __be32 *addr,
	__be16 port, const bool v6)
{
	if (reason == TG_REASON_NONE) {
		reason = egress_choose(ctx, pkt, out);
		if (reason != TG_REASON_NONE)
			return reason;
		egress_write_macs(pkt, out);
		reason = TG_REASON_FORWARD;
	} else if (reason != TG_REASON_NAT_STACK) {
		return reason;
	}
	translate(pkt, side, addr, port, reason == TG_REASON_FORWARD, v6);
	return reason;
}

/*
 * A flow through the VIP begins: should its client have reached this backend directly from the same
 * port before, that is over. UDP has no beginning, so each packet counts. (tests/net/nat_test.sh)
 */
static __always_inline void nat_not_direct(
	const struct packet *pkt, const struct tg_backend *backend, __be16 port, const bool v6)
{
	__u32 ports = tg_ports(source_port(pkt), port);
	const __be32 *client = address_of(pkt, SOURCE, v6), *to = backend->addr;

	if (pkt->kind == LATER_FRAGMENT || pkt->kind == ICMP_ERROR)
		return;
	if (pkt->proto == IPPROTO_TCP && !(pkt->tcp_flags & TCP_SYN))
		return;
	direct_forget(v6 ? tg_flow_hash6(&flow_key, client, to, ports, pkt->proto) :
			   tg_flow_hash4(&flow_key, *client, *to, ports, pkt->proto));
}

/* A VIP's packet goes to its backend. */
static __always_inline enum tg_reason nat_forward(
	struct xdp_md *ctx, struct packet *pkt, const struct tg_backend *backend, const bool v6)
{
	__be16 vip = pkt->kind == ICMP_ERROR ? source_port(pkt->about) : dest_port(pkt);
	__be16 port = backend->port ? backend->port : vip;
	enum tg_reason reason;
	struct egress out;

	if (ttl_of(pkt, v6) <= 1)
		return TG_REASON_TTL_EXPIRED;
	nat_not_direct(pkt, backend, port, v6);
	egress_take(&out, &backend->hop[backend->current & 1], backend->mtu);
	reason = nat_resolve(ctx, pkt, backend->addr, &out, TG_REASON_UNRESOLVED, v6);
	return nat_leave(ctx, pkt, reason, &out, DEST, backend->addr, port, v6);
}

/* What a backend's endpoint answers for: from the index, a tg_reverse4 or a tg_reverse6. */
struct origin {
	const __be32 *vip;
	__be16 port;
	__u32 backend;
};

#define ORIGIN_TAKE(origin, entry, address)                                                        \
	((origin)->vip = (address), (origin)->port = (entry)->port,                                \
		(origin)->backend = (entry)->backend, true)

/* Is that side of the packet a backend's endpoint, by itself and not by a range? */
static __always_inline bool exact_origin_of(
	const struct packet *pkt, const enum side side, struct origin *origin, const bool v6)
{
	const __u8 kind = v6 ? TG_ENDPOINT_REVERSE6 : TG_ENDPOINT_REVERSE4;
	__u32 word = endpoint_word(pkt, side);
	struct tg_endpoint *found;
	struct tg_reverse4 *found4;
	struct tg_reverse6 *found6;

	switch (index_look(pkt, side, kind, &found, v6)) {
	case INDEX_HAS:
		return ORIGIN_TAKE(origin, &found->reverse, found->reverse.addr);
	case INDEX_HAS_NOT:
		return false;
	case INDEX_ASK:
		break;
	}
	if (v6) {
		__be32 key[5];

		__builtin_memcpy(key, address_of(pkt, side, v6), 16);
		key[4] = word;
		found6 = bpf_map_lookup_elem(&reverse6, key);
		return found6 && ORIGIN_TAKE(origin, found6, found6->addr);
	}
	__be32 key[2] = { *address_of(pkt, side, v6), word };

	found4 = bpf_map_lookup_elem(&reverse4, key);
	return found4 && ORIGIN_TAKE(origin, found4, &found4->addr);
}

/* Is that side of the packet a backend's endpoint? One of a range answers for the VIP's same port. */
static __always_inline bool origin_of(
	const struct packet *pkt, const enum side side, struct origin *origin, const bool v6)
{
	struct tg_endpoint *range;

	if (exact_origin_of(pkt, side, origin, v6))
		return true;
	if (!(features & TG_FEATURE_RANGES))
		return false;
	note(RANGE_BACK, v6, ENDPOINT_WORDS(pkt, side, v6));
	range = range_of(pkt, side, v6 ? TG_ENDPOINT_REVERSE6 : TG_ENDPOINT_REVERSE4, v6);
	if (!range)
		return false;
	ORIGIN_TAKE(origin, &range->reverse, range->reverse.addr);
	origin->port = side == SOURCE ? source_port(pkt) : dest_port(pkt);
	return true;
}

static __always_inline bool known_origin(
	const struct packet *pkt, const enum side side, struct origin *origin, const bool v6)
{
	note(REVERSE, v6, ENDPOINT_WORDS(pkt, side, v6));
	if (!origin_of(pkt, side, origin, v6))
		return false;
	note_hit(IP_WORDS(origin->vip, v6), origin->port, origin->backend);
	return true;
}

/* The route to the packet's destination. */
static __always_inline struct tg_route *route_of(const struct packet *pkt, const bool v6)
{
	if (v6) {
		struct tg_route6_key key = { .prefix_len = 128 };

		__builtin_memcpy(key.addr, &pkt->ip6->daddr, 16);
		return bpf_map_lookup_elem(&routes6, &key);
	}
	struct tg_route4_key key = { .prefix_len = 32, .addr = pkt->ip4->daddr };

	return bpf_map_lookup_elem(&routes4, &key);
}

static __always_inline struct tg_route *known_route(const struct packet *pkt, const bool v6)
{
	struct tg_route *route = route_of(pkt, v6);

	note(ROUTE, v6, IP_WORDS(address_of(pkt, DEST, v6), v6));
	if (route)
		note_hit(HOP_WORDS(&route->hop), route->flags & TG_ROUTE_LOCAL, route->mtu);
	return route;
}

/* Is a backend's answer not the VIP's? NONE: it is. `flow`: of its client to the backend. */
static __always_inline enum tg_reason nat_exception(const struct tg_route *route, __u64 flow)
{
	if (route && route->flags & TG_ROUTE_LOCAL)
		return TG_REASON_LOCAL_REPLY;
	return direct_has(flow) ? TG_REASON_DIRECT_FLOW : TG_REASON_NONE;
}

/* A backend's answer becomes the VIP's, and goes by `route`, if there is one. */
static __always_inline enum tg_reason nat_untranslate(struct xdp_md *ctx, struct packet *pkt,
	const struct tg_route *route, const struct origin *origin, const bool v6)
{
	struct egress out = {};
	enum tg_reason reason;

	if (ttl_of(pkt, v6) <= 1)
		return TG_REASON_TTL_EXPIRED;
	note_taps(ctx, pkt, v6);
	top_see(ctx, pkt, false, v6);
	if (route)
		egress_take(&out, &route->hop, route->mtu);
	/* To the kernel, "not forwarded" may mean an address of its own. */
	reason = nat_resolve(ctx, pkt, address_of(pkt, DEST, v6), &out, TG_REASON_LOCAL_REPLY, v6);
	reason = nat_leave(ctx, pkt, reason, &out, SOURCE, origin->vip, origin->port, v6);
	if (reason == TG_REASON_FORWARD || reason == TG_REASON_NAT_STACK)
		count(&reply_counters, origin->backend, pkt);
	return reason;
}

/* A backend's answer, or one of the exceptions above. */
static __always_inline enum tg_reason nat_reply(
	struct xdp_md *ctx, struct packet *pkt, const struct origin *origin, const bool v6)
{
	__u64 flow = flow_of(pkt, DEST, v6);
	struct tg_route *route = known_route(pkt, v6);
	enum tg_reason reason = nat_exception(route, flow);

	if (reason == TG_REASON_NONE)
		reason = vip_policy(ctx, pkt, true, v6);
	return reason == TG_REASON_NONE ? nat_untranslate(ctx, pkt, route, origin, v6) : reason;
}

/* A client reaches a backend without the VIP: remember the flow, touch nothing. */
static __always_inline enum tg_reason nat_direct(const struct packet *pkt, const bool v6)
{
	if (pkt->tcp_flags & TCP_RST)
		return TG_REASON_NOT_VIP;
	return direct_enter(flow_of(pkt, SOURCE, v6)) ? TG_REASON_NOT_VIP : TG_REASON_LINES_FULL;
}

/* What is not for a VIP: a backend's reply, a direct flow to a backend, or nothing of ours. */
static __always_inline enum tg_reason nat_return(
	struct xdp_md *ctx, struct packet *pkt, const bool v6)
{
	struct origin origin;

	if (known_origin(pkt, SOURCE, &origin, v6))
		return nat_reply(ctx, pkt, &origin, v6);
	if (known_origin(pkt, DEST, &origin, v6))
		return nat_direct(pkt, v6);
	return TG_REASON_NOT_VIP;
}

#endif
