/* SPDX-License-Identifier: GPL-2.0-only */
#include "ranges.h"

#include "flow_hash.h"
#include "range_search.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <uv.h>

static bool is_v6(enum tg_endpoint_kind kind)
{
	return kind == TG_ENDPOINT_VIP6 || kind == TG_ENDPOINT_REVERSE6;
}

static uint64_t key_of(
	enum tg_endpoint_kind kind, const __be32 *addr, __u8 proto, __u32 salt, __u16 port)
{
	uint32_t word = (uint32_t)kind << 24 | (uint32_t)proto << 16 | (salt & 0xffff);
	uint64_t hash =
		is_v6(kind) ? tg_endpoint_hash6(addr, word) : tg_endpoint_hash4(addr[0], word);

	return TG_RANGE_KEY(hash, port);
}

static bool same_owner(const struct tg_endpoint *a, const struct tg_endpoint *b)
{
	return a->kind == b->kind && a->proto == b->proto &&
	       !memcmp(a->addr, b->addr, sizeof(a->addr));
}

/* ---- a half ---- */

struct sorted {
	uint64_t key;
	uint32_t place; /* in the list */
};

static int by_key(const void *a, const void *b)
{
	const struct sorted *x = a, *y = b;

	return (x->key > y->key) - (x->key < y->key);
}

/* False if two addresses look alike under this salt. */
static bool sort(
	const struct tg_endpoint *intervals, __u32 count, __u32 salt, struct sorted *sorted)
{
	for (__u32 i = 0; i < count; i++) {
		const struct tg_endpoint *one = &intervals[i];

		sorted[i] = (struct sorted){
			key_of(one->kind, one->addr, one->proto, salt, one->ports.first), i
		};
	}
	qsort(sorted, count, sizeof(*sorted), by_key);
	for (__u32 i = 1; i < count; i++)
		if (sorted[i].key >> 16 == sorted[i - 1].key >> 16 &&
			!same_owner(&intervals[sorted[i].place], &intervals[sorted[i - 1].place]))
			return false;
	return true;
}

/* One key more at the end of a window. */
static void widen(struct tg_range_window *window, __u32 place)
{
	if (!window->count++)
		window->first = place;
	if (window->count >= 2 * window->step)
		window->step = window->step ? 2 * window->step : 1;
}

/* Puts the intervals in the order of their keys; returns the salt that tells all addresses apart. */
static __u32 put_in_order(struct tg_endpoint *intervals, __u32 count)
{
	static struct sorted sorted[TG_MAX_RANGES];
	static struct tg_endpoint copy[TG_MAX_RANGES];
	__u32 salt = 0;

	while (!sort(intervals, count, salt, sorted))
		salt++;
	memcpy(copy, intervals, count * sizeof(*copy));
	for (__u32 i = 0; i < count; i++)
		intervals[i] = copy[sorted[i].place];
	return salt;
}

static void write_half(struct tg_ranges *ranges, __u32 half, const struct tg_endpoint *intervals,
	__u32 count, __u32 salt)
{
	struct tg_range_window *windows = &ranges->table->window[half * TG_RANGE_WINDOWS];
	__u32 first = half * TG_MAX_RANGES;

	memset(windows, 0, TG_RANGE_WINDOWS * sizeof(*windows));
	for (__u32 i = 0; i < count; i++) {
		const struct tg_endpoint *one = &intervals[i];
		uint64_t key = key_of(one->kind, one->addr, one->proto, salt, one->ports.first);

		ranges->table->key[first + i] = key;
		ranges->all[first + i] = *one;
		widen(&windows[TG_RANGE_WINDOW(key)], i);
	}
	ranges->table->half[half] = (struct tg_range_half){ .count = count, .salt = salt };
}

void tg_ranges_fill(
	struct tg_ranges *ranges, __u32 half, struct tg_endpoint *intervals, __u32 count)
{
	write_half(ranges, half, intervals, count, put_in_order(intervals, count));
}

/* ---- the table ---- */

static void wait_for_rest(const struct tg_ranges *ranges)
{
	uint64_t rested = uv_hrtime() - ranges->left;
	struct timespec rest = { 0 };

	if (rested >= TG_RANGES_REST_NS)
		return;
	rest.tv_nsec = TG_RANGES_REST_NS - rested;
	nanosleep(&rest, NULL);
}

void tg_ranges_publish(struct tg_ranges *ranges, struct tg_endpoint *intervals, __u32 count)
{
	__u32 salt = put_in_order(intervals, count), now;
	const struct tg_endpoint *in_force = tg_ranges_all(ranges, &now);

	if (now == count && !memcmp(in_force, intervals, count * sizeof(*intervals)))
		return;
	wait_for_rest(ranges);
	write_half(ranges, !ranges->table->current, intervals, count, salt);
	__atomic_store_n(&ranges->table->current, !ranges->table->current, __ATOMIC_RELEASE);
	ranges->left = uv_hrtime();
}

const struct tg_endpoint *tg_ranges_find(const struct tg_ranges *ranges, enum tg_endpoint_kind kind,
	const __be32 *addr, __u8 proto, __u16 port)
{
	__u32 half = ranges->table->current & 1, salt = ranges->table->half[half].salt;
	__u32 at = tg_range_search(ranges->table, half, key_of(kind, addr, proto, salt, port));
	const struct tg_endpoint *found = &ranges->all[at];

	if (at == TG_RANGE_NONE || found->kind != kind || found->proto != proto ||
		memcmp(found->addr, addr, is_v6(kind) ? 16 : 4) || port < found->ports.first ||
		port > found->ports.last)
		return NULL;
	return found;
}

const struct tg_endpoint *tg_ranges_all(const struct tg_ranges *ranges, __u32 *count)
{
	__u32 half = ranges->table->current & 1;

	*count = ranges->table->half[half].count;
	return &ranges->all[half * TG_MAX_RANGES];
}
