/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Modes ipip and gue: the packet goes to its backend whole, inside another one, across any router.
 * Either family in either: 4in4, 6in6, 4in6, 6in4, as the packet's and the backend's address have it.
 * The backend takes the outer headers off (`tidegate decap`, or a tunnel device of Linux), has the
 * VIP on its loopback and answers the client itself.
 *
 *	ipip	Ethernet, VLAN tags, IP, the packet (RFC 2003, RFC 2473, RFC 4213)
 *	gue	Ethernet, VLAN tags, IP, UDP, the packet: GUE's variant 1 (draft-ietf-intarea-gue), which
 *		has no header of its own; the first four bits say whether IPv4 or IPv6 follows
 *
 * The inner packet is not touched, its TTL included: the VIP is here, so nothing was routed. Of the
 * outer header:
 *   - source: the prefix of `tunnel`, its other bits from the flow, so that a backend's NIC spreads
 *     flows over its queues; in gue the UDP source port (49152-65535) varies too, and so does IPv6's flow
 *     label (RFC 6438);
 *   - TTL 64; DSCP and ECN are the inner ones (RFC 6040, normal mode; RFC 2983, uniform);
 *   - DF and identification are the inner IPv4 packet's; DF is set on what carries IPv6;
 *   - gue's UDP checksum: over IPv4 none; over IPv6 made from the inner packet's, which it thereby vouches
 *     for: what arrived damaged stays damaged. None there either (RFC 6935) where the inner packet has
 *     no whole checksum (a fragment, UDP without one, another protocol) or has extension headers.
 *
 * A packet that does not fit is answered (too_big.h), DF or not: nothing is fragmented here.
 */
#ifndef TIDEGATE_ENCAP_H
#define TIDEGATE_ENCAP_H

#include "csum.h"
#include "hop.h"
#include "maps.h"
#include "packet.h"
#include "too_big.h"
#include "trace.h"

#define IP_DONT_FRAGMENT 0x4000
#define OUTER_TTL	 64
#define MAX_OUTER	 0xffff /* bytes: what an IP header can say */
#define GUE_PORT_FIRST	 0xc000 /* of source ports */
#define GUE_PORT_BITS	 0x3fff

/* The packet and its way, in registers, while its frame is laid out anew. */
struct encap {
	__u32 l2_length, l3_length; /* of the frame as it came */
	__u32 head;		    /* bytes that come between the two */
	bool gue;
	__u8 tos;    /* inner DSCP and ECN */
	__u32 id_df; /* IPv4's second word, for the outer header */
	__u64 tags;  /* what follows the MACs: VLAN tags and more */
	__u64 flow;
	__u64 checked; /* sum of the inner packet, as its own checksums imply it; gue over IPv6 */
	bool has_sum;  /* is there such a sum? */
};

static __always_inline __u32 outer_length(bool over6, bool gue)
{
	return (over6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr)) +
	       (gue ? sizeof(struct udphdr) : 0);
}

/* A word less in a one's complement sum. */
static __always_inline __u64 csum_less(__u32 word)
{
	return (__u32)~word;
}

/* Does UDP's checksum cover all the rest of the packet? */
static __always_inline bool udp_is_checked(
	const struct xdp_md *ctx, const struct udphdr *udp, __u32 length)
{
	return (void *)(udp + 1) <= (void *)(long)ctx->data_end && udp->check &&
	       udp->len == bpf_htons(length);
}

/*
 * The sum over an IPv4 packet, from what its checksums say: the header adds up to 0, all that
 * follows to the complement of its pseudo-header.
 */
static __always_inline void sum_inner4(
	const struct xdp_md *ctx, struct encap *e, const struct iphdr *ip)
{
	__u32 length = e->l3_length - ip->ihl * 4;
	const struct udphdr *udp = (void *)ip + ip->ihl * 4;

	e->has_sum = !(ip->frag_off & bpf_htons(0x3fff));
	e->checked = csum_less(ip->saddr) + csum_less(ip->daddr) +
		     csum_less(bpf_htons(ip->protocol)) + csum_less(bpf_htons(length));
	if (ip->protocol == IPPROTO_ICMP)
		e->checked = 0; /* no pseudo-header */
	else if (ip->protocol == IPPROTO_UDP)
		e->has_sum = e->has_sum && udp_is_checked(ctx, udp, length);
	else if (ip->protocol != IPPROTO_TCP)
		e->has_sum = false;
}

/* Likewise of IPv6: addresses and length cancel out, what is left of the header remains. */
static __always_inline void sum_inner6(
	const struct xdp_md *ctx, struct encap *e, const struct ipv6hdr *ip)
{
	__u32 length = e->l3_length - sizeof(*ip);

	e->checked = *(__u32 *)ip + *(__u16 *)&ip->nexthdr + csum_less(bpf_htons(ip->nexthdr));
	if (ip->nexthdr == IPPROTO_UDP)
		e->has_sum = udp_is_checked(ctx, (void *)(ip + 1), length);
	else
		e->has_sum = ip->nexthdr == IPPROTO_TCP || ip->nexthdr == IPPROTO_ICMPV6;
}

