/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The first rule of a policy that matches a packet, by the tables of policy_abi.h: for each field one
 * lookup that leads to a vector, an AND of them, the lowest bit. What it costs depends on the number of
 * vectors' words alone, and on how many prefixes share an address's first bits.
 *
 * Who includes it defines policy_page(NUMBER): the page's address, or NULL. The datapath takes it from
 * a map; tests, from memory.
 */
#ifndef TIDEGATE_CLASSIFY_H
#define TIDEGATE_CLASSIFY_H

#include <stdbool.h>

#include "policy_abi.h"

#define CLASSIFY_INLINE static inline __attribute__((always_inline))

enum policy_part { POLICY_WHOLE, POLICY_FIRST_FRAGMENT, POLICY_LATER_FRAGMENT };

/* What a policy asks of a packet. In host order. */
struct policy_key {
	__u64 src_hi, src_lo, dst_hi, dst_lo; /* as in struct tg_policy_step */
	__u32 kind;			      /* TG_POLICY_KIND_OF */
	__u16 sport, dport;
	bool has_ports;
	enum policy_part part;
};

/* One of a region's things of that size; NULL: there is no such page. */
CLASSIFY_INLINE const void *policy_at(__u32 page, __u32 number, const __u32 size)
{
	const __u32 each = TG_POLICY_PAGE / size;
	const char *at = policy_page(page + number / each);
	__u32 offset = number % each * size;

	if (!at)
		return (const void *)0;
	__asm__ volatile("" : "+r"(offset)); /* added after the test alone, says the verifier */
	return at + offset;
}

CLASSIFY_INLINE __u32 policy_entry(const struct tg_policy_table *table, __u32 value)
{
	const __u16 *at;

	if (!table->page)
		return table->entry;
	at = policy_at(table->page, value & 0xffff, sizeof(*at));
	return at ? *at : 0;
}

CLASSIFY_INLINE __u32 policy_byte(__u64 hi, __u64 lo, __u32 number)
{
	return (number < 8 ? hi : lo) >> (56 - number % 8 * 8) & 0xff;
}

/* Goes on where the first 16 bits did not decide: each turn leaves a byte behind. The class. */
CLASSIFY_INLINE __u32 policy_walk(const struct tg_policy *policy, __u32 entry, __u64 hi, __u64 lo)
{
	__u32 next = 2;

	for (int turn = 0; turn < 15 && entry >= TG_POLICY_BLOCK; turn++) {
		__u32 number = entry & TG_POLICY_NUMBER;

		if (entry < TG_POLICY_STEP) {
			const struct tg_policy_block *block =
				policy_at(policy->blocks, number, sizeof(*block));

			entry = block ? block->entry[policy_byte(hi, lo, next)] : 0;
			next++;
		} else {
			const struct tg_policy_step *step =
				policy_at(policy->steps, number, sizeof(*step));

			if (!step)
				return 0;
			if (((hi ^ step->hi) & step->mask_hi) | ((lo ^ step->lo) & step->mask_lo))
				return step->outside;
			entry = step->inside;
			next = step->next;
		}
	}
	return entry;
}

CLASSIFY_INLINE const struct tg_policy_vector *policy_address(
	const struct tg_policy *policy, const struct tg_policy_table *table, __u64 hi, __u64 lo)
{
	__u32 entry = policy_entry(table, hi >> 48);

	if (entry >= TG_POLICY_BLOCK)
		entry = policy_walk(policy, entry, hi, lo);
	return policy_at(policy->vectors, entry, sizeof(struct tg_policy_vector));
}

CLASSIFY_INLINE const struct tg_policy_table *policy_kinds(
	const struct tg_policy *policy, enum policy_part part)
{
	if (part == POLICY_WHOLE)
		return &policy->table[TG_POLICY_KIND];
	return &policy->table[part == POLICY_FIRST_FRAGMENT ? TG_POLICY_FIRST : TG_POLICY_LATER];
}

CLASSIFY_INLINE const struct tg_policy_ports *policy_ports(const struct tg_policy *policy,
	const struct tg_policy_table *table, __u32 port, __u32 none, bool has_ports)
{
	__u32 class = has_ports ? policy_entry(table, port) : none;

	return policy_at(policy->ports, class, sizeof(struct tg_policy_ports));
}

/* The place of the lowest bit that is set (de Bruijn's sequence: BPF has no such instruction). */
CLASSIFY_INLINE __u32 policy_lowest(__u64 bits)
{
	static const __u8 place[64] = { 0, 1, 48, 2, 57, 49, 28, 3, 61, 58, 50, 42, 38, 29, 17, 4,
		62, 55, 59, 36, 53, 51, 43, 22, 45, 39, 33, 30, 24, 18, 12, 5, 63, 47, 56, 27, 60,
		41, 37, 16, 54, 35, 52, 21, 44, 32, 23, 11, 46, 26, 40, 15, 34, 20, 31, 10, 25, 14,
		19, 9, 13, 8, 7, 6 };

	return place[(bits & -bits) * 0x03f79d71b4cb0a89ull >> 58];
}

/* The first rule's number, or TG_POLICY_NO_RULE. `words`: policy->words, a constant where that pays. */
CLASSIFY_INLINE __u32 classify(const struct tg_policy *policy, const struct policy_key *key,
	const bool v6, const __u32 words)
{
	const struct tg_policy_table *table = policy->table;
	const struct tg_policy_vector *src = policy_address(
		policy, &table[v6 ? TG_POLICY_SRC6 : TG_POLICY_SRC4], key->src_hi, key->src_lo);
	const struct tg_policy_vector *dst = policy_address(
		policy, &table[v6 ? TG_POLICY_DST6 : TG_POLICY_DST4], key->dst_hi, key->dst_lo);
	const struct tg_policy_vector *kind = policy_at(policy->vectors,
		policy_entry(policy_kinds(policy, key->part), key->kind), sizeof(*kind));
	const struct tg_policy_ports *sport = policy_ports(
		policy, &table[TG_POLICY_SPORT], key->sport, policy->sport_none, key->has_ports);
	const struct tg_policy_ports *dport = policy_ports(
		policy, &table[TG_POLICY_DPORT], key->dport, policy->dport_none, key->has_ports);

	if (!src || !dst || !kind || !sport || !dport)
		return TG_POLICY_NO_RULE;
	for (__u32 i = 0; i < words && i < TG_POLICY_WORDS; i++) {
		__u64 rules = src->rules[i] & dst->rules[i];

		if (!rules) /* of most words: addresses are what tells rules apart */
			continue;
		rules &= kind->rules[i] & sport->own.rules[i] & dport->own.rules[i];
		if (policy->either)
			rules &= sport->either.rules[i] | dport->either.rules[i];
		if (rules)
			return i * 64 + policy_lowest(rules);
	}
	return TG_POLICY_NO_RULE;
}

#endif
