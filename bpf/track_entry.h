/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a track is (track_abi.h): whose packets are its, as long as it lives; and its gates, the policies that
 * have judged the flow. Which packets it follows, and how it begins and ends: track.h.
 */
#ifndef TIDEGATE_TRACK_ENTRY_H
#define TIDEGATE_TRACK_ENTRY_H

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

#endif
