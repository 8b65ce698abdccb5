/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Port ranges: endpoints that are no single port. Asked last, when neither the index nor the hash
 * maps know {address, port, protocol}: so an exact VIP wins over a range. Of ranges the controller
 * has already made disjoint intervals, where the narrower one won.
 */
#ifndef TIDEGATE_RANGE_H
#define TIDEGATE_RANGE_H

#include "maps.h"
#include "packet.h"
#include "range_search.h"

/* The verifier looks at it once, whoever calls. */
__noinline __u32 range_search(__u32 half, __u64 key)
{
	__u32 index = 0;
	struct tg_range_table *table;

	if (!(features & TG_FEATURE_RANGES))
		return TG_RANGE_NONE;
	table = bpf_map_lookup_elem(&range_table, &index);
	return table ? tg_range_search(table, half, key) : TG_RANGE_NONE;
}

/* The interval of `kind` (enum tg_endpoint_kind) that this side of the packet lies in, or NULL. */
static __always_inline struct tg_endpoint *range_of(
	const struct packet *pkt, const enum side side, const __u8 kind, const bool v6)
{
	const __be32 *addr = address_of(pkt, side, v6);
	__u32 port = bpf_ntohs(side == SOURCE ? source_port(pkt) : dest_port(pkt));
	__u32 word = (__u32)pkt->proto << 16 | (__u32)kind << 24, index = 0, half, key;
	struct tg_range_table *table = bpf_map_lookup_elem(&range_table, &index);
	struct tg_endpoint *found;
	__u64 hash;

	if (!table)
		return NULL;
	half = *(volatile __u32 *)&table->current & 1;
	key = word | (table->half[half].salt & 0xffff);
	hash = v6 ? tg_endpoint_hash6(addr, key) : tg_endpoint_hash4(*addr, key);
	index = range_search(half, TG_RANGE_KEY(hash, port));
	found = bpf_map_lookup_elem(&ranges, &index);
	if (!found || *(__u32 *)&found->port != word || !same_address(found->addr, addr, v6) ||
		port < found->ports.first || port > found->ports.last)
		return NULL;
	return found;
}

#endif
