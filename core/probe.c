/* SPDX-License-Identifier: GPL-2.0-only */
#include "probe.h"

#include "probe_http.h"
#include "probe_socket.h"
#include "wheel.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <unistd.h>

#define EVENTS_AT_ONCE 256
#define IDLE_SOCKETS   256	  /* kept open for their next use, per family */
#define TROUBLE_OVER   10000000000ULL /* ns without a skipped probe: 10 s */
#define STALL	       50000000ULL /* ns: a time limit seen later than this is the loop's fault */

struct tg_prober {
	uv_poll_t poll;
	uv_timer_t timer;
	unsigned int open_handles;
	uint64_t now, wall;	   /* of the batch at hand: monotonic and wall clock, ns */
	uint64_t armed;		   /* when the uv timer fires */
	uint64_t random;
	int trouble_code;	   /* 0: none */
	uint64_t trouble_at;	   /* when a probe was skipped last */
	tg_prober_trouble_cb trouble;
	void *trouble_user;
	void (*closed)(void *user);
	void *closed_user;
	struct tg_target *targets;
	struct tg_probe_sockets sockets;
	struct tg_prober_stats stats;
	struct tg_wheel wheel;
};

struct tg_target {
	struct tg_timer timer;	   /* waiting: the next start; in flight: the time limit */
	struct tg_prober *prober;
	struct tg_probe_socket *socket; /* NULL: waiting */
	uint64_t started, next_start, limit;
	bool respread;		   /* draw the next gap from the whole interval */
	bool stalled;		   /* the probe was given its time again */
	bool asked;		   /* http: the request is out */
	uint8_t head_length;
	char head[TG_HTTP_HEAD];   /* of the answer, as far as it is there */
	struct tg_check check;
	struct sockaddr_storage address;
	socklen_t address_length;
	struct tg_health_status status;
	tg_target_cb changed;
	void *user;
	struct tg_target *next, **link;
};

static struct tg_target *target_of(struct tg_timer *timer)
{
	return (struct tg_target *)((char *)timer - offsetof(struct tg_target, timer));
}

static void read_clocks(struct tg_prober *prober)
{
	prober->now = uv_hrtime();
	prober->wall = tg_wall_now();
}

/* xorshift64*: spread, not secrecy. */
static uint64_t random_below(struct tg_prober *prober, uint64_t bound)
{
	prober->random ^= prober->random >> 12;
	prober->random ^= prober->random << 25;
	prober->random ^= prober->random >> 27;
	return bound ? (prober->random * 0x2545f4914f6cdd1dULL >> 16) % bound : 0;
}

/* --- the timer ------------------------------------------------------------------------------- */

static void on_timer(uv_timer_t *timer);

/* Sees to it that the uv timer fires no later than the first timer of the wheel. */
static void arm(struct tg_prober *prober)
{
	uint64_t next = tg_wheel_next(&prober->wheel), due, now;

	if (next >= prober->armed)
		return;
	prober->armed = next;
	due = (next + 999999) / 1000000;
	now = uv_now(prober->timer.loop);
	uv_timer_start(&prober->timer, on_timer, due > now ? due - now : 0, 0);
}

static void set_timer(struct tg_target *target, uint64_t due)
{
	tg_wheel_set(&target->prober->wheel, &target->timer, due);
}

/*
 * When the next probe starts, seen from the start of this one. A backend that dies is DOWN within
 * fall × interval + timeout if no gap, the timer's lateness included, exceeds the interval: hence
 * the margin. Starts are rounded down to a grid, so that a wake-up starts a batch of probes: eight in
 * a batch cost 36 us each where 34 cost 24 (2,000 a second).
 */
static uint64_t next_start(struct tg_target *target, uint64_t now)
{
	uint64_t interval = target->check.interval, grid = interval / 64;
	uint64_t margin = grid, span = interval / 32, next;

	if (margin < 3 * TG_WHEEL_TICK / 2)
		margin = 3 * TG_WHEEL_TICK / 2;
	if (target->respread)
		span = interval - margin;
	target->respread = false;
	next = now + interval - margin - random_below(target->prober, span);
	return next - next % grid;
}

static void release_socket(struct tg_target *target)
{
	tg_probe_socket_release(&target->prober->sockets, target->socket);
	target->socket = NULL;
	target->prober->stats.in_flight--;
}

/* --- results --------------------------------------------------------------------------------- */

/* May free the target: the last thing to do with it. */
static void take_result(struct tg_target *target, const struct tg_probe_result *result)
{
	if (tg_health_update(&target->status, &target->check, result, target->prober->wall) &&
	    target->changed)
		target->changed(target->user, target->status.state, &target->status.last);
}

