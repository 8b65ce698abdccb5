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
#include "track_tcp.h"

/* What track_meet answers: a judgement, or one of these, which none can be. */
#define TRACK_UNKNOWN	  (~1ull) /* no flow */
#define TRACK_UNFIT	  (~2ull) /* it must not begin or change one */
#define TRACK_JUDGED(met) ((met) < TRACK_UNFIT)

/* Of whoever begins a flow. */
#define ICMP_ASKS(type)	   ((type) == 8 || (type) == 13 || (type) == 17)
#define ICMP_ANSWERS(type) ((type) == 0 || (type) == 14 || (type) == 18)
#define ICMP6_ASKS(type)   ((type) == 128 || (type) == 139)

/* A packet, and its place among flows. */
struct meeting {
	struct tg_track_id id;
	struct segment seg; /* of TCP */
	__u32 side;	    /* that sent it */
	__u32 bytes;
	bool passing; /* it came in by another port, and was followed there */
};

static __always_inline void count_track(__u32 what)
{
	__u64 *counter;

	if (tracing)
		return;
	counter = bpf_map_lookup_elem(&track_counters, &what);
	if (counter)
		(*counter)++;
}

static __always_inline const struct tg_track_settings *track_setting(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&track_settings, &zero);
}

/* The default of a state's timeout. */
static __always_inline __u64 default_timeout(__u32 state)
{
	switch (state) {
#define TRACK_TIMEOUT(symbol, name, seconds)                                                       \
	case TG_TRACK_STATE_##symbol:                                                              \
		return seconds * 1000000000ull;
		TG_TRACK_STATES(TRACK_TIMEOUT)
#undef TRACK_TIMEOUT
	default:
		return 0;
	}
}

static __always_inline bool is_live(const struct tg_track *t, __u64 now)
{
	const struct tg_track_settings *settings = track_setting();
	__u32 state = t->state;
	__u64 timeout;

	if (!settings || state >= TG_TRACK_STATE_COUNT)
		return false;
	timeout = settings->timeout_ns[state];
	if (unlikely(!timeout))
		timeout = default_timeout(state);
	return (__s64)(now - t->seen) < (__s64)timeout;
}

/* ---- whose packet it is ---- */

static __always_inline void track_address(__be32 *to, __u64 hi, __u64 lo, const bool v6)
{
	to[0] = v6 ? bpf_htonl(hi >> 32) : 0;
	to[1] = v6 ? bpf_htonl(hi) : 0;
	to[2] = bpf_htonl(v6 ? lo >> 32 : 0xffff);
	to[3] = bpf_htonl(v6 ? lo : hi >> 32);
}

/* The flow of what goes from the key's source and this port to its destination and that one; the source's side. */
static __always_inline __u32 track_id(struct tg_track_id *id, const struct policy_key *key,
	__u16 sport, __u16 dport, const bool v6)
{
	bool high = key->src_hi != key->dst_hi	 ? key->src_hi > key->dst_hi
		    : key->src_lo != key->dst_lo ? key->src_lo > key->dst_lo
						 : sport > dport;

	track_address(id->addr[0], high ? key->dst_hi : key->src_hi,
		high ? key->dst_lo : key->src_lo, v6);
	track_address(id->addr[1], high ? key->src_hi : key->dst_hi,
		high ? key->src_lo : key->dst_lo, v6);
	id->port[0] = bpf_htons(high ? dport : sport);
	id->port[1] = bpf_htons(high ? sport : dport);
	id->proto = key->kind >> 8;
	id->pad[0] = id->pad[1] = id->pad[2] = 0;
	return high;
}

/* What a type of ICMP has for its ports, if it asks or answers. */
static __always_inline bool icmp_ports(
	__u8 type, __u16 number, __u16 *sport, __u16 *dport, const bool v6)
{
	bool asks = v6 ? ICMP6_ASKS(type) : ICMP_ASKS(type);
	__u8 question = asks ? type : v6 ? type - 1 : type ? type - 1 : 8;

	if (!asks && !(v6 ? ICMP6_ASKS(question) : ICMP_ANSWERS(type)))
		return false;
	*sport = asks ? number : question;
	*dport = asks ? question : number;
	return true;
}

/* The identifier of a question or an answer of ICMP, `at` the header's place in the frame. */
static __always_inline __u16 icmp_number(const struct __sk_buff *skb, __u32 at)
{
	const __be16 *words = (void *)(long)skb->data + (at & 0x3fff);

	return (void *)(words + 3) > packet_end(skb) ? 0 : bpf_ntohs(words[2]);
}

