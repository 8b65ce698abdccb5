/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * How many new flows a client may have entered in the line table in one epoch: `clock.newcomers`, so
 * that no client fills it. Counted in a sketch of fixed size (count-min: Cormode, Muthukrishnan
 * 2005), under the instance's key. An IPv6 client is a /64.
 */
#ifndef TIDEGATE_LIMIT_H
#define TIDEGATE_LIMIT_H

#include "maps.h"
#include "packet.h"
#include "trace.h"

static __always_inline __u64 client_of(const __be32 *addr, const bool v6)
{
	return v6 ? (__u64)addr[1] << 32 | addr[0] : addr[0];
}

/* One more of this epoch in a cell: how many that makes. */
static __always_inline __u32 client_count(__u32 cell, __u32 epoch)
{
	__u64 *at = bpf_map_lookup_elem(&clients, &cell), now;

	if (!at)
		return 0;
	now = *(volatile __u64 *)at;
	now = now >> 32 == epoch ? now + 1 : (__u64)epoch << 32 | 1;
	state_store(at, now);
	return now;
}

/* May a client have one more flow entered? */
static __always_inline bool client_may(__u64 client, __u32 epoch, __u32 limit)
{
	__u64 hash = tg_flow_hash4(&flow_key, client, client >> 32, 0, 0);
	__u32 one = client_count(hash % TG_CLIENT_CELLS, epoch);
	__u32 other = client_count(TG_CLIENT_CELLS + (hash >> 32) % TG_CLIENT_CELLS, epoch);

	return !limit || one <= limit || other <= limit;
}

#endif