static void wait_for_next(struct tg_target *target)
{
	uint64_t now = target->prober->now;

	set_timer(target, target->next_start > now ? target->next_start : now);
}

/* The probe in flight has come to its verdict; why: NULL when all is well. May free the target. */
static void finish(struct tg_target *target, const char *why)
{
	struct tg_probe_result result = {
		.ok = !why,
		.latency_ns = target->prober->now - target->started,
	};

	if (why)
		snprintf(result.reason, sizeof(result.reason), "%s", why);
	release_socket(target);
	wait_for_next(target);
	take_result(target, &result);
}

static void begin_trouble(struct tg_prober *prober, int code)
{
	bool tell = !prober->trouble_code;

	prober->trouble_code = code;
	prober->trouble_at = prober->now;
	if (tell && prober->trouble)
		prober->trouble(prober->trouble_user, code);
}

/* A probe could start: with some descriptors left many can, so it takes a while to be over. */
static void end_trouble(struct tg_prober *prober)
{
	if (!prober->trouble_code || prober->now - prober->trouble_at < TROUBLE_OVER)
		return;
	prober->trouble_code = 0;
	if (prober->trouble)
		prober->trouble(prober->trouble_user, 0);
}

static void skip(struct tg_target *target, int code)
{
	struct tg_prober *prober = target->prober;

	target->status.skipped++;
	prober->stats.skipped++;
	if (target->socket)
		release_socket(target);
	wait_for_next(target);
	begin_trouble(prober, -code);
}

/* The probe in flight failed with an errno. May free the target. */
static void fail(struct tg_target *target, int code)
{
	char why[TG_REASON_TEXT];

	if (tg_probe_is_local_fault(code)) {
		skip(target, code);
		return;
	}
	snprintf(why, sizeof(why), "%s", strerrordesc_np(code) ?: "unknown error");
	if (why[0] >= 'A' && why[0] <= 'Z')
		why[0] += 'a' - 'A';
	finish(target, why);
}

/* --- a probe --------------------------------------------------------------------------------- */

static void plan_next(struct tg_target *target)
{
	uint64_t planned = target->next_start;

	target->started = target->prober->now = uv_hrtime();
	if (target->started - planned > target->check.interval / 2)
		target->respread = true; /* after a stall all targets start at once: part them */
	target->next_start = next_start(target, target->started);
	target->limit = target->started + target->check.timeout;
	target->stalled = false;
}

static void start(struct tg_target *target)
{
	struct tg_prober *prober = target->prober;

	plan_next(target);
	target->socket = tg_probe_socket_take(&prober->sockets, target->check.addr.family, target);
	if (!target->socket) {
		skip(target, errno);
		return;
	}
	prober->stats.probes++;
	prober->stats.in_flight++;
	target->asked = false;
	target->head_length = 0;
	if (connect(target->socket->fd, (struct sockaddr *)&target->address,
		    target->address_length) < 0 && errno != EINPROGRESS) {
		fail(target, errno);
		return;
	}
	set_timer(target, target->limit);
	end_trouble(prober);
}

/* False when that was the end of the probe. */
static bool ask(struct tg_target *target)
{
	const char *request = target->check.request;
	size_t length = strlen(request);
	ssize_t sent = send(target->socket->fd, request, length, MSG_NOSIGNAL);

	target->asked = true;
	if (sent == (ssize_t)length)
		return true;
	fail(target, sent < 0 ? errno : ENOBUFS); /* a new connection takes TG_CHECK_REQUEST_MAX */
	return false;
}

/* May free the target. */
static void judge(struct tg_target *target, int status)
{
	const struct tg_check *check = &target->check;
	char why[TG_REASON_TEXT];

	if (status >= check->status_min && status <= check->status_max) {
		finish(target, NULL);
		return;
	}
	snprintf(why, sizeof(why), "status %d", status);
	finish(target, why);
}

/* Reads until there is a verdict or nothing more to read. May free the target. */
static void read_answer(struct tg_target *target)
{
	int status = -EAGAIN;
	ssize_t got;

	while (status == -EAGAIN) {
		got = recv(target->socket->fd, target->head + target->head_length,
			TG_HTTP_HEAD - target->head_length, 0);
		if (got <= 0)
			break;
		target->head_length += got;
		status = tg_http_status(target->head, target->head_length);
	}
	if (status > 0)
		judge(target, status);
	else if (status == -EPROTO || (!got && target->head_length))
		finish(target, "no HTTP answer");
	else if (!got)
		finish(target, "closed without an answer");
	else if (errno != EAGAIN)
		fail(target, errno);
}

