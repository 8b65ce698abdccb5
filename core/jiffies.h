/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The kernel's tick count, which programs note times by (bpf_jiffies64: one load, where a clock is a call), as
 * a date. How long a tick is, user space is not told: it follows from the count, which began 300 seconds
 * before 2^32 at boot (INITIAL_JIFFIES), and the time since then.
 */
#ifndef TG_JIFFIES_H
#define TG_JIFFIES_H

#include "error.h"

#include <linux/types.h>

struct tg_ticks {
	__u64 now;	 /* ticks */
	__u64 now_ns;	 /* CLOCK_MONOTONIC at the same moment */
	__u32 per_second;
};

/* Asks the kernel. Loads a program the first time; in one thread. 0 or a negative errno. */
int tg_ticks_read(struct tg_ticks *ticks, struct tg_error *error);
/* The same from the count and CLOCK_MONOTONIC: ticks a second, of those that kernels are built with. */
__u32 tg_ticks_per_second(__u64 ticks, __u64 ns);
/* Seconds since 1970 of a tick that is past. */
double tg_ticks_date(const struct tg_ticks *ticks, __u64 tick);

#endif
