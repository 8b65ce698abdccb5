/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The endpoint index: is {address, port, protocol} a VIP, or a backend's endpoint that nat answers
 * for? The truth is in the hash maps `vips*` and `reverse*`, where a hit costs some 25 ns: two
 * calls and jhash. The controller compiles them into lines of fingerprints, packed close enough to
 * stay in the cache, and endpoints with their whole keys. INDEX_ASK sends the caller to the hash
 * maps: no index now (they are changing), too full a line, or, once in 10^11, another endpoint's
 * fingerprint.
 */
#ifndef TIDEGATE_ENDPOINT_H
#define TIDEGATE_ENDPOINT_H

#include "maps.h"
#include "packet.h"

enum index_answer { INDEX_ASK, INDEX_HAS, INDEX_HAS_NOT };

static __always_inline __u32 index_lines(void)
{
	__u32 index = 0;
	struct tg_clock *now = bpf_map_lookup_elem(&clock, &index);

	return now ? now->index_lines : 0;
}

/* The entry of a line with this fingerprint, or 0; TG_INDEX_MORE where the line can't say. */
static __always_inline __u64 line_entry(const struct tg_line *line, __u64 fingerprint)
{
	__u64 entry = 0;

#pragma unroll
	for (int i = 0; i < TG_LINE_ENTRIES; i++) {
		entry = *(volatile __u64 *)&line->entry[i];
		if (!entry || TG_ENTRY_FINGERPRINT(entry) == fingerprint)
			return entry;
	}
	return entry == TG_INDEX_MORE ? entry : 0;
}

static __always_inline enum index_answer index_look(const struct packet *pkt, const enum side side,
	const __u8 kind, struct tg_endpoint **found, const bool v6)
{
	__u32 word = endpoint_word(pkt, side) | (__u32)kind << 24, index;
	const __be32 *addr = address_of(pkt, side, v6);
	struct tg_line *line;
	__u64 hash, entry;

	if (unlikely(!pkt->index_lines))
		return INDEX_ASK;
	hash = v6 ? tg_endpoint_hash6(addr, word) : tg_endpoint_hash4(*addr, word);
	index = tg_slot_of(hash, pkt->index_lines);
	line = bpf_map_lookup_elem(&endpoint_lines, &index);
	if (!line)
		return INDEX_ASK;
	entry = line_entry(line, hash & 0xffffffffff);
	if (!entry)
		return INDEX_HAS_NOT;
	index = TG_INDEX_OF(entry);
	*found = bpf_map_lookup_elem(&endpoints, &index);
	if (!*found || *(__u32 *)&(*found)->port != word || !same_address((*found)->addr, addr, v6))
		return INDEX_ASK;
	return INDEX_HAS;
}

#endif
