/* SPDX-License-Identifier: GPL-2.0-only */
/* Of taps (tap.h), what XDP and TC share: whether any is at work, and what they count. */
#ifndef TIDEGATE_TAP_COUNT_H
#define TIDEGATE_TAP_COUNT_H

#include "maps.h"
#include "policy.h"
#include "trace.h"

/* Is any tap at work, on any port? */
static __always_inline __u32 taps_at_work(void)
{
	__u32 zero = 0;
	const struct tg_clock *clock_now;

	if (!(features & TG_FEATURE_TAP))
		return 0;
	clock_now = bpf_map_lookup_elem(&clock, &zero);
	return clock_now ? clock_now->taps : 0;
}

static __always_inline void count_tap(__u32 tap, enum tg_tap_count what, __u32 bytes)
{
	__u32 index = tap * TG_TAP_COUNT + what;
	struct tg_counter *counter;

	if (tracing)
		return;
	counter = bpf_map_lookup_elem(&tap_counters, &index);
	if (!counter)
		return;
	counter->packets++;
	counter->bytes += bytes;
}

/* Several at once: a bit for each. */
static __always_inline void count_taps(__u32 taps, enum tg_tap_count what, __u32 bytes)
{
	for (int i = 0; i < TG_MAX_TAPS && taps; i++) {
		count_tap(policy_lowest(taps), what, bytes);
		taps &= taps - 1;
	}
}

#endif
