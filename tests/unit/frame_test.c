/* SPDX-License-Identifier: GPL-2.0-only */
#include "frame.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "unit.h"

static int a, b;		/* the two ends of a socket */

static void open_pair(void)
{
	int fd[2];

	CHECK_INT(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd));
	a = fd[0];
	b = fd[1];
}

static void close_pair(void)
{
	close(a);
	close(b);
}

/* Reads until a frame, the end (0) or an error. */
static int receive(struct tg_frame_reader *reader, struct tg_frame *frame)
{
	int n;

	while (!(n = tg_frame_next(reader, frame))) {
		n = tg_frame_fill(reader, b);
		if (n <= 0)
			return n;
	}
	return n;
}

static void frames_arrive_whole_and_in_order(void)
{
	struct tg_frame_reader reader = { 0 };
	struct tg_frame frame;

	open_pair();
	CHECK_INT(0, tg_frame_send(a, TG_FRAME_OUTPUT, "one\0two", 7));
	CHECK_INT(0, tg_frame_send(a, TG_FRAME_CANCEL, NULL, 0));
	CHECK_INT(0, tg_frame_send(a, TG_FRAME_EXIT, "\3", 1));
	CHECK_INT(1, receive(&reader, &frame));
	CHECK_INT('O', frame.type);
	CHECK_INT(7, frame.size);
	CHECK(!memcmp(frame.data, "one\0two", 7));
	CHECK_INT(1, receive(&reader, &frame));
	CHECK_INT('C', frame.type);
	CHECK_INT(0, frame.size);
	CHECK_INT(1, receive(&reader, &frame));
	CHECK_INT('X', frame.type);
	CHECK_INT(3, frame.data[0]);
	CHECK_INT(0, tg_frame_next(&reader, &frame));
	tg_frame_reader_free(&reader);
	close_pair();
}

static void a_frame_cut_anywhere_is_put_together(void)
{
	static const char bytes[] = "\0\0\0\5Ohello\0\0\0\1X\0";
	struct tg_frame_reader reader = { 0 };
	struct tg_frame frame;

	open_pair();
	for (size_t i = 0; i < 10; i++) {
		CHECK_INT(1, write(a, bytes + i, 1));
		CHECK_INT(1, tg_frame_fill(&reader, b));
		CHECK_INT(i == 9, tg_frame_next(&reader, &frame));
	}
	CHECK_INT(5, frame.size);
	CHECK(!memcmp(frame.data, "hello", 5));
	CHECK_INT(6, write(a, bytes + 10, 6));
	CHECK_INT(1, receive(&reader, &frame));
	CHECK_INT('X', frame.type);
	tg_frame_reader_free(&reader);
	close_pair();
}

static void a_frame_that_announces_too_much_is_refused(void)
{
	struct tg_frame_reader reader = { 0 };
	struct tg_frame frame;

	open_pair();
	CHECK_INT(5, write(a, "\1\0\0\1O", 5));		/* 16 MiB and a byte */
	CHECK_INT(-EPROTO, receive(&reader, &frame));
	CHECK_INT(-EMSGSIZE, tg_frame_send(a, TG_FRAME_OUTPUT, "", TG_FRAME_MAX + 1));
	tg_frame_reader_free(&reader);
	close_pair();
}

static void a_stream_that_ends_inside_a_frame_ends(void)
{
	struct tg_frame_reader reader = { 0 };
	struct tg_frame frame;

	open_pair();
	CHECK_INT(7, write(a, "\0\0\0\5Ohe", 7));
	close(a);
	CHECK_INT(0, receive(&reader, &frame));
	tg_frame_reader_free(&reader);
	close(b);
}

static void *send_largest(void *data)
{
	CHECK_INT(0, tg_frame_send(a, TG_FRAME_OUTPUT, data, TG_FRAME_MAX));
	close(a);
	return NULL;
}

static void the_largest_frame_passes(void)
{
	struct tg_frame_reader reader = { 0 };
	char *data = malloc(TG_FRAME_MAX);
	struct tg_frame frame;
	pthread_t sender;

	for (size_t i = 0; i < TG_FRAME_MAX; i++)
		data[i] = i * 31 + i / 257;
	open_pair();
	CHECK_INT(0, pthread_create(&sender, NULL, send_largest, data));
	CHECK_INT(1, receive(&reader, &frame));
	CHECK_INT(TG_FRAME_MAX, frame.size);
	CHECK(!memcmp(frame.data, data, TG_FRAME_MAX));
	pthread_join(sender, NULL);
	tg_frame_reader_free(&reader);
	free(data);
	close(b);
}

static void a_peer_that_left_is_an_error_not_a_signal(void)
{
	open_pair();
	close(b);
	CHECK_INT(-EPIPE, tg_frame_send(a, TG_FRAME_OUTPUT, "x", 1));
	close(a);
}

static void a_descriptor_comes_with_a_frame(void)
{
	char control[CMSG_SPACE(sizeof(int))], bytes[64], word[4] = "";
	struct iovec vector = { bytes, sizeof(bytes) };
	struct msghdr message = { .msg_iov = &vector,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control) };
	int fds[2], arrived = -1;

	open_pair();
	CHECK_INT(0, pipe(fds));
	CHECK_INT(0, tg_frame_send_with(a, TG_FRAME_REQUEST, "capture", 8, fds[1]));
	close(fds[1]);
	CHECK(recvmsg(b, &message, 0) > 0);
	CHECK(CMSG_FIRSTHDR(&message) && CMSG_FIRSTHDR(&message)->cmsg_type == SCM_RIGHTS);
	if (CMSG_FIRSTHDR(&message))
		memcpy(&arrived, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(int));
	CHECK_INT(3, write(arrived, "yes", 3));
	CHECK_INT(3, read(fds[0], word, 3));
	CHECK_STR("yes", word);
	close(arrived);
	close(fds[0]);
	close_pair();
}

int main(void)
{
	RUN(a_descriptor_comes_with_a_frame);
	RUN(frames_arrive_whole_and_in_order);
	RUN(a_frame_cut_anywhere_is_put_together);
	RUN(a_frame_that_announces_too_much_is_refused);
	RUN(a_stream_that_ends_inside_a_frame_ends);
	RUN(the_largest_frame_passes);
	RUN(a_peer_that_left_is_an_error_not_a_signal);
	return unit_result();
}
