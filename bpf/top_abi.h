/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Tops: who sends most, or gets most, of what matches, while somebody asks (bpf/top.h, lua/tidegate/top.lua). One at a
 * time; what the maps have of an earlier one is told by its number.
 */
#ifndef TIDEGATE_TOP_ABI_H
#define TIDEGATE_TOP_ABI_H

#include <linux/types.h>

#define TG_TOP_HOSTS   16384 /* that are told apart; beyond that those are forgotten that were not seen for longest */
#define TG_TOP_ANSWERS 16384 /* handshakes that wait for their last packet */
#define TG_TOP_ANY_PORT 0xffffffffu

/* Array `top`, of one. */
struct tg_top {
	__u64 until; /* ns of the coarse clock (CLOCK_MONOTONIC); 0: there is none */
	__u32 run;   /* counts them */
	__u32 by;    /* 0: by source, 1: by destination */
	__u32 slot;  /* of the port that it is of, or TG_TOP_ANY_PORT */
	__u32 pad;
};

/* LRU per-CPU hash `top_counts`. */
struct tg_top_key {
	__be32 addr[4]; /* IPv4 mapped */
	__u32 run;
};

struct tg_top_count {
	__u64 packets;
	__u64 bytes;
	__u64 completed; /* handshakes */
	__u64 unseen;	 /* packets for which the answers don't come by here */
};

/* LRU hash `top_answers`: the second packet of a handshake, by the client that it goes to. */
struct tg_top_client {
	__be32 addr[4];
	__u32 run;
	__u16 port; /* host order */
	__u16 pad;
};

struct tg_top_answer {
	__u32 acknowledges; /* what the third one will, host order */
	__u32 from;	    /* the interface that it came in by; 0: of the switch itself */
};

#ifndef __bpf__
#include <assert.h>
static_assert(sizeof(struct tg_top) == 24, "abi");
static_assert(sizeof(struct tg_top_key) == 20, "abi");
static_assert(sizeof(struct tg_top_count) == 32, "abi");
static_assert(sizeof(struct tg_top_client) == 24, "abi");
static_assert(sizeof(struct tg_top_answer) == 8, "abi");
#endif

#endif
