/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A packet as TC meets it: parsed into what a policy asks of it. The headers are pulled into linear memory
 * first, where they are not. VLAN tags that the kernel has taken out (skb->vlan_tci) are not in the data;
 * those that are, parse.h skips.
 */
#ifndef TIDEGATE_SKB_H
#define TIDEGATE_SKB_H

#include "packet.h"
#include "parse.h"
#include "payload.h"
#include "policy.h"

#define HEADER_BYTES 192 /* pulled: Ethernet, two tags, extension headers, TCP with all of its options */

/* A packet under way through TC, in memory. */
struct passage {
	struct policy_key key;
	__u32 l2_length, l3_length;
	__u32 l4_offset;   /* of the transport header, from the frame's beginning; 0: there is none */
	__be32 fragment_id;
	__u32 taps;	   /* of the port that may want it (tap.h) */
	bool discovers;	   /* neighbour discovery (RFC 4861) */
	bool known;	   /* it could be told what it is: the key says all of it */
};

static __always_inline void pull_headers(struct __sk_buff *skb)
{
	__u32 linear = skb->data_end - skb->data;

	if (linear < HEADER_BYTES && linear < skb->len)
		bpf_skb_pull_data(skb, skb->len < HEADER_BYTES ? skb->len : HEADER_BYTES);
}

/* Super-packets above 64 KiB say a length of 0 ("BIG TCP"). */
static __always_inline __u32 length_said(const struct __sk_buff *skb, const struct packet *pkt, const bool v6)
{
	__u32 said = v6 ? bpf_ntohs(pkt->ip6->payload_len) : bpf_ntohs(pkt->ip4->tot_len);

	if (!said && skb->gso_size)
		return skb->len - pkt->l2_length;
	return v6 ? said + sizeof(struct ipv6hdr) : said;
}

static __always_inline bool is_discovery(const struct packet *pkt, __u8 type)
{
	return type >= 133 && type <= 137 && pkt->ip6->hop_limit == 255;
}

/* ICMP's type; or TCP's and UDP's ports, and flags. */
static __always_inline enum tg_reason read_transport(struct __sk_buff *skb, struct packet *pkt,
	__u32 offset, struct passage *p, const bool v6)
{
	enum tg_reason reason = parse_transport(skb, pkt, offset);
	__u8 *type = pkt->l3 + offset;

	p->l4_offset = pkt->l2_length + offset;
	if (reason == TG_REASON_OTHER_PROTOCOL)
		return TG_REASON_NONE;
	if (reason == TG_REASON_ICMP) {
		if (pkt->l3_length <= offset)
			return TG_REASON_BAD_HEADER;
		if ((void *)(type + 1) > packet_end(skb))
			return TG_REASON_TRUNCATED;
		p->key.kind = TG_POLICY_KIND_OF(pkt->proto, *type);
		p->discovers = v6 && pkt->proto == IPPROTO_ICMPV6 && is_discovery(pkt, *type);
	} else if (reason == TG_REASON_NONE) {
		policy_key_of(pkt, &p->key, v6);
	}
	return reason == TG_REASON_ICMP ? TG_REASON_NONE : reason;
}

/* Of an IP packet; NONE: `p` says all of it. Else it can't be told what it is. */
static __always_inline enum tg_reason read_ip(
	struct __sk_buff *skb, struct packet *pkt, struct passage *p, const bool v6)
{
	struct payload payload;
	enum tg_reason reason = payload_of(skb, pkt->l3, pkt->l2_length, &payload, v6);

	if (reason != TG_REASON_NONE)
		return reason;
	pkt->proto = payload.proto;
	pkt->tcp_flags = 0;
	pkt->kind = !payload.fragment ? WHOLE : payload.place ? LATER_FRAGMENT : FIRST_FRAGMENT;
	pkt->l3_length = p->l3_length = length_said(skb, pkt, v6);
	policy_address_of(address_of(pkt, SOURCE, v6), &p->key.src_hi, &p->key.src_lo, v6);
	policy_address_of(address_of(pkt, DEST, v6), &p->key.dst_hi, &p->key.dst_lo, v6);
	p->key.kind = TG_POLICY_KIND_OF(pkt->proto, 0);
	p->key.part = pkt->kind == WHOLE	     ? POLICY_WHOLE
		      : pkt->kind == FIRST_FRAGMENT ? POLICY_FIRST_FRAGMENT
						     : POLICY_LATER_FRAGMENT;
	p->fragment_id = payload.id;
	if (pkt->l3_length < payload.offset)
		return TG_REASON_BAD_HEADER;
	if (pkt->kind == LATER_FRAGMENT)
		return TG_REASON_NONE;
	return read_transport(skb, pkt, payload.offset, p, v6);
}

#endif
