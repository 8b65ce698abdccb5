/* SPDX-License-Identifier: GPL-2.0-only */
#include "probe_socket.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static struct tg_idle_sockets *idle_of(struct tg_probe_sockets *sockets, int family)
{
	return &sockets->idle[family == AF_INET6];
}

/*
 * Set once, kept over all uses. On a client's socket TCP_DEFER_ACCEPT holds back the last ACK of the
 * handshake until there is data to send with it or the connection is reset (unlike TCP_QUICKACK = 0,
 * which a disconnect forgets).
 */
static void set_options(int fd)
{
	static const struct linger reset = { .l_onoff = 1, .l_linger = 0 };
	static const int on = 1;

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	setsockopt(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, &on, sizeof(on));
}

static int open_watched(struct tg_probe_sockets *sockets, struct tg_probe_socket *owner)
{
	struct epoll_event event = {
		.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
		.data.ptr = owner,
	};
	int fd = socket(owner->family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int code;

	if (fd < 0)
		return -errno;
	set_options(fd);
	if (!epoll_ctl(sockets->epoll, EPOLL_CTL_ADD, fd, &event))
		return fd;
	code = -errno;
	close(fd);
	return code;
}

static struct tg_probe_socket *open_socket(struct tg_probe_sockets *sockets, int family)
{
	struct tg_probe_socket *socket = calloc(1, sizeof(*socket));

	if (!socket)
		return NULL;
	socket->family = family;
	socket->fd = open_watched(sockets, socket);
	if (socket->fd < 0) {
		errno = -socket->fd;
		free(socket);
		return NULL;
	}
	sockets->open++;
	return socket;
}

struct tg_probe_socket *tg_probe_socket_take(struct tg_probe_sockets *sockets, int family,
	void *user)
{
	struct tg_idle_sockets *idle = idle_of(sockets, family);
	struct tg_probe_socket *socket = idle->first;

	if (socket) {
		idle->first = socket->next;
		idle->count--;
	} else {
		socket = open_socket(sockets, family);
	}
	if (socket)
		socket->user = user;
	return socket;
}

void tg_probe_socket_release(struct tg_probe_sockets *sockets, struct tg_probe_socket *socket)
{
	static const struct sockaddr none = { .sa_family = AF_UNSPEC };
	struct tg_idle_sockets *idle = idle_of(sockets, socket->family);

	connect(socket->fd, &none, sizeof(none));
	socket->user = NULL;
	socket->next = idle->first;
	idle->first = socket;
	idle->count++;
}

void tg_probe_sockets_trim(struct tg_probe_sockets *sockets, unsigned int keep)
{
	struct tg_probe_socket *socket;

	for (struct tg_idle_sockets *idle = sockets->idle; idle < sockets->idle + 2; idle++) {
		for (; idle->count > keep; idle->count--) {
			socket = idle->first;
			idle->first = socket->next;
			close(socket->fd);
			free(socket);
			sockets->open--;
		}
	}
}

bool tg_probe_is_local_fault(int code)
{
	switch (code) {
	case EMFILE:
	case ENFILE:
	case ENOBUFS:
	case ENOMEM:
	case ENOSPC: /* epoll watches */
	case EADDRNOTAVAIL:
	case EAGAIN:
		return true;
	default:
		return false;
	}
}
