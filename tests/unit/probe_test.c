/* SPDX-License-Identifier: GPL-2.0-only */
/* What the prober finds of servers, how soon and how often it asks: against real sockets (see prober.h). */
#include "prober.h"

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

int main(void)
{
	note_descriptors();
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
	RUN(first_probes_come_promptly_and_rates_hold);
	RUN(no_test_left_a_descriptor);
	return unit_result();
}
