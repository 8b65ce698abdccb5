/* SPDX-License-Identifier: GPL-2.0-only */
/* What benchmarks of rounds share: the processor time of this thread, and the median of what the rounds took. */
#ifndef TG_BENCH_MEDIAN_H
#define TG_BENCH_MEDIAN_H

#include <stdlib.h>
#include <time.h>

static double thread_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return now.tv_sec * 1e9 + now.tv_nsec;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* Sorts them. */
static double median_of(double *values, size_t count)
{
	qsort(values, count, sizeof(*values), compare);
	return values[count / 2];
}

#endif
