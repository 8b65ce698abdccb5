/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Flows of stateful policies (track_abi.h). A packet of a live flow that fits it is accepted without a
 * question to the rules; what the rules accept, or what leaves where nothing judges, begins one. All ports share
 * the tables: what came in here may be answered there.
 *
 *	track_meet	the flow of a packet, if it has one: it is followed. Before the rules.
 *	track_begin	a flow of a packet that was accepted and has none. After them.
 *
 * Each policy that a flow meets in the direction of its origin judges it once (its gates); answers pass. When
 * policies change, flows that were there are judged anew, in the direction of their origin, as the packet that
 * began them: under "recheck" those no longer let in are cut, under "keep" they stay.
 *
 * TCP begins with a SYN, or while track_settings says so from the middle. It may begin anew beside a flow of the
 * same ports that is over, or that one of the hosts has lost: as an embryo, which takes the other's place when
 * its handshake is over. A flow that finds `flows` full stays among the embryos, where it works and may be
 * pushed out.
 *
 * A forwarded packet is followed when it comes in and only looked up when it leaves (TG_MARK_TRACKED). The
 * mark lets nothing pass that has no flow.
 */
#ifndef TIDEGATE_TRACK_H
#define TIDEGATE_TRACK_H

#include "event.h"
#include "policy.h"
#include "quote.h"
#include "skb.h"
#include "trace.h"
#include "track_entry.h"
#include "track_tcp.h"

/* ---- following ---- */

static __always_inline bool confirms(const struct tg_track *t, const struct meeting *m)
{
	if (!t->side[0].packets || !t->side[1].packets)
		return false;
	if (m->id.proto == IPPROTO_TCP)
		return t->state >= TG_TRACK_STATE_ESTABLISHED &&
		       t->state <= TG_TRACK_STATE_TIME_WAIT;
	return m->side == t->origin;
}

/* An embryo takes its place among the flows. */
static __always_inline void confirm(struct tg_track *t, const struct meeting *m, __u64 now)
{
	__u8 second = now >> 30 | 1;

	if (t->full_since == second)
		return;
	if (!bpf_map_update_elem(&flows, &m->id, t, BPF_ANY)) {
		bpf_map_delete_elem(&embryos, &m->id);
		count_track(TG_TRACK_CONFIRMED);
		return;
	}
	if (!t->full_since)
		count_track(TG_TRACK_FULL);
	t->full_since = second;
}

static __always_inline __u8 plain_state(const struct tg_track *t, __u8 proto)
{
	bool both = t->side[0].packets && t->side[1].packets;

	if (is_icmp(proto))
		return TG_TRACK_STATE_ICMP;
	if (proto == IPPROTO_UDP)
		return both ? TG_TRACK_STATE_UDP : TG_TRACK_STATE_UDP_NEW;
	return both ? TG_TRACK_STATE_OTHER : TG_TRACK_STATE_OTHER_NEW;
}

/* The packet becomes part of the flow. */
static __always_inline void track_take(
	struct tg_track *t, const struct meeting *m, enum fit fit, bool embryo, __u64 now)
{
	struct tg_track_side *side = &t->side[m->side & 1];

	if (tracing || m->passing)
		return;
	__sync_fetch_and_add(&side->packets, 1);
	__sync_fetch_and_add(&side->bytes, m->bytes);
	if (m->id.proto != IPPROTO_TCP)
		t->state = plain_state(t, m->id.proto);
	else if (fit == FIT_WELL)
		segment_take(t, &m->seg, m->side);
	if (fit == FIT_STRAY ? t->state == TG_TRACK_STATE_ESTABLISHED
			     : t->state != TG_TRACK_STATE_CLOSED || m->seg.flags & TCP_RST)
		t->seen = now;
	if (embryo && confirms(t, m))
		confirm(t, m, now);
}

/* ---- meeting ---- */

static __always_inline enum fit fit_of(const struct tg_track *t, const struct meeting *m, __u64 now)
{
	if (!t || !is_live(t, now))
		return FIT_NO_FLOW;
	return m->id.proto == IPPROTO_TCP ? segment_fits(t, &m->seg, m->side) : FIT_WELL;
}

struct found {
	struct tg_track *t;
	enum fit fit;
	bool embryo;
	bool may_begin; /* a SYN may begin anew */
};

