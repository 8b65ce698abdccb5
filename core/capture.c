/* SPDX-License-Identifier: GPL-2.0-only */
#include "capture_internal.h"
#include "pcapng.h"

#include <bpf/libbpf.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <unistd.h>

#define TURN	  50	   /* ms: how long a record waits at most */
#define TURN_MOST 16384	   /* records read before the captures are looked after */
#define LATE	  10000000 /* ns after which what a tap has taken is in the ring */
#define SECOND	  1000000000ull

/* --- the ring --- */

void tg_capture_end(struct tg_capture *capture, enum tg_capture_end why)
{
	struct tg_tap *tap = &capture->captures->taps[capture->options.tap];

	if (capture->stage != TG_CAPTURE_TAKES)
		return;
	if (tap->start == capture->options.start)
		__atomic_store_n(&tap->until, 1, __ATOMIC_RELAXED);
	capture->stage = TG_CAPTURE_DRAINS;
	capture->since = tg_now_of(CLOCK_MONOTONIC);
	atomic_store(&capture->end, why);
}

/* A negative result ends the turn: a ring that is never empty would never let go. */
static int on_record(void *user, void *data, size_t size)
{
	struct tg_captures *captures = user;
	const struct tg_record *record = data;

	if (size < sizeof(*record) || record->captured > size - sizeof(*record))
		return 0;
	tg_list_each(node, &captures->list) {
		struct tg_capture *capture = tg_container(node, struct tg_capture, node);

		if (capture->options.tap == record->tap &&
			capture->options.start == record->start) {
			tg_capture_take(capture, record);
			break;
		}
	}
	return ++captures->turn < TURN_MOST ? 0 : -EAGAIN;
}

/* How many packets found no room. A tap counts from its start, which may be yet to come. */
static __u64 ring_full(const struct tg_capture *capture)
{
	const struct tg_captures *captures = capture->captures;
	__u32 tap = capture->options.tap;

	if (captures->taps[tap].start != capture->options.start)
		return capture->ring_full;
	return tg_datapath_counter(
		captures->dp, TG_MAP_TAP_COUNTERS, tap * TG_TAP_COUNT + TG_TAPPED_RING_FULL)
		.packets;
}

static void renew_lease(struct tg_capture *capture, __u64 now)
{
	struct tg_tap *tap = &capture->captures->taps[capture->options.tap];
	__u64 until = now + TG_CAPTURE_LEASE * SECOND;

	if (capture->deadline && capture->deadline < until)
		until = capture->deadline;
	if (tap->start == capture->options.start)
		__atomic_store_n(&tap->until, until, __ATOMIC_RELAXED);
}

/* What is left of it, in its sink. */
static void finish(struct tg_capture *capture)
{
	uint8_t last[TG_SINK_LAST], *end;

	capture->stage = TG_CAPTURE_OVER;
	tg_list_remove(&capture->node);
	end = tg_capture_last(capture, last);
	if (capture->end == TG_CAPTURE_STOPPED)
		tg_sink_abandon(capture->sink);
	tg_sink_end(capture->sink, last, end - last); /* from here on it may be freed */
}

/* Looks after a capture, every turn. */
static void tend(struct tg_capture *capture, __u64 now, bool ring_is_empty)
{
	int error = capture->stage == TG_CAPTURE_TAKES ? tg_sink_check(capture->sink) : 0;

	capture->ring_full = ring_full(capture);
	if (error) {
		atomic_store(&capture->error, error);
		tg_capture_end(capture, TG_CAPTURE_FAILED);
	} else if (capture->stop) {
		tg_capture_end(capture, TG_CAPTURE_STOPPED);
	} else if (capture->deadline && now >= capture->deadline) {
		tg_capture_end(capture, TG_CAPTURE_SECONDS);
	}
	if (capture->stage == TG_CAPTURE_TAKES)
		renew_lease(capture, now);
	if (capture->stage == TG_CAPTURE_DRAINS && ring_is_empty && now - capture->since > LATE)
		finish(capture);
	else
		tg_sink_flush(capture->sink);
}

static void turn(struct tg_captures *captures)
{
	struct epoll_event event;
	struct tg_list *node, *next;
	__u64 now;

	epoll_wait(ring_buffer__epoll_fd(captures->ring), &event, 1,
		captures->turn < TURN_MOST ? TURN : 0);
	pthread_mutex_lock(&captures->lock);
	now = tg_now_of(CLOCK_MONOTONIC);
	captures->to_real = tg_now_of(CLOCK_REALTIME) - now;
	captures->turn = 0;
	ring_buffer__consume(captures->ring);
	for (node = captures->list.next; node != &captures->list; node = next) {
		next = node->next;
		tend(tg_container(node, struct tg_capture, node), now, captures->turn < TURN_MOST);
	}
	pthread_mutex_unlock(&captures->lock);
}

