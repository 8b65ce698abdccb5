/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Who sends most? While a top is at work (top_abi.h), what comes in and matches is counted by address: by TC what it
 * sees, by XDP what it forwards, before it is rewritten. The table is bounded; who sends much is seen often, and
 * stays in it.
 *
 * A source address proves nothing. So completed handshakes are counted beside it: the switch saw a SYN's answer go to
 * the client, and then the client acknowledged the answer's sequence number, which who only pretends to be the client
 * has not seen. Answer and acknowledgement come in by different interfaces, lest who sends both proves anything. A
 * handshake is counted if its SYN would match, or its last packet. Direct-return services' answers are not seen
 * here: that is counted too.
 */
#ifndef TIDEGATE_TOP_H
#define TIDEGATE_TOP_H

#include "maps.h"
#include "packet.h"
#include "parse.h"
#include "policy.h"
#include "trace.h"

#define TCP_IS(kind, mask, flags) (((kind) & (0xff00 | (mask))) == (IPPROTO_TCP << 8 | (flags)))
#define IS_ANSWER(kind)		  TCP_IS(kind, TCP_SYN | TCP_ACK | TCP_RST, TCP_SYN | TCP_ACK)
#define IS_ACK(kind)		  TCP_IS(kind, TCP_SYN | TCP_ACK | TCP_RST, TCP_ACK)

/* A packet as it is counted. */
struct top_packet {
	const struct tg_top *top;
	__u32 number; /* of TCP: an answer's sequence number, else what it acknowledges; host order */
	__u32 from;   /* the interface that it came in by */
	__u32 packets, bytes;
	bool unseen; /* its answers don't come by here */
};

static __always_inline const struct tg_top *top_at_work(void)
{
	const __u32 zero = 0;
	const struct tg_top *at;

	if (tracing || !(features & TG_FEATURE_TOP))
		return NULL;
	at = bpf_map_lookup_elem(&top, &zero);
	return at && at->until && bpf_ktime_get_coarse_ns() < at->until ? at : NULL;
}

static __always_inline void top_address(__be32 to[4], __u64 hi, __u64 lo, const bool v6)
{
	to[0] = v6 ? bpf_htonl(hi >> 32) : 0;
	to[1] = v6 ? bpf_htonl(hi) : 0;
	to[2] = v6 ? bpf_htonl(lo >> 32) : bpf_htonl(0xffff);
	to[3] = v6 ? bpf_htonl(lo) : bpf_htonl(hi >> 32);
}

static __always_inline void top_answered(
	const struct policy_key *key, const struct top_packet *p, const bool v6)
{
	struct tg_top_client client = { .run = p->top->run, .port = key->dport };
	struct tg_top_answer answer = { .acknowledges = p->number + 1, .from = p->from };

	top_address(client.addr, key->dst_hi, key->dst_lo, v6);
	bpf_map_update_elem(&top_answers, &client, &answer, BPF_ANY);
}

/* Does it end a handshake? Once. */
static __always_inline bool top_completes(
	const struct policy_key *key, const struct top_packet *p, const bool v6)
{
	struct tg_top_client client = { .run = p->top->run, .port = key->sport };
	const struct tg_top_answer *answer;

	if (!IS_ACK(key->kind))
		return false;
	top_address(client.addr, key->src_hi, key->src_lo, v6);
	answer = bpf_map_lookup_elem(&top_answers, &client);
	if (!answer || answer->acknowledges != p->number || answer->from == p->from)
		return false;
	return !bpf_map_delete_elem(&top_answers, &client);
}

#define TOP_MATCHES 1
#define TOP_BEGAN   2 /* its flow's SYN would have */

static __always_inline bool top_accepts(const struct policy_key *key, const bool v6)
{
	return JUDGED_ACTION(judge(key, TG_POLICY_OF_TOP, v6)) == TG_ACTION_ACCEPT;
}

