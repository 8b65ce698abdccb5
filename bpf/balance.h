/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Balancing: the VIP that the packet is for, the backend of its flow in that service (slots.h), and
 * there it goes (forward.h).
 */
#ifndef TIDEGATE_BALANCE_H
#define TIDEGATE_BALANCE_H

#include "bogus.h"
#include "count.h"
#include "endpoint.h"
#include "forward.h"
#include "maps.h"
#include "packet.h"
#include "quic.h"
#include "range.h"
#include "slots.h"
#include "trace.h"
#include "vip_policy.h"

static __always_inline struct tg_vip *exact_vip_of(
	const struct packet *pkt, const enum side side, const bool v6)
{
	__u32 word = endpoint_word(pkt, side);
	struct tg_endpoint *found;

	switch (index_look(pkt, side, v6 ? TG_ENDPOINT_VIP6 : TG_ENDPOINT_VIP4, &found, v6)) {
	case INDEX_HAS:
		return &found->vip;
	case INDEX_HAS_NOT:
		return NULL;
	case INDEX_ASK:
		break;
	}
	if (v6) {
		__be32 key[5];

		__builtin_memcpy(key, address_of(pkt, side, v6), 16);
		key[4] = word;
		return bpf_map_lookup_elem(&vips6, key);
	}
	__be32 key[2] = { *address_of(pkt, side, v6), word };

	return bpf_map_lookup_elem(&vips4, key);
}

static __always_inline struct tg_vip *vip_of(
	const struct packet *pkt, const enum side side, const bool v6)
{
	struct tg_vip *vip = exact_vip_of(pkt, side, v6);
	struct tg_endpoint *range;

	if (vip || !(features & TG_FEATURE_RANGES))
		return vip;
	note(RANGE, v6, ENDPOINT_WORDS(pkt, side, v6));
	range = range_of(pkt, side, v6 ? TG_ENDPOINT_VIP6 : TG_ENDPOINT_VIP4, v6);
	return range ? &range->vip : NULL;
}

static __always_inline struct tg_vip *known_vip(
	const struct packet *pkt, const enum side side, const bool v6)
{
	struct tg_vip *vip;

	note(VIP, v6, ENDPOINT_WORDS(pkt, side, v6));
	vip = vip_of(pkt, side, v6);
	if (vip)
		note_hit(VIP_WORDS(vip));
	return vip;
}

/* The backend that a QUIC packet names, or 0; whether it begins a flow is noted there. */
static __always_inline __u32 quic_server(struct xdp_md *ctx, const struct packet *pkt,
	const struct tg_vip *vip, struct flow *flow, const bool v6)
{
	__u32 payload = (void *)pkt->l4 - (void *)pkt->eth + sizeof(struct udphdr);
	__u64 said = quic_look(ctx, payload, pkt->l2_length + pkt->l3_length, vip->service, v6);

	flow->has_beginning = true;
	flow->begins = said & QUIC_BEGINS;
	return said;
}

static __always_inline enum tg_reason balance(struct xdp_md *ctx, struct packet *pkt, const bool v6)
{
	enum tg_reason reason;
	struct tg_vip *vip;
	struct flow flow;
	__u32 chosen;

	vip = known_vip(pkt, DEST, v6);
	if (!vip)
		return TG_REASON_NOT_VIP;
	if (unlikely(is_own_source(pkt, v6)))
		return TG_REASON_BOGUS_VIP;
	reason = vip_policy(ctx, pkt, false, v6);
	if (reason != TG_REASON_NONE)
		return reason;
	flow = flow_in(pkt, SOURCE, v6);
	chosen = 0;
	if (features & TG_FEATURE_QUIC && unlikely(vip->flags & TG_VIP_QUIC))
		chosen = quic_server(ctx, pkt, vip, &flow, v6);
	reason = chosen ? TG_REASON_NONE : choose(vip, &flow, &chosen, v6);
	return reason == TG_REASON_NONE ? forward(ctx, pkt, vip, chosen, flow.hash, v6) : reason;
}

#endif
