/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Checks for the C unit tests. A test is a `static void name(void)` named as a sentence about the
 * system; main() lists them with RUN() and returns unit_result(), which prints a TAP-like line for
 * each and makes the exit code.
 */
#ifndef TG_UNIT_H
#define TG_UNIT_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int unit_passed, unit_failed, unit_faults;

#define CHECK(condition)                                                                           \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			unit_faults++;                                                             \
			fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #condition); \
		}                                                                                  \
	} while (0)

#define CHECK_INT(want, got)                                                                       \
	do {                                                                                       \
		long long want_ = (want), got_ = (got);                                            \
		if (want_ != got_) {                                                               \
			unit_faults++;                                                             \
			fprintf(stderr, "%s:%d: %s is %lld, not %lld\n", __FILE__, __LINE__, #got, got_, want_); \
		}                                                                                  \
	} while (0)

#define CHECK_STR(want, got)                                                                       \
	do {                                                                                       \
		const char *want_ = (want), *got_ = (got);                                         \
		if (strcmp(want_, got_)) {                                                         \
			unit_faults++;                                                             \
			fprintf(stderr, "%s:%d: %s is \"%s\", not \"%s\"\n", __FILE__, __LINE__, #got, got_, want_); \
		}                                                                                  \
	} while (0)

#define RUN(test)                                                                                  \
	do {                                                                                       \
		unit_faults = 0;                                                                   \
		test();                                                                            \
		printf("%s %s\n", unit_faults ? "not ok" : "ok", #test);                           \
		fflush(stdout);                                                                    \
		if (unit_faults)                                                                   \
			unit_failed++;                                                             \
		else                                                                               \
			unit_passed++;                                                             \
	} while (0)

/* How much to do of what is long: all, or a quarter where that is to be brief (scripts/test: asan, valgrind). */
static inline int unit_some(int all)
{
	return getenv("TIDEGATE_TEST_BRIEFLY") ? (all + 3) / 4 : all;
}

static inline int unit_result(void)
{
	printf("%d passed, %d failed\n", unit_passed, unit_failed);
	return unit_failed != 0;
}

#endif
