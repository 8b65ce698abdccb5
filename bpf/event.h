/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Events: what is told of a packet to scripts, by the ring `events`, which core/events.c reads. Of rules with
 * `event` each packet is told, as long as the ring has room. Of rules with `log`, and of what deny lists drop, so
 * many in a while, by kind and CPU: where there are more, one in 2, 4, 8 …, so that an event still tells how many it
 * stands for. What was left out, and what found the ring full, is counted.
 */
#ifndef TIDEGATE_EVENT_H
#define TIDEGATE_EVENT_H

#include "maps.h"
#include "packet.h"
#include "parse.h"
#include "policy.h"
#include "trace.h"

#define EVENT_WINDOW_BITS 27  /* ns: 134 ms */
#define EVENT_WINDOW_FEW  128 /* packets in a window, of which each is told */
#define EVENT_WINDOW_MOST 512 /* told in a window, should more come than the last one let expect */

/* What is told beside the packet's key. */
#define EVENT_WHAT(kind, direction, v6, known)                                                     \
	((kind) | (direction) << 3 | (v6) << 4 | (known) << 5)
#define EVENT_SAMPLED(sample) ((__u32)(sample) << 12) /* one packet in so many, below 2^20 */
#define EVENT_REASON(reason)  ((reason) << 6)	      /* below 64 */

_Static_assert(TG_EVENT_COUNT <= 8 && TG_REASON_COUNT <= 64, "what EVENT_WHAT has room for");

static __always_inline void count_event(__u32 kind, enum tg_event_count what)
{
	__u32 index = kind * TG_EVENT_COUNTS + what;
	__u64 *count = bpf_map_lookup_elem(&event_counters, &index);

	if (count)
		(*count)++;
}

/* As the last window went, if it was the last: told of one packet in 2^shift, EVENT_WINDOW_FEW are. */
static __always_inline void event_window(struct tg_event_limit *limit, __u64 window)
{
	__u32 seen = limit->window + 1 == window ? limit->seen : 0, shift = 0;

	for (int i = 0; i < 16 && seen > EVENT_WINDOW_FEW; i++) {
		seen >>= 1;
		shift++;
	}
	limit->window = window;
	limit->seen = limit->told = 0;
	limit->shift = shift;
}

/* For how many packets this one stands, if it is to be told; 0: it is not. */
static __always_inline __u32 event_sample(__u32 kind)
{
	struct tg_event_limit *limit = bpf_map_lookup_elem(&event_limits, &kind);
	__u64 window = bpf_ktime_get_coarse_ns() >> EVENT_WINDOW_BITS;
	__u32 sample;

	if (!limit)
		return 0;
	if (limit->window != window)
		event_window(limit, window);
	sample = 1u << (limit->shift & 31);
	if (!(limit->seen++ & (sample - 1)) && limit->told < EVENT_WINDOW_MOST) {
		limit->told++;
		return sample;
	}
	count_event(kind, TG_EVENT_LEFT_OUT);
	return 0;
}

static __always_inline struct tg_packet_event *event_begin(__u32 kind)
{
	struct tg_packet_event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);

	if (!event)
		count_event(kind, TG_EVENT_LOST);
	return event;
}

static __always_inline void event_send(struct tg_packet_event *event, __u32 kind)
{
	event->time = bpf_ktime_get_coarse_ns();
	event->kind = kind;
	bpf_ringbuf_submit(event, 0);
	count_event(kind, TG_EVENT_TOLD);
}

/* An address back from a policy's key. */
static __always_inline void event_address(__be32 *to, __u64 hi, __u64 lo)
{
	to[0] = bpf_htonl(hi >> 32);
	to[1] = bpf_htonl(hi);
	to[2] = bpf_htonl(lo >> 32);
	to[3] = bpf_htonl(lo);
}

static __always_inline void event_write(
	struct tg_packet_event *event, const struct policy_key *key, __u64 judged, __u32 what)
{
	const __u32 detail = key->kind;

	event_address(event->src, key->src_hi, key->src_lo);
	event_address(event->dst, key->dst_hi, key->dst_lo);
	event->direction = what >> 3 & 1;
	event->family = !(what >> 5 & 1) ? 0 : what >> 4 & 1 ? 6 : 4;
	event->proto = detail >> 8;
	event->tcp_flags = event->proto == IPPROTO_TCP ? detail : 0;
	event->sport = key->has_ports ? bpf_htons(key->sport) : 0;
	event->dport = key->has_ports ? bpf_htons(key->dport) : 0;
	if (is_icmp(event->proto))
		event->sport = bpf_htons(detail & 0xff);
	event->rule = JUDGED_RULE(judged);
	event->action = JUDGED_SAID(judged);
	event->flags = JUDGED_FLAGS(judged);
	event->reason = what >> 6 & 63;
	event->sample = what >> 12 ? what >> 12 : 1;
}

static __always_inline void event_tell(
	const struct policy_key *key, __u64 judged, __u32 ifindex, __u32 length, __u32 what)
{
	struct tg_packet_event *event = event_begin(what & 7);

	if (!event)
		return;
	event_write(event, key, judged, what);
	event->ifindex = ifindex;
	event->length = length;
	event_send(event, what & 7);
}

/* Tells of a packet: `what` is EVENT_*. */
__noinline int event_packet(
	const struct policy_key *key, __u64 judged, __u32 ifindex, __u32 length, __u32 what)
{
	if (!(features & TG_FEATURES_EVENT) || tracing || !key)
		return 0;
	event_tell(key, judged, ifindex, length, what);
	return 0;
}

