/* SPDX-License-Identifier: GPL-2.0-only */
#include "health.h"
#include "probe_http.h"
#include "unit.h"

#include <errno.h>
#include <stdlib.h>

static const struct tg_probe_result good = { .ok = true };
static const struct tg_probe_result bad = { .ok = false, .reason = "connection refused" };

static struct tg_check sound_check(void)
{
	struct tg_check check = { .type = TG_CHECK_TCP, .port = 80, .interval = 1000000000,
		.timeout = 500000000, .rise = 2, .fall = 3 };

	tg_addr_parse("10.0.0.1", &check.addr);
	return check;
}

/* Feeds "+" and "-" and returns the states as text: u(p), d(own), ? (unknown); capital: changed. */
static const char *states(enum tg_health initial, const char *results)
{
	static char text[64];
	struct tg_health_status status = tg_health_begin(initial, 1);
	struct tg_check check = sound_check();
	char *out = text;

	for (; *results; results++) {
		bool changed = tg_health_update(&status, &check, *results == '+' ? &good : &bad, 2);

		*out++ = (changed ? "?UD" : "?ud")[status.state];
	}
	*out = 0;
	return text;
}

static void a_backend_goes_down_with_fall_failures_in_a_row(void)
{
	CHECK_STR("uuD", states(TG_HEALTH_UP, "---"));
	CHECK_STR("uuuuuDdd", states(TG_HEALTH_UP, "--+-----"));
}

static void a_backend_comes_up_with_rise_successes_in_a_row(void)
{
	CHECK_STR("dU", states(TG_HEALTH_DOWN, "++"));
	CHECK_STR("dddUu", states(TG_HEALTH_DOWN, "+-+++"));
}

static void successes_before_the_fall_do_not_count_for_the_rise(void)
{
	CHECK_STR("uuuuDdU", states(TG_HEALTH_UP, "++---++"));
}

static void the_first_result_decides_what_is_unknown(void)
{
	CHECK_STR("Uuu", states(TG_HEALTH_UNKNOWN, "+--"));
	CHECK_STR("Dd", states(TG_HEALTH_UNKNOWN, "-+"));
}

static void the_status_tells_counts_times_and_the_last_result(void)
{
	struct tg_health_status status = tg_health_begin(TG_HEALTH_UP, 100);
	struct tg_check check = sound_check();

	tg_health_update(&status, &check, &good, 200);
	CHECK_INT(100, status.since);
	CHECK_INT(200, status.checked);
	for (int i = 0; i < 4; i++)
		tg_health_update(&status, &check, &bad, 300 + i);
	CHECK_INT(302, status.since);
	CHECK_INT(303, status.checked);
	CHECK_INT(1, status.ok);
	CHECK_INT(4, status.failed);
	CHECK_INT(4, status.streak);
	CHECK_STR("connection refused", status.last.reason);
	CHECK_STR("down", tg_health_name(status.state));
}

static void expect_fault(const struct tg_check *check, const char *text)
{
	struct tg_error error = { "" };

	CHECK_INT(-EINVAL, tg_check_validate(check, &error));
	CHECK_STR(text, error.text);
}

static void a_faulty_check_is_refused_with_what_would_be_right(void)
{
	struct tg_check check = sound_check();

	CHECK_INT(0, tg_check_validate(&check, NULL));
	check.timeout = 2000000000;
	expect_fault(&check, "timeout 2 s: must not exceed the interval 1 s (probes do not overlap)");
	check = sound_check();
	check.interval = 1000000;
	expect_fault(&check, "interval 0.001 s: must be from 0.01 s to a day");
	check = sound_check();
	check.fall = 0;
	expect_fault(&check, "fall 0: must be 1 to 255");
	check = sound_check();
	check.port = 0;
	expect_fault(&check, "port 0: must be 1 to 65535");
	check = sound_check();
	check.type = TG_CHECK_HTTP;
	expect_fault(&check, "http request of 0 bytes: must have 1 to 4096");
	check.request = "GET / HTTP/1.0\r\n\r\n";
	CHECK_INT(0, tg_check_validate(&check, NULL));
	check.status_min = 300;
	check.status_max = 200;
	expect_fault(&check, "status 300-200: must be a range within 100-599");
}

static void a_request_holds_what_it_was_given(void)
{
	char *request = tg_http_request("GET", "/healthz?x=1", "web.example:8080", NULL);

	CHECK_STR("GET /healthz?x=1 HTTP/1.1\r\nHost: web.example:8080\r\nUser-Agent: tidegate\r\n"
		  "Connection: close\r\n\r\n", request);
	free(request);
	request = tg_http_request("HEAD", "/", NULL, NULL);
	CHECK_STR("HEAD / HTTP/1.0\r\nUser-Agent: tidegate\r\nConnection: close\r\n\r\n", request);
	free(request);
}

static void a_request_takes_nothing_that_would_end_a_line(void)
{
	struct tg_error error;

	CHECK(!tg_http_request("GET", "/a b", NULL, &error));
	CHECK_STR("path \"/a b\": must begin with / and have no spaces", error.text);
	CHECK(!tg_http_request("GET", "healthz", NULL, &error));
	CHECK(!tg_http_request("", "/", NULL, &error));
	CHECK_STR("method \"\": must be one word", error.text);
	CHECK(!tg_http_request("GET", "/", "a\r\nX-Evil: 1", &error));
}

static int status_of(const char *head)
{
	return tg_http_status(head, strlen(head));
}

static void a_status_line_is_read_as_soon_as_it_says_enough(void)
{
	CHECK_INT(200, status_of("HTTP/1.1 200 OK\r\n"));
	CHECK_INT(503, status_of("HTTP/1.0 503 Service Unavailable\r\n"));
	CHECK_INT(204, status_of("HTTP/1.1 204\r\n"));
	CHECK_INT(-EAGAIN, status_of(""));
	CHECK_INT(-EAGAIN, status_of("HTTP/1.1 20"));
	CHECK_INT(-EAGAIN, status_of("HTTP/1.1 200"));
	CHECK_INT(-EPROTO, status_of("HTTP/1.1 2000"));
	CHECK_INT(-EPROTO, status_of("HTTP/2.0 200 OK\r\n"));
	CHECK_INT(-EPROTO, status_of("HTTP/1.1 099 OK\r\n"));
	CHECK_INT(-EPROTO, status_of("SSH-2.0"));
}

int main(void)
{
	RUN(a_backend_goes_down_with_fall_failures_in_a_row);
	RUN(a_backend_comes_up_with_rise_successes_in_a_row);
	RUN(successes_before_the_fall_do_not_count_for_the_rise);
	RUN(the_first_result_decides_what_is_unknown);
	RUN(the_status_tells_counts_times_and_the_last_result);
	RUN(a_faulty_check_is_refused_with_what_would_be_right);
	RUN(a_request_holds_what_it_was_given);
	RUN(a_request_takes_nothing_that_would_end_a_line);
	RUN(a_status_line_is_read_as_soon_as_it_says_enough);
	return unit_result();
}
