/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The flows of stateful policies (bpf/track_abi.h) as the controller sees them: reads them in batches, removes
 * those that have expired or that somebody wants to be gone. What has expired is nobody's flow to the
 * programs already, so nothing depends on when that is done. All functions block (a batch of 512 flows some
 * 0.1 ms) and are to be called off the loop; the tables may be written meanwhile by programs and by others.
 */
#ifndef TG_TRACKS_H
#define TG_TRACKS_H

#include "addr.h"
#include "cidr.h"
#include "datapath.h"
#include "error.h"

#include <stdbool.h>
#include <stdint.h>

/* Which flows: all that is given must hold. All zero: every one. "Source" is who began a flow. */
struct tg_track_filter {
	struct tg_cidr src, dst;    /* family 0: any */
	uint32_t states;	    /* bit s: enum tg_track_state s; 0: any */
	int32_t sport, dport, port; /* -1: any; `port`: either's */
	int32_t slot;		    /* of the port whose policy let it in; -1: any */
	uint8_t proto;		    /* 0: any */
};
#define TG_TRACK_ANY                                                                               \
	{                                                                                          \
		.sport = -1, .dport = -1, .port = -1, .slot = -1                                   \
	}

struct tg_track_entry {
	struct tg_track_id id;
	struct tg_track track;
	bool embryo;
};

/* Where a walk over both tables is; all zero: at the beginning. */
struct tg_track_cursor {
	uint32_t table, position;
	bool under_way;
};

struct tg_track_sum {
	uint64_t flows, embryos; /* live */
	uint64_t states[TG_TRACK_STATE_COUNT];
};

/* CLOCK_MONOTONIC_COARSE, ns: what programs note times by. */
uint64_t tg_track_now(void);
/* Nanoseconds until it expires; 0 or less: it has. */
int64_t tg_track_left(const struct tg_datapath *dp, const struct tg_track *track, uint64_t now);
bool tg_track_matches(const struct tg_track_filter *filter, const struct tg_track_entry *entry);

/*
 * The next flows that live and match: how many, at most `room` (at least TG_TRACK_BATCH); 0 at the end, or a
 * negative errno. One that begins or ends meanwhile may be missed, none of the others.
 */
#define TG_TRACK_BATCH 512
int tg_tracks_read(const struct tg_datapath *dp, struct tg_track_cursor *cursor,
	const struct tg_track_filter *filter, struct tg_track_entry *out, size_t room);
int tg_tracks_count(const struct tg_datapath *dp, const struct tg_track_filter *filter,
	struct tg_track_sum *sum);

/* Told of each flow that is removed, as it was then. */
typedef void (*tg_track_end)(void *user, const struct tg_track_entry *entry);
/* Removes those that live and match: how many, or a negative errno. */
int64_t tg_tracks_kill(const struct tg_datapath *dp, const struct tg_track_filter *filter,
	tg_track_end ended, void *user);
/*
 * Goes on with a round over both tables, so many flows of it at most, and removes those that have expired:
 * how many. A round that ends begins anew.
 */
int tg_tracks_collect(const struct tg_datapath *dp, struct tg_track_cursor *cursor, size_t most,
	tg_track_end ended, void *user);

/* What became of flows so far. */
uint64_t tg_tracks_counter(const struct tg_datapath *dp, enum tg_track_count what);

/* Timeouts (0: the default's), until when TCP is picked up from the middle on, one new flow in how many is told. */
int tg_tracks_set(const struct tg_datapath *dp, const struct tg_track_settings *settings);

#endif
