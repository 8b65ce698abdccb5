/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * action = "reject": the packet is dropped and its sender told, in the packet's own place: TCP by a reset
 * (RFC 9293, 3.10.7.1), UDP by ICMP's "port unreachable", all else by "communication administratively
 * prohibited" (RFC 1812, 5.2.7.1; RFC 4443, 3.1). The answer comes from the packet's destination. It
 * goes back by the port that the packet came in by; of a packet that was to leave, back into the stack.
 *
 * No answer gets what must not have one (RFC 1122, 3.2.2; RFC 4443, 2.4): a reset, an ICMP error, a
 * fragment but the first, what was sent to many, a source that is no host's; nor what is beyond
 * TG_ANSWERS_PER_SECOND. These are dropped as by a drop rule.
 *
 * A sender on this machine, or behind a veth, leaves the checksum of TCP and UDP to the device
 * (CHECKSUM_PARTIAL): the field holds the sum of the pseudo header, and who sends the answer fills in what
 * follows that place. Nothing tells a program so but the field itself.
 */
#ifndef TIDEGATE_REJECT_H
#define TIDEGATE_REJECT_H

#include <linux/icmpv6.h>
#include <linux/if_packet.h>

#include "answer.h"
#include "csum.h"
#include "icmp.h"
#include "skb.h"

#define ICMP_PORT_UNREACHABLE 3
#define ICMP_PROHIBITED	      13
#define ICMP6_UNREACHABLE     1
#define ICMP6_PORT	      4
#define ICMP6_PROHIBITED      1
#define RESET_BYTES	      sizeof(struct tcphdr)

/* What a packet is, before it is cut to pieces. */
struct offender {
	__u32 l2_length, ip_length; /* of the IP header with all that follows it before the transport's */
	__u32 length;		    /* of the transport header and what follows */
	__u16 pseudo;		    /* sum of its pseudo header */
	__u8 proto;
	bool partial; /* the device is to fill in the checksum */
};

/* The sum of the pseudo header of so many bytes; addresses count alike either way round. */
static __always_inline __u16 pseudo_sum(void *ip, __u32 length, __u8 proto, const bool v6)
{
	struct ipv6hdr *ip6 = ip;
	struct iphdr *ip4 = ip;
	__u64 sum = (__u64)bpf_htonl(length) + bpf_htons(proto);
	const __u32 *words = v6 ? ip6->saddr.s6_addr32 : &ip4->saddr;

#pragma unroll
	for (int i = 0; i < (v6 ? 8 : 2); i++)
		sum += words[i];
	return csum_fold(sum);
}

static __always_inline void *ip_of(
	const struct __sk_buff *skb, __u32 l2_length, __u32 bytes)
{
	void *ip = l3_at(skb, l2_length & 0x1f);

	return ip + bytes > packet_end(skb) ? NULL : ip;
}

static __always_inline bool is_answerable(const struct __sk_buff *skb, const struct passage *p,
	const void *ip, const bool v6)
{
	__u8 proto = p->key.kind >> 8, detail = p->key.kind;

	if (!p->l4_offset || skb->pkt_type == PACKET_BROADCAST || skb->pkt_type == PACKET_MULTICAST)
		return false;
	if (proto == (v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP) && is_error(detail, v6))
		return false;
	if (proto == IPPROTO_TCP && detail & TCP_RST)
		return false;
	return v6 ? may_answer6(ip) && p->key.dst_hi >> 56 != 0xff
		  : may_answer4(ip) && p->key.dst_hi >> 60 < 14;
}

static __always_inline bool read_offender(const struct __sk_buff *skb, const struct passage *p,
	const void *ip, struct offender *o, const bool v6)
{
	__sum16 *check;

	o->l2_length = p->l2_length & 0x1f;
	o->ip_length = (p->l4_offset - p->l2_length) & 0xff;
	o->length = p->l3_length - o->ip_length;
	o->proto = p->key.kind >> 8;
	o->partial = false;
	if (o->proto != IPPROTO_TCP && o->proto != IPPROTO_UDP)
		return true;
	check = (void *)ip + o->ip_length + (o->proto == IPPROTO_TCP ? 16 : 6);
	if ((void *)(check + 1) > packet_end(skb))
		return false;
	o->pseudo = pseudo_sum((void *)ip, o->length, o->proto, v6);
	o->partial = *check == o->pseudo;
	return true;
}

/* The frame goes back to who sent it. Before the IP header is written: it writes up to 6 bytes of that. */
static __always_inline bool turn_back(struct __sk_buff *skb, const struct offender *o,
	const struct way_back *back, const bool v6)
{
	return way_back_write(back, (void *)(long)skb->data, packet_end(skb), o->l2_length,
		v6 ? bpf_htons(ETH_P_IPV6) : bpf_htons(ETH_P_IP));
}

