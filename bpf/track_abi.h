/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Flows of stateful policies: one entry for both directions (bpf/track.h). Two tables with the same keys and
 * values: hash `flows` has those that both sides are known to speak in, and never evicts; LRU hash
 * `embryos` all that are younger, so that a flood can push out nothing but its like. TCP gets into the former
 * when its handshake is over; others when who began has spoken again after an answer. core/tracks.c
 * removes what has expired; the programs take what has expired for not there.
 */
#ifndef TIDEGATE_TRACK_ABI_H
#define TIDEGATE_TRACK_ABI_H

#include <linux/types.h>

#define TG_DEFAULT_TRACKED 65536 /* entries of either table */

/*
 * Side 0 is the one whose {address, port} is the lower by memcmp(). IPv4 as ::ffff:a.b.c.d. Of ICMP, the port
 * of who asks is the identifier, that of who answers the request's type. Protocols without ports: 0.
 */
struct tg_track_id {
	__be32 addr[2][4];
	__be16 port[2];
	__u8 proto;
	__u8 pad[3];
};

/* X(SYMBOL, "name", seconds after which a silent flow has expired): the timeouts can be set. */
#define TG_TRACK_STATES(X)                                                                         \
	X(SYN_SENT, "syn-sent", 30)	    /* a SYN */                                            \
	X(SYN_RECEIVED, "syn-received", 30) /* its answer */                                       \
	X(ESTABLISHED, "established", 7200)                                                        \
	X(FIN_WAIT, "fin-wait", 120)  /* one side has closed */                                    \
	X(CLOSING, "closing", 30)     /* both have */                                              \
	X(TIME_WAIT, "time-wait", 30) /* and both have been acknowledged */                        \
	X(CLOSED, "closed", 5)	      /* by a reset */                                             \
	X(UDP_NEW, "udp-new", 30)     /* one side has spoken */                                    \
	X(UDP, "udp", 180)                                                                         \
	X(ICMP, "icmp", 30)	      /* echo and the like */                                      \
	X(OTHER_NEW, "other-new", 30) /* other protocols: one side has spoken */                   \
	X(OTHER, "other", 600)                                                                     \
	X(CUT, "cut", 0) /* the policy that let it in no longer does */

enum tg_track_state {
#define TG_TRACK_STATE_ENUM(symbol, name, seconds) TG_TRACK_STATE_##symbol,
	TG_TRACK_STATES(TG_TRACK_STATE_ENUM)
#undef TG_TRACK_STATE_ENUM
		TG_TRACK_STATE_COUNT
};

/*
 * A side of a flow: what it sent. TCP's fields are in host order, and what a side has not said yet is as the
 * other one's first packet supposes.
 */
struct tg_track_side {
	__u64 packets, bytes;
	__u32 end;    /* the next sequence number that it will send: the highest + 1 so far */
	__u32 ack;    /* the highest that it acknowledged */
	__u32 window; /* the largest that it offered, scaled */
	__u8 scale;   /* of its windows; TG_TRACK_NO_SCALE: it said none */
	__u8 flags;   /* TCP flags seen from it, or'ed */
	__u16 pad;
};
#define TG_TRACK_NO_SCALE 0xff

/*
 * A policy that a flow passed in the direction of its origin: each that it meets judges it once. What answers
 * passes all of them.
 */
struct tg_track_gate {
	__u32 version; /* of that policy then (struct tg_policy_head); 0: there was none */
	__u32 rule;    /* counter of the rule that let it in; ~0: none of now */
	__u32 policy;  /* TG_POLICY_OF_PORT; TG_TRACK_NO_GATE: none */
};
#define TG_TRACK_GATES	 2 /* a forwarded packet comes in and leaves */
#define TG_TRACK_NO_GATE 0xffffffff

struct tg_track {
	struct tg_track_side side[2];
	__u64 since, seen; /* ns of the coarse clock (CLOCK_MONOTONIC) */
	struct tg_track_gate gate[TG_TRACK_GATES];
	__u32 generation; /* of all policies (struct tg_policy_directory) when they last agreed to it */
	__u8 state;	  /* enum tg_track_state */
	__u8 origin;	  /* the side that began it */
	__u8 detail;	  /* of its first packet: TCP's flags, ICMP's type */
	__u8 full_since; /* seconds (lowest bits): `flows` had no room for it; 0: it was not tried */
};

/* What the controller tells the programs: array `track_settings`, one mapped element. All zero is the default. */
struct tg_track_settings {
	__u64 timeout_ns[TG_TRACK_STATE_COUNT]; /* 0: the default's */
	/*
	 * Until then (ns of the coarse clock) TCP that the rules accept is followed from the middle on, as
	 * its handshake was before our time; ~0: always. Later, only a SYN begins a flow.
	 */
	__u64 pick_up_until;
	__u32 new_sample; /* one new flow in so many is an event flow.new; 0: none */
	__u32 pad;
};

/* Per-CPU array of __u64 `track_counters`: what became of flows. X(SYMBOL, "name"). */
#define TG_TRACK_COUNTS(X)                                                                         \
	X(BEGUN, "begun")                                                                          \
	X(CONFIRMED, "confirmed")                                                                  \
	X(PICKED_UP, "picked-up") /* TCP, from the middle on */                                    \
	X(FULL, "full")		  /* stays among the embryos: `flows` has no room */               \
	X(REFUSED, "refused") /* nor could it be an embryo: its packets are judged by the rules */ \
	X(INVALID, "invalid") /* a RST, FIN or SYN that does not fit: judged by the rules */       \
	X(STRAY, "stray")     /* other TCP that does not fit: passes, and changes nothing */       \
	X(RELATED, "related") /* ICMP errors about a flow */                                       \
	X(RECHECKED, "rechecked")                                                                  \
	X(CUT, "cut") /* rechecked, and no longer let in */

enum tg_track_count {
#define TG_TRACK_COUNT_ENUM(symbol, name) TG_TRACK_##symbol,
	TG_TRACK_COUNTS(TG_TRACK_COUNT_ENUM)
#undef TG_TRACK_COUNT_ENUM
		TG_TRACK_COUNT
};

#ifndef __bpf__
#include <assert.h>
static_assert(sizeof(struct tg_track_id) == 40, "abi");
static_assert(sizeof(struct tg_track_side) == 32, "abi");
static_assert(sizeof(struct tg_track) == 112, "abi");
#endif

#endif
