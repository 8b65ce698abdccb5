/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Handing over: XDP can't copy a packet, and what it forwards never reaches TC. So, while a tap wants
 * the packet, XDP rewrites it as always, but lets it pass into TC with struct tg_handover before it, and TC makes
 * the copies and sends it on its way. (A devmap broadcast would lose frames above a size, production's
 * with them.) Taps of the port that it came in by are matched as it came, in XDP (vip_tap.h), those
 * of the port that it leaves by as it leaves; all copies are the packet as it leaves.
 *
 * Where the driver has no room for metadata, the packet is forwarded as usual, and counted: "missed".
 */
#ifndef TIDEGATE_HANDOVER_H
#define TIDEGATE_HANDOVER_H

#include "maps.h"
#include "packet.h"
#include "rates.h"
#include "tap_count.h"

/* Another instance's handover is none of ours. */
static __always_inline __u32 handover_magic(void)
{
	return TG_HANDOVER_MAGIC ^ (__u32)flow_key.word[0];
}

#ifdef TG_TC

#include "tap.h"

/* Takes the handover off the packet: it is not to be found again where the packet arrives next. */
static __always_inline bool handed_over(struct __sk_buff *skb, struct tg_handover *handover)
{
	struct tg_handover *at = (void *)(long)skb->data_meta;

	if (likely((void *)(at + 1) > (void *)(long)skb->data))
		return false;
	if (at->magic != handover_magic() || at->from != skb->ifindex)
		return false;
	*handover = *at;
	at->magic = 0;
	return true;
}

static __always_inline void show_leaving(struct __sk_buff *skb, struct packet *pkt,
	struct passage *p, struct tg_record *what, const bool v6)
{
	p->known = read_ip(skb, pkt, p, v6) == TG_REASON_NONE;
	if (v6)
		show6(skb, p, what, p->taps, false);
	else
		show4(skb, p, what, p->taps, false);
}

/* Shows it to the taps of the port that it leaves by. */
static __always_inline void show_on_egress(struct __sk_buff *skb, struct passage *p, struct tg_record *what)
{
	const struct tg_port *port = port_of(what->ifindex);
	struct packet pkt;

	p->taps = port ? port->taps[TG_EGRESS] : 0;
	if (!p->taps)
		return;
	pull_headers(skb);
	if (parse_ethernet(skb, &pkt) != TG_REASON_NONE)
		return;
	p->l2_length = pkt.l2_length;
	if (pkt.ether_type == bpf_htons(ETH_P_IP))
		show_leaving(skb, &pkt, p, what, false);
	else if (pkt.ether_type == bpf_htons(ETH_P_IPV6))
		show_leaving(skb, &pkt, p, what, true);
}

/* Makes the copies. */
__noinline int handover_show(struct __sk_buff *skb, __u32 to, __u32 matched)
{
	struct tg_record what = { .ifindex = skb->ifindex, .direction = TG_INGRESS,
		.verdict = TG_RECORD_FORWARDED, .reason = TG_REASON_FORWARD, .rule = TG_NO_RULE };
	struct passage p = {};

	if (!(features & TG_FEATURE_TAP))
		return 0;
	if (matched)
		show4(skb, &p, &what, matched, true);
	what.ifindex = to;
	what.direction = TG_EGRESS;
	show_on_egress(skb, &p, &what);
	return 0;
}

/* Carries out what XDP decided. The verdict. */
static __always_inline int carry_out(struct __sk_buff *skb, const struct tg_handover *handover)
{
	handover_show(skb, handover->to, handover->taps);
	skb->tc_index = TG_MARK_FORWARDED;
	return bpf_redirect(handover->to, 0);
}

#else

/* The packet's action, or XDP_PASS with the handover before it. */
__noinline int hand_over(struct xdp_md *ctx, __u32 action, __u32 to, __u32 matched, __u32 bytes)
{
	const struct tg_port *in, *out;
	struct tg_handover *at;
	__u32 wanted;

	if (!(features & TG_FEATURE_TAP))
		return action;
	in = port_of(ctx->ingress_ifindex);
	out = port_of(to);
	wanted = matched | (out ? out->taps[TG_EGRESS] : 0);
	if (!wanted)
		return action;
	if (!in || !(in->flags & TG_PORT_TC) || bpf_xdp_adjust_meta(ctx, -(int)sizeof(*at)))
		goto missed;
	at = (void *)(long)ctx->data_meta;
	if ((void *)(at + 1) > (void *)(long)ctx->data)
		goto missed;
	*at = (struct tg_handover){ handover_magic(), ctx->ingress_ifindex, to, matched };
	return XDP_PASS;
missed:
	count_taps(wanted, TG_TAPPED_MISSED, bytes);
	return action;
}

/* The action of a packet that is forwarded. */
static __always_inline int leave(struct xdp_md *ctx, const struct packet *pkt)
{
	rate_forward(ctx, pkt);
	if (tracing || !(features & TG_FEATURE_TAP) || likely(!taps_at_work()))
		return pkt->action;
	return hand_over(ctx, pkt->action, pkt->out, pkt->taps, pkt->l2_length + pkt->l3_length);
}

#endif

#endif
