/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Where a capture goes to: a descriptor of a file, a pipe or a socket, and a thread that writes what it is
 * given, so that a slow disk or reader holds up nobody. What is to be written waits in memory, TG_SINK_CHUNKS
 * times TG_SINK_CHUNK bytes at most; beyond that there is no room, and the caller counts what is lost.
 *
 * One thread fills the sink, in whole pcapng blocks. A file whose disk is full keeps the whole blocks that
 * fit.
 */
#ifndef TG_SINK_H
#define TG_SINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TG_SINK_CHUNK  (1 << 20)
#define TG_SINK_CHUNKS 32
#define TG_SINK_LAST   4096 /* bytes of the last block at most */

struct tg_sink;

/*
 * Starts the thread. The descriptor is the sink's from now on, but if NULL is returned (no memory). `ended`
 * is called by the thread as its last act.
 */
struct tg_sink *tg_sink_new(int fd, void (*ended)(void *user), void *user);

/* Room for so many bytes more, TG_SINK_CHUNK at most; NULL: there is none now. */
uint8_t *tg_sink_room(struct tg_sink *sink, size_t size);
/* That many bytes of the room were filled. */
void tg_sink_filled(struct tg_sink *sink, size_t size);
/* Writes what there is, if nothing is being written: now and then, so that nothing waits for long. */
void tg_sink_flush(struct tg_sink *sink);
/* No more is to come but a last block, for which a full disk may have room yet. */
void tg_sink_end(struct tg_sink *sink, const void *last, size_t size);
/* After it ended: do not wait for a reader any longer. From any thread. */
void tg_sink_abandon(struct tg_sink *sink);

/* Why nothing more can be written, a negative errno; -EPIPE: the reader has gone. 0: it can. Before tg_sink_end. */
int tg_sink_check(struct tg_sink *sink);

/* What became of all that was given: for `ended`. */
struct tg_sink_result {
	int error;
	uint64_t written; /* bytes */
	uint64_t packets; /* that were not written */
};
void tg_sink_result(struct tg_sink *sink, struct tg_sink_result *result);
/* Waits for the thread, after tg_sink_end, and frees the sink. */
void tg_sink_free(struct tg_sink *sink);

#endif
