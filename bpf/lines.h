/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The line table: flows that need an entry, found by one cache line of eight (struct tg_line). An
 * entry is a fingerprint of 40 bits, so a stranger's flow is taken for a known one once in 10^11
 * lookups. Entries are inserted by compare-and-swap and never evicted: where all eight are taken,
 * an insert fails and says so. The controller ticks the epoch and clears idle entries.
 *
 * Part 1 keeps nat's exceptions here: flows that a client opened to a backend directly, whose
 * answers must not be taken for the VIP's. Both directions hash as client to backend.
 */
#ifndef TIDEGATE_LINES_H
#define TIDEGATE_LINES_H

#include "maps.h"
#include "packet.h"

#define FINGERPRINT(hash) ((hash) & 0xffffffffff)

static __always_inline struct tg_line *line_of(__u64 hash)
{
	__u32 index = tg_slot_of(hash, line_count);

	return bpf_map_lookup_elem(&lines, &index);
}

/* Low 8 bits of the controller's epoch. */
static __always_inline __u8 epoch_now(void)
{
	__u32 index = 0;
	struct tg_clock *now = bpf_map_lookup_elem(&clock, &index);

	return now ? now->epoch : 0;
}

/* An entry was used: its epoch is now. If another CPU or the controller changes it just then, theirs holds. */
static __always_inline void entry_touch(__u64 *entry, __u64 old)
{
	__u8 epoch = epoch_now();

	if (TG_ENTRY_EPOCH(old) != epoch)
		__sync_val_compare_and_swap(entry, old, (old & ~0xff0000ull) | (__u64)epoch << 16);
}

/* Is the flow in its line? If so, it has been used now. */
static __always_inline bool line_has(struct tg_line *line, __u64 hash)
{
#pragma unroll
	for (int i = 0; i < TG_LINE_ENTRIES; i++) {
		__u64 entry = *(volatile __u64 *)&line->entry[i];

		if (entry && TG_ENTRY_FINGERPRINT(entry) == FINGERPRINT(hash)) {
			entry_touch(&line->entry[i], entry);
			return true;
		}
	}
	return false;
}

/* False if all entries are taken. */
static __always_inline bool line_insert(struct tg_line *line, __u64 hash, __u32 backend)
{
	__u64 entry = TG_ENTRY(FINGERPRINT(hash), epoch_now(), 1, backend);

#pragma unroll
	for (int i = 0; i < TG_LINE_ENTRIES; i++)
		if (!line->entry[i] && !__sync_val_compare_and_swap(&line->entry[i], 0, entry))
			return true;
	return false;
}

#endif
