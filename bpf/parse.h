/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Parsing: Ethernet, up to two VLAN tags, IPv4 with options or IPv6 with extension headers, the
 * fixed part of TCP or UDP. Fills `struct packet` or says why not; nothing is written and nothing
 * falls through. Lengths are checked against the whole buffer, fragments of a multi-buffer frame
 * included; only where its linear part is shorter than the packet is that asked for (7 ns).
 */
#ifndef TIDEGATE_PARSE_H
#define TIDEGATE_PARSE_H

#include "packet.h"

#define MAX_VLAN_TAGS	      2
#define MAX_EXTENSION_HEADERS 6
#define TCP_FLAGS_OFFSET      13
#define IP_MORE_FRAGMENTS     0x2000
#define IP_FRAGMENT_OFFSET    0x1fff
#define IP6_MORE_FRAGMENTS    0x0001
#define IP6_FRAGMENT_OFFSET   0xfff8

struct vlan_tag {
	__be16 tci;
	__be16 ether_type;
};

/* The first bytes of any IPv6 extension header; of a routing and a fragment header, too. */
struct extension {
	__u8 next;
	__u8 length;
	union {
		__be16 fragment;
		struct {
			__u8 routing_type;
			__u8 segments_left;
		};
	};
	__u32 rest;
};

static __always_inline void *packet_end(const packet_ctx *ctx)
{
	return (void *)(long)ctx->data_end;
}

/* The IP header again, in a function that is not inlined. */
static __always_inline void *l3_at(const packet_ctx *ctx, __u32 l2_length)
{
	return (void *)(long)ctx->data + (l2_length & 0x3fff);
}

static __always_inline bool has_ip_header(
	const packet_ctx *ctx, const struct packet *pkt, const bool v6)
{
	return pkt->l3 + (v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr)) <= packet_end(ctx);
}

/*
 * 1 if a tag of this type follows, else 0. Without a branch: the verifier walks what comes after
 * one once for each way to get there, so that 0, 1 and 2 tags would take it three times as long.
 */
static __always_inline __u64 is_tag(__u64 ether_type)
{
	__u64 c = ether_type ^ bpf_htons(ETH_P_8021Q), s = ether_type ^ bpf_htons(ETH_P_8021AD);

	barrier_var(c);
	barrier_var(s);
	return (c - 1) >> 63 | (s - 1) >> 63;
}

/* A frame too short for two tags: nothing of it can be balanced. */
static __always_inline enum tg_reason short_ethernet(packet_ctx *ctx, const struct ethhdr *eth)
{
	if ((void *)(eth + 1) > packet_end(ctx) || is_tag(eth->h_proto) ||
		eth->h_proto == bpf_htons(ETH_P_IP) || eth->h_proto == bpf_htons(ETH_P_IPV6))
		return TG_REASON_TRUNCATED;
	return TG_REASON_NOT_IP;
}

/* Finds the IP packet behind the VLAN tags, and its EtherType. */
static __always_inline enum tg_reason parse_ethernet(packet_ctx *ctx, struct packet *pkt)
{
	struct ethhdr *eth = (void *)(long)ctx->data;
	struct vlan_tag *tags = (void *)(eth + 1);
	__u64 type, first, second;

	if ((void *)(tags + MAX_VLAN_TAGS) > packet_end(ctx))
		return short_ethernet(ctx, eth);
	type = *(__be16 *)&eth->h_proto;
	first = is_tag(type);
	second = first & is_tag(tags[0].ether_type);
	type ^= (type ^ tags[0].ether_type) & -first;
	type ^= (type ^ tags[1].ether_type) & -second;
	pkt->eth = eth;
	pkt->ether_type = type;
	pkt->l2_length = sizeof(*eth) + (first + second) * sizeof(*tags);
	pkt->l3 = (void *)eth + pkt->l2_length;
	return TG_REASON_NONE;
}

/* Bytes of the frame, also those that data does not lead to. */
static __always_inline __u32 frame_length(packet_ctx *ctx)
{
#ifdef TG_TC
	return ctx->len;
#else
	return bpf_xdp_get_buff_len(ctx);
#endif
}

/* Does the buffer hold all the bytes that the IP header speaks of? */
static __always_inline bool is_whole(packet_ctx *ctx, const struct packet *pkt)
{
	if (likely(pkt->l3 + pkt->l3_length <= packet_end(ctx)))
		return true;
	return frame_length(ctx) >= pkt->l2_length + pkt->l3_length;
}

/* Either family's. */
static __always_inline bool is_icmp(__u8 proto)
{
	return proto == IPPROTO_ICMP || proto == IPPROTO_ICMPV6;
}

/* TCP's or UDP's header, which starts `offset` bytes into the IP packet. */
static __always_inline enum tg_reason parse_transport(
	packet_ctx *ctx, struct packet *pkt, __u32 offset)
{
	struct tcphdr *tcp = pkt->l3 + offset;
	struct udphdr *udp = pkt->l3 + offset;
	bool is_tcp = pkt->proto == IPPROTO_TCP;

	if (!is_tcp && pkt->proto != IPPROTO_UDP)
		return is_icmp(pkt->proto) ? TG_REASON_ICMP : TG_REASON_OTHER_PROTOCOL;
	if (pkt->l3_length < offset + (is_tcp ? sizeof(*tcp) : sizeof(*udp)))
		return TG_REASON_BAD_HEADER;
	if (!is_whole(ctx, pkt))
		return TG_REASON_TRUNCATED;
	if ((void *)(udp + 1) > packet_end(ctx))
		return TG_REASON_TRUNCATED;
	pkt->l4 = &udp->source;
	pkt->ports = *(__u32 *)udp;
	pkt->check = &udp->check;
	pkt->tcp_flags = 0;
	if (is_tcp) {
		if ((void *)(tcp + 1) > packet_end(ctx))
			return TG_REASON_TRUNCATED;
		pkt->check = &tcp->check;
		pkt->tcp_flags = ((__u8 *)tcp)[TCP_FLAGS_OFFSET];
	}
	return TG_REASON_NONE;
}

