/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Taps of an instance (bpf/tap_abi.h): TG_MAX_TAPS, shared by mirrors and captures. Who takes one has it until
 * it gives it back, over restarts of the daemon too; its match is the policy TG_POLICY_OF_TAP of it. It
 * is at work from tg_tap_start, which follows tg_tap_ready, until tg_tap_stop, its end in time or its last packet, which the programs see to
 * by themselves; tg_taps_look then takes it off its port, so that packets no longer ask for it.
 *
 * All functions are quick and for one thread.
 */
#ifndef TG_TAPS_H
#define TG_TAPS_H

#include "datapath.h"
#include "error.h"

struct tg_taps;

struct tg_taps *tg_taps_new(struct tg_datapath *dp);
void tg_taps_free(struct tg_taps *taps);

/*
 * Takes a tap under a name, for what is asked of it (`asked`, a hash). One that was taken for the same, also by an
 * earlier daemon, stays what it is, at work or not: then *kept. The tap's number; -ENOSPC: all are taken.
 */
int tg_tap_take(struct tg_taps *taps, const char *name, __u64 asked, bool *kept, struct tg_error *error);
/* Stops it. */
void tg_tap_give_back(struct tg_taps *taps, __u32 tap);
/* Gives back what nobody has taken since this daemon started: an earlier one's. */
void tg_taps_forget_others(struct tg_taps *taps);

struct tg_tap_start {
	enum tg_tap_kind kind;
	const char *port;
	__u32 directions; /* bit 1 << enum tg_direction */
	__u32 ifindex;	  /* of a mirror: where to */
	__u32 sample, rate, snap;
	__u64 packets; /* 0: no end by them */
	__u64 ns;      /* likewise */
};

/*
 * Readies it for a start, its number in *start, with counters at zero; one that is at work is stopped. The programs have
 * TG_FEATURE_TAP. Then lets it begin.
 */
int tg_tap_ready(struct tg_taps *taps, __u32 tap, const struct tg_tap_start *how, __u32 *start,
	struct tg_error *error);
int tg_tap_start(struct tg_taps *taps, __u32 tap, struct tg_error *error);
void tg_tap_stop(struct tg_taps *taps, __u32 tap);
/* Its end is `ns` from now. */
void tg_tap_extend(struct tg_taps *taps, __u32 tap, __u64 ns);
/* Of a mirror: its device, and whether it has a carrier. */
void tg_tap_device(struct tg_taps *taps, __u32 tap, __u32 ifindex, bool down);

struct tg_tap_status {
	bool at_work;
	__u32 start;
	__u32 ifindex;
	__u64 taken;
	__u64 left_ns;	    /* 0: without an end in time */
	__u64 left_packets; /* likewise */
	struct tg_counter counts[TG_TAP_COUNT];
};
void tg_tap_status(struct tg_taps *taps, __u32 tap, struct tg_tap_status *status);

/* Takes those that have ended off their ports: a bit for each. */
__u32 tg_taps_look(struct tg_taps *taps);

#endif
