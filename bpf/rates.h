/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What ports count, by kinds of packets: the controller makes rates of it (lua/tidegate/rates.lua). Each packet is
 * counted once a port and direction: TC counts what it sees, dropped or not; XDP what never gets there, that is what
 * it drops, and what it forwards, which comes in by one port and leaves by another. What XDP hands over to TC for taps
 * is XDP's, copies of taps are nobody's. A super-packet counts as those that it is made of.
 */
#ifndef TIDEGATE_RATES_H
#define TIDEGATE_RATES_H

#include "maps.h"
#include "packet.h"
#include "parse.h"
#include "payload.h"
#include "policy.h"
#include "trace.h"

#define RATES (!tracing && features & TG_FEATURE_RATES)

/* What a packet is, in a word: protocol, TCP's flags, is it a fragment? */
#define RATED(proto, flags, fragment) ((proto) << 8 | (flags) | ((fragment) ? 1u << 16 : 0))
#define RATED_UNKNOWN		      0xff00u

static __always_inline struct tg_port_counters *port_counters_of(__u32 index)
{
	return bpf_map_lookup_elem(&port_counters, &index);
}

static __always_inline void rate_tcp(struct tg_port_counters *to, __u8 flags, __u32 packets)
{
	to->count[TG_PORT_COUNT_TCP] += packets;
	if ((flags & (TCP_SYN | TCP_ACK)) == TCP_SYN)
		to->count[TG_PORT_COUNT_TCP_SYN] += packets;
	if (flags & TCP_RST)
		to->count[TG_PORT_COUNT_TCP_RST] += packets;
}

/* Of the port and direction that `index` stands for (TG_POLICY_OF_PORT). */
static __always_inline void rate(__u32 index, __u32 rated, __u32 packets, __u32 bytes, bool dropped)
{
	struct tg_port_counters *to = port_counters_of(index);
	__u8 proto = rated >> 8;

	if (!to)
		return;
	to->count[TG_PORT_COUNT_PACKETS] += packets;
	to->count[TG_PORT_COUNT_BYTES] += bytes;
	if (proto == IPPROTO_TCP)
		rate_tcp(to, rated, packets);
	else if (proto == IPPROTO_UDP)
		to->count[TG_PORT_COUNT_UDP] += packets;
	else if (proto == IPPROTO_ICMP || proto == IPPROTO_ICMPV6)
		to->count[TG_PORT_COUNT_ICMP] += packets;
	if (rated >> 16)
		to->count[TG_PORT_COUNT_FRAGMENTS] += packets;
	if (dropped)
		to->count[TG_PORT_COUNT_DROPS] += packets;
}

#ifdef TG_TC

#include "skb.h"

static __always_inline __u32 packets_in(const struct __sk_buff *skb)
{
	return skb->gso_segs ? skb->gso_segs : 1;
}

/* `p` NULL: it is no IP, or can't be told what it is. */
static __always_inline void rate_packet(
	const struct __sk_buff *skb, const struct passage *p, __u32 index)
{
	__u32 rated = p ? RATED(p->key.kind >> 8, p->key.kind & 0xff, p->key.part != POLICY_WHOLE)
			: RATED_UNKNOWN;

	if (RATES)
		rate(index, rated, packets_in(skb), skb->len, false);
}

/* The same packet, once it is known that it goes no further. */
static __always_inline void rate_drop(const struct __sk_buff *skb, __u32 index)
{
	struct tg_port_counters *to = RATES ? port_counters_of(index) : NULL;

	if (to)
		to->count[TG_PORT_COUNT_DROPS] += packets_in(skb);
}

#else

/* TCP's flags; 0 where they are not in the packet. */
static __always_inline __u8 flags_at(struct xdp_md *ctx, const struct packet *pkt, __u32 offset)
{
	struct tcphdr *tcp = pkt->l3 + offset;

	if (offset > 255 || (void *)(tcp + 1) > packet_end(ctx))
		return 0;
	return ((__u8 *)tcp)[13];
}

static __always_inline __u32 rated_ip(struct xdp_md *ctx, struct packet *pkt, const bool v6)
{
	struct payload payload = {};

	if (payload_of(ctx, pkt->l3, pkt->l2_length, &payload, v6) != TG_REASON_NONE)
		return RATED_UNKNOWN;
	if (payload.proto != IPPROTO_TCP || payload.place)
		return RATED(payload.proto, 0, payload.fragment);
	return RATED(payload.proto, flags_at(ctx, pkt, payload.offset), payload.fragment);
}

/* A function of its own: it parses anew what was not parsed to its end. */
__noinline int rate_refused(struct xdp_md *ctx)
{
	const struct tg_port *port;
	struct packet pkt = {};
	__u32 rated = RATED_UNKNOWN;

	if (!(features & TG_FEATURE_RATES))
		return 0;
	port = port_of(ctx->ingress_ifindex);
	if (!port)
		return 0;
	if (parse_ethernet(ctx, &pkt) == TG_REASON_NONE) {
		if (pkt.ether_type == bpf_htons(ETH_P_IP))
			rated = rated_ip(ctx, &pkt, false);
		else if (pkt.ether_type == bpf_htons(ETH_P_IPV6))
			rated = rated_ip(ctx, &pkt, true);
	}
	rate(TG_POLICY_OF_PORT(port->slot, TG_INGRESS), rated, 1, bpf_xdp_get_buff_len(ctx), true);
	return 0;
}

static __always_inline void rate_at(
	__u32 ifindex, const enum tg_direction direction, __u32 rated, __u32 bytes)
{
	const struct tg_port *port = port_of(ifindex);

	if (port)
		rate(TG_POLICY_OF_PORT(port->slot, direction), rated, 1, bytes, false);
}

__noinline int rate_forwarded(struct xdp_md *ctx, __u32 to, __u32 rated, __u32 bytes)
{
	if (!(features & TG_FEATURE_RATES))
		return 0;
	rate_at(ctx->ingress_ifindex, TG_INGRESS, rated, bytes);
	rate_at(to, TG_EGRESS, rated, bytes);
	return 0;
}

/* Of a packet that XDP forwards: as it came in. */
static __always_inline void rate_forward(struct xdp_md *ctx, const struct packet *pkt)
{
	__u32 rated = RATED(pkt->proto, pkt->tcp_flags,
		pkt->kind == FIRST_FRAGMENT || pkt->kind == LATER_FRAGMENT);

	if (RATES)
		rate_forwarded(ctx, pkt->out, rated, pkt->l2_length + pkt->l3_length);
}

#endif

#endif
