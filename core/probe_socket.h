/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The prober's sockets: made once, lent to one probe after the other. Part of core/probe.c.
 *
 * A used socket is disconnected (connect to AF_UNSPEC), which sends the RST that ends its connection,
 * leaves no TIME_WAIT behind, and lets it stay in the epoll set: against a new socket for each probe
 * this saves six system calls and the work behind them. A disconnect leaves one more event
 * (EPOLLHUP) in the epoll set, which finds the socket without a user.
 */
#ifndef TG_PROBE_SOCKET_H
#define TG_PROBE_SOCKET_H

#include <stdbool.h>
#include <stdint.h>

struct tg_probe_socket {
	struct tg_probe_socket *next; /* of the idle ones */
	void *user;		      /* whose probe is in flight; NULL: idle */
	int family;
	int fd;
};

struct tg_probe_sockets {
	int epoll; /* all sockets are in it, edge-triggered, with their struct as data */
	unsigned int open;
	struct tg_idle_sockets {
		struct tg_probe_socket *first;
		unsigned int count;
	} idle[2]; /* IPv4, IPv6 */
};

/* A socket that is not connected. NULL and errno when the system refuses one. */
struct tg_probe_socket *tg_probe_socket_take(struct tg_probe_sockets *sockets, int family,
	void *user);
/* Ends the connection. The socket stays valid until the next trim: events at hand may name it. */
void tg_probe_socket_release(struct tg_probe_sockets *sockets, struct tg_probe_socket *socket);
/* Closes idle sockets beyond `keep` of each family. */
void tg_probe_sockets_trim(struct tg_probe_sockets *sockets, unsigned int keep);
/* Whether an errno is a fault of this machine, which says nothing about the backend. */
bool tg_probe_is_local_fault(int code);

#endif