static void fail_as_told(struct tg_target *target)
{
	int code = 0;
	socklen_t length = sizeof(code);

	getsockopt(target->socket->fd, SOL_SOCKET, SO_ERROR, &code, &length);
	fail(target, code ? code : ECONNRESET);
}

/* An answer is read before an error is looked at: many servers answer and then reset. */
static void on_http_event(struct tg_target *target, uint32_t events)
{
	if (!target->asked) {
		if (events & EPOLLERR)
			fail_as_told(target);
		else if (events & EPOLLOUT && ask(target) && events & (EPOLLIN | EPOLLRDHUP))
			read_answer(target);
	} else if (events & (EPOLLIN | EPOLLRDHUP)) {
		read_answer(target);
	} else if (events & EPOLLERR) {
		fail_as_told(target);
	}
}

static void on_event(struct tg_target *target, uint32_t events)
{
	if (target->check.type == TG_CHECK_HTTP)
		on_http_event(target, events);
	else if (events & EPOLLERR)
		fail_as_told(target);
	else if (events & EPOLLOUT)
		finish(target, NULL);
}

/*
 * Takes in all that happened on the sockets. Goes on while probes finish, to take the EPOLLHUP of
 * their disconnects along, which would wake the loop otherwise. No probe starts in here, so an idle
 * socket in the batch is never one that serves another target by now.
 */
static void collect(struct tg_prober *prober)
{
	struct epoll_event events[EVENTS_AT_ONCE];
	unsigned int before;
	int count;

	do {
		before = prober->stats.in_flight;
		count = epoll_wait(prober->sockets.epoll, events, EVENTS_AT_ONCE, 0);
		read_clocks(prober);
		for (int i = 0; i < count; i++) {
			struct tg_probe_socket *socket = events[i].data.ptr;

			if (socket->user)
				on_event(socket->user, events[i].events);
		}
	} while (prober->stats.in_flight < before || count == EVENTS_AT_ONCE);
	tg_probe_sockets_trim(&prober->sockets, IDLE_SOCKETS);
}

/* A time limit that is seen this late is the fault of a loop that stood still: it is granted again. */
static void expire(struct tg_target *target)
{
	struct tg_prober *prober = target->prober;
	char why[TG_REASON_TEXT];

	if (prober->now - target->limit > STALL && !target->stalled) {
		target->stalled = true;
		set_timer(target, prober->now + target->check.timeout);
		return;
	}
	snprintf(why, sizeof(why), "timeout after %g s", target->check.timeout / 1e9);
	finish(target, why);
}

/*
 * Before the first time limit is held to have passed, what lies in the sockets is looked at: after a
 * stall (a stopped process, a busy machine) both have come, and the answer counts.
 */
static void on_timer(uv_timer_t *timer)
{
	struct tg_prober *prober = timer->data;
	bool collected = false;
	struct tg_timer *due;
	uint64_t now;

	read_clocks(prober);
	now = prober->now; /* what gets due meanwhile waits until the sockets had their turn */
	prober->armed = TG_WHEEL_NEVER;
	while ((due = tg_wheel_pop(&prober->wheel, now))) {
		struct tg_target *target = target_of(due);

		if (!target->socket) {
			start(target);
		} else if (collected) {
			expire(target);
		} else {
			collected = true;
			set_timer(target, target->limit); /* a callback may remove it meanwhile */
			collect(prober);
		}
	}
	arm(prober);
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
	collect(poll->data);
	arm(poll->data);
}

/* --- targets --------------------------------------------------------------------------------- */

/* Sooner for few targets: a millisecond for each that there is, at most the interval. */
static void plan_first(struct tg_target *target)
{
	struct tg_prober *prober = target->prober;
	uint64_t spread = prober->stats.targets * 1000000ULL;

	if (spread > target->check.interval)
		spread = target->check.interval;
	target->respread = true;
	target->next_start = uv_hrtime() + random_below(prober, spread);
	set_timer(target, target->next_start);
	arm(prober);
}

static void link_target(struct tg_target *target)
{
	struct tg_prober *prober = target->prober;

	target->next = prober->targets;
	if (target->next)
		target->next->link = &target->next;
	target->link = &prober->targets;
	prober->targets = target;
	prober->stats.targets++;
}

struct tg_target *tg_prober_add(struct tg_prober *prober, const struct tg_check *check,
	enum tg_health initial, tg_target_cb changed, void *user, struct tg_error *error)
{
	struct tg_target *target;

