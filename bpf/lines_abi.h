/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The line table: flows that need an entry, 8 to a cache line (bpf/lines.h). An entry is one 64-bit
 * word, inserted by compare-and-swap, zero when free: where a flow of the balancer goes, or, with
 * backend 0, one of nat's exceptions. It is confirmed by a packet of its flow that does not begin it.
 *
 * The controller ticks the epoch and clears what has not been used for TG_IDLE_EPOCHS; of what is
 * not confirmed, for TG_NEW_EPOCHS, so that a flood of SYNs can't fill the table.
 *
 * A bit a line in `line_marks` says that it may hold something, so that a look into an empty table
 * stays in the first level cache. Set after an entry's insertion; cleared by the controller, which
 * then looks at the line again.
 */
#ifndef TIDEGATE_LINES_ABI_H
#define TIDEGATE_LINES_ABI_H

#include <linux/types.h>

#define TG_LINE_ENTRIES  8
#define TG_DEFAULT_LINES 196608 /* 12 MiB: 1,572,864 flows */
#define TG_MAX_FLOWS	 (1u << 28)
struct tg_line {
	__u64 entry[TG_LINE_ENTRIES];
} __attribute__((aligned(64)));

#define TG_ENTRY(fingerprint, epoch, confirmed, backend)                                           \
	((__u64)(fingerprint) << 24 | (__u64)(__u8)(epoch) << 16 | (__u64)(confirmed) << 15 | (backend))
#define TG_ENTRY_FINGERPRINT(entry) ((entry) >> 24)
#define TG_ENTRY_EPOCH(entry)       ((__u8)((entry) >> 16))
#define TG_ENTRY_CONFIRMED(entry)   ((__u32)((entry) >> 15) & 1)
#define TG_ENTRY_BACKEND(entry)     ((__u32)(entry) & 0x7fff)

/*
 * Where a flow stands in the table, from its hash: the upper half says the line (tg_slot_of), the lower
 * 40 bits the fingerprint, never 0. The halves of the hash change places, so that the flows of one
 * slot, whose hashes begin alike, are spread over all lines.
 */
#define TG_LINE_KEY(hash)	 ((hash) << 32 | (hash) >> 32)
#define TG_LINE_FINGERPRINT(key) (((key) & 0xffffffffff) | 1ull << 39)

#define TG_IDLE_SECONDS 300 /* by default: after so long a silence, a flow is forgotten */
#define TG_IDLE_EPOCHS	30  /* the same in epochs, whatever it is in seconds */
#define TG_NEW_EPOCHS	2

/*
 * How many new flows a client began to have entered in this epoch: a sketch of TG_CLIENT_ROWS rows, each
 * element {epoch:32, count:32}. Clients that meet in a row are counted together, so that the lowest
 * of its counts is the client's, or too high.
 */
#define TG_CLIENT_ROWS	   2
#define TG_CLIENT_CELLS	   16384 /* a row, a power of two */
#define TG_DEFAULT_NEWCOMERS 4096 /* new flows a client and epoch */

/* What became of flows that were to be entered, per CPU: array `flow_counters`. X(SYMBOL, "name"). */
#define TG_FLOW_COUNTS(X)                                                                          \
	X(ENTERED, "entered")                                                                      \
	X(FULL, "full")		/* all of the line's entries are taken */                          \
	X(LIMITED, "limited")	/* the client has too many of this epoch */

enum tg_flow_count {
#define TG_FLOW_COUNT_ENUM(symbol, name) TG_FLOWS_##symbol,
	TG_FLOW_COUNTS(TG_FLOW_COUNT_ENUM)
#undef TG_FLOW_COUNT_ENUM
	TG_FLOWS_COUNT
};

/* What the controller tells running programs: array `clock`, one mapped element. */
struct tg_clock {
	__u32 epoch;       /* its low 8 bits stand in line entries */
	__u32 index_lines; /* of the endpoint index, 0: not to be used */
	__u32 newcomers;   /* how many flows a client may have entered in an epoch; 0: any number */
	__u32 taps;	   /* bit t: tap t is at work on some port (bpf/tap_abi.h) */
	__u32 generic;	   /* 1: XDP is generic on some port, or was (bpf/headless.h) */
};

#ifndef __bpf__
#include <assert.h>
static_assert(sizeof(struct tg_line) == 64, "abi");
#endif

#endif
