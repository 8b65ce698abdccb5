/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A port's policy for what never reaches TC: packets for a VIP, and nat's answers. They are judged one
 * by one by the rules of the port that they come in by. What belongs to a flow that the rules let in (nat's
 * answers, ICMP errors about a VIP's flow) passes where the policy is stateful. What is to be rejected
 * goes on to TC, which judges it once more and answers (reject.h).
 */
#ifndef TIDEGATE_VIP_POLICY_H
#define TIDEGATE_VIP_POLICY_H

#include "event.h"
#include "maps.h"
#include "packet.h"
#include "parse.h"
#include "policy.h"
#include "trace.h"

#define STATEFUL (TG_POLICY_STATEFUL | TG_POLICY_CONNTRACK)

/* What a function that is not inlined is told of a packet, whose addresses it reads anew. */
#define PLACE(pkt)	    ((pkt)->l2_length | ((pkt)->l2_length + (pkt)->l3_length) << 8)
#define PLACE_L2(place)	    ((place) & 0x1f)
#define PLACE_BYTES(place)  ((place) >> 8)
#define KIND_PART(kind)	    ((kind) >> 16 & 3) /* behind TG_POLICY_KIND_OF: enum policy_part */
#define KIND_BELONGS	    (1u << 18)	      /* to a flow that was let in */

static __always_inline bool vip_key(
	packet_ctx *ctx, struct policy_key *key, __u32 place, __u32 ports, __u32 kind, const bool v6)
{
	struct packet pkt = { .l3 = l3_at(ctx, PLACE_L2(place)) };

	if (!has_ip_header(ctx, &pkt, v6))
		return false;
	policy_address_of(address_of(&pkt, SOURCE, v6), &key->src_hi, &key->src_lo, v6);
	policy_address_of(address_of(&pkt, DEST, v6), &key->dst_hi, &key->dst_lo, v6);
	key->kind = kind & 0xffff;
	key->part = KIND_PART(kind);
	key->has_ports = !is_icmp(key->kind >> 8) && key->part != POLICY_LATER_FRAGMENT;
	key->sport = bpf_ntohs(ports & 0xffff);
	key->dport = bpf_ntohs(ports >> 16);
	return true;
}

/* TC judges once more what it is to answer, and what taps want though it is dropped. */
static __always_inline bool is_for_tc(const struct tg_port *port, enum tg_action action)
{
	if (!(port->flags & TG_PORT_TC))
		return false;
	return action == TG_ACTION_REJECT || (features & TG_FEATURE_TAP &&
		action == TG_ACTION_DROP && port->taps[TG_INGRESS]);
}

/* A reason, and the judgement, where its rule wants it told. */
#define VIP_JUDGED(reason, judged) ((judged) | (__u64)(reason) << 24)
#define VIP_REASON(judged)	   ((judged) >> 24 & 0xff)

static __always_inline __u64 vip_judge(
	packet_ctx *ctx, __u32 place, __u32 ports, __u32 kind, const bool v6)
{
	const struct tg_port *port = port_of(ctx->ingress_ifindex);
	struct policy_key key = {};
	enum tg_reason reason;
	__u64 judged;

	if (!port || !vip_key(ctx, &key, place, ports, kind, v6))
		return VIP_JUDGED(TG_REASON_NONE, 0);
	judged = policy_judge(TG_POLICY_OF_PORT(port->slot, TG_INGRESS), &key, v6);
	if (judged == UNJUDGED || (kind & KIND_BELONGS && JUDGED_POLICY(judged) & STATEFUL))
		return VIP_JUDGED(TG_REASON_NONE, 0);
	if (is_for_tc(port, JUDGED_ACTION(judged)))
		return VIP_JUDGED(TG_REASON_REFUSED_BY_TC, 0);
	count_rule(judged, PLACE_BYTES(place));
	reason = JUDGED_ACTION(judged) == TG_ACTION_ACCEPT ? TG_REASON_NONE : TG_REASON_POLICY_DROP;
	return VIP_JUDGED(reason, judged);
}

/* Functions of their own: their stack is not that of what comes after. */
#define VIP_JUDGE(name, v6)                                                                        \
	__noinline __u64 name(packet_ctx *ctx, __u32 place, __u32 ports, __u32 kind)                 \
	{                                                                                          \
		if (!(features & TG_FEATURE_POLICY))                                               \
			return VIP_JUDGED(TG_REASON_NONE, 0);                                      \
		return vip_judge(ctx, place, ports, kind, v6);                                     \
	}
VIP_JUDGE(vip_judge4, false)
VIP_JUDGE(vip_judge6, true)

/* Likewise: tells of the packet, by its rule. */
#define VIP_TELL(name, v6)                                                                         \
	__noinline int name(packet_ctx *ctx, __u32 place, __u32 ports, __u32 kind, __u64 judged)   \
	{                                                                                          \
		struct policy_key key = {};                                                        \
                                                                                                   \
		if (!(features & TG_FEATURE_POLICY) || !vip_key(ctx, &key, place, ports, kind, v6)) \
			return 0;                                                                  \
		return event_judged(&key, judged, ctx->ingress_ifindex, PLACE_BYTES(place),        \
			EVENT_WHAT(0, TG_INGRESS, v6, true));                                      \
	}
VIP_TELL(vip_tell4, false)
VIP_TELL(vip_tell6, true)

/* Of an ICMP error, its header is `l4`; a later fragment has none. */
static __always_inline __u32 vip_kind(const struct packet *pkt)
{
	__u32 kind = TG_POLICY_KIND_OF(pkt->proto, 0);

	if (pkt->kind == LATER_FRAGMENT)
		return kind | POLICY_LATER_FRAGMENT << 16;
	if (pkt->kind == FIRST_FRAGMENT)
		kind |= POLICY_FIRST_FRAGMENT << 16;
	return kind | (pkt->kind == ICMP_ERROR ? *(__u8 *)pkt->l4 : pkt->tcp_flags);
}

/* NONE: it may go on. */
static __always_inline enum tg_reason vip_policy(
	packet_ctx *ctx, const struct packet *pkt, const bool belongs, const bool v6)
{
	__u64 judged;
	__u32 kind;

	if (!(features & TG_FEATURE_POLICY))
		return TG_REASON_NONE;
	kind = vip_kind(pkt) | (belongs ? KIND_BELONGS : 0);
	judged = v6 ? vip_judge6(ctx, PLACE(pkt), pkt->ports, kind)
		    : vip_judge4(ctx, PLACE(pkt), pkt->ports, kind);
	if (unlikely(EVENT_WANTED(judged)) && !tracing) {
		if (v6)
			vip_tell6(ctx, PLACE(pkt), pkt->ports, kind, judged);
		else
			vip_tell4(ctx, PLACE(pkt), pkt->ports, kind, judged);
	}
	return VIP_REASON(judged);
}

#endif
