/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A prober and servers for its tests, on the loopback: kernels that accept, refuse or drop, and small
 * scripted HTTP servers, each a thread that answers one connection after the other.
 */
#ifndef TG_TEST_PROBER_H
#define TG_TEST_PROBER_H

#include "probe.h"
#include "probe_http.h"
#include "unit.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#define MS 1000000ULL
#define CROWD 20 /* targets, where one is not enough */

static uv_loop_t loop;
static struct tg_prober *prober;

/* --- listeners --- */

static inline int listen_on_port(const char *address, int backlog, uint16_t want, uint16_t *port)
{
	struct sockaddr_storage at;
	socklen_t length = sizeof(at);
	struct tg_addr addr;
	int fd;

	tg_addr_parse(address, &addr);
	fd = socket(addr.family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	length = tg_addr_sockaddr(&addr, want, &at);
	CHECK_INT(0, bind(fd, (struct sockaddr *)&at, length));
	CHECK_INT(0, listen(fd, backlog));
	getsockname(fd, (struct sockaddr *)&at, &length);
	*port = ntohs(((struct sockaddr_in *)&at)->sin_port); /* at the same place in IPv6 */
	return fd;
}

static inline int listen_on(const char *address, int backlog, uint16_t *port)
{
	return listen_on_port(address, backlog, 0, port);
}

/* Fills the accept queue of a listener with a backlog of 0: its kernel drops every further SYN. */
static inline int connect_to(uint16_t port)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(port) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	CHECK_INT(0, connect(fd, (struct sockaddr *)&to, sizeof(to)));
	return fd;
}

struct server {
	const char *pieces[8]; /* of the answer, in writes of their own */
	unsigned int pause_ms; /* before each piece */
	bool reset;	       /* end with a RST instead of a FIN */
	bool hold;	       /* leave the connection open until the other side ends it */
	bool greets;	       /* speaks before it is asked */
	bool saw_reset;	       /* the other side ended it with a RST */
	int listener;
	uint16_t port;
	char request[512];     /* the last one */
	pthread_t thread;
};

static inline void answer(struct server *server, int fd)
{
	for (const char **piece = server->pieces; *piece; piece++) {
		usleep(server->pause_ms * 1000);
		if (send(fd, *piece, strlen(*piece), MSG_NOSIGNAL) < 0)
			break;
	}
}

static inline void serve_one(struct server *server, int fd)
{
	static const struct linger reset = { .l_onoff = 1, .l_linger = 0 };
	ssize_t got;

	if (server->greets)
		answer(server, fd);
	got = read(fd, server->request, sizeof(server->request) - 1);
	server->request[got > 0 ? got : 0] = 0;
	if (!server->greets)
		answer(server, fd);
	if (server->hold)
		server->saw_reset = read(fd, &got, sizeof(got)) < 0 && errno == ECONNRESET;
	if (server->reset)
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	close(fd);
}

static inline void *serve(void *data)
{
	struct server *server = data;
	static const int on = 1;
	int fd;

	while ((fd = accept(server->listener, NULL, NULL)) >= 0) {
		setsockopt(fd, IPPROTO_TCP, 1 /* TCP_NODELAY */, &on, sizeof(on));
		serve_one(server, fd);
	}
	return NULL;
}

static inline void server_start(struct server *server)
{
	server->listener = listen_on("127.0.0.1", 128, &server->port);
	pthread_create(&server->thread, NULL, serve, server);
}

static inline void server_stop(struct server *server)
{
	shutdown(server->listener, SHUT_RDWR);
	pthread_join(server->thread, NULL);
	close(server->listener);
}

/* --- the prober under test --- */

static inline void set_up(void)
{
	struct tg_error error = { "" };

	uv_loop_init(&loop);
	prober = tg_prober_new(&loop, &error);
	CHECK_STR("", error.text);
}

static inline void note(void *user)
{
	++*(int *)user;
}

/* Every test ends here: nothing is left behind, in flight or not. */
static inline void tear_down(void)
{
	int closed = 0;

	tg_prober_close(prober, note, &closed);
	uv_run(&loop, UV_RUN_DEFAULT);
	CHECK_INT(1, closed);
	CHECK_INT(0, uv_loop_close(&loop));
}

static inline void on_end(uv_timer_t *timer)
{
	uv_stop(timer->loop);
}

static inline void run_for(unsigned int ms)
{
	uv_timer_t timer;

	uv_update_time(&loop);
	uv_timer_init(&loop, &timer);
	uv_timer_start(&timer, on_end, ms, 0);
	uv_run(&loop, UV_RUN_DEFAULT);
	uv_close((uv_handle_t *)&timer, NULL);
	uv_run(&loop, UV_RUN_NOWAIT);
}

/* What a target's owner saw. */
struct seen {
	struct tg_target *target;
	int changes;
	enum tg_health state;
	char reason[TG_REASON_TEXT];
	uint64_t at;
};

static inline void on_change(void *user, enum tg_health state, const struct tg_probe_result *last)
{
	struct seen *seen = user;

	seen->changes++;
	seen->state = state;
	snprintf(seen->reason, sizeof(seen->reason), "%s", last->reason);
	seen->at = uv_hrtime();
}

static inline struct tg_check check_of(enum tg_check_type type, const char *address, uint16_t port,
	unsigned int interval_ms, unsigned int timeout_ms)
{
	struct tg_check check = { .type = type, .port = port, .interval = interval_ms * MS,
		.timeout = timeout_ms * MS, .rise = 2, .fall = 3,
		.request = "GET /healthz HTTP/1.0\r\n\r\n" };

	tg_addr_parse(address, &check.addr);
	return check;
}

static inline void add(struct seen *seen, const struct tg_check *check, enum tg_health initial)
{
	struct tg_error error = { "" };

	memset(seen, 0, sizeof(*seen));
	seen->state = initial;
	seen->target = tg_prober_add(prober, check, initial, on_change, seen, &error);
	CHECK_STR("", error.text);
}

/* Runs until the first change of state, at most a second. */
static inline void run_until_change(struct seen *seen)
{
	for (int i = 0; i < 100 && !seen->changes; i++)
		run_for(10);
}

static inline const struct tg_health_status *status_of(const struct seen *seen)
{
	return tg_target_status(seen->target);
}

/* --- the whole --- */

static inline int count_descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int count = 0;

	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

static int descriptors_at_start;

static inline void no_test_left_a_descriptor(void)
{
	CHECK_INT(descriptors_at_start, count_descriptors());
}

/* Before the first test. */
static inline void note_descriptors(void)
{
	uv_loop_init(&loop); /* the first loop of a process opens two descriptors for good */
	uv_loop_close(&loop);
	descriptors_at_start = count_descriptors();
}

#endif
