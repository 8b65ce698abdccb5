/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Forwarding: a packet whose backend is chosen goes there in its service's manner, one file each but
 * for the simplest: nat.h, encap.h (ipip and gue), and l2dsr, which is here. What is sent is counted.
 */
#ifndef TIDEGATE_FORWARD_H
#define TIDEGATE_FORWARD_H

#include "count.h"
#include "encap.h"
#include "hop.h"
#include "maps.h"
#include "nat.h"
#include "packet.h"
#include "top.h"
#include "trace.h"
#include "vip_tap.h"

/*
 * l2dsr: the frame goes to the backend's MAC, the packet stays as it is; the backend has the VIP
 * on its loopback and answers the client itself. Only a neighbour can be reached like this.
 */
static __always_inline enum tg_reason l2dsr_forward(
	struct xdp_md *ctx, struct packet *pkt, const struct tg_backend *backend, const bool v6)
{
	enum tg_reason reason;
	struct egress out;
	long answer;

	egress_take(&out, &backend->hop[backend->current & 1], backend->mtu);
	if (unlikely(!out.ifindex)) {
		answer = egress_ask(ctx, pkt, backend->addr, &out, true, v6);
		if (answer == BPF_FIB_LKUP_RET_FRAG_NEEDED)
			return TG_REASON_TOO_BIG;
		if (answer != BPF_FIB_LKUP_RET_SUCCESS)
			return TG_REASON_UNRESOLVED;
	}
	reason = egress_choose(ctx, pkt, &out);
	if (reason != TG_REASON_NONE)
		return reason;
	egress_write_macs(pkt, &out);
	return TG_REASON_FORWARD;
}

/* Sends the packet to the backend in its service's manner. */
static __always_inline enum tg_reason forward(struct xdp_md *ctx, struct packet *pkt,
	const struct tg_vip *vip, __u32 chosen, __u64 flow, const bool v6)
{
	struct tg_backend *backend = bpf_map_lookup_elem(&backends, &chosen);
	enum tg_reason reason;

	note(BACKEND, v6, chosen);
	if (!backend)
		return TG_REASON_NO_RING;
	note_taps(ctx, pkt, v6);
	top_see(ctx, pkt, !(features & TG_FEATURE_NAT) || vip->mode != TG_MODE_NAT, v6);
	note_hit(chosen, HOP_WORDS(&backend->hop[backend->current & 1]), backend->mtu);
	if (features & TG_FEATURE_NAT && vip->mode == TG_MODE_NAT)
		reason = nat_forward(ctx, pkt, backend, v6);
	else if (features & TG_FEATURE_TUNNEL && vip->mode >= TG_MODE_IPIP)
		reason = encap_forward(
			ctx, pkt, backend, flow, vip->mode == TG_MODE_GUE, v6);
	else
		reason = l2dsr_forward(ctx, pkt, backend, v6);
	if (reason == TG_REASON_FORWARD || reason == TG_REASON_NAT_STACK) {
		count(&service_counters, vip->service, pkt);
		count(&backend_counters, chosen, pkt);
	}
	return reason;
}

#endif
