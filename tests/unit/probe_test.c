/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The prober against real sockets on the loopback: kernels that accept, refuse or drop, and small
 * scripted HTTP servers, each a thread that answers one connection after the other.
 */
#include "probe.h"
#include "probe_http.h"
#include "unit.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <unistd.h>

#define MS 1000000ULL

static uv_loop_t loop;
static struct tg_prober *prober;

/* --- listeners --- */

static int listen_on_port(const char *address, int backlog, uint16_t want, uint16_t *port)
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

static int listen_on(const char *address, int backlog, uint16_t *port)
{
	return listen_on_port(address, backlog, 0, port);
}

/* Fills the accept queue of a listener with a backlog of 0: its kernel drops every further SYN. */
static int connect_to(uint16_t port)
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

static void answer(struct server *server, int fd)
{
	for (const char **piece = server->pieces; *piece; piece++) {
		usleep(server->pause_ms * 1000);
		if (send(fd, *piece, strlen(*piece), MSG_NOSIGNAL) < 0)
			break;
	}
}

static void serve_one(struct server *server, int fd)
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

static void *serve(void *data)
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

static void server_start(struct server *server)
{
	server->listener = listen_on("127.0.0.1", 128, &server->port);
	pthread_create(&server->thread, NULL, serve, server);
}

static void server_stop(struct server *server)
{
	shutdown(server->listener, SHUT_RDWR);
	pthread_join(server->thread, NULL);
	close(server->listener);
}

/* --- the prober under test --- */

static void set_up(void)
{
	struct tg_error error = { "" };

	uv_loop_init(&loop);
	prober = tg_prober_new(&loop, &error);
	CHECK_STR("", error.text);
}

static void note(void *user)
{
	++*(int *)user;
}

/* Every test ends here: nothing is left behind, in flight or not. */
static void tear_down(void)
{
	int closed = 0;

	tg_prober_close(prober, note, &closed);
	uv_run(&loop, UV_RUN_DEFAULT);
	CHECK_INT(1, closed);
	CHECK_INT(0, uv_loop_close(&loop));
}

static void on_end(uv_timer_t *timer)
{
	uv_stop(timer->loop);
}

static void run_for(unsigned int ms)
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

static void on_change(void *user, enum tg_health state, const struct tg_probe_result *last)
{
	struct seen *seen = user;

	seen->changes++;
	seen->state = state;
	snprintf(seen->reason, sizeof(seen->reason), "%s", last->reason);
	seen->at = uv_hrtime();
}

static struct tg_check check_of(enum tg_check_type type, const char *address, uint16_t port,
	unsigned int interval_ms, unsigned int timeout_ms)
{
	struct tg_check check = { .type = type, .port = port, .interval = interval_ms * MS,
		.timeout = timeout_ms * MS, .rise = 2, .fall = 3,
		.request = "GET /healthz HTTP/1.0\r\n\r\n" };

	tg_addr_parse(address, &check.addr);
	return check;
}

static void add(struct seen *seen, const struct tg_check *check, enum tg_health initial)
{
	struct tg_error error = { "" };

	memset(seen, 0, sizeof(*seen));
	seen->state = initial;
	seen->target = tg_prober_add(prober, check, initial, on_change, seen, &error);
	CHECK_STR("", error.text);
}

/* Runs until the first change of state, at most a second. */
static void run_until_change(struct seen *seen)
{
	for (int i = 0; i < 100 && !seen->changes; i++)
		run_for(10);
}

static const struct tg_health_status *status_of(const struct seen *seen)
{
	return tg_target_status(seen->target);
}

/* --- tcp --- */

