/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Sources that no packet on a wire can have: "martians". The kernel drops them, but what XDP forwards
 * never meets those checks. Asked of each family that has VIPs or lists. One comparison each tells almost
 * all packets that they are sound; what looks odd is judged in a function of its own.
 */
#ifndef TIDEGATE_BOGUS_H
#define TIDEGATE_BOGUS_H

#include "deny_hash.h"
#include "maps.h"
#include "packet.h"
#include "parse.h"
#include "trace.h"

#define DHCP_SERVER_PORT 67

/* 0.0.0.0 is a source for who asks for an address, and of IGMP from a snooping switch (RFC 4541). */
static __always_inline bool may_be_nobody(const struct xdp_md *ctx, const struct iphdr *ip)
{
	struct udphdr *udp = (void *)ip + ip->ihl * 4;

	if (ip->protocol == IPPROTO_IGMP)
		return true;
	return ip->protocol == IPPROTO_UDP && (void *)(udp + 1) <= packet_end(ctx) &&
	       udp->dest == bpf_htons(DHCP_SERVER_PORT);
}

__noinline int bogus4(struct xdp_md *ctx, __u32 l2_length)
{
	struct iphdr *ip = l3_at(ctx, l2_length);
	__u8 first;

	if ((void *)(ip + 1) > packet_end(ctx))
		return TG_REASON_NONE;
	first = ip->saddr & 0xff;
	if (!ip->saddr && may_be_nobody(ctx, ip))
		return TG_REASON_NONE;
	if (first == 0)
		return TG_REASON_BOGUS_ZERO;
	if (first == 127)
		return TG_REASON_BOGUS_LOOPBACK;
	if (first >> 4 == 14)
		return TG_REASON_BOGUS_MULTICAST;
	if (ip->saddr == ~0u)
		return TG_REASON_BOGUS_BROADCAST;
	return ip->saddr == ip->daddr ? TG_REASON_BOGUS_LAND : TG_REASON_NONE;
}

/*
 * The unspecified address is a source of ICMPv6 alone: duplicate address detection, and MLD, which comes
 * behind a hop-by-hop header.
 */
__noinline int bogus6(struct xdp_md *ctx, __u32 l2_length)
{
	struct ipv6hdr *ip = l3_at(ctx, l2_length);
	const __be32 *from = ip->saddr.s6_addr32;
	__u64 walked;

	if ((void *)(ip + 1) > packet_end(ctx))
		return TG_REASON_NONE;
	if ((from[0] & 0xff) == 0xff)
		return TG_REASON_BOGUS_MULTICAST;
	if (same_address(from, ip->daddr.s6_addr32, true))
		return TG_REASON_BOGUS_LAND;
	if (from[0] | from[1] | from[2])
		return TG_REASON_NONE;
	if (from[3] == bpf_htonl(1))
		return TG_REASON_BOGUS_LOOPBACK;
	if (from[3])
		return TG_REASON_NONE;
	walked = walk_extensions(ctx, l2_length, ip->nexthdr);
	return WALKED_PROTO(walked) == IPPROTO_ICMPV6 ? TG_REASON_NONE : TG_REASON_BOGUS_ZERO;
}

/* 1 where x is 0; without a branch, as parse.h's is_tag. */
static __always_inline __u64 is_zero(__u32 number)
{
	__u64 x = number;

	barrier_var(x);
	return (x - 1) >> 63;
}

static __always_inline bool is_odd4(const struct iphdr *ip)
{
	__u32 first = ip->saddr & 0xff;

	/* 0, 127, 128 and 255; 224 … 239; LAND */
	return is_zero((first + 1) & 0x7e) | is_zero((first >> 4) ^ 14) |
	       is_zero(ip->saddr ^ ip->daddr);
}

static __always_inline bool is_odd6(const struct ipv6hdr *ip)
{
	const __be32 *from = ip->saddr.s6_addr32, *to = ip->daddr.s6_addr32;

	return is_zero(from[0]) | is_zero((from[0] & 0xff) ^ 0xff) |
	       is_zero((from[0] ^ to[0]) | (from[1] ^ to[1]) | (from[2] ^ to[2]) |
		       (from[3] ^ to[3]));
}

static __always_inline enum tg_reason bogus(
	struct xdp_md *ctx, const struct packet *pkt, const bool v6)
{
	if (likely(!(v6 ? is_odd6(pkt->ip6) : is_odd4(pkt->ip4))))
		return TG_REASON_NONE;
	return v6 ? bogus6(ctx, pkt->l2_length) : bogus4(ctx, pkt->l2_length);
}

/* Has the address VIPs? */
static __always_inline bool has_vips(const __be32 *addr, const bool v6)
{
	__be32 key[5] = { addr[0] };
	void *found;

	note(ADDRESS, v6, IP_WORDS(addr, v6));
	if (v6)
		__builtin_memcpy(key, addr, 16);
	found = v6 ? bpf_map_lookup_elem(&vips6, key) : bpf_map_lookup_elem(&vips4, key);
	if (found)
		note_hit();
	return found;
}

/* Is the source the address of a VIP? Asked of packets to a VIP: they'd go to and fro between the two. */
static __always_inline bool is_own_source(const struct packet *pkt, const bool v6)
{
	const __be32 *source = address_of(pkt, SOURCE, v6);
	__u32 mark = tg_address_hash(source, v6, TG_VIP_MARK_BITS), index = 0;
	struct tg_vip_marks *marks;

	if (!(features & (TG_FEATURE_V4 | TG_FEATURE_V6)))
		return false;
	marks = bpf_map_lookup_elem(&vip_marks, &index);
	return marks && unlikely(marks->word[mark / 64] >> (mark & 63) & 1) && has_vips(source, v6);
}

#endif
