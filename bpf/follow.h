/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Later fragments show no ports: where a policy says so, they follow the first one of their packet if
 * that was accepted there (TG_POLICY_FOLLOW). What they follow is remembered by policy, {source,
 * destination, identification, protocol}, in an LRU hash. One that comes before its first is judged by
 * the rules.
 */
#ifndef TIDEGATE_FOLLOW_H
#define TIDEGATE_FOLLOW_H

#include "maps.h"
#include "policy.h"
#include "skb.h"
#include "trace.h"

#define FOLLOW_NS (TG_FRAGMENT_SECONDS * 1000000000ull)

/* An address back from a policy's key. */
static __always_inline void follow_address(__be32 *to, __u64 hi, __u64 lo)
{
	to[0] = bpf_htonl(hi >> 32);
	to[1] = bpf_htonl(hi);
	to[2] = bpf_htonl(lo >> 32);
	to[3] = bpf_htonl(lo);
}

static __always_inline void follow_key(
	const struct passage *p, __u32 policy, struct tg_fragment_key *key, const bool v6)
{
	follow_address(key->source, p->key.src_hi, p->key.src_lo);
	follow_address(key->dest, p->key.dst_hi, p->key.dst_lo);
	key->id = p->fragment_id;
	key->proto = v6 ? 0 : p->key.kind >> 8;
	key->v6 = v6;
	key->pad = policy;
}

static __always_inline __u64 follow_recall(
	const struct passage *p, __u32 policy, __u64 judged, const bool v6)
{
	struct tg_policy_fragment *first;
	struct tg_fragment_key key;

	follow_key(p, policy, &key, v6);
	note(FOLLOW, v6, IP_WORDS(key.source, v6), IP_WORDS(key.dest, v6), key.id, key.proto);
	first = bpf_map_lookup_elem(&policy_fragments, &key);
	if (!first || bpf_ktime_get_coarse_ns() - first->since > FOLLOW_NS)
		return judged;
	note_hit(first->rule);
	return JUDGED_ACCEPTED(judged, first->rule);
}

static __always_inline void follow_remember(
	const struct passage *p, __u32 policy, __u64 judged, const bool v6)
{
	struct tg_policy_fragment first = { bpf_ktime_get_coarse_ns(), JUDGED_RULE(judged), 0 };
	struct tg_fragment_key key;

	follow_key(p, policy, &key, v6);
	state_update(&policy_fragments, &key, &first, BPF_ANY);
}

/* The judgement of a fragment, from what the rules say of it. */
#define FOLLOW(name, v6)                                                                           \
	__noinline __u64 name(const struct passage *p, __u64 judged, __u32 policy)                 \
	{                                                                                          \
		if (!(features & (TG_FEATURE_POLICY | TG_FEATURE_TAP)) || !p)                                         \
			return judged;                                                             \
		if (p->key.part == POLICY_LATER_FRAGMENT)                                          \
			return follow_recall(p, policy, judged, v6);                               \
		follow_remember(p, policy, judged, v6);                                            \
		return judged;                                                                     \
	}
FOLLOW(follow4, false)
FOLLOW(follow6, true)

static __always_inline __u64 follow(
	const struct passage *p, __u64 judged, __u32 policy, const bool v6)
{
	const bool later = p->key.part == POLICY_LATER_FRAGMENT;

	if (likely(p->key.part == POLICY_WHOLE) || judged == UNJUDGED)
		return judged;
	if (later && JUDGED_POLICY(judged) & TG_POLICY_NO_FRAGMENTS)
		return JUDGED_DROPPED(judged);
	if (!(JUDGED_POLICY(judged) & TG_POLICY_FOLLOW) ||
		(!later && JUDGED_ACTION(judged) != TG_ACTION_ACCEPT))
		return judged;
	return v6 ? follow6(p, judged, policy) : follow4(p, judged, policy);
}

#endif
