/* SPDX-License-Identifier: GPL-2.0-only */
#include "lines.h"

#include "flow_hash.h"
#include "slots.h"

#include <string.h>

void tg_census_clear(struct tg_census *census)
{
	memset(census->flows, 0, sizeof(census->flows));
	memset(census->age, UINT8_MAX, sizeof(census->age));
}

static bool is_idle(uint64_t entry, uint32_t epoch)
{
	return tg_age(TG_ENTRY_EPOCH(entry), epoch) >
	       (TG_ENTRY_CONFIRMED(entry) ? TG_IDLE_EPOCHS : TG_NEW_EPOCHS);
}

static void note(struct tg_census *census, uint64_t entry, uint32_t epoch)
{
	uint32_t backend = TG_ENTRY_BACKEND(entry);
	uint8_t age = tg_age(TG_ENTRY_EPOCH(entry), epoch);

	census->flows[backend]++;
	if (age < census->age[backend])
		census->age[backend] = age;
}

/* A packet that uses an entry just then keeps it: it is not what was read. */
static void sweep_line(
	struct tg_line *line, uint32_t epoch, const bool *gone, struct tg_census *census)
{
	for (int i = 0; i < TG_LINE_ENTRIES; i++) {
		uint64_t entry = __atomic_load_n(&line->entry[i], __ATOMIC_RELAXED);

		if (!entry)
			continue;
		if (!is_idle(entry, epoch) && !gone[TG_ENTRY_BACKEND(entry)])
			note(census, entry, epoch);
		else if (!__atomic_compare_exchange_n(&line->entry[i], &entry, 0, false,
				 __ATOMIC_RELAXED, __ATOMIC_RELAXED) &&
			 entry)
			note(census, entry, epoch);
	}
}

static bool is_empty(const struct tg_line *line)
{
	uint64_t any = 0;

	for (int i = 0; i < TG_LINE_ENTRIES; i++)
		any |= __atomic_load_n(&line->entry[i], __ATOMIC_SEQ_CST);
	return !any;
}

/* Takes the mark of an empty line; if something was entered just then, gives it back. */
static void unmark(const struct tg_lines *lines, size_t i)
{
	uint64_t *marks = (uint64_t *)&lines->marks[i / 64], bit = 1ull << i % 64;

	__atomic_fetch_and(marks, ~bit, __ATOMIC_SEQ_CST);
	if (!is_empty(&lines->lines[i]))
		__atomic_fetch_or(marks, bit, __ATOMIC_SEQ_CST);
}

size_t tg_lines_sweep(const struct tg_lines *lines, size_t from, size_t most, uint32_t epoch,
	const bool *gone, struct tg_census *census)
{
	size_t i = from;

	while (i < lines->count && most) {
		uint64_t marks = __atomic_load_n(&lines->marks[i / 64], __ATOMIC_RELAXED) >> i % 64;

		if (!marks) {
			i = (i / 64 + 1) * 64;
			continue;
		}
		i += __builtin_ctzll(marks);
		if (i >= lines->count)
			break;
		sweep_line(&lines->lines[i], epoch, gone, census);
		if (is_empty(&lines->lines[i]))
			unmark(lines, i);
		i++;
		most--;
	}
	return i < lines->count ? i : lines->count;
}

uint64_t tg_lines_find(const struct tg_lines *lines, uint64_t flow)
{
	uint64_t key = TG_LINE_KEY(flow);
	const struct tg_line *line;

	if (!lines->count)
		return 0;
	line = &lines->lines[tg_slot_of(key, lines->count)];
	for (int i = 0; i < TG_LINE_ENTRIES; i++) {
		uint64_t entry = __atomic_load_n(&line->entry[i], __ATOMIC_RELAXED);

		if (TG_ENTRY_FINGERPRINT(entry) == TG_LINE_FINGERPRINT(key))
			return entry;
	}
	return 0;
}
