/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the parts of core/capture.h share: capture.c (the captures, the thread, the ring) and capture_packet.c (a
 * packet's way into the file, in that thread).
 */
#ifndef TG_CAPTURE_INTERNAL_H
#define TG_CAPTURE_INTERNAL_H

#include "capture.h"
#include "list.h"
#include "sink.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#define TG_CAPTURE_INTERFACES 8 /* that a capture's port had, one after the other */
#define TG_CAPTURE_TAG	      4 /* bytes of a VLAN tag */

enum tg_capture_stage {
	TG_CAPTURE_TAKES,
	TG_CAPTURE_DRAINS, /* its tap is off, what it took may be on its way */
	TG_CAPTURE_OVER,
};

struct tg_capture {
	struct tg_list node; /* of the captures that read: the thread's, under the lock */
	struct tg_list all;  /* of those that were not freed */
	struct tg_captures *captures;
	struct tg_capture_options options;
	struct tg_sink *sink;
	enum tg_capture_stage stage;
	__u64 since;	/* of this stage, ns of CLOCK_MONOTONIC */
	__u64 deadline; /* likewise; 0: none */
	__u64 started;	/* ns since 1970 */
	__u32 interfaces[TG_CAPTURE_INTERFACES];
	int interface_count;
	__u64 comment_of; /* what `comment` is about, and which names it has */
	unsigned int comment_names;
	char comment[256];
	atomic_bool stop;
	_Atomic __u64 packets, bytes, size, filtered, ring_full, slow;
	atomic_int end, error;
	void (*ended)(void *user, struct tg_capture *capture);
	void *user;
};

struct tg_captures {
	const struct tg_datapath *dp;
	struct tg_mailbox *home;
	pthread_t thread;
	bool runs; /* the thread */
	bool quits;
	pthread_mutex_t lock; /* of what follows; the main thread takes it only at the end */
	pthread_cond_t added;
	struct tg_list list;
	struct ring_buffer *ring;
	struct tg_tap *taps; /* mapped */
	__u64 to_real;	     /* what is to be added to CLOCK_MONOTONIC */
	unsigned int turn;   /* records read in this one */
	pthread_mutex_t
		small_lock; /* held briefly, by the main thread too: of `all` and of names */
	struct tg_list all;
	char **names;
	size_t name_count;
	atomic_uint names_set;				  /* how often */
	uint8_t tagged[TG_RECORD_BYTES + TG_CAPTURE_TAG]; /* a frame with its VLAN tag back in */
};

static inline __u64 tg_now_of(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return now.tv_sec * 1000000000ull + now.tv_nsec;
}

/* Room for a block, in the thread; NULL: there is none. */
static inline uint8_t *tg_capture_room(struct tg_capture *capture, size_t size)
{
	return tg_sink_room(capture->sink, size);
}

/* The room has a block, from there to there. */
static inline void tg_capture_filled(
	struct tg_capture *capture, const uint8_t *from, const uint8_t *to)
{
	tg_sink_filled(capture->sink, to - from);
	atomic_fetch_add_explicit(&capture->size, to - from, memory_order_relaxed);
}

/* It takes no more, for this reason, unless it has one already. */
void tg_capture_end(struct tg_capture *capture, enum tg_capture_end why);
/* A packet that its tap has taken. */
void tg_capture_take(struct tg_capture *capture, const struct tg_record *record);
/* Writes its last block at `at`, TG_SINK_LAST bytes; where that ends. */
uint8_t *tg_capture_last(struct tg_capture *capture, uint8_t *at);

#endif
