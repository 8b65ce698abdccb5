/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What is rare: fragments and ICMP errors. Programs of their own see to them, that the main one calls
 * at its end (xdp.bpf.c): whatever they need costs all other packets nothing, neither time nor stack.
 *
 * Both belong to a flow that they don't begin. For a first fragment and for what an error quotes, it is
 * decided as for any packet; a later fragment has the decision looked up. Then it is forwarded as any
 * packet: only nat's translation tells these kinds apart.
 *
 * Whatever is for no flow of ours goes into the stack as it came. The address of a VIP is ours,
 * though, so what follows no first fragment there is dropped: it could not be judged.
 */
#ifndef TIDEGATE_RARE_H
#define TIDEGATE_RARE_H

#include "balance.h"
#include "bogus.h"
#include "forward.h"
#include "fragment.h"
#include "handover.h"
#include "icmp.h"
#include "nat.h"
#include "packet.h"
#include "parse.h"
#include "payload.h"
#include "vip_policy.h"

/*
 * What becomes of packets of the flow that `pkt->about` belongs to, the service being at its side
 * `service`: DEST of what a client sends. NONE: as `way` says.
 */
static __always_inline enum tg_reason way_of_flow(
	const struct packet *pkt, enum side service, struct tg_fragment *way, const bool v6)
{
	const struct packet *about = pkt->about;
	struct tg_vip *vip = known_vip(about, service, v6);
	struct origin origin;

	if (vip) {
		struct flow flow = flow_in(about, other(service), v6);

		if (is_own_source(pkt, v6))
			return TG_REASON_BOGUS_VIP;
		flow.only_asks = pkt->kind == ICMP_ERROR;
		flow.has_beginning |= (vip->flags & TG_VIP_QUIC) != 0; /* whose packets are whole */
		way->fate = TG_FATE_FORWARD;
		way->vip = *vip;
		way->flow = flow.hash;
		return choose(vip, &flow, &way->backend, v6);
	}
	if (!(features & TG_FEATURE_NAT))
		return TG_REASON_NOT_VIP;
	if (known_origin(about, other(service), &origin, v6)) {
		way->fate = TG_FATE_REPLY;
		way->backend = origin.backend;
		way->port = origin.port;
		__builtin_memcpy(way->origin, origin.vip, v6 ? 16 : 4);
		return nat_exception(known_route(pkt, v6), flow_of(about, service, v6));
	}
	if (pkt->kind == FIRST_FRAGMENT && known_origin(about, service, &origin, v6))
		return nat_direct(about, v6);
	return TG_REASON_NOT_VIP;
}

/* `ours`: it is to an address that has VIPs. NONE: it is worth a closer look. */
static __always_inline enum tg_reason judge_fragment(
	const struct packet *pkt, const struct payload *payload, bool ours)
{
	if (!ours && !(features & TG_FEATURE_NAT))
		return TG_REASON_FRAGMENT;
	if (is_tiny(pkt, payload))
		return ours ? TG_REASON_FRAGMENT_TINY : TG_REASON_FRAGMENT;
	return TG_REASON_NONE;
}

/* What became of the first fragment holds for the later ones, if it went somewhere or if its address is ours. */
static __always_inline enum tg_reason keep_way(const struct tg_fragment_key *key,
	struct tg_fragment *way, enum tg_reason reason, bool ours)
{
	if (reason >= TG_REASON_PASS_LAST)
		return reason;
	if (!ours && reason != TG_REASON_NONE)
		return reason == TG_REASON_NOT_VIP ? TG_REASON_FRAGMENT : reason;
	if (reason != TG_REASON_NONE) {
		way->fate = TG_FATE_PASS;
		way->reason = reason;
	}
	fragment_remember(key, way);
	return TG_REASON_NONE;
}

/* Is it of a protocol whose fragments are ours to judge? */
static __always_inline enum tg_reason judge_protocol(const struct payload *payload, const bool v6)
{
	if (payload->proto == (v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP))
		return TG_REASON_ICMP;
	if (payload->proto == IPPROTO_TCP || payload->proto == IPPROTO_UDP || payload->cut)
		return TG_REASON_NONE;
	if (v6 && payload->place && is_extension(payload->proto))
		return TG_REASON_NONE; /* the first one knows */
	return TG_REASON_OTHER_PROTOCOL;
}

static __always_inline enum tg_reason parse_fragment(struct xdp_md *ctx, struct packet *pkt,
	const struct payload *payload, struct packet *about, const bool v6)
{
	enum tg_reason reason = judge_protocol(payload, v6);

	pkt->kind = payload->place ? LATER_FRAGMENT : FIRST_FRAGMENT;
	pkt->l4 = pkt->l3; /* a later one has none */
	if (reason == TG_REASON_NONE && !payload->place && !is_tiny(pkt, payload))
		reason = parse_transport(ctx, pkt, payload->offset);
	about->l3 = pkt->l3;
	about->ports = pkt->ports;
	about->proto = pkt->proto;
	about->tcp_flags = pkt->tcp_flags;
	return reason;
}

static __always_inline enum tg_reason parse_rare(struct xdp_md *ctx, struct packet *pkt,
	struct packet *about, struct payload *payload, const bool v6)
{
	enum tg_reason reason = parse_ethernet(ctx, pkt);

