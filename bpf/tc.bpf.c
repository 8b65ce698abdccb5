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
#include "packet.h"
#include "parse.h"
#include "policy.h"
#include "skb.h"
#include "trace.h"

#define GO_ON (-1) /* TCX_NEXT, TC_ACT_UNSPEC */
#define STOP  2	   /* TCX_DROP, TC_ACT_SHOT */

/* The judgement of an IP packet's rule. */
static __always_inline __u64 judge_ip(
	struct __sk_buff *skb, struct packet *pkt, struct passage *p, __u32 policy, const bool v6)
{
	if (read_ip(skb, pkt, p, v6) != TG_REASON_NONE)
		return judge_default(policy);
	return judge(&p->key, policy, v6);
}

static __always_inline __u64 judge_packet(
	struct __sk_buff *skb, struct packet *pkt, struct passage *p, __u32 policy)
{
	switch (pkt->ether_type) {
	case bpf_htons(ETH_P_IP):
		return judge_ip(skb, pkt, p, policy, false);
	case bpf_htons(ETH_P_IPV6):
		return judge_ip(skb, pkt, p, policy, true);
	default:
		return UNJUDGED;
	}
}

static __always_inline int verdict(struct __sk_buff *skb, __u64 judged)
{
	count_rule(judged, skb->len);
	if (JUDGED_ACTION(judged) == TG_ACTION_ACCEPT)
		return GO_ON;
	count_reason(TG_REASON_POLICY_DROP);
	return STOP;
}

static __always_inline int handle(struct __sk_buff *skb, const enum tg_direction direction)
{
	const struct tg_port *port = port_of(skb->ifindex);
	struct passage p = {};
	struct packet pkt;
	__u64 judged;

	if (!port)
		return GO_ON;
	pull_headers(skb);
	if (parse_ethernet(skb, &pkt) != TG_REASON_NONE)
		return GO_ON;
	p.l2_length = pkt.l2_length;
	judged = judge_packet(skb, &pkt, &p, TG_POLICY_OF_PORT(port->slot, direction));
	if (p.discovers && !(JUDGED_POLICY(judged) & TG_POLICY_JUDGE_ND))
		return GO_ON;
	return verdict(skb, judged);
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