static __always_inline __u32 top_match(struct policy_key *key, const bool v6)
{
	const __u16 kind = key->kind;
	bool began;

	if (top_accepts(key, v6))
		return TOP_MATCHES;
	if (!IS_ACK(kind))
		return 0;
	key->kind = TG_POLICY_KIND_OF(IPPROTO_TCP, TCP_SYN);
	began = top_accepts(key, v6);
	key->kind = kind;
	return began ? TOP_BEGAN : 0;
}

static __always_inline struct tg_top_count *top_count_of(
	const struct policy_key *key, const struct tg_top *at, const bool v6)
{
	static const struct tg_top_count none; /* not on the stack */
	struct tg_top_key host = { .run = at->run };
	struct tg_top_count *count;

	if (at->by)
		top_address(host.addr, key->dst_hi, key->dst_lo, v6);
	else
		top_address(host.addr, key->src_hi, key->src_lo, v6);
	count = bpf_map_lookup_elem(&top_counts, &host);
	if (count)
		return count;
	bpf_map_update_elem(&top_counts, &host, &none, BPF_NOEXIST);
	return bpf_map_lookup_elem(&top_counts, &host);
}

static __always_inline void top_count(
	const struct policy_key *key, const struct top_packet *p, __u32 matched, const bool v6)
{
	bool completes = matched && top_completes(key, p, v6);
	struct tg_top_count *count;

	if (!(matched & TOP_MATCHES) && !completes)
		return;
	count = top_count_of(key, p->top, v6);
	if (!count)
		return;
	count->completed += completes;
	if (!(matched & TOP_MATCHES))
		return;
	count->packets += p->packets;
	count->bytes += p->bytes;
	count->unseen += p->unseen;
}

#ifdef TG_TC

#include "skb.h"

#define TOP_INGRESS(index) (((index)&1) == TG_INGRESS)
#define TOP_SLOT(index)	   ((index) / TG_DIRECTIONS)

static __always_inline bool top_read(
	struct __sk_buff *skb, const struct passage *p, struct top_packet *out)
{
	__be32 numbers[2] = {}; /* sequence number, acknowledged */

	out->top = top_at_work();
	if (!out->top || !p->known)
		return false;
	out->packets = skb->gso_segs ? skb->gso_segs : 1;
	out->bytes = skb->len;
	if (p->key.kind >> 8 != IPPROTO_TCP || !p->l4_offset)
		return true;
	bpf_skb_load_bytes(skb, p->l4_offset + 4, numbers, sizeof(numbers));
	out->number = bpf_ntohl(IS_ANSWER(p->key.kind) ? numbers[0] : numbers[1]);
	return true;
}

/* What leaves: only whether it answers a SYN. Functions of their own: their stack is not that of what follows. */
#define TOP_SKB(name, v6)                                                                          \
	__noinline int name(struct __sk_buff *skb, const struct passage *p, __u32 index)           \
	{                                                                                          \
		struct top_packet packet = {};                                                     \
		struct policy_key key;                                                             \
                                                                                                   \
		if (!(features & TG_FEATURE_TOP) || !p || !top_read(skb, p, &packet))              \
			return 0;                                                                  \
		key = p->key;                                                                      \
		if (!TOP_INGRESS(index)) {                                                         \
			packet.from = skb->ingress_ifindex;                                        \
			if (IS_ANSWER(key.kind))                                                   \
				top_answered(&key, &packet, v6);                                   \
			return 0;                                                                  \
		}                                                                                  \
		packet.from = skb->ifindex;                                                        \
		if (packet.top->slot == TG_TOP_ANY_PORT || packet.top->slot == TOP_SLOT(index))    \
			top_count(&key, &packet, top_match(&key, v6), v6);                         \
		return 0;                                                                          \
	}
TOP_SKB(top_skb4, false)
TOP_SKB(top_skb6, true)

/* `index`: TG_POLICY_OF_PORT. */
static __always_inline void top_see(
	struct __sk_buff *skb, const struct passage *p, __u32 index, const bool v6)
{
	if (tracing || !(features & TG_FEATURE_TOP))
		return;
	if (v6)
		top_skb6(skb, p, index);
	else
		top_skb4(skb, p, index);
}