/* Takes from the frame what the outer headers need. False if it is not what it was. */
static __always_inline bool encap_read(
	const struct xdp_md *ctx, struct encap *e, const bool sum, const bool v6)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ipv6hdr *ip6 = data + e->l2_length;
	struct iphdr *ip4 = (void *)ip6;

	if (data + 2 * ETH_ALEN + sizeof(e->tags) > end)
		return false;
	e->tags = *(__u64 *)(data + 2 * ETH_ALEN);
	if ((v6 ? (void *)(ip6 + 1) : (void *)(ip4 + 1)) > end)
		return false;
	if (v6) {
		e->tos = bpf_ntohs(*(__be16 *)ip6) >> 4;
		e->id_df = bpf_htonl(IP_DONT_FRAGMENT);
		if (sum)
			sum_inner6(ctx, e, ip6);
	} else {
		e->tos = ip4->tos;
		e->id_df = *(__u32 *)&ip4->id & bpf_htonl(0xffff0000 | IP_DONT_FRAGMENT);
		if (sum)
			sum_inner4(ctx, e, ip4);
	}
	return true;
}

/* The frame's beginning: MACs, the tags that were there, the outer EtherType. False: no room. */
static __always_inline bool write_ethernet(void *data, const void *end, const struct encap *e,
	const struct egress *out, __be16 ether_type)
{
	__be16 *type = data + ((e->l2_length - sizeof(ether_type)) & 0x1f);

	if (data + 2 * ETH_ALEN + sizeof(e->tags) > end || (void *)(type + 1) > end)
		return false;
	*(__u64 *)data = out->macs_head;
	*(__u32 *)(data + 8) = out->macs_tail;
	*(__u64 *)(data + 2 * ETH_ALEN) = e->tags; /* beyond the tags: overwritten next */
	*type = ether_type;
	return true;
}

/* UDP's ports and length as two words; the checksum is the upper half of the second. */
static __always_inline __u32 gue_ports(const struct encap *e, const struct tg_tunnel *tunnel)
{
	__u16 source = GUE_PORT_FIRST | (e->flow >> 16 & GUE_PORT_BITS);

	return bpf_htons(source) | (__u32)tunnel->gue_port << 16;
}

static __always_inline bool write_outer4(struct xdp_md *ctx, const struct encap *e,
	const struct egress *out, const struct tg_backend *backend, const struct tg_tunnel *tunnel,
	__u8 proto)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u32 *word = data + e->l2_length;
	__u32 total = e->l3_length + e->head;

	__u32 first = 0x45 | (__u32)e->tos << 8 | (__u32)bpf_htons(total) << 16;
	__u32 third = OUTER_TTL | (__u32)proto << 8;
	__u32 source = tunnel->source4 | ((__u32)e->flow & tunnel->vary4), dest = backend->addr[0];
	__u64 sum = (__u64)first + e->id_df + third + source + dest;

	if (!write_ethernet(data, end, e, out, bpf_htons(ETH_P_IP)) || (void *)(word + 7) > end)
		return false;
	word[0] = first;
	word[1] = e->id_df;
	word[2] = third | (__u32)(__u16)~csum_fold(sum) << 16;
	word[3] = source;
	word[4] = dest;
	if (e->gue) {
		word[5] = gue_ports(e, tunnel);
		word[6] = bpf_htons(total - sizeof(struct iphdr));
	}
	return true;
}

/* The checksum of gue's UDP header over IPv6, in the upper half of its second word. */
static __always_inline __u32 gue_check6(
	const struct encap *e, const __u32 *address, __u32 ports, __be16 length)
{
	__u64 sum = e->checked + ports + length + length + bpf_htons(IPPROTO_UDP);
	__u16 check;

	if (!e->has_sum)
		return 0;
#pragma unroll
	for (int i = 0; i < 8; i++)
		sum += address[i];
	check = ~csum_fold(sum);
	return (__u32)(check ? check : 0xffff) << 16;
}

static __always_inline bool write_outer6(struct xdp_md *ctx, const struct encap *e,
	const struct egress *out, const struct tg_backend *backend, const struct tg_tunnel *tunnel,
	__u8 proto)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u32 *word = data + e->l2_length;
	__be16 length = bpf_htons(e->l3_length + e->head - sizeof(struct ipv6hdr));

	if (!write_ethernet(data, end, e, out, bpf_htons(ETH_P_IPV6)) ||
		(void *)(word + 12) > end) /* ipip writes ten: a packet follows, twelve are there */
		return false;
	word[0] = bpf_htonl(6u << 28 | (__u32)e->tos << 20 | (e->flow & 0xfffff));
	word[1] = length | (__u32)proto << 16 | (__u32)OUTER_TTL << 24;
	word[2] = tunnel->source6[0];
	word[3] = tunnel->source6[1];
	word[4] = tunnel->source6[2];
	word[5] = tunnel->source6[3] | ((__u32)e->flow & tunnel->vary6);
