/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Policies as the programs read them (bpf/ports_abi.h): each is compiled by itself, once, into pages of its
 * own; all that are to be in force are then laid out together behind their directory, as the content of
 * the array `policy_pages`, which is made anew whenever any of them changes. Knows nothing of Lua, of
 * ports or of how programs are loaded, and may run on any thread.
 */
#ifndef TG_POLICY_H
#define TG_POLICY_H

#include "addr.h"
#include "classify.h"
#include "error.h"
#include "ports_abi.h"

#include <stddef.h>
#include <stdint.h>

struct tg_policy_spec {
	const struct tg_rule *rules;	   /* in order: what packets they match */
	const struct tg_policy_rule *does; /* and what each does */
	size_t count;
	struct tg_policy_rule otherwise; /* the default */
	uint32_t flags;			 /* TG_POLICY_* */
};

/*
 * The first page begins with the head. Page numbers in it count from that page. All zero is "none", and may
 * be freed.
 */
struct tg_compiled_policy {
	void *pages;
	uint32_t page_count;
};

/*
 * 0, and the policy is to be freed; or as tg_classify: -E2BIG, -ENOMEM. `findings`, if not NULL, has room for one
 * a rule: which can never decide.
 */
int tg_policy_compile(const struct tg_policy_spec *spec, struct tg_compiled_policy *policy,
	struct tg_rule_finding *findings, struct tg_error *error);
void tg_policy_free(struct tg_compiled_policy *policy);

static inline const struct tg_policy_head *tg_policy_head(const struct tg_compiled_policy *policy)
{
	return policy->pages;
}

/* What the rule of this number does, from 0; TG_POLICY_NO_RULE: what the default does. */
const struct tg_policy_rule *tg_policy_rule(const struct tg_compiled_policy *policy, uint32_t rule);

/* A packet, as far as policies look. `src` and `dst` are of one family. */
struct tg_policy_packet {
	struct tg_addr src, dst;
	uint8_t proto;
	uint8_t tcp_flags, icmp_type;
	uint16_t sport, dport; /* host order; of TCP and UDP */
	enum tg_policy_packet_part { TG_PACKET_WHOLE, TG_PACKET_FIRST, TG_PACKET_LATER } part;
};

/* The number of the first rule that matches, from 0, or TG_POLICY_NO_RULE: by the programs' own code. */
uint32_t tg_policy_match(
	const struct tg_compiled_policy *policy, const struct tg_policy_packet *packet);

/* All policies that are to be in force. */
struct tg_policy_pages {
	void *pages;	/* the first one is the directory */
	uint32_t count; /* at least 1 */
	uint32_t words; /* of rule vectors that the largest has: `policy_words` of bpf/maps.h */
	uint64_t hash;	/* equal pages have the same, also in another process */
};

/*
 * Lays out policies by TG_POLICY_OF_PORT and TG_POLICY_OF_TAP; NULL: none. 0, and the pages are to be freed; or
 * -ENOMEM.
 */
int tg_policy_lay_out(const struct tg_compiled_policy *const policies[TG_MAX_POLICIES],
	struct tg_policy_pages *pages, struct tg_error *error);
void tg_policy_pages_free(struct tg_policy_pages *pages);

#endif
