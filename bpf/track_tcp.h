/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * TCP's part of flow tracking (track.h): does a segment fit what both sides have said so far, and what
 * follows from it (RFC 9293; the bounds are those of Guido van Rooij, "Real Stateful TCP Packet Filtering in
 * IP Filter").
 *
 * What changes a flow's state must fit well, as anyone can send it: a reset lies between what its receiver
 * acknowledged and what its sender sent (near RFC 5961's exact match), a FIN in both windows, an answer to a SYN
 * acknowledges that SYN. Other segments out of the windows pass and change nothing: the hosts know better, and
 * one that has lost its state answers so (RFC 5961's challenge).
 *
 * Resets are not final: if who reset goes on, it was not the one who did.
 */
#ifndef TIDEGATE_TRACK_TCP_H
#define TIDEGATE_TRACK_TCP_H

#include "packet.h"
#include "skb.h"

#define TCP_FIN		 0x01
#define TCP_STATE_FLAGS	 (TCP_FIN | TCP_SYN | TCP_RST | TCP_ACK)
#define TCP_OPTIONS	 40 /* bytes */
#define TCP_OPTION_SCALE 3
#define TCP_MAX_SCALE	 14
#define TCP_MAX_WINDOW	 (1u << 30)
#define ACK_SPREAD	 66000u /* bytes that an acknowledgement may lag behind, of small windows */

/* Of one segment, in host order. */
struct segment {
	__u32 seq, ack;
	__u32 length; /* in sequence numbers */
	__u16 window;
	__u8 flags; /* TCP_STATE_FLAGS */
	__u8 scale;
};

/* From the least to the most: what a segment is to a flow. */
enum fit {
	FIT_NO_FLOW,
	FIT_NOT,   /* for the rules to judge */
	FIT_STRAY, /* passes */
	FIT_AGAIN, /* a SYN that was there already */
	FIT_WELL,
};

static __always_inline bool after(__u32 a, __u32 b)
{
	return (__s32)(a - b) > 0;
}

/* ---- reading ---- */

/* Bytes of an option of this kind: without a branch, as in is_tag(). */
static __always_inline __u32 option_size(__u64 kind, __u64 said)
{
	__u64 other = kind ^ 1, padding;

	barrier_var(other);
	padding = (other - 1) >> 63;
	barrier_var(padding);
	return padding | (said & (padding - 1));
}

/* The window scale that the options of a SYN ask for: so many bytes, from there in the frame on. */
__noinline __u32 scale_asked(struct __sk_buff *skb, __u32 from, __u32 length)
{
	const void *options = (void *)(long)skb->data + (from & 0x3fff);
	__u32 at = 0;

	if (!(features & TG_FEATURE_FLOW))
		return TG_TRACK_NO_SCALE;
	for (int i = 0; i < TCP_OPTIONS; i++) {
		const __u8 *option = options + (at & 63);
		__u32 size;

		if (at + 2 >= length || (void *)(option + 3) > packet_end(skb) || !option[0])
			return TG_TRACK_NO_SCALE;
		if (option[0] == TCP_OPTION_SCALE)
			return option[2] < TCP_MAX_SCALE ? option[2] : TCP_MAX_SCALE;
		size = option_size(option[0], option[1]);
		if (!size)
			return TG_TRACK_NO_SCALE;
		at += size;
	}
	return TG_TRACK_NO_SCALE;
}

/* False: it is no sound segment. */
static __always_inline bool read_segment(
	struct __sk_buff *skb, const struct passage *p, struct segment *seg)
{
	const struct tcphdr *tcp = (void *)(long)skb->data + (p->l4_offset & 0x3fff);
	__u32 length = p->l3_length - (p->l4_offset - p->l2_length), header;

	if ((void *)(tcp + 1) > packet_end(skb))
		return false;
	header = tcp->doff * 4;
	if (header < sizeof(*tcp) || header > length)
		return false;
	seg->seq = bpf_ntohl(tcp->seq);
	seg->ack = bpf_ntohl(tcp->ack_seq);
	seg->window = bpf_ntohs(tcp->window);
	seg->flags = (__u8)p->key.kind & TCP_STATE_FLAGS;
	seg->length = length - header + !!(seg->flags & TCP_SYN) + !!(seg->flags & TCP_FIN);
	seg->scale = TG_TRACK_NO_SCALE;
	if (seg->flags & TCP_SYN)
		seg->scale = scale_asked(skb, p->l4_offset + sizeof(*tcp), header - sizeof(*tcp));
	return true;
}

/* ---- fitting ---- */

/* The first acknowledgement of a side says that it knows the other one's SYN. */
static __always_inline bool acknowledges_syn(
	const struct tg_track_side *s, const struct tg_track_side *o, const struct segment *seg)
{
	return seg->flags & TCP_ACK && after(seg->ack, s->ack) && !after(seg->ack, o->end);
}

static __always_inline bool in_windows(
	const struct tg_track_side *s, const struct tg_track_side *o, const struct segment *seg)
{
	__u32 spread = s->window > ACK_SPREAD ? s->window : ACK_SPREAD;

	if (!(s->flags & o->flags & TCP_SYN))
		return false;
	if (!(s->flags & TCP_ACK) && !acknowledges_syn(s, o, seg))
		return false;
	return !after(seg->seq, o->ack + o->window) &&
	       after(seg->seq + seg->length, s->end - o->window - 1) &&
	       !after(seg->ack, o->end + s->window) && after(seg->ack, o->end - spread - 1);
}

static __always_inline enum fit syn_fits(const struct tg_track *t, const struct tg_track_side *s,
	const struct tg_track_side *o, const struct segment *seg)
{
	if (seg->flags & (TCP_RST | TCP_FIN))
		return FIT_NOT;
	if (s->flags & TCP_SYN) {
		if (t->state >= TG_TRACK_STATE_TIME_WAIT ||
			(seg->seq != o->ack && seg->seq + 1 != o->ack))
			return FIT_NOT;
		if (!(seg->flags & TCP_ACK) || s->flags & TCP_ACK)
			return FIT_AGAIN;
		return acknowledges_syn(s, o, seg) ? FIT_WELL : FIT_NOT; /* both began at once */
	}
	if (t->state != TG_TRACK_STATE_SYN_SENT)
		return FIT_NOT;
	return !(seg->flags & TCP_ACK) || acknowledges_syn(s, o, seg) ? FIT_WELL : FIT_NOT;
}

static __always_inline bool reset_fits(
	const struct tg_track_side *s, const struct tg_track_side *o, const struct segment *seg)
{
	if (!(s->flags & TCP_SYN))
		return acknowledges_syn(s, o, seg);
	return !after(o->ack, seg->seq) && !after(seg->seq, s->end);
}

/* Of what comes from that side. */
__noinline int segment_fits(const struct tg_track *t, const struct segment *seg, __u32 side)
{
	const struct tg_track_side *s, *o;

	if (!(features & TG_FEATURE_FLOW) || !t || !seg)
		return FIT_NO_FLOW;
	s = &t->side[side & 1];
	o = &t->side[~side & 1];
	if (seg->flags & TCP_SYN)
		return syn_fits(t, s, o, seg);
	if (seg->flags & TCP_RST)
		return reset_fits(s, o, seg) ? FIT_WELL : FIT_NOT;
	if (!(seg->flags & TCP_ACK))
		return FIT_NOT;
	if (in_windows(s, o, seg))
		return FIT_WELL;
	if (seg->flags & TCP_FIN)
		return FIT_NOT;
	return t->state >= TG_TRACK_STATE_ESTABLISHED || side != t->origin ? FIT_STRAY : FIT_NOT;
}

/* ---- following ---- */

static __always_inline __u8 tcp_state(const struct tg_track_side *a, const struct tg_track_side *b)
{
	__u8 both = a->flags & b->flags, either = a->flags | b->flags;

	if (either & TCP_RST)
		return TG_TRACK_STATE_CLOSED;
	if (!(both & TCP_SYN))
		return TG_TRACK_STATE_SYN_SENT;
	if (!(both & TCP_ACK))
		return TG_TRACK_STATE_SYN_RECEIVED;
	if (!(either & TCP_FIN))
		return TG_TRACK_STATE_ESTABLISHED;
	if (!(both & TCP_FIN))
		return TG_TRACK_STATE_FIN_WAIT;
	return a->ack == b->end && b->ack == a->end ? TG_TRACK_STATE_TIME_WAIT
						    : TG_TRACK_STATE_CLOSING;
}

static __always_inline void take_window(
	struct tg_track_side *s, const struct tg_track_side *o, const struct segment *seg)
{
	bool scaled = !(seg->flags & TCP_SYN) && s->scale != TG_TRACK_NO_SCALE &&
		      o->scale != TG_TRACK_NO_SCALE;
	__u32 window = (__u32)seg->window << (scaled ? s->scale & 15 : 0);

	if (window > s->window)
		s->window = window;
}

static __always_inline void take_syn(
	struct tg_track_side *s, struct tg_track_side *o, const struct segment *seg)
{
	s->end = seg->seq + seg->length;
	s->scale = seg->scale;
	if (!(o->flags & TCP_ACK))
		o->ack = seg->seq;
}

static __always_inline void take_ack(
	struct tg_track_side *s, struct tg_track_side *o, const struct segment *seg)
{
	if (!(s->flags & TCP_ACK) || after(seg->ack, s->ack))
		s->ack = seg->ack;
	if (after(seg->ack, o->end))
		o->end = seg->ack; /* of what we did not see */
}

/* A segment that fits well. */
__noinline int segment_take(struct tg_track *t, const struct segment *seg, __u32 side)
{
	struct tg_track_side *s, *o;

	if (!(features & TG_FEATURE_FLOW) || !t || !seg)
		return 0;
	s = &t->side[side & 1];
	o = &t->side[~side & 1];
	if (seg->flags & TCP_RST) {
		s->flags |= TCP_RST;
		t->state = TG_TRACK_STATE_CLOSED;
		return 0;
	}
	if (seg->flags & TCP_SYN)
		take_syn(s, o, seg);
	else if (after(seg->seq + seg->length, s->end))
		s->end = seg->seq + seg->length;
	if (seg->flags & TCP_ACK)
		take_ack(s, o, seg);
	take_window(s, o, seg);
	s->flags = (s->flags & ~TCP_RST) | seg->flags;
	t->state = tcp_state(s, o);
	return 0;
}

/* The first segment of a flow: a SYN, or one from the middle, of which the other side is thought to know all. */
static __always_inline void segment_begin(
	struct tg_track_side *s, struct tg_track_side *o, const struct segment *seg)
{
	o->ack = seg->seq;
	o->scale = TG_TRACK_NO_SCALE;
	s->scale = seg->scale;
	s->end = seg->seq + seg->length;
	s->window = seg->window;
	s->flags = seg->flags;
	if (seg->flags & TCP_SYN)
		return;
	s->flags = o->flags = TCP_SYN | TCP_ACK;
	s->window = o->window = TCP_MAX_WINDOW;
	s->ack = o->end = seg->ack;
}

#endif
