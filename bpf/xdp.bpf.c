// SPDX-License-Identifier: GPL-2.0-only
/*
 * The XDP program: what becomes of a packet that arrives. Parse, balance, verdict; each step
 * returns a reason, and the first that is not NONE ends the story. What is not for a VIP (nor part
 * of nat's way back) goes on into the stack as it came, byte for byte.
 *
 * The loader specialises it by the settings in maps.h. It has no state but the pinned maps.
 */
#include "maps.h"

#include "balance.h"
#include "count.h"
#include "nat.h"
#include "packet.h"
#include "parse.h"

static __always_inline int verdict(const struct packet *pkt, enum tg_reason reason)
{
	if (reason == TG_REASON_FORWARD)
		return pkt->action;
	count_reason(reason);
	return reason < TG_REASON_PASS_LAST ? XDP_PASS : XDP_DROP;
}

static __always_inline int handle(struct xdp_md *ctx, struct packet *pkt, const bool v6)
{
	enum tg_reason reason = parse_ip(ctx, pkt, v6);

	if (reason != TG_REASON_NONE)
		return verdict(pkt, reason);
	pkt->action = XDP_ABORTED;
	pkt->index_lines = index_lines();
	reason = balance(ctx, pkt, v6);
	if (features & TG_FEATURE_NAT && reason == TG_REASON_NOT_VIP)
		reason = nat_return(ctx, pkt, v6);
	return verdict(pkt, reason);
}

SEC("xdp.frags")
int tidegate_xdp(struct xdp_md *ctx)
{
	struct packet pkt;
	enum tg_reason reason = parse_ethernet(ctx, &pkt);

	if (reason != TG_REASON_NONE)
		return verdict(&pkt, reason);
	switch (pkt.ether_type) { /* a family without a VIP costs nothing, not even a count */
	case bpf_htons(ETH_P_IP):
		return features & TG_FEATURE_V4 ? handle(ctx, &pkt, false) : XDP_PASS;
	case bpf_htons(ETH_P_IPV6):
		return features & TG_FEATURE_V6 ? handle(ctx, &pkt, true) : XDP_PASS;
	default:
		return verdict(&pkt, TG_REASON_NOT_IP);
	}
}
