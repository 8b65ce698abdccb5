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

/* Never 0, so that a free entry matches nobody. */
#define FINGERPRINT(hash) (((hash) & 0xffffffffff) | 1)

#define NO_ENTRY TG_LINE_ENTRIES

/* The place of the lowest bit that is set; BPF has no such instruction. */
static __always_inline __u32 lowest_bit(__u32 bits)
{
	bits &= -bits;
	return (bits >> 1 & 1) * 1 + (bits >> 2 & 1) * 2 + (bits >> 3 & 1) * 3 +
	       (bits >> 4 & 1) * 4 + (bits >> 5 & 1) * 5 + (bits >> 6 & 1) * 6 +
	       (bits >> 7 & 1) * 7 + (bits >> 8 & 1) * 8;
}

/* The word of `line_marks` that holds the line's bit. */
static __always_inline __u64 *marks_of(__u32 line)
{
	__u32 index = line / 64;

	return bpf_map_lookup_elem(&line_marks, &index);
}

/* Low 8 bits of the controller's epoch. */
static __always_inline __u8 epoch_now(void)
{
	__u32 index = 0;
	struct tg_clock *now = bpf_map_lookup_elem(&clock, &index);

	return now ? now->epoch : 0;
}

/* An entry was used: its epoch is now. If another CPU or the controller was faster, theirs holds. */
static __always_inline void entry_touch(__u64 *entry, __u64 old)
{
	__u8 epoch = epoch_now();

	if (TG_ENTRY_EPOCH(old) != epoch)
		__sync_val_compare_and_swap(entry, old, (old & ~0xff0000ull) | (__u64)epoch << 16);
}

/*
 * The first entry whose fingerprint is this one (0: that is free), or NO_ENTRY. Without a branch an
 * entry: eight of them, twice, multiplied what the verifier has to walk through by thirty.
 */
static __always_inline __u32 line_find(const struct tg_line *line, __u64 fingerprint)
{
	__u32 matches = 1 << NO_ENTRY;

#pragma unroll
	for (int i = 0; i < TG_LINE_ENTRIES; i++) {
		__u64 entry = *(volatile __u64 *)&line->entry[i];
		__u64 differs = TG_ENTRY_FINGERPRINT(entry) ^ fingerprint; /* 40 bits */

		matches |= ((differs - 1) >> 63) << i;
	}
	return lowest_bit(matches);
}

/* The flow's line, if it may have entries. */
static __always_inline struct tg_line *line_in_use(__u64 hash)
{
	__u32 index = tg_slot_of(hash, line_count);
	__u64 *marks = marks_of(index);

	if (!marks || !(*(volatile __u64 *)marks >> (index & 63) & 1))
		return NULL;
	return bpf_map_lookup_elem(&lines, &index);
}

/* Has the flow an entry? If so, it has been used now. */
static __always_inline bool line_has(__u64 hash)
{
	struct tg_line *line = line_in_use(hash);
	__u32 at;

	if (!line)
		return false;
	at = line_find(line, FINGERPRINT(hash));
	if (at >= TG_LINE_ENTRIES)
		return false;
	entry_touch(&line->entry[at], line->entry[at]);
	return true;
}

/* False if all entries are taken; also, once in a while, when another CPU was faster. */
static __always_inline bool line_insert(__u64 hash, __u32 backend)
{
	__u64 entry = TG_ENTRY(FINGERPRINT(hash), epoch_now(), 1, backend);
	__u32 index = tg_slot_of(hash, line_count), at;
	struct tg_line *line = bpf_map_lookup_elem(&lines, &index);
	__u64 *marks = marks_of(index);

	if (!line || !marks)
		return false;
	at = line_find(line, 0);
	if (at >= TG_LINE_ENTRIES || __sync_val_compare_and_swap(&line->entry[at], 0, entry))
		return false;
	__sync_fetch_and_or(marks, 1ull << (index & 63));
	return true;
}

/* If another CPU uses the entry just then, it stays. */
static __always_inline void line_forget(__u64 hash)
{
	struct tg_line *line = line_in_use(hash);
	__u64 entry;
	__u32 at;

	if (!line)
		return;
	at = line_find(line, FINGERPRINT(hash));
	if (at >= TG_LINE_ENTRIES)
		return;
	entry = line->entry[at];
	if (TG_ENTRY_FINGERPRINT(entry) == FINGERPRINT(hash))
		__sync_val_compare_and_swap(&line->entry[at], entry, 0);
}

#endif
