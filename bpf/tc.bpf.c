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

#include "count.h"
#include "follow.h"
#include "packet.h"
#include "parse.h"
#include "policy.h"
#include "skb.h"
#include "trace.h"

#define GO_ON (-1) /* TCX_NEXT, TC_ACT_UNSPEC */
#define STOP  2	   /* TCX_DROP, TC_ACT_SHOT */

#include "reject.h"

static __always_inline int verdict(struct __sk_buff *skb, const struct passage *p, __u64 judged,
	const enum tg_direction direction, const bool v6)
{
	count_rule(judged, skb->len);
	switch (JUDGED_ACTION(judged)) {
	case TG_ACTION_ACCEPT:
		return GO_ON;
	case TG_ACTION_REJECT:
		return reject(skb, p, direction, v6);
	default:
		count_reason(TG_REASON_POLICY_DROP);
		return STOP;
	}
}

/* Neighbour discovery: without it nothing else would work. */
static __always_inline bool passes(const struct passage *p, __u64 judged)
{
	return p->discovers && !(JUDGED_POLICY(judged) & TG_POLICY_JUDGE_ND);
}

static __always_inline int handle_ip(struct __sk_buff *skb, struct packet *pkt, __u32 policy,
	const enum tg_direction direction, const bool v6)
{
	struct passage p = { .l2_length = pkt->l2_length };
	__u64 judged;

	if (read_ip(skb, pkt, &p, v6) != TG_REASON_NONE)
		return verdict(skb, &p, judge_default(policy), direction, v6);
	judged = judge(&p.key, policy, v6);
	if (passes(&p, judged))
		return GO_ON;
	judged = follow(&p, judged, policy, v6);
	return verdict(skb, &p, judged, direction, v6);
}

/* By the default: what can't be told what it is. */
static __always_inline int handle_odd(struct __sk_buff *skb, __u32 policy)
{
	__u64 judged = judge_default(policy);

	count_rule(judged, skb->len);
	if (JUDGED_ACTION(judged) == TG_ACTION_ACCEPT)
		return GO_ON;
	count_reason(TG_REASON_POLICY_DROP);
	return STOP;
}

/* What is no IP passes; ARP, unless the policy is to judge it. */
static __always_inline int handle_other(struct __sk_buff *skb, const struct packet *pkt, __u32 policy)
{
	__u64 judged = judge_default(policy);

	if (pkt->ether_type == bpf_htons(ETH_P_ARP) && judged != UNJUDGED &&
		JUDGED_POLICY(judged) & TG_POLICY_JUDGE_ND)
		return handle_odd(skb, policy);
	return GO_ON;
}

/* An answer of ours, or what XDP forwards by TC: judged already. */
static __always_inline bool is_ours(struct __sk_buff *skb, const enum tg_direction direction)
{
	if (likely(skb->tc_index != TG_MARK_FORWARDED))
		return false;
	if (direction == TG_INGRESS)
		skb->tc_index = 0;
	return true;
}

static __always_inline int handle(struct __sk_buff *skb, const enum tg_direction direction)
{
	const struct tg_port *port = port_of(skb->ifindex);
	enum tg_reason reason;
	struct packet pkt;
	__u32 policy;

	if (!port || is_ours(skb, direction))
		return GO_ON;
	policy = TG_POLICY_OF_PORT(port->slot, direction);
	pull_headers(skb);
	reason = parse_ethernet(skb, &pkt);
	if (reason != TG_REASON_NONE)
		return reason == TG_REASON_NOT_IP ? GO_ON : handle_odd(skb, policy);
	switch (pkt.ether_type) {
	case bpf_htons(ETH_P_IP):
		return handle_ip(skb, &pkt, policy, direction, false);
	case bpf_htons(ETH_P_IPV6):
		return handle_ip(skb, &pkt, policy, direction, true);
	default:
		return handle_other(skb, &pkt, policy);
	}
}

SEC("tc")
int tidegate_ingress(struct __sk_buff *skb)
{
	return handle(skb, TG_INGRESS);
}

SEC("tc")
int tidegate_egress(struct __sk_buff *skb)
{
	return handle(skb, TG_EGRESS);
}
