/* SPDX-License-Identifier: GPL-2.0-only */
#include "capture.h"

#include "list.h"
#include "pcapng.h"
#include "sink.h"
#include "trace.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define TURN		50	 /* ms: how long a record waits at most */
#define TURN_MOST	16384	 /* records read before the captures are looked after */
#define LATE		10000000 /* ns after which what a tap has taken is in the ring */
#define INTERFACES	8	 /* that a capture's port had, one after the other */
#define MACS		12
#define TAG		4
#define STATISTICS_SIZE 256
#define SECOND		1000000000ull

enum stage {
	TAKES,
	DRAINS, /* its tap is off, what it took may be on its way */
	OVER,
};

struct tg_capture {
	struct tg_list node; /* of the captures that read: the thread's, under the lock */
	struct tg_list all;  /* of those that were not freed */
	struct tg_captures *captures;
	struct tg_capture_options options;
	struct tg_sink *sink;
	enum stage stage;
	__u64 since;	   /* of this stage, ns of CLOCK_MONOTONIC */
	__u64 deadline;	   /* likewise; 0: none */
	__u64 started;	   /* ns since 1970 */
	__u64 full_before; /* the tap's TG_TAPPED_RING_FULL at its start */
	__u32 interfaces[INTERFACES];
	int interface_count;
	__u64 comment_of; /* what `comment` is about, and which names it has */
	unsigned int comment_names;
	char comment[256];
	atomic_bool stop;
	_Atomic __u64 packets, bytes, size, filtered, ring_full, slow;
	atomic_int end, error;
	void (*ended)(void *user);
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
	atomic_uint names_set;		       /* how often */
	uint8_t tagged[TG_RECORD_BYTES + TAG]; /* a frame with its VLAN tag back in */
};

static __u64 now_of(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return now.tv_sec * SECOND + now.tv_nsec;
}

static __u64 monotonic(void)
{
	return now_of(CLOCK_MONOTONIC);
}

/* --- what is said of a packet --- */

static const char *verdict_name(__u8 verdict)
{
	switch (verdict) {
	case TG_ACTION_ACCEPT:
		return "accept";
	case TG_ACTION_DROP:
		return "drop";
	case TG_ACTION_REJECT:
		return "reject";
	case TG_RECORD_FORWARDED:
		return "forward";
	case TG_RECORD_UNJUDGED:
		return "none";
	default:
		return "?";
	}
}

/* ", rule dns (policy.lua:12)", or its number, if nobody has said its name */
static void add_rule(struct tg_captures *captures, __u32 rule, char *text, size_t size)
{
	if (rule == TG_NO_RULE)
		return;
	pthread_mutex_lock(&captures->small_lock);
	if (rule < captures->name_count && captures->names[rule])
		snprintf(text, size, ", rule %s", captures->names[rule]);
	else
		snprintf(text, size, ", rule %u", rule);
	pthread_mutex_unlock(&captures->small_lock);
}

/* Most packets have the comment of the one before. */
static const char *comment_on(struct tg_capture *capture, const struct tg_record *record)
{
	__u64 about = 1ull << 63 | (__u64)record->verdict << 48 | (__u64)record->reason << 32 |
		      record->rule;
	unsigned int names_set = atomic_load(&capture->captures->names_set);
	char *text = capture->comment;
	size_t n;

	if (capture->comment_of == about && capture->comment_names == names_set)
		return text;
	capture->comment_of = about;
	capture->comment_names = names_set;
	n = snprintf(text, sizeof(capture->comment), "verdict %s", verdict_name(record->verdict));
	if (record->reason != TG_REASON_NONE && record->rule == TG_NO_RULE)
		n += snprintf(text + n, sizeof(capture->comment) - n, ", reason %s",
			tg_reason_name(record->reason));
	add_rule(capture->captures, record->rule, text + n, sizeof(capture->comment) - n);
	return text;
}

/* --- a packet's way into the file --- */

