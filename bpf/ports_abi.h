/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Ports and their policies, as TC (bpf/tc.bpf.c) and, for what is balanced, XDP see them. The tables of
 * all policies lie in one array, `policy_pages`, which is never changed: a policy that changes is
 * compiled into a new array, for which the programs are loaded anew (core/policy.c). So all that a program
 * knows of policies is of one generation, and nothing waits for readers of the old.
 */
#ifndef TIDEGATE_PORTS_ABI_H
#define TIDEGATE_PORTS_ABI_H

#include <linux/types.h>

#include "policy_abi.h"

enum tg_direction { TG_INGRESS, TG_EGRESS, TG_DIRECTIONS };

#define TG_MAX_PORTS 256
#define TG_MAX_TAPS	  32 /* mirrors and captures of an instance */

/*
 * Hash `ports`, by interface index; and again in array `near_ports`, for those whose index is below
 * TG_NEAR_PORTS, so that these cost a load. A port keeps its slot as long as it is declared.
 */
#define TG_NEAR_PORTS 4096
struct tg_port {
	__u32 slot;
	__u32 flags;		    /* TG_PORT_* */
	__u32 taps[TG_DIRECTIONS]; /* bit t: tap t is at work in that direction */
};

#define TG_PORT_NEAR 0x80000000u /* in `near_ports`: there is one with this index */
#define TG_PORT_TC	0x01 /* the TC programs are attached: XDP may hand packets over to them */
#define TG_PORT_CLSACT	0x02 /* as filters of a clsact qdisc (for the controller) */
#define TG_PORT_QDISC	0x04 /* which we made */

/* Array `port_names`, by slot, for the controller alone: whose slot it is. */
#define TG_PORT_NAME 16 /* IF_NAMESIZE */
struct tg_port_name {
	char name[TG_PORT_NAME]; /* empty: nobody's */
};

/*
 * Page 0 of `policy_pages`: where the head of each policy is, 0 if there is none. Page numbers in heads
 * and tables count from the array's beginning. And which ports (bit slot % 32 of word slot / 32) follow
 * flows, as a policy of theirs is TG_POLICY_STATEFUL.
 */
#define TG_POLICY_OF_PORT(slot, direction) ((slot) * TG_DIRECTIONS + (direction))
#define TG_POLICY_OF_TAP(tap)		   (TG_MAX_PORTS * TG_DIRECTIONS + (tap))
#define TG_POLICY_OF_TOP		   TG_POLICY_OF_TAP(TG_MAX_TAPS) /* what tg.top counts */
#define TG_MAX_POLICIES			   (TG_POLICY_OF_TOP + 1)
struct tg_policy_directory {
	__u32 page[TG_MAX_POLICIES];
	__u32 generation; /* another one whenever any policy changes; never 0 */
	__u32 stateful[TG_MAX_PORTS / 32];
};

/* What becomes of what a rule decides. */
enum tg_action { TG_ACTION_ACCEPT, TG_ACTION_DROP, TG_ACTION_REJECT };

#define TG_RULE_LOG   0x01 /* an event policy.drop (policy.accept), sampled */
#define TG_RULE_EVENT 0x02 /* the rule's own event */
#define TG_RULE_AUDIT 0x04 /* counted, and then the packet is accepted */

struct tg_policy_rule {
	__u8 action; /* enum tg_action */
	__u8 flags;  /* TG_RULE_* */
	__u16 pad;
	__u32 counter; /* index into `rule_counters`: the same as long as the rule stays */
};

#define TG_POLICY_STATEFUL  0x01 /* own flow table */
#define TG_POLICY_CONNTRACK 0x02 /* the kernel's */
#define TG_POLICY_JUDGE_ND  0x04 /* ARP and neighbour discovery don't pass of themselves */
#define TG_POLICY_RECHECK   0x08 /* existing = "recheck": flows of another version are judged anew */
/* Later fragments follow the first one of their packet if that was accepted, else are judged by the rules … */
#define TG_POLICY_FOLLOW	0x10
#define TG_POLICY_NO_FRAGMENTS 0x20 /* … or are dropped; with neither, the rules alone say */

struct tg_policy_head {
	struct tg_policy tables;
	struct tg_policy_rule otherwise; /* the default */
	__u32 rules;			 /* the first page of struct tg_policy_rule, by number */
	__u32 flags;			 /* TG_POLICY_* */
	__u32 version;			 /* another one whenever this policy's rules change; never 0 */
	__u32 pad;
};

/* Per-CPU array `rule_counters`. */
#define TG_MAX_RULE_COUNTERS 16384
struct tg_rule_counter {
	__u64 packets;
	__u64 bytes;
	__u64 last; /* ns of the coarse clock (CLOCK_MONOTONIC) */
};

/* Array `rule_keys`, by counter, for the controller alone: a hash of what identifies the rule; 0: nobody's. */
struct tg_rule_key {
	__u64 digest[2];
};

/* First fragments that a policy accepted (TG_POLICY_FOLLOW), their key's `pad` naming it: an LRU hash `policy_fragments`. */
struct tg_policy_fragment {
	__u64 since; /* ns of the coarse clock */
	__u32 rule;  /* counter */
	__u32 pad;
};

#ifndef __bpf__
#include <assert.h>
static_assert(sizeof(struct tg_port) == 16, "abi");
static_assert(sizeof(struct tg_policy_directory) <= TG_POLICY_PAGE, "abi");
static_assert(sizeof(struct tg_policy_rule) == 8, "abi");
static_assert(sizeof(struct tg_policy_head) == 136, "abi");
#endif

#endif
