/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Compiles an ordered list of rules, of which the first that matches decides, into the tables of
 * bpf/policy_abi.h, and tells which rules can never decide. It knows nothing of Lua, maps or actions,
 * and may run on any thread: a thousand rules take about a tenth of a second.
 */
#ifndef TG_CLASSIFY_H
#define TG_CLASSIFY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cidr.h"
#include "error.h"
#include "policy_abi.h"

struct tg_port_range {
	uint16_t first, last; /* host order; first <= last */
};

enum tg_rule_fragment {
	TG_RULE_ANY_PACKET,
	TG_RULE_FRAGMENTS, /* first ones and later ones */
	TG_RULE_NO_FRAGMENTS,
};

/*
 * What a packet must be for the rule to match. Of each list one has to match, and an empty one always
 * does. A rule whose prefixes are all of one family matches packets of that family alone. Later fragments
 * show no ports, flags or types: a rule that asks for one of these doesn't match them.
 */
struct tg_rule {
	const struct tg_cidr *src, *dst;
	const struct tg_port_range *sport, *dport;
	const struct tg_port_range *port; /* the source's or the destination's */
	const uint8_t *protos;
	const uint8_t *icmp_types; /* of ICMP or ICMPv6, as `protos` says */
	uint32_t src_count, dst_count, sport_count, dport_count, port_count, proto_count,
		icmp_type_count;
	uint8_t tcp_mask, tcp_flags; /* TCP's flags & mask must be these; mask 0: not asked */
	enum tg_rule_fragment fragment;
};

struct tg_classifier {
	struct tg_policy policy;
	void *pages; /* what is page 1 to the policy stands first */
	uint32_t page_count;
};

/*
 * 0, and the classifier is to be freed; or -E2BIG (more than TG_POLICY_RULES, or prefixes that need more
 * tables than there may be), -ENOMEM.
 */
int tg_classify(const struct tg_rule *rules, size_t count, struct tg_classifier *classifier,
	struct tg_error *error);
void tg_classifier_free(struct tg_classifier *classifier);

enum tg_rule_fault {
	TG_RULE_SOUND,
	TG_RULE_DUPLICATE, /* an earlier rule matches just the same packets */
	TG_RULE_SHADOWED,  /* an earlier rule matches them all, and others */
	TG_RULE_VOID,	   /* no packet can match it */
};

struct tg_rule_finding {
	enum tg_rule_fault fault;
	uint32_t by; /* the first such earlier rule */
};

/*
 * What is wrong with each rule. A rule that only several earlier ones together leave nothing to decide
 * counts as sound. `findings` has room for as many as the rules that were compiled. 0 or -ENOMEM.
 */
int tg_classifier_examine(const struct tg_classifier *classifier, struct tg_rule_finding *findings);

#endif