/* Is there a capture, at last? */
static bool wait_for_captures(struct tg_captures *captures)
{
	bool any;

	pthread_mutex_lock(&captures->lock);
	while (tg_list_empty(&captures->list) && !captures->quits)
		pthread_cond_wait(&captures->added, &captures->lock);
	any = !tg_list_empty(&captures->list);
	pthread_mutex_unlock(&captures->lock);
	return any;
}

static void *captures_main(void *arg)
{
	struct tg_captures *captures = arg;

	while (wait_for_captures(captures))
		turn(captures);
	return NULL;
}

/* --- from other threads --- */

struct tg_captures *tg_captures_new(const struct tg_datapath *dp, struct tg_mailbox *home)
{
	struct tg_captures *captures = calloc(1, sizeof(*captures));

	if (!captures)
		return NULL;
	captures->dp = dp;
	captures->home = home;
	pthread_mutex_init(&captures->lock, NULL);
	pthread_mutex_init(&captures->small_lock, NULL);
	pthread_cond_init(&captures->added, NULL);
	tg_list_init(&captures->list);
	tg_list_init(&captures->all);
	return captures;
}

static int open_ring(struct tg_captures *captures, struct tg_error *error)
{
	int ring = captures->dp->maps[TG_MAP_CAPTURES], taps = captures->dp->maps[TG_MAP_TAPS];

	if (captures->ring)
		return 0;
	if (ring < 0 || taps < 0)
		return tg_fail(error, -EAGAIN, "the program has no taps");
	if (!captures->taps) {
		captures->taps = mmap(NULL, TG_MAX_TAPS * sizeof(struct tg_tap),
			PROT_READ | PROT_WRITE, MAP_SHARED, taps, 0);
		if (captures->taps == MAP_FAILED) {
			captures->taps = NULL;
			return tg_fail(
				error, -errno, "the taps can't be mapped: %s", strerror(errno));
		}
	}
	captures->ring = ring_buffer__new(ring, on_record, captures, NULL);
	return captures->ring ? 0
			      : tg_fail(error, -errno, "the ring of captures can't be read: %s",
					strerror(errno));
}

/* Signals are the main thread's. */
static int start_thread(struct tg_captures *captures, struct tg_error *error)
{
	sigset_t all, before;
	int result;

	if (captures->runs)
		return 0;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	result = pthread_create(&captures->thread, NULL, captures_main, captures);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	captures->runs = !result;
	return result ? tg_fail(error, -result, "the captures' thread can't start: %s",
				strerror(result))
		      : 0;
}

/* Corrects what was counted by what was written. */
static void settle(struct tg_capture *capture)
{
	struct tg_sink_result result;

	tg_sink_result(capture->sink, &result);
	capture->size = result.written;
	capture->packets -= result.packets;
	capture->slow += result.packets;
	if (!result.error || capture->error)
		return;
	capture->error = result.error;
	if (result.error != -ETIMEDOUT) /* it was stopped, with a reader that was not */
		capture->end = TG_CAPTURE_FAILED;
}

/* In the main thread. */
static void deliver_end(void *arg)
{
	struct tg_capture *capture = arg;

	if (!capture->captures) { /* they were freed */
		tg_capture_free(capture);
		return;
	}
	settle(capture);
	capture->ended(capture->user, capture);
}

/* In the sink's thread. */
static void sink_ended(void *user)
{
	struct tg_capture *capture = user;

	tg_mailbox_post(capture->captures->home, deliver_end, capture);
}

static int begin(struct tg_capture *capture, struct tg_error *error)
{
	struct tg_captures *captures = capture->captures;
	uint8_t *at;

	capture->sink = tg_sink_new(capture->options.fd, sink_ended, capture);
	if (!capture->sink)
		return tg_fail(error, -ENOMEM, "out of memory");
	at = tg_capture_room(capture, TG_PCAPNG_BLOCK);
	tg_capture_filled(capture, at, tg_pcapng_section(at, "tidegate " TIDEGATE_VERSION));
	capture->since = tg_now_of(CLOCK_MONOTONIC);
	capture->started = tg_now_of(CLOCK_REALTIME);
	capture->deadline = capture->options.ns ? capture->since + capture->options.ns : 0;
	tg_list_add(&captures->list, &capture->node);
	pthread_cond_signal(&captures->added);
	return 0;
}