static void count(_Atomic __u64 *counter, __u64 more)
{
	atomic_fetch_add_explicit(counter, more, memory_order_relaxed);
}

static void ends(struct tg_capture *capture, enum tg_capture_end why)
{
	struct tg_tap *tap = &capture->captures->taps[capture->options.tap];

	if (capture->stage != TAKES)
		return;
	if (tap->start == capture->options.start)
		__atomic_store_n(&tap->until, 1, __ATOMIC_RELAXED);
	capture->stage = DRAINS;
	capture->since = monotonic();
	atomic_store(&capture->end, why);
}

/* Blocks that are not packets: room for one. */
static uint8_t *room(struct tg_capture *capture, size_t size)
{
	return tg_sink_room(capture->sink, size);
}

static void filled(struct tg_capture *capture, const uint8_t *from, const uint8_t *to)
{
	tg_sink_filled(capture->sink, to - from);
	count(&capture->size, to - from);
}

/* The number of the packet's interface, whose block is written before its first packet; -1: no room for that. */
static int interface_of(struct tg_capture *capture, __u32 ifindex)
{
	struct tg_pcapng_interface interface = { .snap = capture->options.snap,
		.filter = capture->options.filter ? tg_expression_text(capture->options.filter)
						  : NULL };
	char name[IF_NAMESIZE];
	uint8_t *at;
	int i = 0;

	while (i < capture->interface_count && capture->interfaces[i] != ifindex)
		i++;
	if (i < capture->interface_count)
		return i;
	at = i < INTERFACES ? room(capture, TG_PCAPNG_BLOCK) : NULL;
	if (!at)
		return -1;
	if (!if_indextoname(ifindex, name))
		snprintf(name, sizeof(name), "%u", ifindex);
	interface.name = name;
	filled(capture, at, tg_pcapng_interface(at, &interface));
	capture->interfaces[i] = ifindex;
	capture->interface_count++;
	return i;
}

/* The frame as it was on the wire: its VLAN tag, which the kernel has beside it, is put back. */
static void put_back_tag(
	struct tg_capture *capture, const struct tg_record *record, struct tg_pcapng_packet *packet)
{
	uint8_t *frame = capture->captures->tagged;
	const uint8_t *data = packet->data;
	__be16 tci = htons(record->vlan_tci);

	packet->length += TAG;
	if (packet->captured < MACS)
		return;
	memcpy(frame, data, MACS);
	memcpy(frame + MACS, &record->vlan_proto, 2);
	memcpy(frame + MACS + 2, &tci, 2);
	memcpy(frame + MACS + TAG, data + MACS, packet->captured - MACS);
	packet->data = frame;
	packet->captured += TAG;
	if (packet->captured > capture->options.snap)
		packet->captured = capture->options.snap;
}

static struct tg_pcapng_packet packet_of(struct tg_capture *capture, const struct tg_record *record)
{
	struct tg_pcapng_packet packet = {
		.time = record->time + capture->captures->to_real,
		.length = record->length,
		.captured = record->captured,
		.data = record + 1,
		.direction =
			record->direction == TG_EGRESS ? TG_PCAPNG_OUTBOUND : TG_PCAPNG_INBOUND,
	};

	if (record->vlan_proto)
		put_back_tag(capture, record, &packet);
	return packet;
}

static bool is_wanted(const struct tg_capture *capture, const struct tg_pcapng_packet *packet)
{
	return !capture->options.filter || tg_expression_matches(capture->options.filter,
						   packet->data, packet->length, packet->captured);
}

static bool over_bytes(const struct tg_capture *capture, size_t more)
{
	return capture->options.bytes &&
	       capture->size + more + STATISTICS_SIZE > capture->options.bytes;
}

static void write_packet(
	struct tg_capture *capture, const struct tg_record *record, struct tg_pcapng_packet *packet)
{
	int interface = interface_of(capture, record->ifindex);
	uint8_t *at = interface < 0 ? NULL : room(capture, packet->captured + TG_PCAPNG_BLOCK);
	uint8_t *end;

