/* SPDX-License-Identifier: GPL-2.0-only */
#include "frame.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

#define READ_ROOM 65536 /* bytes offered to each read() */

static int send_all(int fd, const void *data, size_t size)
{
	const char *at = data;

	while (size) {
		ssize_t n = send(fd, at, size, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		at += n;
		size -= n;
	}
	return 0;
}

/* Bytes, at least one, with a descriptor beside the first. */
static int send_descriptor(int fd, const void *data, size_t size, int descriptor)
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct iovec vector = { (void *)data, size };
	struct msghdr message = { .msg_iov = &vector,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control) };
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);
	ssize_t n;

	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(header), &descriptor, sizeof(int));
	do
		n = sendmsg(fd, &message, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : send_all(fd, (const char *)data + n, size - n);
}

int tg_frame_send_with(
	int fd, enum tg_frame_type type, const void *data, size_t size, int descriptor)
{
	uint8_t header[TG_FRAME_HEADER];
	uint32_t length = htonl(size);
	int err;

	if (size > TG_FRAME_MAX)
		return -EMSGSIZE;
	memcpy(header, &length, sizeof(length));
	header[4] = type;
	err = descriptor < 0 ? send_all(fd, header, sizeof(header))
			     : send_descriptor(fd, header, sizeof(header), descriptor);
	return err ? err : send_all(fd, data, size);
}

int tg_frame_send(int fd, enum tg_frame_type type, const void *data, size_t size)
{
	return tg_frame_send_with(fd, type, data, size, -1);
}

/* Room for READ_ROOM more bytes behind `end`: moves what is left to the front, then grows. */
static int make_room(struct tg_frame_reader *reader)
{
	size_t used = reader->end - reader->start, room = reader->room;
	uint8_t *buffer;

	if (reader->start) {
		memmove(reader->buffer, reader->buffer + reader->start, used);
		reader->start = 0;
		reader->end = used;
	}
	if (room - used >= READ_ROOM)
		return 0;
	room = room * 2 > used + READ_ROOM ? room * 2 : used + READ_ROOM;
	buffer = realloc(reader->buffer, room);
	if (!buffer)
		return -ENOMEM;
	reader->buffer = buffer;
	reader->room = room;
	return 0;
}

int tg_frame_fill(struct tg_frame_reader *reader, int fd)
{
	int err = make_room(reader);
	ssize_t n;

	if (err)
		return err;
	n = read(fd, reader->buffer + reader->end, READ_ROOM);
	if (n < 0)
		return -errno;
	reader->end += n;
	return n;
}

int tg_frame_next(struct tg_frame_reader *reader, struct tg_frame *frame)
{
	const uint8_t *at = reader->buffer + reader->start;
	size_t have = reader->end - reader->start;
	uint32_t length;

	if (have < TG_FRAME_HEADER)
		return 0;
	memcpy(&length, at, sizeof(length));
	length = ntohl(length);
	if (length > TG_FRAME_MAX)
		return -EPROTO;
	if (have - TG_FRAME_HEADER < length)
		return 0;
	*frame = (struct tg_frame){ at[4], length, at + TG_FRAME_HEADER };
	reader->start += TG_FRAME_HEADER + length;
	return 1;
}

void tg_frame_reader_free(struct tg_frame_reader *reader)
{
	free(reader->buffer);
	*reader = (struct tg_frame_reader){ 0 };
}