/* Of two flows with the same ports, the one that the packet fits better; of one that is over, the other. */
static __always_inline struct found track_find(const struct meeting *m, __u64 now)
{
	struct found f = { .t = bpf_map_lookup_elem(&flows, &m->id), .may_begin = true };
	struct tg_track *embryo;
	enum fit fit;

	f.fit = fit_of(f.t, m, now);
	if (f.t && f.fit >= FIT_AGAIN && f.t->state < TG_TRACK_STATE_TIME_WAIT)
		return f;
	embryo = bpf_map_lookup_elem(&embryos, &m->id);
	fit = fit_of(embryo, m, now);
	if (embryo && fit == FIT_NOT &&
		(embryo->state == TG_TRACK_STATE_SYN_RECEIVED ||
			embryo->state == TG_TRACK_STATE_ESTABLISHED))
		f.may_begin = false;
	if (embryo &&
		(fit > f.fit || (fit == f.fit && f.t && f.t->state >= TG_TRACK_STATE_TIME_WAIT))) {
		f.t = embryo;
		f.fit = fit;
		f.embryo = true;
	}
	return f;
}

/* Live, and it does not fit: a SYN begins anew, beside what is there. */
static __always_inline __u64 track_misfit(const struct found *f, const struct meeting *m)
{
	bool begins = f->may_begin && (m->seg.flags & TCP_STATE_FLAGS) == TCP_SYN;

	if (!begins || f->t->state < TG_TRACK_STATE_TIME_WAIT)
		count_track(TG_TRACK_INVALID);
	return begins ? TRACK_UNKNOWN : TRACK_UNFIT;
}

static __always_inline bool recheck(
	struct tg_track *t, struct passage *p, const struct meeting *m, const bool v6)
{
	const struct tg_policy_directory *directory = policy_page(0);
	bool holds;

	if (!directory || likely(t->generation == directory->generation))
		return true;
	holds = v6 ? track_recheck6(t, &p->key, m->side) : track_recheck4(t, &p->key, m->side);
	if (tracing)
		return holds;
	if (holds) {
		t->generation = directory->generation;
	} else {
		t->state = TG_TRACK_STATE_CUT;
		count_track(TG_TRACK_CUT);
	}
	return holds;
}

/* What the flow says of its packet at this policy; another judgement than to accept: the policy does not know it. */
static __always_inline __u64 track_judge(
	struct tg_track *t, struct passage *p, const struct meeting *m, __u32 policy, const bool v6)
{
	const struct tg_policy_head *head = policy_head(policy);
	__u32 flags = head ? head->flags & 0xff : 0, rule = t->gate[0].rule;
	__u64 judged;

	if (flags & TG_POLICY_STATEFUL && m->side == t->origin) {
		judged = gate_rule(t, policy);
		if (judged == TRACK_UNKNOWN) {
			judged = judge_origin(t, &p->key, false, policy, v6);
			if (JUDGED_ACTION(judged) == TG_ACTION_ACCEPT)
				gate_add(t, policy, head->version, JUDGED_RULE(judged));
			return judged;
		}
		rule = judged;
	} else if (m->passing) {
		rule = TG_NO_RULE; /* has counted it */
	}
	return (__u64)rule << 32 | flags << 16 | TG_ACTION_ACCEPT;
}

/* What came in has been followed; the mark has served when it leaves. */
static __always_inline void track_mark(struct __sk_buff *skb, const struct meeting *m, __u32 policy)
{
	if (tracing)
		return;
	if (policy % TG_DIRECTIONS == TG_INGRESS)
		skb->tc_index = TG_MARK_TRACKED;
	else if (m->passing)
		skb->tc_index = 0;
}

static __always_inline void note_flow(const struct meeting *m, const bool v6)
{
	const __be32 *low = m->id.addr[0] + (v6 ? 0 : 3), *high = m->id.addr[1] + (v6 ? 0 : 3);
	__u32 proto = (__u32)m->id.proto << 16;

	note(FLOW, v6, IP_WORDS(low, v6), m->id.port[0] | proto, IP_WORDS(high, v6),
		m->id.port[1] | proto);
}

static __always_inline __u64 meet(
	struct __sk_buff *skb, struct passage *p, __u32 policy, const bool v6)
{
	__u64 now = bpf_ktime_get_coarse_ns(), judged;
	struct meeting m = {};
	struct found f;

	if (!meeting_of(skb, p, &m, v6))
		return TRACK_UNFIT;
	if (m.id.proto == IPPROTO_TCP && !read_segment(skb, p, &m.seg))
		return TRACK_UNFIT;
	note_flow(&m, v6);
	f = track_find(&m, now);
	if (!f.t || f.fit == FIT_NO_FLOW)
		return TRACK_UNKNOWN;
	note_hit(f.t->state, f.fit >= FIT_STRAY, f.t->gate[0].rule);
	if (!recheck(f.t, p, &m, v6))
		return TRACK_UNKNOWN;
	if (f.fit == FIT_NOT)
		return track_misfit(&f, &m);
	judged = track_judge(f.t, p, &m, policy, v6);
	if (JUDGED_ACTION(judged) != TG_ACTION_ACCEPT)
		return judged;
	if (f.fit == FIT_STRAY)
		count_track(TG_TRACK_STRAY);
	track_take(f.t, &m, f.fit, f.embryo, now);
	track_mark(skb, &m, policy);
	return judged;
}

