/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the datapath tells the controller of itself: records of the ring buffer `events` (bpf/event.h), and
 * counters from which rates are made (bpf/rates.h).
 */
#ifndef TIDEGATE_EVENT_ABI_H
#define TIDEGATE_EVENT_ABI_H

#include <linux/types.h>

#define TG_EVENT_RING (4 << 20) /* bytes */

/* X(SYMBOL, "name in scripts") */
#define TG_EVENTS(X)                                                                               \
	X(POLICY_DROP, "policy.drop")	  /* a rule with `log`, or the default with it */          \
	X(POLICY_ACCEPT, "policy.accept")                                                          \
	X(RULE, "policy.rule")		  /* a rule with `event`, under the name that it gives */  \
	X(FLOW_NEW, "flow.new")                                                                    \
	X(FLOW_END, "flow.end")		  /* from core/tracks.c, not by the ring */                 \
	X(DENY_HIT, "deny.hit")

enum tg_event_kind {
#define TG_EVENT_ENUM(symbol, name) TG_EVENT_##symbol,
	TG_EVENTS(TG_EVENT_ENUM)
#undef TG_EVENT_ENUM
	TG_EVENT_COUNT
};

struct tg_packet_event {
	__u64 time; /* ns of the coarse clock (CLOCK_MONOTONIC) */
	__u8 kind;  /* enum tg_event_kind */
	__u8 family; /* 4 or 6; 0: the packet could not be told what it is */
	__u8 proto;
	__u8 direction; /* enum tg_direction */
	__u32 ifindex;
	__be32 src[4], dst[4]; /* IPv4 in the first */
	__be16 sport, dport;   /* of ICMP: its type in the first */
	__u32 length;	       /* of the packet */
	__u32 rule;	       /* counter; of DENY_HIT the class */
	__u16 reason;	       /* enum tg_reason */
	__u8 action;	       /* enum tg_action: what the rule says */
	__u8 tcp_flags;
	__u32 sample; /* one packet in so many is told; 1: each */
	__u32 flags;  /* TG_RULE_* of the rule */
};

/* What limits events that are sampled: per-CPU array `event_limits`, by kind (see bpf/event.h). */
struct tg_event_limit {
	__u64 window;	   /* in which these were: */
	__u32 seen, told;
	__u32 shift;	   /* one in 2^shift is told */
	__u32 class;	   /* of DENY_HIT: the list that has the packet's source (bpf/deny.h) */
};

/* Per-CPU array `event_counters` of __u64, by kind * 3 + what: told, lost (the ring was full), left out (sampling, limits). */
enum tg_event_count { TG_EVENT_TOLD, TG_EVENT_LOST, TG_EVENT_LEFT_OUT, TG_EVENT_COUNTS };

/*
 * What ports count: per-CPU array `port_counters`, by TG_POLICY_OF_PORT(slot, direction). X(SYMBOL, "name").
 * XDP counts what never reaches TC.
 */
#define TG_PORT_COUNTS(X)                                                                          \
	X(PACKETS, "packets")                                                                      \
	X(BYTES, "bytes")                                                                          \
	X(TCP, "tcp")                                                                              \
	X(TCP_SYN, "tcp_syn") /* without ACK */                                                    \
	X(TCP_RST, "tcp_rst")                                                                      \
	X(UDP, "udp")                                                                              \
	X(ICMP, "icmp")                                                                            \
	X(FRAGMENTS, "fragments")                                                                  \
	X(DROPS, "drops")

enum tg_port_count {
#define TG_PORT_COUNT_ENUM(symbol, name) TG_PORT_COUNT_##symbol,
	TG_PORT_COUNTS(TG_PORT_COUNT_ENUM)
#undef TG_PORT_COUNT_ENUM
	TG_PORT_COUNT_COUNT
};

struct tg_port_counters {
	__u64 count[TG_PORT_COUNT_COUNT];
};

#ifndef __bpf__
#include <assert.h>
static_assert(sizeof(struct tg_packet_event) == 72, "abi");
#endif

#endif
