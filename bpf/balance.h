/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Balancing: the VIP that the packet is for, the slot of its flow in that service's ring, the
 * backend that stands there. No flow is stored: any node with the same ring and key answers alike.
 * A slot is one 64-bit word, {home, next, T}; part 1 settles every change at once, so `home`
 * decides.
 */
#ifndef TIDEGATE_BALANCE_H
#define TIDEGATE_BALANCE_H

#include "count.h"
#include "endpoint.h"
#include "hop.h"
#include "maps.h"
#include "nat.h"
#include "packet.h"

static __always_inline struct tg_vip *vip_of(const struct packet *pkt, const bool v6)
{
	__u32 word = endpoint_word(pkt, DEST);
	struct tg_endpoint *found;

	switch (index_look(pkt, DEST, v6 ? TG_ENDPOINT_VIP6 : TG_ENDPOINT_VIP4, &found, v6)) {
	case INDEX_HAS:
		return &found->vip;
	case INDEX_HAS_NOT:
		return NULL;
	case INDEX_ASK:
		break;
	}
	if (v6) {
		__be32 key[5];

		__builtin_memcpy(key, &pkt->ip6->daddr, 16);
		key[4] = word;
		return bpf_map_lookup_elem(&vips6, key);
	}
	__be32 key[2] = { pkt->ip4->daddr, word };

	return bpf_map_lookup_elem(&vips4, key);
}

/* The flow's slot, or NULL where the service has no ring. */
static __always_inline __u64 *slot_of(const struct tg_vip *vip, __u64 flow)
{
	__u32 ring_index = vip->ring, index = tg_slot_of(flow, vip->slots);
	void *ring = bpf_map_lookup_elem(&rings, &ring_index);

	return ring ? bpf_map_lookup_elem(ring, &index) : NULL;
}

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

static __always_inline enum tg_reason balance(struct xdp_md *ctx, struct packet *pkt, const bool v6)
{
	struct tg_vip *vip = vip_of(pkt, v6);
	struct tg_backend *backend;
	enum tg_reason reason;
	__u64 *slot;
	__u32 home;

	if (!vip)
		return TG_REASON_NOT_VIP;
	slot = slot_of(vip, flow_of(pkt, SOURCE, v6));
	if (!slot)
		return TG_REASON_NO_RING;
	home = TG_SLOT_HOME(*(volatile __u64 *)slot);
	if (!home)
		return vip->fail == TG_FAIL_PASS ? TG_REASON_FAIL_PASS : TG_REASON_FAIL_DROP;
	backend = bpf_map_lookup_elem(&backends, &home);
	if (!backend)
		return TG_REASON_NO_RING;
	if (features & TG_FEATURE_NAT && vip->mode == TG_MODE_NAT)
		reason = nat_forward(ctx, pkt, backend, v6);
	else
		reason = l2dsr_forward(ctx, pkt, backend, v6);
	if (reason == TG_REASON_FORWARD || reason == TG_REASON_NAT_STACK) {
		count(&service_counters, vip->service, pkt);
		count(&backend_counters, home, pkt);
	}
	return reason;
}

#endif
