/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Which taps of the port that it came in by want a packet that is about to be forwarded? Asked before it is
 * rewritten, as their matches speak of packets that come in; a later fragment shows neither ports nor flags.
 * TC makes the copies (handover.h).
 */
#ifndef TIDEGATE_VIP_TAP_H
#define TIDEGATE_VIP_TAP_H

#include "maps.h"
#include "packet.h"
#include "policy.h"
#include "tap_count.h"
#include "vip_policy.h"

static __always_inline __u32 vip_taps(
	packet_ctx *ctx, __u32 place, __u32 ports, __u32 kind, const bool v6)
{
	const struct tg_port *port = port_of(ctx->ingress_ifindex);
	__u32 wanted = port ? port->taps[TG_INGRESS] : 0, matched = 0;
	struct policy_key key = {};

	if (!wanted || !vip_key(ctx, &key, place, ports, kind, v6))
		return 0;
	for (int i = 0; i < TG_MAX_TAPS && wanted; i++) {
		__u32 tap = policy_lowest(wanted);

		if (JUDGED_ACTION(judge(&key, TG_POLICY_OF_TAP(tap), v6)) == TG_ACTION_ACCEPT)
			matched |= wanted & -wanted;
		wanted &= wanted - 1;
	}
	return matched;
}

#define VIP_TAPS(name, v6)                                                                         \
	__noinline __u32 name(packet_ctx *ctx, __u32 place, __u32 ports, __u32 kind)               \
	{                                                                                          \
		if (!(features & TG_FEATURE_TAP))                                                  \
			return 0;                                                                  \
		return vip_taps(ctx, place, ports, kind, v6);                                      \
	}
VIP_TAPS(vip_taps4, false)
VIP_TAPS(vip_taps6, true)

static __always_inline void note_taps(packet_ctx *ctx, struct packet *pkt, const bool v6)
{
	__u32 kind = vip_kind(pkt);

	pkt->taps = 0;
	if (!(features & TG_FEATURE_TAP) || likely(!taps_at_work()))
		return;
	pkt->taps = v6 ? vip_taps6(ctx, PLACE(pkt), pkt->ports, kind)
		       : vip_taps4(ctx, PLACE(pkt), pkt->ports, kind);
}

#endif
