/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The line table: flows that need an entry, found by one cache line of eight (struct tg_line). An
 * entry is a fingerprint of 39 bits, so a stranger's flow is taken for a known one once in 5 x 10^10
 * lookups. Entries are inserted by compare-and-swap and never evicted: where all eight are taken,
 * an insert fails and says so. The controller ticks the epoch and clears idle entries
 * (core/lines.c).
 *
 * Two users share it, each with keys of its own: the balancer's flows (slots.h), and nat's
 * exceptions: flows that a client opened to a backend directly, whose answers must not be taken
 * for the VIP's. Both directions hash as client to backend.
 */
#ifndef TIDEGATE_LINES_H
#define TIDEGATE_LINES_H

#include "maps.h"
#include "packet.h"
#include "trace.h"

/* The key of one of nat's exceptions (that of a flow to a VIP: TG_LINE_KEY). */
#define DIRECT_KEY(hash) (TG_LINE_KEY(hash) ^ 0x9e3779b97f4a7c15ull)

#define NO_ENTRY TG_LINE_ENTRIES

/*
 * The place of the lowest bit that is set, of the first 9; BPF has no such instruction. A de Bruijn
 * sequence gives each place a number of 4 bits of its own, and a table of nibbles the place back.
 */
static __always_inline __u32 lowest_bit(__u64 bits)
{
	__u64 number = (bits & -bits) * 0x09af000000000000ull >> 60;

	return 0x0070084006035210ull >> number * 4 & 15;
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

/*
 * An entry was used: its epoch is now, and it is confirmed if so asked. If another CPU or the
 * controller was faster, theirs holds.
 */
static __always_inline void entry_touch(__u64 *entry, __u64 old, __u8 epoch, bool confirm)
{
	__u64 now = (old & ~0xff0000ull) | (__u64)epoch << 16 | (__u64)confirm << 15;

	if (now != old)
		state_swap(entry, old, now);
}

/*
 * The first entry whose fingerprint is this one (0: that is free), or NO_ENTRY. Without a branch an
 * entry: eight of them, twice, multiplied what the verifier has to walk through by thirty.
 */
static __always_inline __u32 line_find(const struct tg_line *line, __u64 fingerprint)
{
	__u64 matches = 1 << NO_ENTRY;

#pragma unroll
	for (int i = 0; i < TG_LINE_ENTRIES; i++) {
		__u64 entry = *(volatile __u64 *)&line->entry[i];
		__u64 differs = TG_ENTRY_FINGERPRINT(entry) ^ fingerprint; /* 40 bits */

		matches |= ((differs - 1) >> 63) << i;
	}
	return lowest_bit(matches);
}

/* The line of a key, if it may have entries. */
static __always_inline struct tg_line *line_in_use(__u64 key)
{
	__u32 index = tg_slot_of(key, line_count);
	__u64 *marks = marks_of(index);

	if (!marks || !(*(volatile __u64 *)marks >> (index & 63) & 1))
		return NULL;
	return bpf_map_lookup_elem(&lines, &index);
}

/* The entry of a key, or NULL; `found` is what it says. */
static __always_inline __u64 *line_look(__u64 key, __u64 *found)
{
	struct tg_line *line = line_in_use(key);
	__u32 at;

	note(LINE, false, tg_slot_of(key, line_count), U64_WORDS(key));
	if (!line)
		return NULL;
	at = line_find(line, TG_LINE_FINGERPRINT(key));
	if (at >= TG_LINE_ENTRIES)
		return NULL;
	*found = *(volatile __u64 *)&line->entry[at];
	if (TG_ENTRY_FINGERPRINT(*found) != TG_LINE_FINGERPRINT(key))
		return NULL; /* cleared just then */
	note_hit(TG_ENTRY_BACKEND(*found), TG_ENTRY_EPOCH(*found), TG_ENTRY_CONFIRMED(*found));
	return &line->entry[at];
}

/* False if all entries are taken; also, once in a while, when another CPU was faster. */
static __always_inline bool line_insert(__u64 key, __u8 epoch, bool confirmed, __u32 backend)
{
	__u64 entry = TG_ENTRY(TG_LINE_FINGERPRINT(key), epoch, confirmed, backend);
	__u32 index = tg_slot_of(key, line_count), at;
	struct tg_line *line = bpf_map_lookup_elem(&lines, &index);
	__u64 *marks = marks_of(index);

	if (!line || !marks)
		return false;
	at = line_find(line, 0);
	if (at >= TG_LINE_ENTRIES || state_swap(&line->entry[at], 0, entry))
		return false;
	state_or(marks, 1ull << (index & 63));
	return true;
}

/* ---- nat's exceptions; `flow` is the hash of client to backend ---- */

/* Has the flow an entry? If so, it has been used now. */
static __always_inline bool direct_has(__u64 flow)
{
	__u64 old, *entry = line_look(DIRECT_KEY(flow), &old);

	if (!entry)
		return false;
	entry_touch(entry, old, epoch_now(), true);
	return true;
}

/* False if there is no room. */
static __always_inline bool direct_enter(__u64 flow)
{
	return direct_has(flow) || line_insert(DIRECT_KEY(flow), epoch_now(), true, 0);
}

/* If another CPU uses the entry just then, it stays. */
static __always_inline void direct_forget(__u64 flow)
{
	__u64 old, *entry = line_look(DIRECT_KEY(flow), &old);

	if (entry)
		state_swap(entry, old, 0);
}

#endif
