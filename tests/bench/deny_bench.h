/* SPDX-License-Identifier: GPL-2.0-only */
/* What deny_bench.c and its program share: the sources of packets, BENCH_ROUND of each kind. */
#ifndef DENY_BENCH_H
#define DENY_BENCH_H

#include <linux/types.h>

enum { BENCH_HIT, BENCH_MISS, BENCH_INSIDE, BENCH_KINDS };

#define BENCH_ROUND   (1 << 20)
#define BENCH_SOURCES (BENCH_KINDS * BENCH_ROUND)

/* Sources one after the other, as close as they go: what is measured should have the caches. */
#define BENCH_WORDS 16
struct bench_line {
	__be32 word[BENCH_WORDS];
};

#endif