static void a_server_that_accepts_is_up_and_one_that_refuses_is_down(void)
{
	struct tg_check check;
	struct seen up, up6, down;
	uint16_t port, port6, closed;
	int fd = listen_on("127.0.0.1", 8, &port), fd6 = listen_on("::1", 8, &port6);

	close(listen_on("127.0.0.1", 8, &closed));
	set_up();
	check = check_of(TG_CHECK_TCP, "127.0.0.1", port, 50, 50);
	add(&up, &check, TG_HEALTH_UNKNOWN);
	check = check_of(TG_CHECK_TCP, "::1", port6, 50, 50);
	add(&up6, &check, TG_HEALTH_UNKNOWN);
	check = check_of(TG_CHECK_TCP, "127.0.0.1", closed, 50, 50);
	add(&down, &check, TG_HEALTH_UNKNOWN);
	run_for(300);
	CHECK_INT(TG_HEALTH_UP, up.state);
	CHECK_INT(TG_HEALTH_UP, up6.state);
	CHECK_INT(TG_HEALTH_DOWN, down.state);
	CHECK_STR("connection refused", down.reason);
	CHECK_INT(1, up.changes);
	CHECK(status_of(&up)->ok >= 5 && status_of(&up)->failed == 0);
	CHECK(status_of(&down)->failed >= 5 && status_of(&down)->ok == 0);
	CHECK(status_of(&up)->last.latency_ns > 0 && status_of(&up)->last.latency_ns < 50 * MS);
	CHECK(tg_prober_stats(prober).sockets <= 3);
	tear_down();
	close(fd);
	close(fd6);
}

static void a_tcp_check_leaves_nothing_to_accept(void)
{
	struct tg_check check;
	struct seen seen;
	uint16_t port;
	int fd = listen_on("127.0.0.1", 8, &port);

	fcntl(fd, F_SETFL, O_NONBLOCK);
	set_up();
	check = check_of(TG_CHECK_TCP, "127.0.0.1", port, 20, 20);
	add(&seen, &check, TG_HEALTH_UNKNOWN);
	run_for(200);
	CHECK(status_of(&seen)->ok >= 5);
	CHECK_INT(1, tg_prober_stats(prober).sockets); /* the same one each time */
	CHECK_INT(-1, accept(fd, NULL, NULL));
	CHECK_INT(EAGAIN, errno);
	tear_down();
	close(fd);
}

static void a_silent_server_is_down_after_the_time_limit(void)
{
	struct tg_check check;
	struct seen seen;
	uint16_t port;
	int fd = listen_on("127.0.0.1", 0, &port), filler = connect_to(port);

	set_up();
	check = check_of(TG_CHECK_TCP, "127.0.0.1", port, 200, 50);
	add(&seen, &check, TG_HEALTH_UNKNOWN);
	run_until_change(&seen);
	CHECK_INT(TG_HEALTH_DOWN, seen.state);
	CHECK_STR("timeout after 0.05 s", seen.reason);
	CHECK(status_of(&seen)->last.latency_ns >= 50 * MS);
	tear_down();
	close(filler);
	close(fd);
}

static void probes_of_a_target_never_overlap(void)
{
	struct tg_check check;
	struct seen seen;
	uint16_t port;
	int fd = listen_on("127.0.0.1", 0, &port), filler = connect_to(port);

	set_up();
	check = check_of(TG_CHECK_TCP, "127.0.0.1", port, 50, 50);
	add(&seen, &check, TG_HEALTH_UP);
	for (int i = 0; i < 40; i++) {
		run_for(10);
		CHECK(tg_prober_stats(prober).in_flight <= 1);
	}
	CHECK_INT(1, tg_prober_stats(prober).sockets);
	CHECK(status_of(&seen)->failed >= 4 && status_of(&seen)->failed <= 8);
	tear_down();
	close(filler);
	close(fd);
}

/* --- the bound --- */

#define CROWD 20
#define SLACK (60 * MS) /* for a busy machine */