static void enter(struct tg_capture *capture)
{
	pthread_mutex_lock(&capture->captures->small_lock);
	tg_list_add(&capture->captures->all, &capture->all);
	pthread_mutex_unlock(&capture->captures->small_lock);
}

static void leave(struct tg_capture *capture)
{
	if (!capture->captures)
		return;
	pthread_mutex_lock(&capture->captures->small_lock);
	tg_list_remove(&capture->all);
	pthread_mutex_unlock(&capture->captures->small_lock);
}

void tg_capture_free(struct tg_capture *capture)
{
	leave(capture);
	if (capture->sink)
		tg_sink_free(capture->sink);
	tg_expression_free(capture->options.filter);
	free(capture);
}

static struct tg_capture *new_capture(struct tg_captures *captures,
	const struct tg_capture_options *options,
	void (*ended)(void *user, struct tg_capture *capture), void *user)
{
	struct tg_capture *capture = calloc(1, sizeof(*capture));

	if (!capture)
		return NULL;
	capture->captures = captures;
	capture->options = *options;
	if (!options->snap)
		capture->options.snap = TG_RECORD_BYTES;
	capture->ended = ended;
	capture->user = user;
	tg_list_init(&capture->node);
	enter(capture);
	return capture;
}

struct tg_capture *tg_captures_start(struct tg_captures *captures,
	const struct tg_capture_options *options,
	void (*ended)(void *user, struct tg_capture *capture), void *user, struct tg_error *error)
{
	struct tg_capture *capture = new_capture(captures, options, ended, user);
	int result = capture ? 0 : tg_fail(error, -ENOMEM, "out of memory");

	pthread_mutex_lock(&captures->lock);
	result = result ? result : open_ring(captures, error);
	result = result ? result : start_thread(captures, error);
	result = result ? result : begin(capture, error);
	pthread_mutex_unlock(&captures->lock);
	if (!result)
		return capture;
	close(options->fd);
	if (capture)
		tg_capture_free(capture);
	else
		tg_expression_free(options->filter);
	return NULL;
}

void tg_capture_stop(struct tg_capture *capture)
{
	atomic_store(&capture->stop, true);
}

void tg_capture_status(struct tg_capture *capture, struct tg_capture_status *status)
{
	*status = (struct tg_capture_status){
		.end = capture->end,
		.error = capture->error,
		.packets = capture->packets,
		.bytes = capture->bytes,
		.size = capture->size,
		.filtered = capture->filtered,
		.ring_full = capture->ring_full,
		.slow = capture->slow,
	};
}

static void free_names(struct tg_captures *captures)
{
	for (size_t i = 0; i < captures->name_count; i++)
		free(captures->names[i]);
	free(captures->names);
}

void tg_captures_rules(struct tg_captures *captures, char **names, size_t count)
{
	pthread_mutex_lock(&captures->small_lock);
	free_names(captures);
	captures->names = names;
	captures->name_count = count;
	pthread_mutex_unlock(&captures->small_lock);
	atomic_fetch_add(&captures->names_set, 1);
}

/* Lets the thread end all captures, and itself. */
static void end_thread(struct tg_captures *captures)
{
	if (!captures->runs)
		return;
	pthread_mutex_lock(&captures->lock);
	captures->quits = true;
	tg_list_each(node, &captures->list)
		tg_capture_stop(tg_container(node, struct tg_capture, node));
	pthread_cond_signal(&captures->added);
	pthread_mutex_unlock(&captures->lock);
	pthread_join(captures->thread, NULL);
}

/* What they have to say of their end is under way in the mailbox: it frees them. */
static void end_sinks(struct tg_captures *captures)
{
	struct tg_list *node;

	while ((node = tg_list_take(&captures->all))) {
		struct tg_capture *capture = tg_container(node, struct tg_capture, all);

		tg_sink_abandon(capture->sink);
		tg_sink_free(capture->sink);
		capture->sink = NULL;
		capture->captures = NULL;
	}
}

void tg_captures_free(struct tg_captures *captures)
{
	end_thread(captures);
	end_sinks(captures);
	if (captures->ring)
		ring_buffer__free(captures->ring);
	if (captures->taps)
		munmap(captures->taps, TG_MAX_TAPS * sizeof(struct tg_tap));
	free_names(captures);
	pthread_mutex_destroy(&captures->lock);
	pthread_mutex_destroy(&captures->small_lock);
	pthread_cond_destroy(&captures->added);
	free(captures);
}
