/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What an ICMP error quotes, as TC's flow tracking needs it (track.h, conntrack.h): the packet that it is
 * about, of which 8 bytes behind the IP header suffice.
 */
#ifndef TIDEGATE_QUOTE_H
#define TIDEGATE_QUOTE_H

#include "icmp.h"
#include "payload.h"
#include "policy.h"
#include "skb.h"

struct quote {
	struct policy_key key; /* ports of TCP and UDP */
	__u16 word[4];	       /* the 8 bytes, in host order */
};

static __always_inline bool is_icmp_error(const struct passage *p, const bool v6)
{
	return p->key.kind >> 8 == (v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP) &&
	       is_error((__u8)p->key.kind, v6) && p->key.part == POLICY_WHOLE;
}

/* False: it does not say which packet, or is not to that one's sender. */
static __always_inline bool read_quote(
	struct __sk_buff *skb, const struct passage *p, struct quote *quote, const bool v6)
{
	__u32 from = (p->l4_offset + sizeof(struct icmp_error)) & 0x1fff;
	struct packet quoted = { .l3 = (void *)(long)skb->data + from };
	struct policy_key *key = &quote->key;
	struct payload payload;
	__be16 *l4;

	if (payload_of(skb, quoted.l3, from, &payload, v6) || payload.place)
		return false;
	policy_address_of(address_of(&quoted, SOURCE, v6), &key->src_hi, &key->src_lo, v6);
	policy_address_of(address_of(&quoted, DEST, v6), &key->dst_hi, &key->dst_lo, v6);
	if (key->src_hi != p->key.dst_hi || key->src_lo != p->key.dst_lo)
		return false; /* an error tells the sender, nobody else */
	key->kind = TG_POLICY_KIND_OF(payload.proto, 0);
	l4 = quoted.l3 + (payload.offset & 0x1fff);
	if ((void *)(l4 + 4) > packet_end(skb))
		return false;
	for (int i = 0; i < 4; i++)
		quote->word[i] = bpf_ntohs(l4[i]);
	key->sport = quote->word[0];
	key->dport = quote->word[1];
	return true;
}

#endif
