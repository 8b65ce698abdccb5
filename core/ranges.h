/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The table of port ranges (tidegate_abi.h, bpf/range.h): intervals of ports, found by the datapath
 * where no single port is an endpoint. It is written as a whole, into the half that is not in force,
 * and put in force by one store: packets see all of the old intervals or all of the new ones. A half
 * that was left is written again no sooner than TG_RANGES_REST_NS later, when no packet is under way
 * that still reads it: who publishes again within that time waits for the rest of it.
 *
 * Used by one thread. It knows nothing of services: see balancer_range.c.
 */
#ifndef TG_RANGES_H
#define TG_RANGES_H

#include "tidegate_abi.h"

#include <stdbool.h>

#define TG_RANGES_REST_NS 20000000ull

struct tg_ranges {
	struct tg_range_table *table; /* both mapped */
	struct tg_endpoint *all;
	unsigned long long left; /* uv_hrtime's nanoseconds: when the other half was left */
};

/*
 * Makes these intervals the ones in force; they are put in order here. If they are in force already,
 * nothing is written. `count` is TG_MAX_RANGES at most; intervals of one {kind, address, protocol}
 * are disjoint.
 */
void tg_ranges_publish(struct tg_ranges *ranges, struct tg_endpoint *intervals, __u32 count);

/* The half of it that neither waits nor puts in force: fills a half. */
void tg_ranges_fill(
	struct tg_ranges *ranges, __u32 half, struct tg_endpoint *intervals, __u32 count);

/* The interval of that kind, address and protocol that has the port (host order), or NULL. */
const struct tg_endpoint *tg_ranges_find(const struct tg_ranges *ranges, enum tg_endpoint_kind kind,
	const __be32 *addr, __u8 proto, __u16 port);

/* Those in force. */
const struct tg_endpoint *tg_ranges_all(const struct tg_ranges *ranges, __u32 *count);

#endif