/* What a rule with `log` has told of it: the kind, and one in how many; 0: nothing. */
static __always_inline __u32 event_logged(__u64 judged)
{
	__u32 kind = JUDGED_SAID(judged) == TG_ACTION_ACCEPT ? TG_EVENT_POLICY_ACCEPT
							     : TG_EVENT_POLICY_DROP;
	__u32 sample = event_sample(kind);

	return sample ? EVENT_SAMPLED(sample) | kind : 0;
}

static __always_inline __u32 event_reason(__u64 judged)
{
	switch (JUDGED_SAID(judged)) {
	case TG_ACTION_ACCEPT:
		return EVENT_REASON(TG_REASON_NONE);
	case TG_ACTION_REJECT:
		return EVENT_REASON(TG_REASON_POLICY_REJECT);
	default:
		return EVENT_REASON(TG_REASON_POLICY_DROP);
	}
}

/* Tells what its rule wants told: of `event`, of `log`, or of both. */
__noinline int event_judged(
	const struct policy_key *key, __u64 judged, __u32 ifindex, __u32 length, __u32 what)
{
	__u32 more;

	if (!(features & TG_FEATURE_POLICY) || tracing || !key)
		return 0;
	what |= event_reason(judged);
	for (int i = 0; i < 2; i++) {
		if (!(JUDGED_FLAGS(judged) & (i ? TG_RULE_LOG : TG_RULE_EVENT)))
			continue;
		more = i ? event_logged(judged) : EVENT_SAMPLED(1) | TG_EVENT_RULE;
		if (more)
			event_tell(key, judged, ifindex, length, what | more);
	}
	return 0;
}

#define EVENT_WANTED(judged) (JUDGED_FLAGS(judged) & (TG_RULE_LOG | TG_RULE_EVENT))

/* Likewise; most want nothing. */
static __always_inline void tell_judged(const struct policy_key *key, __u64 judged, __u32 ifindex,
	__u32 length, const enum tg_direction direction, bool known, const bool v6)
{
	if (!(features & TG_FEATURE_POLICY) || judged == UNJUDGED ||
		likely(!EVENT_WANTED(judged)) || tracing)
		return;
	event_judged(key, judged, ifindex, length, EVENT_WHAT(0, direction, v6, known));
}

#ifndef TG_TC

/* Ports of TCP and UDP, where they are not behind extension headers; and flags. */
static __always_inline void event_transport(
	struct xdp_md *ctx, const struct packet *pkt, struct tg_packet_event *event, const bool v6)
{
	__u32 offset = v6 ? sizeof(struct ipv6hdr) : pkt->ip4->ihl * 4;
	__u8 *l4 = pkt->l3 + offset;

	event->proto = v6 ? pkt->ip6->nexthdr : pkt->ip4->protocol;
	if (!v6 && pkt->ip4->frag_off & bpf_htons(IP_FRAGMENT_OFFSET))
		return;
	if (event->proto != IPPROTO_TCP && event->proto != IPPROTO_UDP)
		return;
	if (l4 + TCP_FLAGS_OFFSET + 1 > (__u8 *)packet_end(ctx))
		return;
	event->sport = *(__be16 *)l4;
	event->dport = *(__be16 *)(l4 + 2);
	event->tcp_flags = event->proto == IPPROTO_TCP ? l4[TCP_FLAGS_OFFSET] : 0;
}

static __always_inline int event_denied(struct xdp_md *ctx, __u32 l2_length, const bool v6)
{
	struct packet pkt = { .l3 = l3_at(ctx, l2_length) };
	__u32 kind = TG_EVENT_DENY_HIT, sample = event_sample(kind);
	struct tg_event_limit *limit = bpf_map_lookup_elem(&event_limits, &kind);
	struct tg_packet_event *event;

	if (!sample || !limit || !has_ip_header(ctx, &pkt, v6))
		return 0;
	event = event_begin(TG_EVENT_DENY_HIT);
	if (!event)
		return 0;
	__builtin_memset(event, 0, sizeof(*event));
	__builtin_memcpy(event->src, address_of(&pkt, SOURCE, v6), v6 ? 16 : 4);
	__builtin_memcpy(event->dst, address_of(&pkt, DEST, v6), v6 ? 16 : 4);
	event_transport(ctx, &pkt, event, v6);
	event->family = v6 ? 6 : 4;
	event->ifindex = ctx->ingress_ifindex;
	event->length = bpf_xdp_get_buff_len(ctx);
	event->rule = limit->class;
	event->action = TG_ACTION_DROP;
	event->reason = TG_REASON_DENIED;
	event->sample = sample;
	event_send(event, TG_EVENT_DENY_HIT);
	return 0;
}

#define EVENT_DENIED(name, v6, feature)                                                            \
	__noinline int name(struct xdp_md *ctx, __u32 l2_length)                                   \
	{                                                                                          \
		if (!(features & TG_FEATURE_EVENTS) || !(features & feature) || tracing)           \
			return 0;                                                                  \
		return event_denied(ctx, l2_length, v6);                                           \
	}
EVENT_DENIED(event_denied4, false, TG_FEATURE_DENY4)
EVENT_DENIED(event_denied6, true, TG_FEATURE_DENY6)

/* Tells of a packet that a deny list has dropped, where somebody listens. */
static __always_inline void tell_denied(
	struct xdp_md *ctx, const struct packet *pkt, enum tg_reason reason, const bool v6)
{
	if (!(features & TG_FEATURE_EVENTS) || reason != TG_REASON_DENIED || tracing)
		return;
	if (v6)
		event_denied6(ctx, pkt->l2_length);
	else
		event_denied4(ctx, pkt->l2_length);
}

#endif

#endif