#pragma unroll
	for (int i = 0; i < 4; i++)
		word[6 + i] = backend->addr[i];
	if (e->gue) {
		word[10] = gue_ports(e, tunnel);
		word[11] = length | gue_check6(e, word + 2, word[10], length);
	}
	return true;
}

/*
 * Puts the packet into another and sends it by `out`. In line, as a call costs some 7 ns where returns
 * are mitigated: a copy for each pair of families.
 */
static __always_inline enum tg_reason encapsulate(struct xdp_md *ctx, const struct packet *pkt,
	const struct egress *out, const struct tg_backend *backend, __u64 flow, bool gue,
	const bool v6, const bool over6)
{
	struct encap e = { .l2_length = pkt->l2_length,
		.l3_length = pkt->l3_length,
		.head = outer_length(over6, gue),
		.gue = gue,
		.flow = flow };
	__u8 proto = gue ? IPPROTO_UDP : v6 ? IPPROTO_IPV6 : IPPROTO_IPIP;
	__u32 zero = 0;
	struct tg_tunnel *tunnel = bpf_map_lookup_elem(&tunnels, &zero);

	if (!tunnel)
		return TG_REASON_NO_RING;
	if (!encap_read(ctx, &e, gue && over6, v6))
		return TG_REASON_TRUNCATED;
	if (bpf_xdp_adjust_head(ctx, -(int)e.head))
		return TG_REASON_NO_HEADROOM;
	if (over6 ? write_outer6(ctx, &e, out, backend, tunnel, proto)
		  : write_outer4(ctx, &e, out, backend, tunnel, proto))
		return TG_REASON_FORWARD;
	return TG_REASON_NO_HEADROOM;
}

/* Asks the kernel for the way to a backend whose next hop is not known: as egress_query. */
static __noinline long encap_ask(
	struct xdp_md *ctx, const struct tg_backend *backend, __u32 total, struct egress *out)
{
	bool v6 = backend->flags & TG_BACKEND_V6;
	struct bpf_fib_lookup fib = {
		.family = v6 ? AF_INET6 : AF_INET,
		.l4_protocol = IPPROTO_IPIP,
		.tot_len = total,
		.ifindex = ctx->ingress_ifindex,
	};

	if (v6)
		__builtin_memcpy(fib.ipv6_dst, backend->addr, 16);
	else
		fib.ipv4_dst = backend->addr[0];
	return v6 ? egress_query(ctx, &fib, out, true) : egress_query(ctx, &fib, out, false);
}

/* The way for a packet of `total` bytes. TOO_BIG: out->mtu is what fits. */
static __always_inline enum tg_reason encap_egress(
	struct xdp_md *ctx, const struct tg_backend *backend, __u32 total, struct egress *out)
{
	struct egress asked;

	egress_take(out, &backend->hop[backend->current & 1], backend->mtu);
	if (unlikely(!out->ifindex)) {
		switch (encap_ask(ctx, backend, total, &asked)) {
		case BPF_FIB_LKUP_RET_SUCCESS:
			*out = asked;
			break;
		case BPF_FIB_LKUP_RET_FRAG_NEEDED:
			out->mtu = asked.mtu;
			return TG_REASON_TOO_BIG;
		default:
			return TG_REASON_UNRESOLVED;
		}
	}
	if (!out->mtu)
		out->mtu = MAX_OUTER;
	return total > out->mtu ? TG_REASON_TOO_BIG : TG_REASON_NONE;
}

static __always_inline enum tg_reason encap_send(struct xdp_md *ctx, struct packet *pkt,
	const struct tg_backend *backend, __u64 flow, bool gue, const bool v6)
{
	bool over6 = backend->flags & TG_BACKEND_V6;
	__u32 head = outer_length(over6, gue);
	struct egress out;
	enum tg_reason reason = encap_egress(ctx, backend, pkt->l3_length + head, &out);

	if (unlikely(reason == TG_REASON_TOO_BIG))
		return too_big_answer(ctx, pkt, out.mtu - head, v6);
	if (reason == TG_REASON_NONE)
		reason = egress_choose(ctx, pkt, &out);
	if (reason != TG_REASON_NONE)
		return reason;
	return over6 ? encapsulate(ctx, pkt, &out, backend, flow, gue, v6, true)
		     : encapsulate(ctx, pkt, &out, backend, flow, gue, v6, false);
}

/* A VIP's packet goes to its backend in another packet. Pointers into it are void afterwards. */
static __always_inline enum tg_reason encap_forward(struct xdp_md *ctx, struct packet *pkt,
	const struct tg_backend *backend, __u64 flow, bool gue, const bool v6)
{
	__u32 reason = encap_send(ctx, pkt, backend, flow, gue, v6);

	barrier_var(reason); /* it is never NOT_VIP, whose packet is read on: for the verifier */
	return reason == TG_REASON_NOT_VIP ? TG_REASON_NO_RING : reason;
}

#endif
