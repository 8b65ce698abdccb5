/* SPDX-License-Identifier: GPL-2.0-only */
#include "sink.h"

#include "pcapng.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATIENCE                                                                                   \
	100 /* ms that a write waits for a reader before it looks whether it still should */

struct chunk {
	uint8_t *data; /* from its first use on */
	size_t filled;
};

struct tg_sink {
	int fd;
	mode_t type;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t given;
	struct chunk chunks[TG_SINK_CHUNKS];
	atomic_uint first, next; /* written next, filled next: those between wait */
	bool ending;
	atomic_bool abandoned;
	atomic_int error;
	uint64_t written, packets_lost; /* the thread's, until it has ended */
	uint8_t last[TG_SINK_LAST];
	size_t last_size;
	void (*ended)(void *user);
	void *user;
};

/* Bytes written, 0: not yet; or a negative errno. Only a disk is waited for. */
static ssize_t write_some(struct tg_sink *sink, const uint8_t *data, size_t size)
{
	struct pollfd pollfd = { .fd = sink->fd, .events = POLLOUT };
	ssize_t n;

	if (S_ISREG(sink->type)) {
		n = write(sink->fd, data, size);
	} else {
		if (poll(&pollfd, 1, PATIENCE) <= 0)
			return 0;
		if (S_ISSOCK(sink->type))
			n = send(sink->fd, data, size, MSG_DONTWAIT | MSG_NOSIGNAL);
		else /* a pipe that can be written to takes so much without waiting */
			n = write(sink->fd, data, size < PIPE_BUF ? size : PIPE_BUF);
	}
	if (n >= 0)
		return n;
	return errno == EINTR || errno == EAGAIN ? 0 : -errno;
}

/* Of blocks that could not be written to the end, takes back the part of one. What is left: bytes. */
static size_t cut_back(struct tg_sink *sink, const uint8_t *data, size_t written)
{
	size_t whole = tg_pcapng_whole(data, written);
	off_t end;

	if (!S_ISREG(sink->type))
		return written;
	end = lseek(sink->fd, (off_t)whole - (off_t)written, SEEK_CUR);
	return end >= 0 && !ftruncate(sink->fd, end) ? whole : written; /* or half a block stays */
}

static int write_blocks(struct tg_sink *sink, const uint8_t *data, size_t size)
{
	size_t written = 0;

	while (written < size) {
		ssize_t n = write_some(sink, data + written, size - written);

		if (n == 0 && atomic_load(&sink->abandoned))
			n = -ETIMEDOUT;
		if (n < 0) {
			written = cut_back(sink, data, written);
			sink->packets_lost += tg_pcapng_packets(data + written, size - written);
			sink->written += written;
			return n;
		}
		written += n;
	}
	sink->written += size;
	return 0;
}

/* The next chunk that waits, or NULL: there won't be any more. */
static struct chunk *next_chunk(struct tg_sink *sink)
{
	unsigned int first = atomic_load(&sink->first);
	bool any;

	pthread_mutex_lock(&sink->lock);
	while (first == atomic_load(&sink->next) && !sink->ending)
		pthread_cond_wait(&sink->given, &sink->lock);
	any = first != atomic_load(&sink->next);
	pthread_mutex_unlock(&sink->lock);
	return any ? &sink->chunks[first % TG_SINK_CHUNKS] : NULL;
}

static void *sink_main(void *arg)
{
	struct tg_sink *sink = arg;
	struct chunk *chunk;
	int result;

	while ((chunk = next_chunk(sink))) {
		if (!atomic_load(&sink->error))
			atomic_store(&sink->error, write_blocks(sink, chunk->data, chunk->filled));
		else
			sink->packets_lost += tg_pcapng_packets(chunk->data, chunk->filled);
		chunk->filled = 0;
		atomic_fetch_add(&sink->first, 1);
	}
	result = write_blocks(sink, sink->last, sink->last_size);
	if (!atomic_load(&sink->error))
		atomic_store(&sink->error, result);
	close(sink->fd);
	sink->ended(sink->user);
	return NULL;
}

