/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The answer to a packet that is larger than the way to its backend: ICMP "fragmentation needed"
 * (RFC 792, RFC 1191) or ICMPv6 "packet too big" (RFC 4443), made of the packet itself and sent back by
 * the port it came in by. Its source is the VIP. It quotes as much of the packet as fits in 576 bytes
 * of IPv4 (RFC 1812, 4.3.2.3), 1280 of IPv6 (RFC 4443, 2.4), in whole words. Packets without DF are
 * answered too: nothing is fragmented here, and whoever looks for the path's MTU learns it.
 *
 * TG_ANSWERS_PER_SECOND a CPU, TG_ANSWERS_BURST at once; what is beyond that is dropped and counted
 * as TOO_BIG_DROPPED. So is what must not be answered: an ICMP error, a fragment but the first, a
 * source that is no host's (RFC 1122, 3.2.2; RFC 4443, 2.4), and IPv6 packets of up to 1280 bytes, which
 * have to pass any link: their sender could not send less.
 *
 * Generic XDP may see a super-packet: segments that a sender on this host, or a NIC, left merged. It
 * is larger than the port's own MTU, no packet on the wire was, and so an answer would be wrong:
 * dropped, as SUPER_PACKET. (ethtool -K DEV gro off lro off, and tso, gso off on a local sender)
 */
#ifndef TIDEGATE_TOO_BIG_H
#define TIDEGATE_TOO_BIG_H

#include <linux/icmpv6.h>

#include "answer.h"
#include "csum.h"
#include "maps.h"
#include "packet.h"
#include "trace.h"

/* Larger than the port that it came in by allows? Then no such packet was on the wire. */
static __always_inline bool is_super_packet(struct xdp_md *ctx, __u32 l3_length)
{
	__u32 length = l3_length;

	return bpf_check_mtu(ctx, 0, &length, 0, 0) == BPF_MTU_CHK_RET_FRAG_NEEDED;
}

/*
 * Cuts the packet to what is quoted, with room before it for the answer's headers: the bytes that it
 * quotes, or 0 if that can't be done.
 */
static __always_inline __u32 quote(
	struct xdp_md *ctx, __u32 l2_length, __u32 l3_length, const bool v6)
{
	const __u32 head = (v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr)) + ICMP_HEADER;
	__u32 bytes = (v6 ? IPV6_ERROR_MAX : IPV4_ERROR_MAX) - head;
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u64 linear = end - data;

	barrier_var(linear); /* pointers are subtracted from pointers alone */
	linear -= l2_length;
	bytes = bytes < l3_length ? bytes : l3_length;
	bytes = (bytes < linear ? bytes : linear) & ~3;
	if (bpf_xdp_adjust_tail(ctx, (int)(l2_length + bytes) - (int)bpf_xdp_get_buff_len(ctx)))
		return 0;
	return bpf_xdp_adjust_head(ctx, -(int)head) ? 0 : bytes;
}

static __always_inline enum tg_reason write_answer4(
	struct xdp_md *ctx, const struct way_back *back, __u32 l2_length, __u32 bytes, __u32 mtu)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct iphdr *ip = data + l2_length, *quoted;
	struct icmp_frag_needed *icmp = (void *)(ip + 1);

	quoted = (void *)(icmp + 1);
	if (!way_back_write(back, data, end, l2_length, bpf_htons(ETH_P_IP)) ||
		(void *)(quoted + 1) > end)
		return TG_REASON_TOO_BIG_DROPPED;
	*ip = (struct iphdr){ .version = 4,
		.ihl = sizeof(*ip) / 4,
		.tos = TOS_CONTROL,
		.tot_len = bpf_htons(sizeof(*ip) + ICMP_HEADER + bytes),
		.frag_off = bpf_htons(0x4000),
		.ttl = ANSWER_TTL,
		.protocol = IPPROTO_ICMP,
		.saddr = quoted->daddr,
		.daddr = quoted->saddr };
	ip->check = ~csum_fold(csum_rest((void *)ip, icmp, sizeof(*ip)));
	*(__u64 *)icmp = 0;
	icmp->type = ICMP_DEST_UNREACH;
	icmp->code = ICMP_FRAG_NEEDED;
	icmp->mtu = bpf_htons(mtu);
	icmp->checksum = ~csum_fold(csum_rest((void *)icmp, end, IPV4_ERROR_MAX));
	return TG_REASON_TOO_BIG_ANSWERED;
}

