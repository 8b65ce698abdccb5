/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The line table as the controller sees it (struct tg_line in lines_abi.h, bpf/lines.h): it clears what
 * is idle, and counts the rest by backend. A sweep goes over the whole table in slices, so that it
 * never holds the loop for long; unused lines cost a bit each.
 */
#ifndef TG_LINES_H
#define TG_LINES_H

#include "tidegate_abi.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tg_lines {
	struct tg_line *lines;
	__u64 *marks;
	size_t count;
};

/* What a sweep found, by backend. */
struct tg_census {
	uint32_t flows[TG_MAX_BACKENDS];
	uint8_t age[TG_MAX_BACKENDS]; /* epochs since the latest of them spoke; UINT8_MAX: none did */
};

void tg_census_clear(struct tg_census *census);

/*
 * Sweeps lines from `from` on, at most `most` that hold something: clears entries that have been idle
 * for too long at `epoch`, and those that name a backend that is `gone` (by index); counts the others.
 * Returns where to go on: the table's size at the end.
 */
size_t tg_lines_sweep(const struct tg_lines *lines, size_t from, size_t most, uint32_t epoch,
	const bool *gone, struct tg_census *census);

/* The entry of a flow (the hash of client to VIP), or 0. */
uint64_t tg_lines_find(const struct tg_lines *lines, uint64_t flow);

#endif
