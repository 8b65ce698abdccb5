/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The search in the table of port ranges (tidegate_abi.h): the same for the datapath (range.h) and
 * the controller (core/ranges.c). Halving without a branch: a step is taken where neither
 * difference is negative, and keys have 63 bits, so that the sign of a difference is its top bit.
 */
#ifndef TIDEGATE_RANGE_SEARCH_H
#define TIDEGATE_RANGE_SEARCH_H

#include "tidegate_abi.h"

#define TG_RANGE_NONE	(2 * TG_MAX_RANGES)
#define TG_RANGE_HALVES 15 /* at most: 2^14 is the largest step */

/*
 * An index below `size`, a power of two, whatever the compiler knows: the mask is the last thing done,
 * where the verifier sees it. (6.1 takes the OR of two bounded words to be unbounded.)
 */
static inline __attribute__((always_inline)) __u64 tg_bounded(__u64 index, __u64 size)
{
	__asm__ volatile("" : "+r"(index));
	return index & (size - 1);
}

/* The place in `ranges` of the last key of a half that is not above this one, or TG_RANGE_NONE. */
static inline __attribute__((always_inline)) __u32 tg_range_search(
	const struct tg_range_table *table, __u32 half, __u64 key)
{
	__u64 at = half * TG_RANGE_WINDOWS + TG_RANGE_WINDOW(key), below = 0;
	const struct tg_range_window *window = &table->window[tg_bounded(at, 2 * TG_RANGE_WINDOWS)];
	__u64 count = window->count, step = window->step;
	__u64 first = half * TG_MAX_RANGES + window->first;

	for (int i = 0; i < TG_RANGE_HALVES && step; i++) {
		__u64 end = below + step;
		__u64 here = table->key[tg_bounded(first + end - 1, 2 * TG_MAX_RANGES)];
		__u64 beyond = (count - end) | (key - here);

		below += step & ((beyond >> 63) - 1);
		step >>= 1;
	}
	return below ? first + below - 1 : TG_RANGE_NONE;
}

#endif
