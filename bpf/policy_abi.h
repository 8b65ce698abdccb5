/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A compiled policy: the tables by which bpf/classify.h finds the first rule that matches a packet.
 * core/classify.c makes them. Both sides include this file.
 *
 * Bit vectors (Lakshman, Stiliadis, "High-speed policy-based packet forwarding using efficient
 * multi-dimensional range matching", SIGCOMM 1998): a packet's value in a field leads to a class, the
 * class to a vector with a bit for each rule that the value matches. The vectors of all fields, ANDed,
 * tell the rules that match; the lowest bit is the first.
 *
 * All tables lie in pages of one array, numbered from 1 within a policy as it is compiled, and in the
 * datapath's array (bpf/ports_abi.h) from its beginning.
 */
#ifndef TIDEGATE_POLICY_ABI_H
#define TIDEGATE_POLICY_ABI_H

#include <linux/types.h>

#define TG_POLICY_RULES	  1024
#define TG_POLICY_WORDS	  (TG_POLICY_RULES / 64)
#define TG_POLICY_NO_RULE TG_POLICY_RULES
#define TG_POLICY_PAGE	  4096 /* bytes */

struct tg_policy_page {
	__u8 byte[TG_POLICY_PAGE];
};

/* One bit a rule; only the first `words` of a policy's vectors are used. */
struct tg_policy_vector {
	__u64 rules[TG_POLICY_WORDS];
};

/* Of a port: the rules whose own field (source or destination) it matches, and whose "either" it does. */
struct tg_policy_ports {
	struct tg_policy_vector own, either;
};

/*
 * What the tables say of a value: a class (the number of a vector, or of a pair of a port's), or where
 * to look on. Of an address only: the number of a block or of a step.
 */
#define TG_POLICY_BLOCK	 0x8000
#define TG_POLICY_STEP	 0xc000
#define TG_POLICY_NUMBER 0x3fff
#define TG_POLICY_MOST	 (TG_POLICY_NUMBER + 1) /* of each kind */

/* What the next byte of an address says. */
struct tg_policy_block {
	__u16 entry[256];
};

/* A prefix on the way: whether the address has it, and how to go on at byte `next` if so. A cache line. */
struct tg_policy_step {
	__u64 hi, lo, mask_hi,
		mask_lo; /* of the address, host order; IPv4: its 32 bits are hi's upper ones */
	__u16 inside;	 /* an entry */
	__u16 outside;	 /* a class */
	__u32 next;
	__u64 pad[3];
};

/* A table of 65,536 entries, or, where page is 0, one entry for all values. */
struct tg_policy_table {
	__u32 page;
	__u32 entry;
};

enum tg_policy_field {
	TG_POLICY_SRC4, /* by the first 16 bits */
	TG_POLICY_DST4,
	TG_POLICY_SRC6,
	TG_POLICY_DST6,
	TG_POLICY_SPORT,
	TG_POLICY_DPORT,
	TG_POLICY_KIND,	 /* by TG_POLICY_KIND_OF, of whole packets */
	TG_POLICY_FIRST, /* the same, of first fragments */
	TG_POLICY_LATER, /* and of later ones, whose detail is 0 */
	TG_POLICY_FIELDS,
};

/* `detail`: TCP's flags, ICMP's type, of other protocols 0. */
#define TG_POLICY_KIND_OF(proto, detail) ((__u32)(proto) << 8 | (detail))

struct tg_policy {
	struct tg_policy_table table[TG_POLICY_FIELDS];
	__u32 blocks, steps, vectors, ports; /* the first page of each */
	__u32 sport_none, dport_none;	     /* classes of what has no ports */
	__u32 rules;
	__u32 words;
	__u32 either; /* 1: some rule matches either port */
	__u32 pad;
};

#define TG_POLICY_PER_PAGE(type) (TG_POLICY_PAGE / (__u32)sizeof(type))

_Static_assert(sizeof(struct tg_policy_step) == 64, "a cache line");
_Static_assert(sizeof(struct tg_policy) == 112, "no padding");

#endif