/* ---- beginning ---- */

/* May a flow begin with this segment, and is it from the middle of one? */
static __always_inline bool segment_begins(const struct segment *seg, __u64 now)
{
	const struct tg_track_settings *settings = track_setting();

	if (seg->flags == TCP_SYN)
		return true;
	if (seg->flags != TCP_ACK || !settings || now >= settings->pick_up_until)
		return false;
	count_track(TG_TRACK_PICKED_UP);
	return true;
}

static __always_inline bool is_to_many(const struct policy_key *key, const bool v6)
{
	return v6 ? key->dst_hi >> 56 == 0xff
		  : key->dst_hi >> 60 == 14 || key->dst_hi >> 32 == 0xffffffff;
}

static __always_inline bool may_begin(
	struct __sk_buff *skb, const struct passage *p, struct meeting *m, __u64 now, const bool v6)
{
	__u8 proto, detail = p->key.kind;

	if (!meeting_of(skb, p, m, v6) || is_to_many(&p->key, v6))
		return false;
	proto = m->id.proto;
	if (proto == IPPROTO_TCP)
		return read_segment(skb, p, &m->seg) && segment_begins(&m->seg, now);
	return !is_icmp(proto) || (v6 ? ICMP6_ASKS(detail) : ICMP_ASKS(detail));
}

static __always_inline __u32 generation_of_policies(void)
{
	const struct tg_policy_directory *directory = policy_page(0);

	return directory ? directory->generation : 0;
}

/* flow.new, of one flow in so many. */
static __always_inline void tell_begun(
	struct __sk_buff *skb, const struct passage *p, __u32 policy, __u32 rule, const bool v6)
{
	const struct tg_track_settings *settings = track_setting();
	__u32 each = settings ? settings->new_sample : 0, sample;

	if (!each || tracing || bpf_get_prandom_u32() % each)
		return;
	sample = event_sample(TG_EVENT_FLOW_NEW);
	if (!sample)
		return;
	sample = (__u64)sample * each < 1 << 20 ? sample * each : (1 << 20) - 1;
	event_packet(&p->key, (__u64)rule << 32 | TG_ACTION_ACCEPT, skb->ifindex, skb->len,
		EVENT_WHAT(TG_EVENT_FLOW_NEW, policy % TG_DIRECTIONS, v6, 1) |
			EVENT_SAMPLED(sample));
}

static __always_inline int begin(
	struct __sk_buff *skb, const struct passage *p, __u32 policy, __u32 rule, const bool v6)
{
	const struct tg_policy_head *head = policy_head(policy);
	__u64 now = bpf_ktime_get_coarse_ns();
	struct tg_track_side *s, *o;
	struct meeting m = {};
	struct tg_track t = { .since = now, .seen = now, .detail = p->key.kind };

	if (!may_begin(skb, p, &m, now, v6))
		return false;
	s = &t.side[m.side & 1];
	o = &t.side[~m.side & 1];
	s->packets = 1;
	s->bytes = m.bytes;
	t.origin = m.side;
	t.gate[0] = (struct tg_track_gate){ head ? head->version : 0, rule, policy };
	for (int i = 1; i < TG_TRACK_GATES; i++)
		t.gate[i].policy = TG_TRACK_NO_GATE;
	t.generation = generation_of_policies();
	t.state = plain_state(&t, m.id.proto);
	if (m.id.proto == IPPROTO_TCP) {
		segment_begin(s, o, &m.seg);
		t.state = tcp_state(s, o);
	}
	if (state_update(&embryos, &m.id, &t, BPF_ANY)) {
		count_track(TG_TRACK_REFUSED);
		return false;
	}
	count_track(TG_TRACK_BEGUN);
	tell_begun(skb, p, policy, rule, v6);
	track_mark(skb, &m, policy);
	return true;
}

/* ---- errors about flows ---- */

/* Of TCP, the sequence number that is quoted must be one that is under way or was lately. */
static __always_inline bool quote_fits(const struct tg_track *t, const struct meeting *m, __u64 now)
{
	const struct tg_track_side *s = &t->side[m->side & 1], *o = &t->side[~m->side & 1];

	if (!is_live(t, now))
		return false;
	return m->id.proto != IPPROTO_TCP || s->end - m->seg.seq <= o->window + ACK_SPREAD;
}

