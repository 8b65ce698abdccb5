// SPDX-License-Identifier: GPL-2.0-only
/*
 * The TC programs: what becomes of a packet that comes in by a port, and of one that leaves. Parse, judge,
 * verdict. What is let through goes on to whatever else is attached (TCX_NEXT, TC_ACT_UNSPEC), and then
 * its way through the stack.
 *
 * As in xdp.bpf.c, the loader specialises them, and all state is in pinned maps.
 */
#define TG_TC
#include "maps.h"

#include "conntrack.h"
#include "count.h"
#include "event.h"
#include "follow.h"
#include "handover.h"
#include "headless.h"
#include "packet.h"
#include "parse.h"
#include "policy.h"
#include "rates.h"
#include "skb.h"
#include "tap.h"
#include "top.h"
#include "trace.h"
#include "track.h"

#define GO_ON (-1) /* TCX_NEXT, TC_ACT_UNSPEC */
#define STOP  2	   /* TCX_DROP, TC_ACT_SHOT */

#include "reject.h"

static __always_inline int verdict(struct __sk_buff *skb, const struct passage *p, __u64 judged,
	const enum tg_direction direction, const bool v6)
{
	count_rule(judged, skb->len);
	tell_judged(&p->key, judged, skb->ifindex, skb->len, direction, p->known, v6);
	show(skb, p, judged, direction, v6);
	switch (JUDGED_ACTION(judged)) {
	case TG_ACTION_ACCEPT:
		return GO_ON;
	case TG_ACTION_REJECT:
		return reject(skb, p, direction, v6);
	default:
		tell_reason(TG_REASON_POLICY_DROP);
		return STOP;
	}
}

/* Neighbour discovery: without it nothing else would work. */
static __always_inline bool passes(const struct passage *p, __u64 judged)
{
	return p->discovers && !(JUDGED_POLICY(judged) & TG_POLICY_JUDGE_ND);
}

/* By the rules, with flows around them. */
static __always_inline __u64 judge_passage(
	struct __sk_buff *skb, struct passage *p, __u32 policy, const bool v6)
{
	__u64 judged = UNJUDGED;

	if (features & TG_FEATURE_CONNTRACK)
		judged = judge_connection(skb, p, policy, v6);
	if (judged != UNJUDGED)
		return judged;
	if (features & TG_FEATURE_FLOW && follows_flows(policy))
		return judge_flow(skb, p, policy, v6);
	return judge(&p->key, policy, v6);
}

static __always_inline int handle_ip(struct __sk_buff *skb, struct packet *pkt, struct passage *p,
	__u32 policy, const enum tg_direction direction, const bool v6)
{
	__u64 judged;

	p->l2_length = pkt->l2_length;
	p->known = read_ip(skb, pkt, p, v6) == TG_REASON_NONE;
	rate_packet(skb, p, policy);
	top_see(skb, p, policy, v6);
	if (!p->known)
		return verdict(skb, p, judge_default(policy), direction, v6);
	judged = judge_passage(skb, p, policy, v6);
	if (passes(p, judged)) {
		show(skb, p, UNJUDGED, direction, v6);
		return GO_ON;
	}
	judged = follow(p, judged, policy, v6);
	return verdict(skb, p, judged, direction, v6);
}

/* By the default: what can't be told what it is. */
static __always_inline int handle_odd(struct __sk_buff *skb, const struct passage *p, __u32 policy,
	const enum tg_direction direction)
{
	__u64 judged = judge_default(policy);

	rate_packet(skb, NULL, policy);
	count_rule(judged, skb->len);
	tell_judged(&p->key, judged, skb->ifindex, skb->len, direction, false, false);
	show(skb, p, judged, direction, false);
	if (JUDGED_ACTION(judged) == TG_ACTION_ACCEPT)
		return GO_ON;
	tell_reason(TG_REASON_POLICY_DROP);
	return STOP;
}

/* What is no IP passes; ARP, unless the policy is to judge it. */
static __always_inline int handle_other(struct __sk_buff *skb, const struct passage *p, bool arp,
	__u32 policy, const enum tg_direction direction)
{
	__u64 judged = judge_default(policy);

	if (arp && judged != UNJUDGED && JUDGED_POLICY(judged) & TG_POLICY_JUDGE_ND)
		return handle_odd(skb, p, policy, direction);
	rate_packet(skb, NULL, policy);
	show(skb, p, UNJUDGED, direction, false);
	return GO_ON;
}

/* What a mark says that is done with already. Marks are for one hop: what comes in with one loses it. */
static __always_inline bool is_ours(struct __sk_buff *skb, const enum tg_direction direction)
{
	switch (skb->tc_index) {
	case TG_MARK_COPY:
		if (direction == TG_INGRESS)
			skb->tc_index = TG_MARK_SEEN;
		return direction == TG_EGRESS;
	case TG_MARK_FORWARDED:
		if (direction == TG_INGRESS)
			skb->tc_index = 0;
		return direction == TG_EGRESS;
	case TG_MARK_ANSWER:
		skb->tc_index = 0;
		return direction == TG_INGRESS;
	case TG_MARK_TRACKED:
		if (direction == TG_INGRESS)
			skb->tc_index = 0;
		return false;
	default:
		return false;
	}
}

/* Nothing but taps was asked for, and none is at work here. */
static __always_inline bool is_idle(__u32 taps)
{
	return !(features & TG_FEATURES_TC & ~TG_FEATURE_TAP) && !taps;
}

static __always_inline int handle_on(struct __sk_buff *skb, const struct tg_port *port,
	const enum tg_direction direction)
{
	const __u32 policy = TG_POLICY_OF_PORT(port->slot, direction);
	struct passage p = { .taps = taps_for(skb, port, direction) };
	enum tg_reason reason;
	struct packet pkt;

	if (is_ours(skb, direction) || is_idle(p.taps))
		return GO_ON;
	pull_headers(skb);
	reason = parse_ethernet(skb, &pkt);
	if (reason == TG_REASON_NOT_IP)
		return handle_other(skb, &p, false, policy, direction);
	if (reason != TG_REASON_NONE)
		return handle_odd(skb, &p, policy, direction);
	switch (pkt.ether_type) {
	case bpf_htons(ETH_P_IP):
		return handle_ip(skb, &pkt, &p, policy, direction, false);
	case bpf_htons(ETH_P_IPV6):
		return handle_ip(skb, &pkt, &p, policy, direction, true);
	default:
		return handle_other(
			skb, &p, pkt.ether_type == bpf_htons(ETH_P_ARP), policy, direction);
	}
}

static __always_inline int handle(struct __sk_buff *skb, const enum tg_direction direction)
{
	const struct tg_port *port;
	int action;

	if (is_idle(taps_at_work()))
		return GO_ON;
	port = port_of(skb->ifindex);
	if (!port)
		return GO_ON;
	action = handle_on(skb, port, direction);
	if (action != GO_ON)
		rate_drop(skb, TG_POLICY_OF_PORT(port->slot, direction));
	return action;
}

SEC("tc")
int tidegate_ingress(struct __sk_buff *skb)
{
	struct tg_handover handover;

	if (unlikely(xdp_is_generic()) && !make_whole(skb))
		return STOP;
	if (handed_over(skb, &handover))
		return carry_out(skb, &handover);
	return handle(skb, TG_INGRESS);
}

SEC("tc")
int tidegate_egress(struct __sk_buff *skb)
{
	return handle(skb, TG_EGRESS);
}
