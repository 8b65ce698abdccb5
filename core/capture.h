/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Captures: packets that taps of kind TG_TAP_CAPTURE put into the ring `captures` (bpf/capture.h), into pcapng
 * files and pipes. A thread reads the ring, for all captures; each writes by a thread of its own (core/sink.h).
 *
 * A capture begins with tg_captures_start and ends by itself: at one of its limits, by tg_capture_stop,
 * or because nothing more can be written. Its tap has a lease of TG_CAPTURE_LEASE seconds, so it ends in the
 * datapath too when this process does. Then `ended` is called in the loop of the mailbox's thread, where
 * the caller gives the tap back and frees the capture.
 */
#ifndef TG_CAPTURE_H
#define TG_CAPTURE_H

#include "datapath.h"
#include "error.h"
#include "expression.h"
#include "mailbox.h"

#include <net/if.h>

#define TG_CAPTURE_LEASE 10

struct tg_captures;
struct tg_capture;

struct tg_capture_options {
	int fd; /* where to: the capture's from tg_captures_start on, also if that fails */
	__u32 tap;
	__u32 start;		      /* of the tap: its number in records */
	__u32 snap;		      /* bytes of a packet at most; 0: all */
	struct tg_expression *filter; /* likewise the capture's; NULL: all that the tap takes */
	__u64 packets;		      /* limits; 0: none */
	__u64 bytes;		      /* of the file */
	__u64 ns;
};

enum tg_capture_end {
	TG_CAPTURE_RUNS,
	TG_CAPTURE_PACKETS,
	TG_CAPTURE_BYTES,
	TG_CAPTURE_SECONDS,
	TG_CAPTURE_STOPPED,
	TG_CAPTURE_FAILED, /* nothing more can be written: `error` */
};

struct tg_capture_status {
	enum tg_capture_end end;
	int error;	 /* a negative errno; -EPIPE: the reader has gone */
	__u64 packets;	 /* written */
	__u64 bytes;	 /* of them, as long as they were on the wire */
	__u64 size;	 /* of the file */
	__u64 filtered;	 /* that the expression did not want */
	__u64 ring_full; /* lost: the ring was full */
	__u64 slow;	 /* lost: the disk or the reader did not keep up */
};

/* The datapath stays open as long as they live. NULL: no memory. */
struct tg_captures *tg_captures_new(const struct tg_datapath *dp, struct tg_mailbox *home);

/*
 * Starts a capture; the program has TG_FEATURE_TAP. Its tap is off yet: starting it is the caller's. From any
 * thread, but it may wait for the one that reads. NULL, and `error` says why.
 */
struct tg_capture *tg_captures_start(struct tg_captures *captures,
	const struct tg_capture_options *options,
	void (*ended)(void *user, struct tg_capture *capture), void *user, struct tg_error *error);

/* From any thread, until it has ended: */
void tg_capture_stop(struct tg_capture *capture);
void tg_capture_status(struct tg_capture *capture, struct tg_capture_status *status);
/* When it has ended. */
void tg_capture_free(struct tg_capture *capture);

/*
 * What comments call rules, by their counters: `count` texts from malloc, NULL where there is none; they are the
 * captures' from now on.
 */
void tg_captures_rules(struct tg_captures *captures, char **names, size_t count);

/* Ends all captures and frees them: nobody is told any more. */
void tg_captures_free(struct tg_captures *captures);

#endif