/* The flow of what is quoted. False: it has none. */
static __always_inline bool quoted_meeting(
	const struct quote *quote, struct meeting *m, const bool v6)
{
	__u16 sport = 0, dport = 0;
	__u8 proto = quote->key.kind >> 8;

	if (proto == IPPROTO_TCP || proto == IPPROTO_UDP) {
		sport = quote->word[0];
		dport = quote->word[1];
		m->seg.seq = (__u32)quote->word[2] << 16 | quote->word[3];
	} else if (is_icmp(proto) &&
		   !icmp_ports(quote->word[0] >> 8, quote->word[2], &sport, &dport, v6)) {
		return false;
	}
	m->side = track_id(&m->id, &quote->key, sport, dport, v6);
	return true;
}

/* An error about a live flow is as good as its packets. */
static __always_inline __u64 related(
	struct __sk_buff *skb, const struct passage *p, __u32 policy, const bool v6)
{
	const struct tg_policy_head *head = policy_head(policy);
	__u64 now = bpf_ktime_get_coarse_ns();
	struct quote quote = {};
	struct meeting m = {};
	struct tg_track *t;

	if (!read_quote(skb, p, &quote, v6) || !quoted_meeting(&quote, &m, v6))
		return TRACK_UNFIT;
	t = bpf_map_lookup_elem(&flows, &m.id);
	if (!t || !quote_fits(t, &m, now))
		t = bpf_map_lookup_elem(&embryos, &m.id);
	if (!t || !quote_fits(t, &m, now))
		return TRACK_UNFIT;
	count_track(TG_TRACK_RELATED);
	return (__u64)t->gate[0].rule << 32 | (head ? head->flags & 0xff : 0) << 16 |
	       TG_ACTION_ACCEPT;
}

/* ---- the steps ---- */

#define TRACK_STEPS(suffix, v6)                                                                    \
	__noinline __u64 track_meet##suffix(                                                       \
		struct __sk_buff *skb, struct passage *p, __u32 policy)                            \
	{                                                                                          \
		if (!(features & TG_FEATURE_FLOW) || !p)                                           \
			return TRACK_UNFIT;                                                        \
		return meet(skb, p, policy, v6);                                                   \
	}                                                                                          \
	__noinline __u64 track_related##suffix(                                                    \
		struct __sk_buff *skb, const struct passage *p, __u32 policy)                      \
	{                                                                                          \
		if (!(features & TG_FEATURE_FLOW) || !p)                                           \
			return TRACK_UNFIT;                                                        \
		return related(skb, p, policy, v6);                                                \
	}                                                                                          \
	__noinline int track_begin##suffix(                                                        \
		struct __sk_buff *skb, const struct passage *p, __u32 policy, __u32 rule)          \
	{                                                                                          \
		if (!(features & TG_FEATURE_FLOW) || !p)                                           \
			return false;                                                              \
		return begin(skb, p, policy, rule, v6);                                            \
	}
TRACK_STEPS(4, false)
TRACK_STEPS(6, true)

static __always_inline __u64 track_meet(
	struct __sk_buff *skb, struct passage *p, __u32 policy, const bool v6)
{
	if (unlikely(is_icmp_error(p, v6)))
		return v6 ? track_related6(skb, p, policy) : track_related4(skb, p, policy);
	return v6 ? track_meet6(skb, p, policy) : track_meet4(skb, p, policy);
}

static __always_inline void track_begin(
	struct __sk_buff *skb, const struct passage *p, __u32 policy, __u32 rule, const bool v6)
{
	if (v6)
		track_begin6(skb, p, policy, rule);
	else
		track_begin4(skb, p, policy, rule);
}

/* Does the port follow flows, and does this policy let them pass? */
static __always_inline bool follows_flows(__u32 policy)
{
	const struct tg_policy_directory *directory = policy_page(0);
	__u32 slot = policy / TG_DIRECTIONS;

	return directory &&
	       directory->stateful[slot / 32 & (TG_MAX_PORTS / 32 - 1)] >> slot % 32 & 1;
}

static __always_inline bool lets_flows_pass(__u32 policy)
{
	const struct tg_policy_head *head = policy_head(policy);

	return head && head->flags & TG_POLICY_STATEFUL;
}

/* The rules' judgement, with flows around it. */
static __always_inline __u64 judge_flow(
	struct __sk_buff *skb, struct passage *p, __u32 policy, const bool v6)
{
	bool passes = lets_flows_pass(policy);
	__u64 met = TRACK_UNKNOWN, judged;

	if (passes) {
		met = track_meet(skb, p, policy, v6);
		if (TRACK_JUDGED(met))
			return met;
	}
	judged = judge(&p->key, policy, v6);
	if (JUDGED_ACTION(judged) != TG_ACTION_ACCEPT)
		return judged;
	if (!passes)
		met = track_meet(skb, p, policy, v6);
	if (met == TRACK_UNKNOWN)
		track_begin(skb, p, policy, JUDGED_RULE(judged), v6);
	return judged;
}

#endif
