/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * An IP header alone, with options or extension headers: what follows it, and is that a fragment? For
 * rare packets, and those that ICMP errors quote (see rare.h, icmp.h); parse.h has the usual ones.
 */
#ifndef TIDEGATE_PAYLOAD_H
#define TIDEGATE_PAYLOAD_H

#include "packet.h"
#include "parse.h"

static __always_inline bool is_extension(__u8 proto)
{
	return proto == IPPROTO_HOPOPTS || proto == IPPROTO_DSTOPTS || proto == IPPROTO_ROUTING ||
	       proto == IPPROTO_FRAGMENT || proto == IPPROTO_AH;
}

struct payload {
	__u32 offset; /* from the IP header on */
	__u32 place;  /* of a fragment in its packet: 0 is the first, in units of 8 bytes */
	__be32 id;    /* of that packet */
	__u8 proto;
	bool fragment;
	bool cut; /* of a fragment: it ends before the transport header */
};

static __always_inline enum tg_reason payload_of4(
	packet_ctx *ctx, const struct iphdr *ip, struct payload *out)
{
	__u16 field;

	if ((void *)(ip + 1) > packet_end(ctx))
		return TG_REASON_TRUNCATED;
	if (ip->version != 4 || ip->ihl * 4 < sizeof(*ip))
		return TG_REASON_BAD_HEADER;
	field = bpf_ntohs(ip->frag_off);
	*out = (struct payload){
		.offset = ip->ihl * 4,
		.place = field & IP_FRAGMENT_OFFSET,
		.id = ip->id,
		.proto = ip->protocol,
		.fragment = field & (IP_MORE_FRAGMENTS | IP_FRAGMENT_OFFSET),
	};
	return TG_REASON_NONE;
}

static __always_inline enum tg_reason payload_of6(
	packet_ctx *ctx, const struct ipv6hdr *ip, __u32 base, struct payload *out)
{
	struct extension *ext;
	__u64 walked;

	if ((void *)(ip + 1) > packet_end(ctx))
		return TG_REASON_TRUNCATED;
	if (ip->version != 6)
		return TG_REASON_BAD_HEADER;
	walked = walk_extensions(ctx, base, ip->nexthdr);
	*out = (struct payload){
		.offset = WALKED_OFFSET(walked),
		.proto = WALKED_PROTO(walked),
		.fragment = WALKED_FRAGMENT(walked),
		.cut = WALKED_REASON(walked) == TG_REASON_TRUNCATED,
	};
	if (WALKED_REASON(walked) && !(out->cut && out->fragment))
		return WALKED_REASON(walked);
	if (!out->fragment)
		return TG_REASON_NONE;
	ext = (void *)ip + WALKED_FRAGMENT(walked);
	if ((void *)(ext + 1) > packet_end(ctx))
		return TG_REASON_TRUNCATED;
	out->place = bpf_ntohs(ext->fragment) >> 3;
	out->id = ext->rest;
	return TG_REASON_NONE;
}

/* Of the IP header at `l3`, which lies `base` bytes into the frame. */
static __always_inline enum tg_reason payload_of(
	packet_ctx *ctx, void *l3, __u32 base, struct payload *out, const bool v6)
{
	return v6 ? payload_of6(ctx, l3, base, out) : payload_of4(ctx, l3, out);
}

#endif