#else

#include "vip_policy.h"

#define KIND_UNSEEN	   (1u << 19) /* beside KIND_BELONGS */
#define KIND_MATCHED(kind) ((kind) >> 20)

static __always_inline bool top_is_of(const struct tg_top *at, __u32 ifindex)
{
	const struct tg_port *port;

	if (at->slot == TG_TOP_ANY_PORT)
		return true;
	port = port_of(ifindex);
	return port && port->slot == at->slot;
}

/* What becomes of it is split: the verifier adds up the stacks of what calls each other. */
#define TOP_XDP_MATCH(name, v6)                                                                    \
	__noinline __u32 name(struct xdp_md *ctx, __u32 place, __u32 ports, __u32 kind)            \
	{                                                                                          \
		struct policy_key key = {};                                                        \
                                                                                                   \
		if (!(features & TG_FEATURE_TOP) || !vip_key(ctx, &key, place, ports, kind, v6))   \
			return 0;                                                                  \
		return top_match(&key, v6);                                                        \
	}
TOP_XDP_MATCH(top_xdp_match4, false)
TOP_XDP_MATCH(top_xdp_match6, true)

#define TOP_XDP(name, v6)                                                                          \
	__noinline int name(                                                                       \
		struct xdp_md *ctx, __u32 place, __u32 ports, __u32 kind, __u32 number)            \
	{                                                                                          \
		struct top_packet packet = { .number = number, .packets = 1 };                     \
		struct policy_key key = {};                                                        \
                                                                                                   \
		if (!(features & TG_FEATURE_TOP))                                                  \
			return 0;                                                                  \
		packet.top = top_at_work();                                                        \
		if (!packet.top || !vip_key(ctx, &key, place, ports, kind, v6))                    \
			return 0;                                                                  \
		packet.from = ctx->ingress_ifindex;                                                \
		packet.bytes = PLACE_BYTES(place);                                                 \
		packet.unseen = kind & KIND_UNSEEN;                                                \
		if (IS_ANSWER(key.kind))                                                           \
			top_answered(&key, &packet, v6);                                           \
		if (top_is_of(packet.top, packet.from))                                            \
			top_count(&key, &packet, KIND_MATCHED(kind), v6);                          \
		return 0;                                                                          \
	}
TOP_XDP(top_xdp4, false)
TOP_XDP(top_xdp6, true)

/* An answer's sequence number, else what is acknowledged. */
static __always_inline __u32 top_number(struct xdp_md *ctx, const struct packet *pkt)
{
	__be32 *numbers = (__be32 *)(pkt->l4 + 2);

	if (pkt->proto != IPPROTO_TCP || pkt->kind != WHOLE ||
		(void *)(numbers + 2) > packet_end(ctx))
		return 0;
	return bpf_ntohl((pkt->tcp_flags & (TCP_SYN | TCP_ACK)) == (TCP_SYN | TCP_ACK)
				 ? numbers[0]
				 : numbers[1]);
}

/* Of a packet that XDP is about to forward. */
static __always_inline void top_see(
	struct xdp_md *ctx, const struct packet *pkt, const bool unseen, const bool v6)
{
	__u32 kind;

	if (tracing || !(features & TG_FEATURE_TOP) || !top_at_work())
		return;
	kind = vip_kind(pkt) | (unseen ? KIND_UNSEEN : 0);
	kind |= (v6 ? top_xdp_match6(ctx, PLACE(pkt), pkt->ports, kind)
		    : top_xdp_match4(ctx, PLACE(pkt), pkt->ports, kind))
		<< 20;
	if (v6)
		top_xdp6(ctx, PLACE(pkt), pkt->ports, kind, top_number(ctx, pkt));
	else
		top_xdp4(ctx, PLACE(pkt), pkt->ports, kind, top_number(ctx, pkt));
}

#endif

#endif