/* False: packets like this have no flow. */
static __always_inline bool meeting_of(
	struct __sk_buff *skb, const struct passage *p, struct meeting *m, const bool v6)
{
	__u8 proto = p->key.kind >> 8, detail = p->key.kind;
	__u16 sport = p->key.sport, dport = p->key.dport;

	if (p->key.part == POLICY_LATER_FRAGMENT)
		return false;
	if (is_icmp(proto) &&
		(proto != (v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP) ||
			!icmp_ports(detail, icmp_number(skb, p->l4_offset), &sport, &dport, v6)))
		return false;
	m->side = track_id(&m->id, &p->key, sport, dport, v6);
	m->bytes = skb->len;
	m->passing = skb->tc_index == TG_MARK_TRACKED;
	return true;
}

/* ---- a flow's gates ---- */

/* A packet's key turned round, and back. */
static __always_inline void turn_key(struct policy_key *key)
{
	__u64 hi = key->src_hi, lo = key->src_lo;
	__u16 port = key->sport;

	key->src_hi = key->dst_hi;
	key->src_lo = key->dst_lo;
	key->dst_hi = hi;
	key->dst_lo = lo;
	key->sport = key->dport;
	key->dport = port;
}

/*
 * What a policy says of the packet that began a flow, by the key of any of its packets, which is made that one's
 * for the while: the stack has no room for another.
 */
static __always_inline __u64 judge_origin(
	const struct tg_track *t, struct policy_key *key, bool answers, __u32 policy, const bool v6)
{
	enum policy_part part = key->part;
	__u32 kind = key->kind;
	__u64 judged;

	key->kind = TG_POLICY_KIND_OF(kind >> 8, t->detail);
	key->part = POLICY_WHOLE;
	if (answers)
		turn_key(key);
	judged = judge(key, policy, v6);
	if (answers)
		turn_key(key);
	key->kind = kind;
	key->part = part;
	return judged;
}

/* One gate after policies have changed: does the flow still pass, or may it all the same? */
static __always_inline bool gate_holds(struct tg_track *t, struct tg_track_gate *gate,
	struct policy_key *key, bool answers, const bool v6)
{
	const struct tg_policy_head *head = policy_head(gate->policy);
	__u32 version = head ? head->version : 0;
	__u64 judged;

	if (gate->policy == TG_TRACK_NO_GATE || version == gate->version)
		return true;
	judged = judge_origin(t, key, answers, gate->policy, v6);
	if (head && head->flags & TG_POLICY_RECHECK) {
		count_track(TG_TRACK_RECHECKED);
		if (JUDGED_ACTION(judged) != TG_ACTION_ACCEPT)
			return false;
	}
	if (tracing)
		return true;
	gate->version = version;
	gate->rule = JUDGED_ACTION(judged) == TG_ACTION_ACCEPT ? JUDGED_RULE(judged) : TG_NO_RULE;
	return true;
}

/* Policies have changed since the flow's last packet: is it to go on? `from`: the packet's side. */
#define TRACK_RECHECK(name, v6)                                                                    \
	__noinline int name(struct tg_track *t, struct policy_key *key, __u32 from)                \
	{                                                                                          \
		if (!(features & TG_FEATURE_FLOW) || !t || !key)                                   \
			return false;                                                              \
		_Static_assert(TG_TRACK_GATES == 2, "each by itself: the verifier takes no loop"); \
		return gate_holds(t, &t->gate[0], key, from != t->origin, v6) &&                   \
		       gate_holds(t, &t->gate[1], key, from != t->origin, v6);                     \
	}
TRACK_RECHECK(track_recheck4, false)
TRACK_RECHECK(track_recheck6, true)

/* The rule by which the policy let it in, ~1: it has not judged it. */
static __always_inline __u64 gate_rule(const struct tg_track *t, __u32 policy)
{
	for (int i = 0; i < TG_TRACK_GATES; i++)
		if (t->gate[i].policy == policy)
			return t->gate[i].rule;
	return TRACK_UNKNOWN;
}

/* A policy that the flow had not met: the last gate is its. */
static __always_inline void gate_add(struct tg_track *t, __u32 policy, __u32 version, __u32 rule)
{
	if (!tracing)
		t->gate[TG_TRACK_GATES - 1] = (struct tg_track_gate){ version, rule, policy };
}

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