static __always_inline enum tg_reason parse_ipv4(packet_ctx *ctx, struct packet *pkt)
{
	struct iphdr *ip = pkt->ip4;
	__u32 header;

	header = ip->ihl * 4;
	pkt->l3_length = bpf_ntohs(ip->tot_len);
	if (ip->version != 4 || header < sizeof(*ip) || pkt->l3_length < header)
		return TG_REASON_BAD_HEADER;
	if (ip->frag_off & bpf_htons(IP_MORE_FRAGMENTS | IP_FRAGMENT_OFFSET))
		return TG_REASON_FRAGMENT;
	pkt->proto = ip->protocol;
	return parse_transport(ctx, pkt, header);
}

/*
 * What the walk over extension headers found, in one register: the protocol, where its header starts
 * and, of a fragment, where the fragment header does (0: there is none). All from the IP header on.
 */
#define WALKED(reason, fragment, proto, offset)                                                    \
	((__u64)(reason) << 48 | (__u64)(fragment) << 32 | (__u32)(proto) << 16 | (offset))
#define WALKED_REASON(walked)	((walked) >> 48)
#define WALKED_FRAGMENT(walked) ((walked) >> 32 & 0x3fff)
#define WALKED_PROTO(walked)	((walked) >> 16 & 0xff)
#define WALKED_OFFSET(walked)	((walked) & 0x3fff)

/*
 * Walks from the header `next`, which follows the fixed IPv6 header `base` bytes into the frame, to
 * the first one that is no extension. A routing header with segments left is not walked over: this is
 * not its destination. A fragment header with neither an offset nor more to come is, and not
 * mentioned (RFC 6946); what follows that of a later fragment is no header.
 */
__noinline __u64 walk_extensions(packet_ctx *ctx, __u32 base, __u32 next)
{
	void *end = packet_end(ctx);
	void *l3 = l3_at(ctx, base);
	__u32 offset = sizeof(struct ipv6hdr), fragment = 0;

	/* Once more than there may be: the last time must find none. */
	for (int i = 0; i <= MAX_EXTENSION_HEADERS; i++) {
		struct extension *ext = l3 + offset;

		switch (next) {
		case IPPROTO_HOPOPTS:
		case IPPROTO_DSTOPTS:
		case IPPROTO_ROUTING:
		case IPPROTO_FRAGMENT:
		case IPPROTO_AH:
			break;
		default:
			return WALKED(TG_REASON_NONE, fragment, next, offset);
		}
		if ((void *)(ext + 1) > end)
			return WALKED(TG_REASON_TRUNCATED, fragment, 0, 0);
		if (next == IPPROTO_ROUTING && ext->segments_left)
			return WALKED(TG_REASON_EXTENSION, 0, 0, 0);
		if (next == IPPROTO_FRAGMENT &&
			ext->fragment & bpf_htons(IP6_MORE_FRAGMENTS | IP6_FRAGMENT_OFFSET))
			fragment = offset;
		if (next == IPPROTO_FRAGMENT && ext->fragment & bpf_htons(IP6_FRAGMENT_OFFSET))
			return WALKED(TG_REASON_NONE, offset, ext->next, offset + sizeof(*ext));
		if (next == IPPROTO_FRAGMENT)
			offset += sizeof(*ext);
		else if (next == IPPROTO_AH)
			offset += (ext->length + 2) * 4;
		else
			offset += (ext->length + 1) * 8;
		next = ext->next;
	}
	return WALKED(TG_REASON_EXTENSION, 0, 0, 0);
}

static __always_inline enum tg_reason parse_ipv6(packet_ctx *ctx, struct packet *pkt)
{
	struct ipv6hdr *ip = pkt->ip6;
	__u64 walked;

	if (ip->version != 6)
		return TG_REASON_BAD_HEADER;
	pkt->l3_length = sizeof(*ip) + bpf_ntohs(ip->payload_len);
	pkt->proto = ip->nexthdr;
	if (likely(pkt->proto == IPPROTO_TCP || pkt->proto == IPPROTO_UDP))
		return parse_transport(ctx, pkt, sizeof(*ip));
	walked = walk_extensions(ctx, pkt->l2_length, pkt->proto);
	if (WALKED_FRAGMENT(walked))
		return TG_REASON_FRAGMENT;
	if (WALKED_REASON(walked))
		return WALKED_REASON(walked);
	pkt->proto = WALKED_PROTO(walked);
	return parse_transport(ctx, pkt, WALKED_OFFSET(walked));
}

/* After has_ip_header(). TG_REASON_FRAGMENT, TG_REASON_ICMP: it is for rare.h. */
static __always_inline enum tg_reason parse_ip(
	packet_ctx *ctx, struct packet *pkt, const bool v6)
{
	return v6 ? parse_ipv6(ctx, pkt) : parse_ipv4(ctx, pkt);
}

#endif