/* Signals are the main thread's, but SIGPIPE nobody's. */
static int start_thread(struct tg_sink *sink)
{
	sigset_t all, before;
	int result;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	result = pthread_create(&sink->thread, NULL, sink_main, sink);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return result;
}

struct tg_sink *tg_sink_new(int fd, void (*ended)(void *user), void *user)
{
	struct tg_sink *sink = calloc(1, sizeof(*sink));
	struct stat st;

	if (!sink)
		return NULL;
	sink->fd = fd;
	sink->type = fstat(fd, &st) ? 0 : st.st_mode & S_IFMT;
	sink->ended = ended;
	sink->user = user;
	pthread_mutex_init(&sink->lock, NULL);
	pthread_cond_init(&sink->given, NULL);
	sink->chunks[0].data = malloc(TG_SINK_CHUNK); /* the first room is there */
	if (sink->chunks[0].data && !start_thread(sink))
		return sink;
	free(sink->chunks[0].data);
	free(sink);
	return NULL;
}

static struct chunk *current(struct tg_sink *sink)
{
	unsigned int next = atomic_load(&sink->next);

	if (next - atomic_load(&sink->first) == TG_SINK_CHUNKS)
		return NULL; /* it is being written, or waits for it */
	return &sink->chunks[next % TG_SINK_CHUNKS];
}

/* Gives the current chunk to the thread. */
static void give(struct tg_sink *sink)
{
	pthread_mutex_lock(&sink->lock);
	atomic_fetch_add(&sink->next, 1);
	pthread_cond_signal(&sink->given);
	pthread_mutex_unlock(&sink->lock);
}

uint8_t *tg_sink_room(struct tg_sink *sink, size_t size)
{
	struct chunk *chunk = current(sink);

	if (chunk && chunk->filled + size > TG_SINK_CHUNK) {
		give(sink);
		chunk = current(sink);
	}
	if (!chunk || size > TG_SINK_CHUNK)
		return NULL;
	if (!chunk->data)
		chunk->data = malloc(TG_SINK_CHUNK);
	return chunk->data ? chunk->data + chunk->filled : NULL;
}

void tg_sink_filled(struct tg_sink *sink, size_t size)
{
	current(sink)->filled += size;
}

void tg_sink_flush(struct tg_sink *sink)
{
	struct chunk *chunk = current(sink);

	if (chunk && chunk->filled && atomic_load(&sink->next) == atomic_load(&sink->first))
		give(sink);
}

void tg_sink_end(struct tg_sink *sink, const void *last, size_t size)
{
	struct chunk *chunk = current(sink);

	if (chunk && chunk->filled)
		give(sink);
	pthread_mutex_lock(&sink->lock);
	memcpy(sink->last, last, size);
	sink->last_size = size;
	sink->ending = true;
	pthread_cond_signal(&sink->given);
	pthread_mutex_unlock(&sink->lock);
}

void tg_sink_abandon(struct tg_sink *sink)
{
	atomic_store(&sink->abandoned, true);
}

int tg_sink_check(struct tg_sink *sink)
{
	struct pollfd pollfd = { .fd = sink->fd };
	int error = atomic_load(&sink->error);

	if (error || S_ISREG(sink->type))
		return error;
	return poll(&pollfd, 1, 0) > 0 && pollfd.revents & (POLLERR | POLLHUP) ? -EPIPE : 0;
}

void tg_sink_result(struct tg_sink *sink, struct tg_sink_result *result)
{
	result->error = atomic_load(&sink->error);
	result->written = sink->written;
	result->packets = sink->packets_lost;
}

void tg_sink_free(struct tg_sink *sink)
{
	pthread_join(sink->thread, NULL);
	for (int i = 0; i < TG_SINK_CHUNKS; i++)
		free(sink->chunks[i].data);
	pthread_mutex_destroy(&sink->lock);
	pthread_cond_destroy(&sink->given);
	free(sink);
}