	if (tg_check_validate(check, error) < 0)
		return NULL;
	target = calloc(1, sizeof(*target));
	if (!target || tg_check_copy(&target->check, check) < 0) {
		tg_fail(error, -ENOMEM, "no memory for a target");
		free(target);
		return NULL;
	}
	target->prober = prober;
	target->changed = changed;
	target->user = user;
	target->status = tg_health_begin(initial, tg_wall_now());
	link_target(target);
	if (check->type == TG_CHECK_EXTERNAL)
		return target;
	target->address_length = tg_addr_sockaddr(&check->addr, check->port, &target->address);
	plan_first(target);
	return target;
}

void tg_prober_remove(struct tg_target *target)
{
	if (target->socket)
		release_socket(target);
	tg_wheel_cancel(&target->prober->wheel, &target->timer);
	*target->link = target->next;
	if (target->next)
		target->next->link = target->link;
	target->prober->stats.targets--;
	tg_check_release(&target->check);
	free(target);
}

int tg_target_set_check(struct tg_target *target, const struct tg_check *check,
	struct tg_error *error)
{
	const struct tg_check *old = &target->check;
	int code = tg_check_validate(check, error);
	struct tg_check fresh;
	uint64_t now;

	if (code < 0)
		return code;
	if (check->type != old->type || check->port != old->port ||
	    !tg_addr_equal(&check->addr, &old->addr))
		return tg_fail(error, -EINVAL, "a target keeps its type of check, address and port");
	if (tg_check_copy(&fresh, check) < 0)
		return tg_fail(error, -ENOMEM, "no memory for a check");
	tg_check_release(&target->check);
	target->check = fresh;
	if (check->type == TG_CHECK_EXTERNAL)
		return 0;
	now = uv_hrtime();
	if (target->next_start > now + check->interval)
		target->next_start = now + random_below(target->prober, check->interval);
	if (!target->socket)
		set_timer(target, target->next_start);
	arm(target->prober);
	return 0;
}

void tg_target_report(struct tg_target *target, const struct tg_probe_result *result)
{
	target->prober->wall = tg_wall_now();
	take_result(target, result);
}

const struct tg_health_status *tg_target_status(const struct tg_target *target)
{
	return &target->status;
}

/* --- the prober ------------------------------------------------------------------------------ */

static void on_closed(uv_handle_t *handle)
{
	struct tg_prober *prober = handle->data;
	void (*closed)(void *user) = prober->closed;
	void *user = prober->closed_user;

	if (--prober->open_handles)
		return;
	free(prober);
	if (closed)
		closed(user);
}

static int open_epoll(struct tg_prober *prober, uv_loop_t *loop, struct tg_error *error)
{
	int code;

	prober->sockets.epoll = epoll_create1(EPOLL_CLOEXEC);
	if (prober->sockets.epoll < 0)
		return tg_fail(error, -errno, "epoll_create1: %s", strerror(errno));
	code = uv_poll_init(loop, &prober->poll, prober->sockets.epoll);
	if (code < 0) {
		close(prober->sockets.epoll);
		return tg_fail(error, code, "watching the probes: %s", uv_strerror(code));
	}
	return 0;
}

struct tg_prober *tg_prober_new(uv_loop_t *loop, struct tg_error *error)
{
	struct tg_prober *prober = calloc(1, sizeof(*prober));

	if (!prober) {
		tg_fail(error, -ENOMEM, "no memory for a prober");
		return NULL;
	}
	if (open_epoll(prober, loop, error) < 0) {
		free(prober);
		return NULL;
	}
	uv_timer_init(loop, &prober->timer);
	prober->open_handles = 2;
	prober->poll.data = prober->timer.data = prober;
	prober->armed = TG_WHEEL_NEVER;
	read_clocks(prober);
	tg_wheel_init(&prober->wheel, prober->now);
	if (getrandom(&prober->random, sizeof(prober->random), 0) < 0 || !prober->random)
		prober->random = prober->now;
	uv_poll_start(&prober->poll, UV_READABLE, on_readable);
	return prober;
}

void tg_prober_on_trouble(struct tg_prober *prober, tg_prober_trouble_cb trouble, void *user)
{
	prober->trouble = trouble;
	prober->trouble_user = user;
}

struct tg_prober_stats tg_prober_stats(const struct tg_prober *prober)
{
	struct tg_prober_stats stats = prober->stats;

	stats.sockets = prober->sockets.open;
	return stats;
}

void tg_prober_close(struct tg_prober *prober, void (*closed)(void *user), void *user)
{
	while (prober->targets)
		tg_prober_remove(prober->targets);
	tg_probe_sockets_trim(&prober->sockets, 0);
	prober->closed = closed;
	prober->closed_user = user;
	uv_close((uv_handle_t *)&prober->poll, on_closed);
	uv_close((uv_handle_t *)&prober->timer, on_closed);
	close(prober->sockets.epoll);
}
