/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Frames on the control socket: a header of a u32 length (network order, of what follows the
 * header) and a u8 type, then the payload. The server's side of it is lua/tidegate/console.lua.
 *
 * Client to daemon:
 *   'R' a request: command and arguments, each closed by a NUL; a descriptor may come with it
 *   'C' cancels the request that runs (Ctrl-C); without one it means nothing
 * Daemon to client:
 *   'O' bytes for standard output      'E' bytes for standard error
 *   'X' the exit code, one byte: it ends the request
 * One request runs at a time on a connection; the next is sent after 'X'.
 */
#ifndef TG_FRAME_H
#define TG_FRAME_H

#include <stddef.h>
#include <stdint.h>

#define TG_FRAME_HEADER 5	    /* bytes */
#define TG_FRAME_MAX	(16u << 20) /* bytes of payload; a longer one is a broken peer */

enum tg_frame_type {
	TG_FRAME_REQUEST = 'R',
	TG_FRAME_CANCEL = 'C',
	TG_FRAME_OUTPUT = 'O',
	TG_FRAME_ERROR = 'E',
	TG_FRAME_EXIT = 'X',
};

struct tg_frame {
	uint8_t type;
	uint32_t size;
	const uint8_t *data; /* in the reader's buffer: good until its next call */
};

/* What has arrived and was not yet taken. Zeroed is ready; tg_frame_reader_free() when done. */
struct tg_frame_reader {
	uint8_t *buffer;
	size_t room, start, end;
};

/* Sends one whole frame on a blocking descriptor; 0, -EMSGSIZE, or why send() failed. */
int tg_frame_send(int fd, enum tg_frame_type type, const void *data, size_t size);

/* The same on a Unix socket, and a descriptor with it (unix(7), SCM_RIGHTS); -1: none. */
int tg_frame_send_with(
	int fd, enum tg_frame_type type, const void *data, size_t size, int descriptor);

/* Reads once: bytes read, 0 at the end of the stream, or a negative errno (-EINTR, -EAGAIN too). */
int tg_frame_fill(struct tg_frame_reader *reader, int fd);
/* Takes the next whole frame: 1, 0 if more has to be read first, -EPROTO if it is too long. */
int tg_frame_next(struct tg_frame_reader *reader, struct tg_frame *frame);
void tg_frame_reader_free(struct tg_frame_reader *reader);

#endif