	if (reason == TG_REASON_NONE)
		reason = payload_of(ctx, pkt->l3, pkt->l2_length, payload, v6);
	if (reason != TG_REASON_NONE)
		return reason;
	pkt->proto = payload->proto;
	pkt->l3_length = v6 ? sizeof(*pkt->ip6) + bpf_ntohs(pkt->ip6->payload_len) :
			      bpf_ntohs(pkt->ip4->tot_len);
	payload->cut |= pkt->l3_length < payload->offset;
	if (payload->cut && !(v6 && payload->fragment && !payload->place))
		return TG_REASON_BAD_HEADER;
	if (!is_whole(ctx, pkt))
		return TG_REASON_TRUNCATED;
	if (payload->fragment)
		return parse_fragment(ctx, pkt, payload, about, v6);
	if (pkt->proto != (v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP))
		return TG_REASON_OTHER_PROTOCOL; /* the other family's ICMP */
	return parse_error(ctx, pkt, payload->offset, about, v6);
}

/* The first half of the story: where to? NONE: as `way` says. */
static __always_inline enum tg_reason rare_way(
	struct xdp_md *ctx, struct tg_fragment *way, const bool v6)
{
	struct packet about = {}, pkt = { .about = &about };
	struct tg_fragment_key key;
	struct payload payload;
	bool ours = false;
	enum tg_reason reason = parse_rare(ctx, &pkt, &about, &payload, v6);

	if (reason != TG_REASON_NONE)
		return reason;
	if (payload.fragment) {
		ours = has_vips(address_of(&pkt, DEST, v6), v6);
		reason = judge_fragment(&pkt, &payload, ours);
		if (reason != TG_REASON_NONE)
			return reason;
		fragment_key(&pkt, &payload, &key, v6);
		if (payload.place && fragment_recall(&key, way, v6))
			return TG_REASON_NONE;
		if (payload.place)
			return ours ? TG_REASON_FRAGMENT_LOST : TG_REASON_FRAGMENT;
	}
	about.index_lines = index_lines();
	reason = way_of_flow(&pkt, payload.fragment ? DEST : SOURCE, way, v6);
	return payload.fragment ? keep_way(&key, way, reason, ours) : reason;
}

/* In between: what does the port's policy say? A first fragment that it refuses is followed by none. */
static __always_inline enum tg_reason rare_policy(
	struct xdp_md *ctx, const struct tg_fragment *way, const bool v6)
{
	struct packet about = {}, pkt = { .about = &about };
	struct tg_fragment_key key;
	struct payload payload;
	enum tg_reason reason;

	if (!(features & TG_FEATURE_POLICY))
		return TG_REASON_NONE;
	reason = parse_rare(ctx, &pkt, &about, &payload, v6);
	if (reason != TG_REASON_NONE || pkt.kind == LATER_FRAGMENT)
		return reason;
	reason = vip_policy(
		ctx, &pkt, pkt.kind == ICMP_ERROR || way->fate == TG_FATE_REPLY, v6);
	if (reason != TG_REASON_NONE && payload.fragment) {
		fragment_key(&pkt, &payload, &key, v6);
		state_delete(&fragments, &key);
	}
	return reason;
}

/* A reason, and the action of TG_REASON_FORWARD. */
#define WENT(reason, action) ((reason) | (action) << 16)
#define WENT_REASON(went)    ((went) & 0xffff)
#define WENT_ACTION(went)    ((went) >> 16 & 0xffff)

/* The second half: it goes there. WENT(). */
static __always_inline __u32 rare_go(struct xdp_md *ctx, struct tg_fragment *way, const bool v6)
{
	struct packet about = {}, pkt = { .about = &about };
	struct payload payload;
	struct origin origin = { way->origin, way->port, way->backend };
	enum tg_reason reason = parse_rare(ctx, &pkt, &about, &payload, v6);

	if (reason != TG_REASON_NONE)
		return reason;
	if (way->fate == TG_FATE_FORWARD)
		reason = forward(ctx, &pkt, &way->vip, way->backend, way->flow, v6);
	else if (features & TG_FEATURE_NAT)
		reason = nat_untranslate(ctx, &pkt, known_route(&pkt, v6), &origin, v6);
	else
		reason = TG_REASON_FRAGMENT; /* remembered by a program that knew nat */
	return WENT(reason, reason == TG_REASON_FORWARD ? leave(ctx, &pkt) : 0);
}

/*
 * Each part of each family is a function of its own for the verifier: it walks through them once, and
 * their stacks don't add up. The later ones parse anew, since pointers into the packet can't be handed on.
 */
#define RARE_PART(name, part, v6)                                                                  \
	__noinline __u32 name(struct xdp_md *ctx, struct tg_fragment *way)                         \
	{                                                                                          \
		return way ? part(ctx, way, v6) : TG_REASON_NONE;                                  \
	}
RARE_PART(rare_way4, rare_way, false)
RARE_PART(rare_way6, rare_way, true)
RARE_PART(rare_policy4, rare_policy, false)
RARE_PART(rare_policy6, rare_policy, true)
RARE_PART(rare_go4, rare_go, false)
RARE_PART(rare_go6, rare_go, true)

/* The story of a rare packet. */
static __always_inline enum tg_reason rare(struct xdp_md *ctx, struct packet *pkt, const bool v6)
{
	struct tg_fragment way = {};
	enum tg_reason reason = v6 ? rare_way6(ctx, &way) : rare_way4(ctx, &way);
	__u32 went;

	if (reason != TG_REASON_NONE)
		return reason;
	if (way.fate == TG_FATE_PASS)
		return way.reason;
	if (features & TG_FEATURE_POLICY)
		reason = v6 ? rare_policy6(ctx, &way) : rare_policy4(ctx, &way);
	if (reason != TG_REASON_NONE)
		return reason;
	went = v6 ? rare_go6(ctx, &way) : rare_go4(ctx, &way);
	pkt->action = WENT_ACTION(went);
	return WENT_REASON(went);
}

#endif