	if (!at) {
		count(&capture->slow, 1);
		return;
	}
	packet->interface = interface;
	packet->comment = comment_on(capture, record);
	end = tg_pcapng_packet(at, packet);
	if (over_bytes(capture, end - at)) {
		ends(capture, TG_CAPTURE_BYTES);
		return;
	}
	filled(capture, at, end);
	count(&capture->packets, 1);
	count(&capture->bytes, packet->length);
	if (capture->packets == capture->options.packets)
		ends(capture, TG_CAPTURE_PACKETS);
}

/* Does it still take packets? Once it was stopped, or its time was over, those that are in the ring. */
static bool takes(const struct tg_capture *capture)
{
	return capture->stage == TAKES ||
	       (capture->stage == DRAINS &&
		       (capture->end == TG_CAPTURE_STOPPED || capture->end == TG_CAPTURE_SECONDS));
}

static void take(struct tg_capture *capture, const struct tg_record *record)
{
	struct tg_pcapng_packet packet;

	if (!takes(capture))
		return;
	packet = packet_of(capture, record);
	if (is_wanted(capture, &packet))
		write_packet(capture, record, &packet);
	else
		count(&capture->filtered, 1);
}

/* --- the ring --- */

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
			take(capture, record);
			break;
		}
	}
	return ++captures->turn < TURN_MOST ? 0 : -EAGAIN;
}

static __u64 ring_full(const struct tg_captures *captures, __u32 tap)
{
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

/* The statistics, in the name of the first interface. */
static void finish(struct tg_capture *capture)
{
	struct tg_pcapng_statistics statistics = {
		.start = capture->started,
		.end = now_of(CLOCK_REALTIME),
		.received =
			capture->packets + capture->filtered + capture->slow + capture->ring_full,
		.dropped = capture->slow + capture->ring_full,
		.accepted = capture->packets + capture->slow,
		.delivered = capture->packets,
	};
	uint8_t last[TG_SINK_LAST], *end;

	capture->stage = OVER;
	tg_list_remove(&capture->node);
	end = tg_pcapng_statistics(last, &statistics);
	count(&capture->size, end - last);
	if (capture->end == TG_CAPTURE_STOPPED)
		tg_sink_abandon(capture->sink);
	tg_sink_end(capture->sink, last, end - last); /* from here on it may be freed */
}

/* Looks after a capture, every turn. */
static void tend(struct tg_capture *capture, __u64 now, bool ring_is_empty)
{
	int error = capture->stage == TAKES ? tg_sink_check(capture->sink) : 0;

	capture->ring_full =
		ring_full(capture->captures, capture->options.tap) - capture->full_before;
	if (error) {
		atomic_store(&capture->error, error);
		ends(capture, TG_CAPTURE_FAILED);
	} else if (capture->stop) {
		ends(capture, TG_CAPTURE_STOPPED);
	} else if (capture->deadline && now >= capture->deadline) {
		ends(capture, TG_CAPTURE_SECONDS);
	}
	if (capture->stage == TAKES)
		renew_lease(capture, now);
	if (capture->stage == DRAINS && ring_is_empty && now - capture->since > LATE)
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
	now = monotonic();
	captures->to_real = now_of(CLOCK_REALTIME) - now;
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
	capture->ended(capture->user);
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
	at = room(capture, TG_PCAPNG_BLOCK);
	filled(capture, at, tg_pcapng_section(at, "tidegate " TIDEGATE_VERSION));
	capture->since = monotonic();
	capture->started = now_of(CLOCK_REALTIME);
	capture->deadline = capture->options.ns ? capture->since + capture->options.ns : 0;
	capture->full_before = ring_full(captures, capture->options.tap);
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
	const struct tg_capture_options *options, void (*ended)(void *user), void *user)
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
	const struct tg_capture_options *options, void (*ended)(void *user), void *user,
	struct tg_error *error)
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
