/* SPDX-License-Identifier: GPL-2.0-only */
#include "taps.h"

#include "datapath_ports.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

struct tg_taps {
	struct tg_datapath *dp;
	struct tg_tap *all;	     /* mapped; NULL until the programs know taps */
	struct tg_tap_owner owner[TG_MAX_TAPS];
	bool taken[TG_MAX_TAPS];     /* by this daemon */
	enum tg_tap_kind kind[TG_MAX_TAPS]; /* of a start that is ready */
	__u64 ns[TG_MAX_TAPS];	     /* likewise: it ends so long after it; 0: not by time */
	__u32 at_work;		     /* a bit for each that is on a port */
};

struct tg_taps *tg_taps_new(struct tg_datapath *dp)
{
	struct tg_taps *taps = calloc(1, sizeof(*taps));

	if (taps)
		taps->dp = dp;
	return taps;
}

void tg_taps_free(struct tg_taps *taps)
{
	if (taps && taps->all)
		munmap(taps->all, TG_MAX_TAPS * sizeof(struct tg_tap));
	free(taps);
}

static void record(struct tg_taps *taps, __u32 tap)
{
	if (taps->all)
		tg_datapath_set(taps->dp, TG_MAP_TAP_OWNERS, &tap, &taps->owner[tap]);
}

/* What an earlier daemon left; what this one took before is told to the next. */
static void adopt(struct tg_taps *taps)
{
	for (__u32 i = 0; i < TG_MAX_TAPS; i++) {
		if (taps->taken[i])
			record(taps, i);
		else
			bpf_map_lookup_elem(
				taps->dp->maps[TG_MAP_TAP_OWNERS], &i, &taps->owner[i]);
		taps->owner[i].name[sizeof(taps->owner[i].name) - 1] = 0;
		if (taps->all[i].kind != TG_TAP_OFF)
			taps->at_work |= 1u << i;
	}
}

/* The table is there once a program has the feature. */
static bool is_ready(struct tg_taps *taps)
{
	int map = taps->dp->maps[TG_MAP_TAPS];
	void *all;

	if (taps->all || map < 0)
		return taps->all;
	all = mmap(NULL, TG_MAX_TAPS * sizeof(struct tg_tap), PROT_READ | PROT_WRITE, MAP_SHARED, map, 0);
	if (all == MAP_FAILED)
		return false;
	taps->all = all;
	adopt(taps);
	return true;
}

static __u64 now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ull + now.tv_nsec;
}

static bool has_ended(const struct tg_tap *tap)
{
	__u64 until = __atomic_load_n(&tap->until, __ATOMIC_RELAXED);

	return (until && now_ns() >= until) ||
	       (tap->packets && __atomic_load_n(&tap->taken, __ATOMIC_RELAXED) >= tap->packets);
}

/* --- who has which ------------------------------------------------------------------------------------------- */

static int find(const struct tg_taps *taps, const char *name, __u64 asked)
{
	for (int i = 0; i < TG_MAX_TAPS; i++)
		if (!strcmp(taps->owner[i].name, name) && taps->owner[i].asked == asked)
			return i;
	return -ENOSPC;
}

int tg_tap_take(
	struct tg_taps *taps, const char *name, __u64 asked, bool *kept, struct tg_error *error)
{
	int tap;

	is_ready(taps);
	tap = find(taps, name, asked);
	*kept = tap >= 0;
	if (tap < 0)
		tap = find(taps, "", 0);
	if (tap < 0)
		return tg_fail(error, tap, "an instance has at most %d mirrors and captures, and all are taken",
			TG_MAX_TAPS);
	taps->taken[tap] = true;
	snprintf(taps->owner[tap].name, sizeof(taps->owner[tap].name), "%s", name);
	taps->owner[tap].asked = asked;
	record(taps, tap);
	return tap;
}

void tg_tap_give_back(struct tg_taps *taps, __u32 tap)
{
	tg_tap_stop(taps, tap);
	taps->taken[tap] = false;
	memset(&taps->owner[tap], 0, sizeof(taps->owner[tap]));
	record(taps, tap);
}

void tg_taps_forget_others(struct tg_taps *taps)
{
	is_ready(taps);
	for (__u32 i = 0; i < TG_MAX_TAPS; i++)
		if (!taps->taken[i] && taps->owner[i].name[0])
			tg_tap_give_back(taps, i);
}

/* --- at work ------------------------------------------------------------------------------------------------- */

/* The taps at work on a port, in a direction. */
static __u32 taps_on(const struct tg_taps *taps, const char *port, int direction)
{
	__u32 mask = 0;

	for (int i = 0; i < TG_MAX_TAPS; i++)
		if (taps->at_work & 1u << i && taps->owner[i].directions & 1u << direction &&
			!strcmp(taps->owner[i].port, port))
			mask |= 1u << i;
	return mask;
}

