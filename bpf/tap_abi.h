/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Taps: what copies packets of a port. A mirror sends them out by a device, a capture puts them into a ring
 * for user space. Array `taps`, mapped: the controller fills an element, then sets its bit in the
 * ports that it is of. A tap ends by itself, also with no controller: at a time, or after so many packets.
 */
#ifndef TIDEGATE_TAP_ABI_H
#define TIDEGATE_TAP_ABI_H

#include <linux/types.h>

enum tg_tap_kind { TG_TAP_OFF, TG_TAP_MIRROR, TG_TAP_CAPTURE };

struct tg_tap {
	__u32 kind;	 /* enum tg_tap_kind */
	__u32 ifindex;	 /* of a mirror: the device that copies leave by */
	__u32 sample;	 /* one packet in so many; 0 and 1: each */
	__u32 snap;	 /* of a capture: bytes of a packet at most */
	__u64 until;	 /* ns of the coarse clock (CLOCK_MONOTONIC); 0: without an end in time */
	__u64 packets;	 /* it ends after so many; 0: without */
	__u32 rate;	 /* copies a second at most; 0: any number */
	__u32 start;	 /* counts its starts: records of an earlier one are told by it */
	__u64 taken;	 /* written by programs: packets so far, of this start */
	__u64 allowed;	 /* written by programs: of `rate`, see bpf/tap.h */
	__u32 down;	 /* of a mirror: the controller last saw the device without a carrier, or down */
	__u32 pad;
} __attribute__((aligned(64)));

/*
 * Array `tap_owners`, for the controller alone: who has the tap, so that a later daemon knows it again, by all
 * that was asked for (`asked` is a hash of it).
 */
struct tg_tap_owner {
	char name[64]; /* empty: the tap is free */
	char port[16];
	__u64 asked;
	__u32 directions; /* bit 1 << enum tg_direction */
	__u32 pad;
};

/* Per-CPU array `tap_counters`, by tap * TG_TAP_COUNT + what. X(SYMBOL, "name"), each {packets, bytes}. */
#define TG_TAP_COUNTS(X)                                                                           \
	X(COPIED, "copied")                                                                        \
	X(SKIPPED, "skipped")	    /* by sampling */                                              \
	X(LIMITED, "limited")	    /* beyond `rate` */                                            \
	X(LOOPED, "looped")	    /* is a copy itself */                                         \
	X(DEVICE_DOWN, "device-down")                                                              \
	X(DEVICE_GONE, "device-gone")                                                              \
	X(DEVICE_FULL, "device-full") /* its queue, or the next one's */                           \
	X(RING_FULL, "ring-full")   /* of a capture: user space did not keep up */                 \
	X(FAILED, "failed")	    /* otherwise */                                                \
	X(MISSED, "missed")	    /* forwarded by XDP on a device that can't hand packets to TC */

enum tg_tap_count {
#define TG_TAP_COUNT_ENUM(symbol, name) TG_TAPPED_##symbol,
	TG_TAP_COUNTS(TG_TAP_COUNT_ENUM)
#undef TG_TAP_COUNT_ENUM
	TG_TAP_COUNT
};

/*
 * A captured packet: a record of the ring buffer `captures`. Its bytes, TG_RECORD_BYTES of them or fewer,
 * follow; the record's size is that of a class, so it may have more room.
 */
struct tg_record {
	__u64 time; /* ns of CLOCK_MONOTONIC */
	__u32 tap;
	__u32 start; /* of the tap */
	__u32 ifindex;
	__u32 length;	/* of the packet on the wire */
	__u32 captured; /* bytes that follow */
	__u8 direction; /* enum tg_direction */
	__u8 verdict;	/* enum tg_action, or TG_RECORD_FORWARDED, TG_RECORD_UNJUDGED */
	__u16 reason;	/* enum tg_reason, TG_REASON_NONE: there is none */
	__u32 rule;	/* counter of the rule that decided, or TG_NO_RULE */
	__be16 vlan_proto; /* of a tag that is not among the bytes; 0: there is none */
	__u16 vlan_tci;
};
#define TG_RECORD_FORWARDED 0x10 /* by XDP, to a backend or back */
#define TG_RECORD_UNJUDGED  0x11 /* the port has no policy in this direction */
#define TG_RECORD_BYTES	    65536
#define TG_NO_RULE	    0xffffffffu
#define TG_CAPTURE_RING	    (16 << 20) /* bytes, by default */

/*
 * What XDP leaves before a packet (bpf_xdp_adjust_meta) that it forwards while a tap wants it: TC makes the
 * copies and forwards it (bpf/handover.h).
 */
#define TG_HANDOVER_MAGIC 0x7d9a7e00u
struct tg_handover {
	__u32 magic;
	__u32 from;    /* interface that it came in by */
	__u32 to;      /* interface that it is to leave by, rewritten as it is */
	__u32 taps;    /* those of the ingress port that match it, as it came in */
};

/* skb->tc_index while a packet is ours. */
#define TG_MARK_COPY	  0x7460 /* a tap's copy on its way out: no policy judges it, no tap copies it */
#define TG_MARK_FORWARDED 0x7461 /* leaves by XDP's verdict: the egress port's policy does not judge it */
#define TG_MARK_TRACKED	  0x7462 /* its flow has counted it, when it came in */
#define TG_MARK_ANSWER	  0x7463 /* made by a reject on egress, for the stack: not judged when it comes in */
#define TG_MARK_SEEN	  0x7464 /* a copy that came in again: judged as any packet, copied by no tap */

#ifndef __bpf__
#include <assert.h>
static_assert(sizeof(struct tg_tap) == 64, "abi");
static_assert(sizeof(struct tg_tap_owner) == 96, "abi");
static_assert(sizeof(struct tg_record) == 40, "abi");
static_assert(sizeof(struct tg_handover) == 16, "abi");
#endif

#endif
