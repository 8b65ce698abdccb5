/* SPDX-License-Identifier: GPL-2.0-only */
#include "events.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct tg_events {
	uv_poll_t poll;
	struct ring_buffer *ring;
	void (*deliver)(void *user, const struct tg_packet_event *events, size_t count);
	void *user;
	bool closed;
	size_t count;
	struct tg_packet_event turn[TG_EVENTS_TURN];
};

/* A record. A negative result ends the turn, and the record is taken. */
static int on_record(void *user, void *data, size_t size)
{
	struct tg_events *events = user;

	if (size < sizeof(struct tg_packet_event))
		return 0;
	memcpy(&events->turn[events->count++], data, sizeof(struct tg_packet_event));
	return events->count == TG_EVENTS_TURN ? -ECANCELED : 0;
}

static void free_events(struct tg_events *events)
{
	ring_buffer__free(events->ring);
	free(events);
}

static void on_readable(uv_poll_t *poll, int status, int what)
{
	struct tg_events *events = poll->data;

	events->count = 0;
	ring_buffer__consume(events->ring);
	if (!events->count)
		return;
	events->deliver(events->user, events->turn, events->count);
}

static void on_closed(uv_handle_t *handle)
{
	free_events(handle->data);
}

void tg_events_close(struct tg_events *events)
{
	if (events->closed)
		return;
	events->closed = true;
	uv_close((uv_handle_t *)&events->poll, on_closed);
}

/* Passes over what was told before anybody listened. */
static void skip(struct tg_events *events)
{
	do {
		events->count = 0;
		ring_buffer__consume(events->ring);
	} while (events->count == TG_EVENTS_TURN);
}

struct tg_events *tg_events_open(uv_loop_t *loop, int ring,
	void (*deliver)(void *user, const struct tg_packet_event *events, size_t count), void *user,
	struct tg_error *error)
{
	struct tg_events *events = calloc(1, sizeof(*events));
	int result;

	if (!events) {
		tg_fail(error, -ENOMEM, "out of memory");
		return NULL;
	}
	events->deliver = deliver;
	events->user = user;
	events->ring = ring_buffer__new(ring, on_record, events, NULL);
	result = events->ring ? 0 : -errno;
	if (!result)
		result = uv_poll_init(loop, &events->poll, ring_buffer__epoll_fd(events->ring));
	if (result) {
		tg_fail(error, result, "the ring of events can't be read: %s", strerror(-result));
		free_events(events);
		return NULL;
	}
	skip(events);
	events->poll.data = events;
	uv_poll_start(&events->poll, UV_READABLE, on_readable);
	uv_unref((uv_handle_t *)&events->poll);
	return events;
}

bool tg_events_counts(int counters, __u64 counts[TG_EVENT_COUNT][TG_EVENT_COUNTS])
{
	__u64 *cpus = calloc(libbpf_num_possible_cpus(), sizeof(*cpus));
	bool read = cpus != NULL;

	memset(counts, 0, sizeof(__u64) * TG_EVENT_COUNT * TG_EVENT_COUNTS);
	for (__u32 i = 0; read && i < TG_EVENT_COUNT * TG_EVENT_COUNTS; i++) {
		read = !bpf_map_lookup_elem(counters, &i, cpus);
		for (int cpu = 0; read && cpu < libbpf_num_possible_cpus(); cpu++)
			counts[i / TG_EVENT_COUNTS][i % TG_EVENT_COUNTS] += cpus[cpu];
	}
	free(cpus);
	return read;
}