/* Lets packets of the tap's port know which taps are at work there. */
static int publish(struct tg_taps *taps, __u32 tap, struct tg_error *error)
{
	const char *port = taps->owner[tap].port;
	int result = 0;

	for (int i = 0; !result && i < TG_DIRECTIONS; i++)
		if (taps->owner[tap].directions & 1u << i)
			result = tg_port_taps(taps->dp, port, i, taps_on(taps, port, i), error);
	__atomic_store_n(&taps->dp->clock->taps, taps->at_work, __ATOMIC_RELEASE);
	return result;
}

static void fill(struct tg_tap *tap, const struct tg_tap_start *how)
{
	tap->ifindex = how->ifindex;
	tap->sample = how->sample;
	tap->snap = how->snap;
	tap->rate = how->rate;
	tap->packets = how->packets;
	tap->taken = tap->allowed = tap->until = 0;
	tap->down = 0;
	tap->start++;
}

int tg_tap_ready(struct tg_taps *taps, __u32 tap, const struct tg_tap_start *how, __u32 *start,
	struct tg_error *error)
{
	if (!is_ready(taps))
		return tg_fail(error, -ENODEV, "the programs know no taps");
	tg_tap_stop(taps, tap);
	for (__u32 i = 0; i < TG_TAP_COUNT; i++)
		tg_datapath_reset_counter(taps->dp, TG_MAP_TAP_COUNTERS, tap * TG_TAP_COUNT + i);
	snprintf(taps->owner[tap].port, sizeof(taps->owner[tap].port), "%s", how->port);
	taps->owner[tap].directions = how->directions;
	record(taps, tap);
	taps->kind[tap] = how->kind;
	taps->ns[tap] = how->ns;
	fill(&taps->all[tap], how);
	*start = taps->all[tap].start;
	return 0;
}

int tg_tap_start(struct tg_taps *taps, __u32 tap, struct tg_error *error)
{
	int result;

	if (!taps->all || !taps->kind[tap])
		return tg_fail(error, -EINVAL, "tap %u is not ready", tap);
	if (taps->ns[tap])
		tg_tap_extend(taps, tap, taps->ns[tap]);
	__atomic_store_n(&taps->all[tap].kind, taps->kind[tap], __ATOMIC_RELEASE);
	taps->at_work |= 1u << tap;
	result = publish(taps, tap, error);
	if (result)
		tg_tap_stop(taps, tap);
	return result;
}

void tg_tap_stop(struct tg_taps *taps, __u32 tap)
{
	if (!is_ready(taps))
		return;
	__atomic_store_n(&taps->all[tap].kind, TG_TAP_OFF, __ATOMIC_RELEASE);
	if (!(taps->at_work & 1u << tap))
		return;
	taps->at_work &= ~(1u << tap);
	publish(taps, tap, NULL);
}

void tg_tap_extend(struct tg_taps *taps, __u32 tap, __u64 ns)
{
	if (is_ready(taps))
		__atomic_store_n(&taps->all[tap].until, now_ns() + ns, __ATOMIC_RELAXED);
}

void tg_tap_device(struct tg_taps *taps, __u32 tap, __u32 ifindex, bool down)
{
	if (!is_ready(taps))
		return;
	__atomic_store_n(&taps->all[tap].ifindex, ifindex, __ATOMIC_RELAXED);
	__atomic_store_n(&taps->all[tap].down, down, __ATOMIC_RELAXED);
}

/* --- what becomes of them ------------------------------------------------------------------------------------ */

__u32 tg_taps_look(struct tg_taps *taps)
{
	__u32 ended = 0;

	if (!is_ready(taps))
		return 0;
	for (__u32 i = 0; i < TG_MAX_TAPS; i++) {
		if (!(taps->at_work & 1u << i) || !has_ended(&taps->all[i]))
			continue;
		ended |= 1u << i;
		tg_tap_stop(taps, i);
	}
	return ended;
}

void tg_tap_status(struct tg_taps *taps, __u32 tap, struct tg_tap_status *status)
{
	const struct tg_tap *this;

	memset(status, 0, sizeof(*status));
	if (!is_ready(taps))
		return;
	this = &taps->all[tap];
	status->at_work = taps->at_work & 1u << tap && !has_ended(this);
	status->start = this->start;
	status->ifindex = this->ifindex;
	status->taken = this->taken;
	if (this->packets && status->taken > this->packets)
		status->taken = this->packets;
	if (status->at_work && this->until)
		status->left_ns = this->until - now_ns();
	if (status->at_work && this->packets)
		status->left_packets = this->packets - status->taken;
	for (__u32 i = 0; i < TG_TAP_COUNT; i++)
		status->counts[i] = tg_datapath_counter(
			taps->dp, TG_MAP_TAP_COUNTERS, tap * TG_TAP_COUNT + i);
}
