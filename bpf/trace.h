/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Tracing: what a packet would meet, without a trace of it left. The same source is compiled twice:
 * xdp.bpf.c is what runs on ports, trace.bpf.c the same with TG_TRACING, which core/trace.c runs on one
 * packet, on the live tables. In the former nothing of this file is left. In the latter
 *
 *   - nothing that others can see is changed. What a step writes to a map goes through state_*()
 *     below; counters, samples and the like begin with `if (tracing) return`;
 *   - note() says which table is consulted and by which key, note_hit() what was found there. The
 *     steps and how their words are shown: TG_STEPS in trace_abi.h.
 *
 *	note(ROUTE, v6, IP_WORDS(dest, v6));
 *	route = bpf_map_lookup_elem(…);
 *	if (route)
 *		note_hit(HOP_WORDS(&route->hop), route->flags, route->mtu);
 */
#ifndef TIDEGATE_TRACE_H
#define TIDEGATE_TRACE_H

#include <linux/types.h>
#include <stdbool.h>

#include <bpf/bpf_helpers.h>

#include "tidegate_abi.h"

#ifdef TG_TRACING
#define tracing true
struct tg_trace_log trace_log; /* the only memory that a tracing program writes */
#else
#define tracing	  false
#define trace_log (*(struct tg_trace_log *)0) /* named only where `tracing` is tested */
#endif

#define TRACE_STEP(nth) (&trace_log.step[(nth) & (TG_TRACE_STEPS - 1)])

static __always_inline void trace_step(__u32 kind, bool v6, const __u32 *words, const __u32 count)
{
	struct tg_trace_step *step = TRACE_STEP(trace_log.count);

	trace_log.count++;
	step->kind = kind;
	step->v6 = v6;
	step->hit = 0;
	step->key_words = count;
	step->value_words = 0;
#pragma unroll
	for (__u32 i = 0; i < count; i++)
		step->key[i] = words[i];
}

static __always_inline void trace_hit(const __u32 *words, const __u32 count)
{
	struct tg_trace_step *step = TRACE_STEP(trace_log.count - 1);

	step->hit = 1;
	step->value_words = count;
#pragma unroll
	for (__u32 i = 0; i < count; i++)
		step->value[i] = words[i];
}

/* A table is consulted: TG_STEP_kind, the family, the words of the key. A miss until note_hit(). */
#define note(kind, v6, ...)                                                                        \
	do {                                                                                       \
		if (tracing) {                                                                     \
			const __u32 words_[] = { __VA_ARGS__ };                                    \
			_Static_assert(sizeof(words_) <= sizeof(trace_log.step[0].key), "key");    \
			trace_step(TG_STEP_##kind, v6, words_, sizeof(words_) / 4);                \
		}                                                                                  \
	} while (0)

/* The table just noted has this: the words of the value. */
#define note_hit(...)                                                                              \
	do {                                                                                       \
		if (tracing) {                                                                     \
			const __u32 words_[] = { __VA_ARGS__ };                                    \
			_Static_assert(                                                            \
				sizeof(words_) <= sizeof(trace_log.step[0].value), "value");       \
			trace_hit(words_, sizeof(words_) / 4);                                     \
		}                                                                                  \
	} while (0)

/* Why the packet gets its verdict. */
static __always_inline void note_reason(__u32 reason)
{
	if (tracing)
		trace_log.reason = reason;
}

/* Words of what has more than one: an address (IPv4 in the first), an endpoint, a hop, 64 bits, a VIP. */
#define IP_WORDS(ip, v6) (ip)[0], (v6) ? (ip)[1] : 0, (v6) ? (ip)[2] : 0, (v6) ? (ip)[3] : 0
#define ENDPOINT_WORDS(pkt, side, v6)                                                              \
	IP_WORDS(address_of(pkt, side, v6), v6), endpoint_word(pkt, side)
#define HOP_WORDS(hop)                                                                             \
	((const __u32 *)(hop))[0], ((const __u32 *)(hop))[1], ((const __u32 *)(hop))[2],           \
		((const __u32 *)(hop))[3]
#define U64_WORDS(number) (__u32)(number), (__u32)((__u64)(number) >> 32)
#define VIP_WORDS(vip)	  HOP_WORDS(vip)

/*
 * Changes to maps. While tracing they change nothing, and answer as if they had: a step goes on as it
 * would for the packet.
 */
static __always_inline __u64 state_swap(__u64 *at, __u64 old, __u64 new)
{
	return tracing ? *(volatile __u64 *)at : __sync_val_compare_and_swap(at, old, new);
}

static __always_inline void state_or(__u64 *at, __u64 bits)
{
	if (!tracing)
		__sync_fetch_and_or(at, bits);
}

#define state_store(at, value)                                                                     \
	do {                                                                                       \
		if (!tracing)                                                                      \
			*(volatile typeof(*(at)) *)(at) = (value);                                 \
	} while (0)

static __always_inline long state_update(void *map, const void *key, const void *value, __u64 flags)
{
	return tracing ? 0 : bpf_map_update_elem(map, key, value, flags);
}

static __always_inline long state_delete(void *map, const void *key)
{
	return tracing ? 0 : bpf_map_delete_elem(map, key);
}

#endif