/* All targets are up; at `since` the server died: each must be down by the bound. */
static void expect_crowd_down(struct seen *crowd, const struct tg_check *check, uint64_t since)
{
	uint64_t bound = check->fall * check->interval + check->timeout;

	run_for((bound + SLACK) / MS);
	for (int i = 0; i < CROWD; i++) {
		CHECK_INT(TG_HEALTH_DOWN, crowd[i].state);
		CHECK_INT(1, crowd[i].changes);
		CHECK(status_of(&crowd[i])->failed >= 3);
		if (crowd[i].at > since + bound + SLACK)
			CHECK_INT(bound, crowd[i].at - since);
	}
}

static void a_killed_server_is_down_within_the_bound(void)
{
	struct seen crowd[CROWD];
	struct tg_check check;
	uint16_t port;
	int fd = listen_on("127.0.0.1", 128, &port);

	set_up();
	check = check_of(TG_CHECK_TCP, "127.0.0.1", port, 100, 50);
	for (int i = 0; i < CROWD; i++)
		add(&crowd[i], &check, TG_HEALTH_UP);
	run_for(250);
	for (int i = 0; i < CROWD; i++)
		CHECK_INT(0, crowd[i].changes + status_of(&crowd[i])->failed);
	close(fd);
	expect_crowd_down(crowd, &check, uv_hrtime());
	tear_down();
}

static void a_server_that_falls_silent_is_down_within_the_bound(void)
{
	struct seen crowd[CROWD];
	struct tg_check check;
	uint16_t port;
	int fd = listen_on("127.0.0.1", 0, &port), filler;

	set_up();
	check = check_of(TG_CHECK_TCP, "127.0.0.1", port, 100, 100);
	for (int i = 0; i < CROWD; i++)
		add(&crowd[i], &check, TG_HEALTH_UP);
	run_for(250);
	for (int i = 0; i < CROWD; i++)
		CHECK_INT(0, crowd[i].changes + status_of(&crowd[i])->failed);
	filler = connect_to(port);
	expect_crowd_down(crowd, &check, uv_hrtime());
	tear_down();
	close(filler);
	close(fd);
}

static void a_server_that_returns_is_up_again(void)
{
	struct tg_check check;
	struct seen seen;
	uint16_t port;
	int fd = listen_on("127.0.0.1", 0, &port), filler = connect_to(port), taken;

	set_up();
	check = check_of(TG_CHECK_TCP, "127.0.0.1", port, 50, 30);
	add(&seen, &check, TG_HEALTH_UP);
	run_until_change(&seen);
	CHECK_INT(TG_HEALTH_DOWN, seen.state);
	taken = accept(fd, NULL, NULL); /* makes room */
	for (int i = 0; i < 50 && seen.changes < 2; i++)
		run_for(10);
	CHECK_INT(TG_HEALTH_UP, seen.state);
	CHECK_INT(2, status_of(&seen)->streak);
	tear_down();
	close(taken);
	close(filler);
	close(fd);
}

/* --- http --- */

struct http_case {
	struct server server;
	enum tg_health state;
	const char *reason;
};

static void probe_http(struct http_case *test)
{
	struct tg_check check;
	struct seen seen;

	server_start(&test->server);
	set_up();
	check = check_of(TG_CHECK_HTTP, "127.0.0.1", test->server.port, 300, 200);
	add(&seen, &check, TG_HEALTH_UNKNOWN);
	run_until_change(&seen);
	CHECK_INT(test->state, seen.state);
	CHECK_STR(test->reason, seen.reason);
	tear_down();
	server_stop(&test->server);
}

