/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Reads what the datapath tells of packets: the ring `events` (bpf/event_abi.h). In each turn of the loop so many
 * records are taken out and handed on at once, so that a flood of them leaves room for all else; meanwhile the
 * ring is the queue, and the datapath counts what finds it full. All in the loop's thread.
 */
#ifndef TG_EVENTS_H
#define TG_EVENTS_H

#include "error.h"
#include "event_abi.h"

#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

#define TG_EVENTS_TURN 1024 /* records in a turn at most */

struct tg_events;

/*
 * From now on `deliver` is called with what is in the ring, map `ring`, whose descriptor stays the caller's; what lies
 * there already is passed over. It does not keep the loop running. NULL, and `error` says why.
 */
struct tg_events *tg_events_open(uv_loop_t *loop, int ring,
	void (*deliver)(void *user, const struct tg_packet_event *events, size_t count), void *user,
	struct tg_error *error);
/* May be called by `deliver`. */
void tg_events_close(struct tg_events *events);

/* What the datapath counted: sums of the per-CPU array `event_counters`. False: it can't be read. */
bool tg_events_counts(int counters, __u64 counts[TG_EVENT_COUNT][TG_EVENT_COUNTS]);

#endif