static __always_inline enum tg_reason write_answer6(
	struct xdp_md *ctx, const struct way_back *back, __u32 l2_length, __u32 bytes, __u32 mtu)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ipv6hdr *ip = data + l2_length, *quoted;
	struct icmp6hdr *icmp = (void *)(ip + 1);
	__be16 length = bpf_htons(ICMP_HEADER + bytes);
	__u64 sum;

	quoted = (void *)(icmp + 1);
	if (!way_back_write(back, data, end, l2_length, bpf_htons(ETH_P_IPV6)) ||
		(void *)(quoted + 1) > end)
		return TG_REASON_TOO_BIG_DROPPED;
	*(__be32 *)ip = bpf_htonl(6u << 28 | TOS_CONTROL << 20);
	ip->payload_len = length;
	ip->nexthdr = IPPROTO_ICMPV6;
	ip->hop_limit = ANSWER_TTL;
	__builtin_memcpy(&ip->saddr, &quoted->daddr, sizeof(ip->saddr));
	__builtin_memcpy(&ip->daddr, &quoted->saddr, sizeof(ip->daddr));
	*(__u64 *)icmp = 0;
	icmp->icmp6_type = ICMPV6_PKT_TOOBIG;
	icmp->icmp6_mtu = bpf_htonl(mtu);
	sum = csum_rest((void *)&ip->saddr, icmp, sizeof(ip->saddr) + sizeof(ip->daddr)) + length +
	      bpf_htons(IPPROTO_ICMPV6);
	icmp->icmp6_cksum = ~csum_fold(sum + csum_rest((void *)icmp, end, IPV6_ERROR_MAX));
	return TG_REASON_TOO_BIG_ANSWERED;
}

/* `mtu`: the largest packet that the client may send. */
static __always_inline enum tg_reason too_big(
	struct xdp_md *ctx, __u32 l2_length, __u32 l3_length, __u32 mtu, const bool v6)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	const __u32 least = v6 ? IPV6_MIN_MTU : IPV4_MIN_MTU;
	void *ip = data + l2_length;
	struct way_back back;
	__u32 bytes;

	if (data + sizeof(struct ethhdr) + 8 > end ||
		ip + (v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr)) > end)
		return TG_REASON_TRUNCATED;
	if (is_super_packet(ctx, l3_length))
		return TG_REASON_SUPER_PACKET;
	if (l3_length <= least || !(v6 ? may_answer6(ip) : may_answer4(ip)) || !answer_allowed())
		return TG_REASON_TOO_BIG_DROPPED;
	way_back_read(&back, data);
	bytes = quote(ctx, l2_length, l3_length, v6);
	if (!bytes)
		return TG_REASON_TOO_BIG_DROPPED;
	mtu = mtu > least ? mtu : least;
	return v6 ? write_answer6(ctx, &back, l2_length, bytes, mtu)
		  : write_answer4(ctx, &back, l2_length, bytes, mtu);
}

/* Global functions: verified apart, called once in a while. */
__noinline int too_big4(struct xdp_md *ctx, __u32 l2_length, __u32 l3_length, __u32 mtu)
{
	if (!(features & TG_FEATURE_TUNNEL))
		return TG_REASON_TOO_BIG_DROPPED;
	return too_big(ctx, l2_length & 0x1f, l3_length, mtu, false);
}

__noinline int too_big6(struct xdp_md *ctx, __u32 l2_length, __u32 l3_length, __u32 mtu)
{
	if (!(features & TG_FEATURE_TUNNEL))
		return TG_REASON_TOO_BIG_DROPPED;
	return too_big(ctx, l2_length & 0x1f, l3_length, mtu, true);
}

/*
 * Answers the packet. By a redirect to the port that it came in by, not by XDP_TX: a veth's peer is not
 * woken up for what XDP_TX sends unless it has a program itself (Linux 6.18), and nothing else may
 * come that wakes it. (tests/net/tunnel.sh)
 */
static __always_inline enum tg_reason too_big_answer(
	struct xdp_md *ctx, const struct packet *pkt, __u32 mtu, const bool v6)
{
	__u32 reason;

	if (pkt->kind == ICMP_ERROR || pkt->kind == LATER_FRAGMENT)
		return TG_REASON_TOO_BIG_DROPPED;
	reason = v6 ? too_big6(ctx, pkt->l2_length, pkt->l3_length, mtu)
		    : too_big4(ctx, pkt->l2_length, pkt->l3_length, mtu);
	if (reason == TG_REASON_TOO_BIG_ANSWERED)
		bpf_redirect(ctx->ingress_ifindex, 0);
	return reason;
}

#endif