/* ---- TCP ---- */

static __always_inline void write_reset(
	struct tcphdr *tcp, const struct tcphdr *was, __u32 length)
{
	__u32 bytes = length - was->doff * 4 + was->syn + was->fin;

	*tcp = (struct tcphdr){ .source = was->dest, .dest = was->source, .doff = RESET_BYTES / 4,
		.rst = 1 };
	if (was->ack) {
		tcp->seq = was->ack_seq;
	} else {
		tcp->ack = 1;
		tcp->ack_seq = bpf_htonl(bpf_ntohl(was->seq) + bytes);
	}
}

static __always_inline void write_ip4(struct iphdr *ip, __be32 from, __be32 to, __u32 length, __u8 proto)
{
	*ip = (struct iphdr){ .version = 4, .ihl = sizeof(*ip) / 4,
		.tot_len = bpf_htons(sizeof(*ip) + length), .frag_off = bpf_htons(0x4000),
		.ttl = ANSWER_TTL, .protocol = proto, .saddr = from, .daddr = to };
	ip->check = ~csum_fold(csum_rest((void *)ip, ip + 1, sizeof(*ip)));
}

static __always_inline void write_ip6(struct ipv6hdr *ip, const struct in6_addr *from,
	const struct in6_addr *to, __u32 length, __u8 proto)
{
	struct in6_addr source = *from, dest = *to; /* they may lie where we write */

	*(__be32 *)ip = bpf_htonl(6u << 28);
	ip->payload_len = bpf_htons(length);
	ip->nexthdr = proto;
	ip->hop_limit = ANSWER_TTL;
	ip->saddr = source;
	ip->daddr = dest;
}

/* With options or extension headers before it, a checksum that the device fills in would be elsewhere. */
static __always_inline bool answer_reset(struct __sk_buff *skb, const struct offender *o,
	const struct way_back *back, const bool v6)
{
	const __u32 header = v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr);
	void *ip = ip_of(skb, o->l2_length, header);
	struct tcphdr *tcp, was;
	__u16 pseudo;

	if (!ip || (o->partial && o->ip_length != header))
		return false;
	tcp = ip + o->ip_length;
	if ((void *)(tcp + 1) > packet_end(skb))
		return false;
	was = *tcp;
	if (bpf_skb_change_tail(skb, o->l2_length + header + RESET_BYTES, 0))
		return false;
	if (!turn_back(skb, o, back, v6))
		return false;
	ip = ip_of(skb, o->l2_length, header + RESET_BYTES);
	if (!ip)
		return false;
	if (v6)
		write_ip6(ip, &((struct ipv6hdr *)ip)->daddr, &((struct ipv6hdr *)ip)->saddr,
			RESET_BYTES, IPPROTO_TCP);
	else
		write_ip4(ip, ((struct iphdr *)ip)->daddr, ((struct iphdr *)ip)->saddr, RESET_BYTES,
			IPPROTO_TCP);
	tcp = ip + header;
	write_reset(tcp, &was, o->length);
	pseudo = pseudo_sum(ip, RESET_BYTES, IPPROTO_TCP, v6);
	tcp->check = o->partial ? pseudo
				: ~csum_fold(csum_rest((void *)tcp, tcp + 1, RESET_BYTES) + pseudo);
	return true;
}

/* ---- ICMP ---- */

/* The sum of what is quoted; of what the device will fill in, as it will be: minus the pseudo header. */
static __always_inline __u64 quote_sum(
	const __u32 *quoted, const void *end, const struct offender *o, const int most)
{
	__u64 sum = (__u16)~o->pseudo;

	if (!o->partial)
		return csum_rest(quoted, end, most);
	for (__u32 i = 0; i < 64 && i < o->ip_length / 4; i++) {
		if ((void *)(quoted + i + 1) > end)
			break;
		sum += quoted[i];
	}
	return sum;
}

static __always_inline void write_icmp4(void *ip, const void *end, const struct offender *o, __u32 bytes)
{
	struct icmp_frag_needed *icmp = ip + sizeof(struct iphdr);
	struct iphdr *quoted = (void *)(icmp + 1);

	write_ip4(ip, quoted->daddr, quoted->saddr, ICMP_HEADER + bytes, IPPROTO_ICMP);
	*icmp = (struct icmp_frag_needed){ .type = ICMP_DEST_UNREACH,
		.code = o->proto == IPPROTO_UDP ? ICMP_PORT_UNREACHABLE : ICMP_PROHIBITED };
	icmp->checksum = ~csum_fold(csum_rest((void *)icmp, quoted, ICMP_HEADER) +
				    quote_sum((void *)quoted, end, o, IPV4_ERROR_MAX));
}

