/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * `tidegate decap` on a backend (bpf/decap.bpf.c, core/decap.c): hash map `addresses`, what is
 * accepted, and per-CPU array `decap_counters`, what became of packets in a tunnel: X(SYMBOL, "text").
 */
#ifndef TIDEGATE_DECAP_ABI_H
#define TIDEGATE_DECAP_ABI_H

#include <linux/types.h>

#define TG_DECAP_MAX_ADDRESSES 1024

struct tg_decap_address {
	__be32 addr[4]; /* IPv4 in addr[0] */
	__u8 v6;
	__u8 inner; /* 1: a destination inside; 0: outside */
	__u16 pad;
};

#define TG_DECAP_COUNTERS(X)                                                                       \
	X(IPIP, "taken out of ipip")                                                               \
	X(GUE, "taken out of gue")                                                                 \
	X(NOT_HERE, "passed: outer destination is not accepted")                                   \
	X(NOT_ACCEPTED, "passed: inner destination is no VIP here")                                \
	X(FRAGMENT, "passed: outer packet is a fragment")                                          \
	X(MALFORMED, "passed: lengths or headers that contradict, or a variant of gue that is not known") \
	X(CONGESTED, "dropped: congestion marked on a packet whose ends don't know ECN (RFC 6040)")

enum tg_decap_counter {
#define TG_DECAP_ENUM(symbol, text) TG_DECAP_##symbol,
	TG_DECAP_COUNTERS(TG_DECAP_ENUM)
#undef TG_DECAP_ENUM
	TG_DECAP_COUNTER_COUNT
};

#ifndef __bpf__
#include <assert.h>
static_assert(sizeof(struct tg_decap_address) == 20, "abi");
#endif

#endif