static void http_answers_are_judged_by_their_status_line(void)
{
	static struct http_case cases[] = {
		{ { .pieces = { "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" } }, TG_HEALTH_UP, "" },
		{ { .pieces = { "HTTP/1.0 302 Found\r\n\r\n" } }, TG_HEALTH_UP, "" },
		{ { .pieces = { "HTTP/1.1 404 Not Found\r\n\r\n" } }, TG_HEALTH_DOWN, "status 404" },
		{ { .pieces = { "HTTP/1.1 503 Away\r\n\r\n" } }, TG_HEALTH_DOWN, "status 503" },
		{ { .pieces = { "HT", "TP/1.1", " 20", "0", " OK\r\n\r\n" }, .pause_ms = 10 },
			TG_HEALTH_UP, "" },
		{ { .pieces = { "HTTP/1.1 200 OK\r\n\r\n" }, .reset = true }, TG_HEALTH_UP, "" },
		{ { .pieces = { "SSH-2.0-OpenSSH_9.2\r\n" } }, TG_HEALTH_DOWN, "no HTTP answer" },
		{ { .pieces = { "HTTP/1.1 2" } }, TG_HEALTH_DOWN, "no HTTP answer" },
		{ { .pieces = { NULL } }, TG_HEALTH_DOWN, "closed without an answer" },
		{ { .reset = true }, TG_HEALTH_DOWN, "connection reset by peer" },
		{ { .hold = true }, TG_HEALTH_DOWN, "timeout after 0.2 s" },
		{ { .pieces = { "HTTP/1.1 ", "200 OK\r\n\r\n" }, .pause_ms = 150 },
			TG_HEALTH_DOWN, "timeout after 0.2 s" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		probe_http(&cases[i]);
	CHECK_STR("GET /healthz HTTP/1.0\r\n\r\n", cases[0].server.request);
}

static void the_expected_status_can_be_set(void)
{
	struct server server = { .pieces = { "HTTP/1.1 404 Not Found\r\n\r\n" } };
	struct tg_check check;
	struct seen seen;

	server_start(&server);
	set_up();
	check = check_of(TG_CHECK_HTTP, "127.0.0.1", server.port, 300, 200);
	check.status_min = check.status_max = 404;
	add(&seen, &check, TG_HEALTH_UNKNOWN);
	run_until_change(&seen);
	CHECK_INT(TG_HEALTH_UP, seen.state);
	tear_down();
	server_stop(&server);
}

static void connections_end_with_a_reset(void)
{
	struct http_case answered = { { .pieces = { "HTTP/1.1 200 OK\r\n\r\n" }, .hold = true },
		TG_HEALTH_UP, "" };
	struct http_case silent = { { .hold = true }, TG_HEALTH_DOWN, "timeout after 0.2 s" };

	probe_http(&answered);
	CHECK(answered.server.saw_reset);
	probe_http(&silent);
	CHECK(silent.server.saw_reset);
}

/* --- a loop that stands still --- */

static unsigned int stall_ms;

static void stall_once(void)
{
	if (!stall_ms || !tg_prober_stats(prober).in_flight)
		return;
	usleep(stall_ms * 1000);
	stall_ms = 0;
}

/* After the probe's first event; the loop goes on with its timers, before the sockets. */
static void stall_in_check(uv_check_t *phase)
{
	stall_once();
}

/* After the start of a probe; the loop goes on with its sockets. */
static void stall_in_prepare(uv_prepare_t *phase)
{
	stall_once();
}

static void probe_through_stall(struct http_case *test, bool after_start, unsigned int ms)
{
	uv_prepare_t prepare;
	uv_check_t check;
	struct tg_check ask;
	struct seen seen;

	server_start(&test->server);
	set_up();
	uv_prepare_init(&loop, &prepare);
	uv_check_init(&loop, &check);
	if (after_start)
		uv_prepare_start(&prepare, stall_in_prepare);
	else
		uv_check_start(&check, stall_in_check);
	stall_ms = ms;
	ask = check_of(TG_CHECK_HTTP, "127.0.0.1", test->server.port, 1000,
		after_start ? 1000 : 100);
	add(&seen, &ask, TG_HEALTH_UNKNOWN);
	run_until_change(&seen);
	CHECK_INT(test->state, seen.state);
	CHECK_STR(test->reason, seen.reason);
	CHECK_INT(0, stall_ms);
	uv_close((uv_handle_t *)&prepare, NULL);
	uv_close((uv_handle_t *)&check, NULL);
	tear_down();
	server_stop(&test->server);
}

static void an_answer_that_waits_in_the_socket_counts_after_a_stall(void)
{
	struct http_case test = { { .pieces = { "HTTP/1.1 200 OK\r\n\r\n" } }, TG_HEALTH_UP, "" };

	probe_through_stall(&test, false, 130);
}

static void a_stall_is_not_held_against_the_server(void)
{
	struct http_case test = { { .pieces = { "HTTP/1.1 200 OK\r\n\r\n" }, .pause_ms = 230 },
		TG_HEALTH_UP, "" };

	probe_through_stall(&test, false, 200);
}

/* The held ACK goes out after 200 ms at most, and the server speaks: one event for both. */
static void a_greeting_that_came_before_the_request_is_read(void)
{
	struct http_case test = { { .pieces = { "220 mail.example ESMTP\r\n" }, .greets = true,
		.hold = true }, TG_HEALTH_DOWN, "no HTTP answer" };

	probe_through_stall(&test, true, 300);
}

/* --- owners that change things --- */

static void on_change_remove_all(void *user, enum tg_health state,
	const struct tg_probe_result *last)
{
	struct seen *crowd = user;

	for (int i = 0; i < CROWD; i++)
		tg_prober_remove(crowd[i].target);
	crowd->changes++;
}

static void targets_may_be_removed_from_within_a_callback(void)
{
	struct seen crowd[CROWD] = { 0 };
	struct tg_check check;
	uint16_t port;
	int fd = listen_on("127.0.0.1", 128, &port);

	set_up();
	check = check_of(TG_CHECK_TCP, "127.0.0.1", port, 10, 10);
	for (int i = 0; i < CROWD; i++)
		crowd[i].target = tg_prober_add(prober, &check, TG_HEALTH_UNKNOWN,
			on_change_remove_all, crowd, NULL);
	usleep(20000); /* all are due: their events come in one batch */
	run_for(50);
	CHECK_INT(1, crowd->changes);
	CHECK_INT(0, tg_prober_stats(prober).targets);
	CHECK_INT(0, tg_prober_stats(prober).in_flight);
	tear_down();
	close(fd);
}

static void a_target_may_be_removed_in_flight(void)
{
	struct tg_check check;
	struct seen gone, stays;
	uint16_t port, open_port;
	int fd = listen_on("127.0.0.1", 0, &port), filler = connect_to(port);
	int open_fd = listen_on("127.0.0.1", 8, &open_port);

	set_up();
	check = check_of(TG_CHECK_TCP, "127.0.0.1", port, 1000, 1000);
	add(&gone, &check, TG_HEALTH_UP);
	run_for(30);
	CHECK_INT(1, tg_prober_stats(prober).in_flight);
	tg_prober_remove(gone.target);
	CHECK_INT(0, tg_prober_stats(prober).in_flight);
	check = check_of(TG_CHECK_TCP, "127.0.0.1", open_port, 20, 20);
	add(&stays, &check, TG_HEALTH_UNKNOWN); /* on the socket of the one that is gone */
	run_for(100);
	CHECK_INT(TG_HEALTH_UP, stays.state);
	CHECK_INT(1, tg_prober_stats(prober).sockets);
	CHECK_INT(0, gone.changes);
	tear_down();
	close(open_fd);
	close(filler);
	close(fd);
}

static void a_check_can_be_changed_and_keeps_its_history(void)
{
	struct tg_error error = { "" };
	struct tg_check check;
	struct seen seen;
	uint64_t before;
	uint16_t port;
	int fd = listen_on("127.0.0.1", 8, &port);

	set_up();
	check = check_of(TG_CHECK_TCP, "127.0.0.1", port, 10000, 100);
	add(&seen, &check, TG_HEALTH_UNKNOWN);
	run_until_change(&seen);
	before = status_of(&seen)->ok;
	CHECK(before >= 1); /* more where a busy machine had the first one spread anew */
	check.interval = 20 * MS;
	check.timeout = 20 * MS;
	CHECK_INT(0, tg_target_set_check(seen.target, &check, &error));
	run_for(200);
	CHECK(status_of(&seen)->ok >= before + 5);
	CHECK_INT(1, seen.changes);
	check.port++;
	CHECK_INT(-EINVAL, tg_target_set_check(seen.target, &check, &error));
	CHECK_STR("a target keeps its type of check, address and port", error.text);
	tear_down();
	close(fd);
}

static void somebody_elses_results_drive_the_same_machine(void)
{
	struct tg_check check = { .type = TG_CHECK_EXTERNAL, .rise = 2, .fall = 2 };
	struct tg_probe_result bad = { .reason = "no PONG", .latency_ns = 7 };
	struct seen seen;

	set_up();
	add(&seen, &check, TG_HEALTH_UP);
	tg_target_report(seen.target, &bad);
	CHECK_INT(0, seen.changes);
	tg_target_report(seen.target, &bad);
	CHECK_INT(TG_HEALTH_DOWN, seen.state);
	CHECK_STR("no PONG", seen.reason);
	run_for(20);
	CHECK_INT(2, status_of(&seen)->failed);
	CHECK_INT(0, tg_prober_stats(prober).probes);
	tear_down();
}

/* --- want of descriptors --- */

static void on_trouble(void *user, int code)
{
	int *codes = user;

	codes[0]++;
	codes[1] = code;
}

static void want_of_descriptors_is_not_the_servers_fault(void)
{
	struct rlimit before, none;
	int told[2] = { 0 };
	struct tg_check check;
	struct seen seen;
	uint16_t port;
	int fd = listen_on("127.0.0.1", 8, &port);

	set_up();
	tg_prober_on_trouble(prober, on_trouble, told);
	check = check_of(TG_CHECK_TCP, "127.0.0.1", port, 20, 20);
	check.fall = 1;
	add(&seen, &check, TG_HEALTH_UP);
	getrlimit(RLIMIT_NOFILE, &before);
	none = before;
	none.rlim_cur = 3; /* below every descriptor that is free */
	setrlimit(RLIMIT_NOFILE, &none);
	run_for(150);
	setrlimit(RLIMIT_NOFILE, &before);
	CHECK(status_of(&seen)->skipped >= 4);
	CHECK_INT(0, status_of(&seen)->failed + status_of(&seen)->ok);
	CHECK_INT(0, seen.changes);
	CHECK_INT(1, told[0]);
	CHECK_INT(-EMFILE, told[1]);
	run_for(100);
	CHECK(status_of(&seen)->ok >= 2);
	tear_down();
	close(fd);
}

/* --- what the network itself refuses --- */

/* A network of our own, with nothing but lo and one local port. Returns where to go back to, or -1. */
static int enter_private_network(void)
{
	int home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC), fd;
	struct ifreq lo = { .ifr_name = "lo", .ifr_flags = IFF_UP };

	if (unshare(CLONE_NEWNET) < 0) {
		printf("# no private network: %s\n", strerror(errno));
		close(home);
		return -1;
	}
	fd = socket(AF_INET, SOCK_DGRAM, 0);
	CHECK_INT(0, ioctl(fd, SIOCSIFFLAGS, &lo));
	close(fd);
	fd = open("/proc/sys/net/ipv4/ip_local_port_range", O_WRONLY);
	CHECK_INT(11, write(fd, "40000 40000", 11));
	close(fd);
	return home;
}

static void leave_private_network(int home)
{
	CHECK_INT(0, setns(home, CLONE_NEWNET));
	close(home);
}

static void no_route_is_a_failure_but_no_local_port_is_not(void)
{
	int home = enter_private_network(), fd, taken;
	struct seen unreachable, starved;
	struct tg_check check;
	uint16_t port;

	if (home < 0)
		return;
	fd = listen_on_port("127.0.0.1", 8, 8080, &port);
	taken = connect_to(port);
	set_up();
	check = check_of(TG_CHECK_TCP, "192.0.2.1", 80, 50, 50);
	add(&unreachable, &check, TG_HEALTH_UP);
	check = check_of(TG_CHECK_TCP, "127.0.0.1", port, 50, 50);
	add(&starved, &check, TG_HEALTH_UP);
	run_for(300);
	CHECK_INT(TG_HEALTH_DOWN, unreachable.state);
	CHECK_STR("network is unreachable", unreachable.reason);
	CHECK_INT(TG_HEALTH_UP, starved.state);
	CHECK(status_of(&starved)->skipped >= 4 && !status_of(&starved)->failed);
	tear_down();
	close(taken);
	close(fd);
	leave_private_network(home);
}

/* --- the schedule --- */

static int count_ok(const struct seen *crowd)
{
	int count = 0;

	for (int i = 0; i < CROWD; i++)
		count += status_of(&crowd[i])->ok;
	return count;
}

static void first_probes_come_promptly_and_rates_hold(void)
{
	struct seen crowd[CROWD];
	struct tg_check check;
	uint16_t port;
	int fd = listen_on("127.0.0.1", 128, &port);

	set_up();
	check = check_of(TG_CHECK_TCP, "127.0.0.1", port, 500, 100);
	for (int i = 0; i < CROWD; i++)
		add(&crowd[i], &check, TG_HEALTH_UNKNOWN);
	run_for(CROWD + 40);
	for (int i = 0; i < CROWD; i++)
		CHECK_INT(TG_HEALTH_UP, crowd[i].state);
	run_for(300 - CROWD - 40);
	CHECK(count_ok(crowd) > CROWD && count_ok(crowd) < 2 * CROWD); /* the second ones are spread */
	run_for(1500 - 300);
	for (int i = 0; i < CROWD; i++)
		CHECK(status_of(&crowd[i])->ok >= 3 && status_of(&crowd[i])->ok <= 5);
	tear_down();
	close(fd);
}

static int count_descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int count = 0;

	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

static int descriptors_at_start;

static void no_test_left_a_descriptor(void)
{
	CHECK_INT(descriptors_at_start, count_descriptors());
}

int main(void)
{
	uv_loop_init(&loop); /* the first loop of a process opens two descriptors for good */
	uv_loop_close(&loop);
	descriptors_at_start = count_descriptors();
	RUN(a_server_that_accepts_is_up_and_one_that_refuses_is_down);
	RUN(a_tcp_check_leaves_nothing_to_accept);
	RUN(a_silent_server_is_down_after_the_time_limit);
	RUN(probes_of_a_target_never_overlap);
	RUN(a_killed_server_is_down_within_the_bound);
	RUN(a_server_that_falls_silent_is_down_within_the_bound);
	RUN(a_server_that_returns_is_up_again);
	RUN(http_answers_are_judged_by_their_status_line);
	RUN(the_expected_status_can_be_set);
	RUN(connections_end_with_a_reset);
	RUN(an_answer_that_waits_in_the_socket_counts_after_a_stall);
	RUN(a_stall_is_not_held_against_the_server);
	RUN(a_greeting_that_came_before_the_request_is_read);
	RUN(targets_may_be_removed_from_within_a_callback);
	RUN(a_target_may_be_removed_in_flight);
	RUN(a_check_can_be_changed_and_keeps_its_history);
	RUN(somebody_elses_results_drive_the_same_machine);
	RUN(want_of_descriptors_is_not_the_servers_fault);
	RUN(no_route_is_a_failure_but_no_local_port_is_not);
	RUN(first_probes_come_promptly_and_rates_hold);
	RUN(no_test_left_a_descriptor);
	return unit_result();
}