static __always_inline void write_icmp6(void *ip, const void *end, const struct offender *o, __u32 bytes)
{
	struct icmp6hdr *icmp = ip + sizeof(struct ipv6hdr);
	struct ipv6hdr *quoted = (void *)(icmp + 1);

	write_ip6(ip, &quoted->daddr, &quoted->saddr, ICMP_HEADER + bytes, IPPROTO_ICMPV6);
	*(__u64 *)icmp = 0;
	icmp->icmp6_type = ICMP6_UNREACHABLE;
	icmp->icmp6_code = o->proto == IPPROTO_UDP ? ICMP6_PORT : ICMP6_PROHIBITED;
	icmp->icmp6_cksum = ~csum_fold(csum_rest((void *)icmp, quoted, ICMP_HEADER) +
				       pseudo_sum(ip, ICMP_HEADER + bytes, IPPROTO_ICMPV6, true) +
				       quote_sum((void *)quoted, end, o, IPV6_ERROR_MAX));
}

/* Cuts the packet to what is quoted, with room for the answer's headers before it: bytes quoted, or 0. */
static __always_inline __u32 cut_to_quote(
	struct __sk_buff *skb, const struct offender *o, const __u32 head, const __u32 most)
{
	__u32 bytes = o->ip_length + o->length;

	bytes = (bytes < most - head ? bytes : most - head) & ~3;
	if (bytes < o->ip_length + QUOTED_BYTES || o->l2_length + bytes > skb->len)
		return 0;
	if (bpf_skb_change_tail(skb, o->l2_length + bytes, 0) || bpf_skb_change_head(skb, head, 0))
		return 0;
	return bpf_skb_pull_data(skb, skb->len) ? 0 : bytes;
}

static __always_inline bool answer_icmp(struct __sk_buff *skb, const struct offender *o,
	const struct way_back *back, const bool v6)
{
	const __u32 header = v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr);
	const __u32 head = header + ICMP_HEADER;
	__u32 bytes = cut_to_quote(skb, o, head, v6 ? IPV6_ERROR_MAX : IPV4_ERROR_MAX);
	void *ip;

	if (!bytes || !turn_back(skb, o, back, v6))
		return false;
	ip = ip_of(skb, o->l2_length, head + header);
	if (!ip)
		return false;
	if (v6)
		write_icmp6(ip, packet_end(skb), o, bytes);
	else
		write_icmp4(ip, packet_end(skb), o, bytes);
	return true;
}

/* ---- both ---- */

/* Turns the packet into the answer. False: there is none, and what is left of it is to be dropped. */
static __always_inline bool make_answer(struct __sk_buff *skb, const struct passage *p, const bool v6)
{
	void *ip = ip_of(skb, p->l2_length, v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr));
	struct way_back back;
	struct offender o;

	if (!ip || !is_answerable(skb, p, ip, v6) || !read_offender(skb, p, ip, &o, v6) ||
		!answer_allowed())
		return false;
	if ((void *)(long)skb->data + sizeof(struct ethhdr) + 8 > packet_end(skb))
		return false;
	way_back_read(&back, (void *)(long)skb->data);
	return o.proto == IPPROTO_TCP ? answer_reset(skb, &o, &back, v6)
				      : answer_icmp(skb, &o, &back, v6);
}

#define REJECT_ANSWER(name, v6)                                                                    \
	__noinline int name(struct __sk_buff *skb, const struct passage *p)                        \
	{                                                                                          \
		if (!(features & TG_FEATURE_POLICY) || !p)                                         \
			return false;                                                              \
		return make_answer(skb, p, v6);                                                    \
	}
REJECT_ANSWER(reject_answer4, false)
REJECT_ANSWER(reject_answer6, true)

/* The verdict of TC: a redirect of the answer, or STOP. */
static __always_inline int reject(struct __sk_buff *skb, const struct passage *p,
	const enum tg_direction direction, const bool v6)
{
	bool answers = tracing || (v6 ? reject_answer6(skb, p) : reject_answer4(skb, p));

	tell_reason(answers ? TG_REASON_POLICY_REJECT : TG_REASON_POLICY_DROP);
	if (tracing || !answers)
		return STOP;
	skb->tc_index = direction == TG_INGRESS ? TG_MARK_FORWARDED : TG_MARK_ANSWER;
	return bpf_redirect(skb->ifindex, direction == TG_INGRESS ? 0 : BPF_F_INGRESS);
}

#endif
