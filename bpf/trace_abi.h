/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The log of a traced packet (bpf/trace.h, core/trace.c): the tables that it consulted, in order. How to
 * show the words of each, X(SYMBOL, "table", "key", "value"): fields "name:type", with the types of
 * lua/tidegate/trace/words.lua; an unnamed one stands for itself. A step of the datapath that consults
 * something adds a line.
 */
#ifndef TIDEGATE_TRACE_ABI_H
#define TIDEGATE_TRACE_ABI_H

#include <linux/types.h>

#define TG_STEPS(X)                                                                                \
	X(DENY, "deny", "ip", "class:class counted:flag")                                          \
	X(VIP, "vips", "endpoint", "vip")                                                          \
	X(ADDRESS, "vips", "ip", "") /* has the source VIPs? */                                    \
	X(RANGE, "ranges", "endpoint", "vip")                                                      \
	X(QUIC, "quic_servers", "service:u32 id:u32", "backend:backend")                           \
	X(RING, "rings", "ring:u32 slot:u32", "home:backend next:backend t:u32")                   \
	X(BACKEND, "backends", "index:u32", "backend:backend hop:hop mtu:u32")                     \
	X(FIB, "fib", "ip", "hop:hop") /* the kernel's routes and neighbours */                    \
	X(PORT, "tx_ports", "device", "")                                                          \
	X(REVERSE, "reverse", "endpoint", "vip:ip port:port backend:backend")                      \
	X(RANGE_BACK, "ranges", "endpoint", "vip:ip port:port backend:backend")                    \
	X(ROUTE, "routes", "ip", "hop:hop local:flag mtu:u32")                                     \
	X(LINE, "lines", "line:u32 flow:hex64", "backend:backend epoch:u32 confirmed:flag")        \
	X(ENTER, "lines", "new:u32 flow:hex64", "enters:backend") /* a miss: it can't be entered */ \
	X(FRAGMENT, "fragments", "source:ip dest:ip id:u32 proto:u32", "backend:backend fate:u32") \
	X(POLICY, "policies", "policy", "rule:rule action:action audit:flag")                      \
	X(FOLLOW, "policy_fragments", "source:ip dest:ip id:u32 proto:u32", "rule:rule")            \
	X(FLOW, "flows", "low:endpoint high:endpoint", "state:state fits:flag rule:rule")          \
	X(TAP, "taps", "tap:u32", "outcome:tapped")

enum tg_step {
#define TG_STEP_ENUM(symbol, table, key, value) TG_STEP_##symbol,
	TG_STEPS(TG_STEP_ENUM)
#undef TG_STEP_ENUM
	TG_STEP_COUNT
};

#define TG_TRACE_STEPS	     64 /* a power of two; a longer way overwrites its beginning */
#define TG_TRACE_KEY_WORDS   11
#define TG_TRACE_VALUE_WORDS 13

struct tg_trace_step {
	__u8 kind; /* enum tg_step */
	__u8 v6;   /* of which family its addresses are */
	__u8 hit;
	__u8 key_words;
	__u8 value_words;
	__u8 pad[3];
	__u32 key[TG_TRACE_KEY_WORDS];
	__u32 value[TG_TRACE_VALUE_WORDS];
};

struct tg_trace_log {
	__u32 count; /* steps taken, also those overwritten */
	__u32 reason;
	struct tg_trace_step step[TG_TRACE_STEPS];
};

#ifndef __bpf__
#include <assert.h>
static_assert(sizeof(struct tg_trace_step) == 104, "abi");
#endif

#endif
