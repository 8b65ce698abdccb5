// SPDX-License-Identifier: GPL-2.0-only
/*
 * The XDP program: what becomes of a packet that arrives. Is its source denied, or bogus? Parse,
 * balance, verdict; each step returns a reason, and the first that is not NONE ends the story. What is
 * not for a VIP (nor part of nat's way back) goes on into the stack as it came, byte for byte. Each
 * packet has one reason counted, or is counted as forwarded.
 *
 * The loader specialises it by the settings in maps.h. It has no state but the pinned maps.
 */
#include "maps.h"

#include "balance.h"
#include "bogus.h"
#include "count.h"
#include "deny.h"
#include "event.h"
#include "handover.h"
#include "nat.h"
#include "packet.h"
#include "parse.h"
#include "rare.h"
#include "rates.h"
#include "trace.h"

/* Of a packet that is not forwarded. */
static __always_inline int refuse(struct xdp_md *ctx, enum tg_reason reason)
{
	tell_reason(reason);
	if (RATES && reason >= TG_REASON_PASS_LAST)
		rate_refused(ctx);
	if (reason == TG_REASON_TOO_BIG_ANSWERED)
		return XDP_REDIRECT; /* the answer, in the packet's place */
	return reason < TG_REASON_PASS_LAST ? XDP_PASS : XDP_DROP;
}

static __always_inline int verdict(
	struct xdp_md *ctx, const struct packet *pkt, enum tg_reason reason)
{
	if (reason != TG_REASON_FORWARD)
		return refuse(ctx, reason);
	note_reason(reason);
	return leave(ctx, pkt);
}

/* What parse.h does not make out: some of it rare.h does. */
static __always_inline int unusual(struct xdp_md *ctx, enum tg_reason reason, const bool v6)
{
	if (reason == TG_REASON_FRAGMENT || reason == TG_REASON_ICMP)
		bpf_tail_call(ctx, &rare_programs, v6); /* comes back where there is none */
	return refuse(ctx, reason);
}

static __always_inline int handle(struct xdp_md *ctx, struct packet *pkt, const bool v6)
{
	const __u32 vips = v6 ? TG_FEATURE_V6 : TG_FEATURE_V4;
	const __u32 lists = v6 ? TG_FEATURE_DENY6 : TG_FEATURE_DENY4;
	enum tg_reason reason;

	if (!(features & (vips | lists)))
		return refuse(ctx, TG_REASON_NOT_VIP);
	if (!has_ip_header(ctx, pkt, v6))
		return refuse(ctx, TG_REASON_TRUNCATED);
	reason = deny(ctx, pkt, v6);
	tell_denied(ctx, pkt, reason, v6);
	if (reason == TG_REASON_NONE)
		reason = bogus(ctx, pkt, v6);
	if (reason != TG_REASON_NONE)
		return refuse(ctx, reason);
	if (!(features & vips))
		return refuse(ctx, TG_REASON_NOT_VIP);
	reason = parse_ip(ctx, pkt, v6);
	if (reason != TG_REASON_NONE)
		return unusual(ctx, reason, v6);
	pkt->kind = WHOLE;
	pkt->action = XDP_ABORTED;
	pkt->out = pkt->taps = 0;
	pkt->index_lines = index_lines();
	reason = balance(ctx, pkt, v6);
	if (features & TG_FEATURE_NAT && reason == TG_REASON_NOT_VIP)
		reason = nat_return(ctx, pkt, v6);
	return verdict(ctx, pkt, reason);
}

static __always_inline int handle_rare(struct xdp_md *ctx, const bool v6)
{
	struct packet pkt;
	enum tg_reason reason = rare(ctx, &pkt, v6);

	if (reason != TG_REASON_FORWARD)
		return refuse(ctx, reason);
	note_reason(reason);
	return pkt.action;
}

/* What the main program hands on: fragments and ICMP, of each family. */
SEC("xdp.frags")
int tidegate_rare4(struct xdp_md *ctx)
{
	return handle_rare(ctx, false);
}

SEC("xdp.frags")
int tidegate_rare6(struct xdp_md *ctx)
{
	return handle_rare(ctx, true);
}

SEC("xdp.frags")
int tidegate_xdp(struct xdp_md *ctx)
{
	struct packet pkt;
	enum tg_reason reason = parse_ethernet(ctx, &pkt);

	if (reason != TG_REASON_NONE)
		return verdict(ctx, &pkt, reason);
	switch (pkt.ether_type) {
	case bpf_htons(ETH_P_IP):
		return handle(ctx, &pkt, false);
	case bpf_htons(ETH_P_IPV6):
		return handle(ctx, &pkt, true);
	default:
		return refuse(ctx, TG_REASON_NOT_IP);
	}
}
