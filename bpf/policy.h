/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a port's policy says of a packet: the first of its rules that matches (classify.h) or its default.
 * Asked by TC of all packets of a port, and by XDP of those that are for a VIP, which never reach TC.
 */
#ifndef TIDEGATE_POLICY_H
#define TIDEGATE_POLICY_H

#include "maps.h"
#include "packet.h"
#include "trace.h"

static __always_inline const void *policy_page(__u32 number)
{
	return bpf_map_lookup_elem(&policy_pages, &number);
}

#include "classify.h"

/* A judgement, in one register: what to do, why, and by which rule. */
#define JUDGED(rule, head)                                                                         \
	((__u64)(rule)->counter << 32 | (__u64)((head)->flags & 0xff) << 16 | (rule)->flags << 8 | \
		(rule)->action)
#define UNJUDGED	    (~0ull) /* there is no policy */
#define JUDGED_RULE(judged) ((__u32)((judged) >> 32)) /* its counter; of UNJUDGED TG_NO_RULE */
#define JUDGED_POLICY(judged) ((__u8)((judged) >> 16)) /* TG_POLICY_* */
#define JUDGED_FLAGS(judged)  ((__u8)((judged) >> 8))  /* TG_RULE_* */
/* What the rule says, and what becomes of the packet: an audited rule lets everything pass. */
#define JUDGED_SAID(judged)   ((enum tg_action)(__u8)(judged))
#define JUDGED_ACTION(judged)                                                                      \
	((judged) == UNJUDGED || JUDGED_FLAGS(judged) & TG_RULE_AUDIT ? TG_ACTION_ACCEPT          \
								      : JUDGED_SAID(judged))

/* The same by another rule, and without one; as if a rule had said so. */
#define JUDGED_ACCEPTED(judged, rule) ((__u64)(rule) << 32 | ((judged) & 0xff0000))
#define JUDGED_DROPPED(judged)	      (((judged) & ~0xffffull) | TG_ACTION_DROP)

/* Of most devices one load tells; a hash costs a fifth of what a whole policy does. */
static __always_inline const struct tg_port *port_of(__u32 ifindex)
{
	const struct tg_port *near = bpf_map_lookup_elem(&near_ports, &ifindex);

	if (likely(near && near->flags & TG_PORT_NEAR))
		return near;
	return bpf_map_lookup_elem(&ports, &ifindex);
}

/* The head of a policy (TG_POLICY_OF_PORT, TG_POLICY_OF_TAP), or NULL. */
static __always_inline const struct tg_policy_head *policy_head(__u32 policy)
{
	const struct tg_policy_directory *directory;
	__u64 number = policy, page;

	if (!(features & (TG_FEATURE_POLICY | TG_FEATURE_TAP | TG_FEATURE_TOP)))
		return NULL;
	directory = policy_page(0);
	barrier_var(number); /* tested and used in one register, whatever the compiler knows of it */
	if (!directory || number >= TG_MAX_POLICIES)
		return NULL;
	page = directory->page[number];
	return page ? policy_page(page) : NULL;
}

/* The rule that decides: of a policy with none that matches, its default. */
static __always_inline const struct tg_policy_rule *policy_rule(
	const struct tg_policy_head *head, const struct policy_key *key, const bool v6)
{
	__u32 number = classify(&head->tables, key, v6, policy_words);

	if (number >= TG_POLICY_NO_RULE)
		return &head->otherwise;
	return policy_at(head->rules, number, sizeof(struct tg_policy_rule));
}

/* An address as classify.h wants it: host order, IPv4's in the upper bits. */
static __always_inline void policy_address_of(
	const __be32 *address, __u64 *hi, __u64 *lo, const bool v6)
{
	*hi = (__u64)bpf_ntohl(address[0]) << 32 | (v6 ? bpf_ntohl(address[1]) : 0);
	*lo = v6 ? (__u64)bpf_ntohl(address[2]) << 32 | bpf_ntohl(address[3]) : 0;
}

/* Of a packet whose transport header is read: TCP or UDP. */
static __always_inline void policy_key_of(
	const struct packet *pkt, struct policy_key *key, const bool v6)
{
	policy_address_of(address_of(pkt, SOURCE, v6), &key->src_hi, &key->src_lo, v6);
	policy_address_of(address_of(pkt, DEST, v6), &key->dst_hi, &key->dst_lo, v6);
	key->kind = TG_POLICY_KIND_OF(pkt->proto, pkt->tcp_flags);
	key->sport = bpf_ntohs(source_port(pkt));
	key->dport = bpf_ntohs(dest_port(pkt));
	key->has_ports = true;
	key->part = pkt->kind == FIRST_FRAGMENT ? POLICY_FIRST_FRAGMENT : POLICY_WHOLE;
}

static __always_inline __u64 policy_judge(
	__u32 policy, const struct policy_key *key, const bool v6)
{
	const struct tg_policy_head *head = policy_head(policy);
	const struct tg_policy_rule *rule;

	note(POLICY, v6, policy);
	if (!head)
		return UNJUDGED;
	rule = policy_rule(head, key, v6);
	if (!rule)
		return UNJUDGED;
	note_hit(rule->counter, rule->action, rule->flags & TG_RULE_AUDIT);
	return JUDGED(rule, head);
}

/*
 * Functions of their own for the verifier, and for what asks more than one policy of a packet: a port's,
 * and those of mirrors and captures (tap.h).
 */
#define POLICY_JUDGE(name, v6)                                                                     \
	__noinline __u64 name(const struct policy_key *key, __u32 policy)                          \
	{                                                                                          \
		if (!(features & (TG_FEATURE_POLICY | TG_FEATURE_TAP | TG_FEATURE_TOP)) || !key)                    \
			return UNJUDGED;                                                           \
		return policy_judge(policy, key, v6);                                              \
	}
POLICY_JUDGE(policy_judge4, false)
POLICY_JUDGE(policy_judge6, true)

static __always_inline __u64 judge(const struct policy_key *key, __u32 policy, const bool v6)
{
	return v6 ? policy_judge6(key, policy) : policy_judge4(key, policy);
}

/* What is not worth a classification gets the default: what can't be parsed. */
static __always_inline __u64 judge_default(__u32 policy)
{
	const struct tg_policy_head *head = policy_head(policy);

	note(POLICY, false, policy);
	if (!head)
		return UNJUDGED;
	note_hit(head->otherwise.counter, head->otherwise.action,
		head->otherwise.flags & TG_RULE_AUDIT);
	return JUDGED(&head->otherwise, head);
}

static __always_inline void count_rule(__u64 judged, __u32 bytes)
{
	__u32 index = JUDGED_RULE(judged);
	struct tg_rule_counter *counter;

	if (tracing || !(features & TG_FEATURE_POLICY) || judged == UNJUDGED)
		return;
	counter = bpf_map_lookup_elem(&rule_counters, &index);
	if (!counter)
		return;
	counter->packets++;
	counter->bytes += bytes;
	counter->last = bpf_jiffies64();
}

#endif
