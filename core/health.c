/* SPDX-License-Identifier: GPL-2.0-only */
#include "health.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static int validate_times(const struct tg_check *check, struct tg_error *error)
{
	if (check->interval < TG_CHECK_INTERVAL_MIN || check->interval > TG_CHECK_INTERVAL_MAX)
		return tg_fail(error, -EINVAL, "interval %g s: must be from 0.01 s to a day",
			check->interval / 1e9);
	if (check->timeout < TG_CHECK_TIMEOUT_MIN)
		return tg_fail(error, -EINVAL, "timeout %g s: must be at least 0.001 s",
			check->timeout / 1e9);
	if (check->timeout > check->interval)
		return tg_fail(error, -EINVAL,
			"timeout %g s: must not exceed the interval %g s (probes do not overlap)",
			check->timeout / 1e9, check->interval / 1e9);
	return 0;
}

static int validate_http(const struct tg_check *check, struct tg_error *error)
{
	size_t length = check->request ? strlen(check->request) : 0;

	if (!length || length > TG_CHECK_REQUEST_MAX)
		return tg_fail(error, -EINVAL, "http request of %zu bytes: must have 1 to %d",
			length, TG_CHECK_REQUEST_MAX);
	if (!check->status_min && !check->status_max)
		return 0;
	if (check->status_min < 100 || check->status_max > 599 ||
	    check->status_min > check->status_max)
		return tg_fail(error, -EINVAL, "status %u-%u: must be a range within 100-599",
			check->status_min, check->status_max);
	return 0;
}

int tg_check_validate(const struct tg_check *check, struct tg_error *error)
{
	int code;

	if (check->rise < 1 || check->rise > TG_CHECK_COUNT_MAX)
		return tg_fail(error, -EINVAL, "rise %u: must be 1 to %d", check->rise,
			TG_CHECK_COUNT_MAX);
	if (check->fall < 1 || check->fall > TG_CHECK_COUNT_MAX)
		return tg_fail(error, -EINVAL, "fall %u: must be 1 to %d", check->fall,
			TG_CHECK_COUNT_MAX);
	if (check->type == TG_CHECK_EXTERNAL)
		return 0;
	if (check->addr.family != AF_INET && check->addr.family != AF_INET6)
		return tg_fail(error, -EINVAL, "a %s check needs an address",
			check->type == TG_CHECK_TCP ? "tcp" : "http");
	if (!check->port)
		return tg_fail(error, -EINVAL, "port 0: must be 1 to 65535");
	code = validate_times(check, error);
	if (!code && check->type == TG_CHECK_HTTP)
		code = validate_http(check, error);
	return code;
}

int tg_check_copy(struct tg_check *to, const struct tg_check *from)
{
	*to = *from;
	if (!to->status_max) {
		to->status_min = 200;
		to->status_max = 399;
	}
	to->request = from->type == TG_CHECK_HTTP ? strdup(from->request) : NULL;
	return from->type == TG_CHECK_HTTP && !to->request ? -ENOMEM : 0;
}

void tg_check_release(struct tg_check *check)
{
	free((char *)check->request);
	check->request = NULL;
}

struct tg_health_status tg_health_begin(enum tg_health state, uint64_t wall)
{
	return (struct tg_health_status){ .state = state, .since = wall };
}

static enum tg_health next_state(const struct tg_health_status *status,
	const struct tg_check *check)
{
	bool ok = status->last.ok;

	switch (status->state) {
	case TG_HEALTH_UP:
		return !ok && status->streak >= check->fall ? TG_HEALTH_DOWN : TG_HEALTH_UP;
	case TG_HEALTH_DOWN:
		return ok && status->streak >= check->rise ? TG_HEALTH_UP : TG_HEALTH_DOWN;
	default:
		return ok ? TG_HEALTH_UP : TG_HEALTH_DOWN;
	}
}

bool tg_health_update(struct tg_health_status *status, const struct tg_check *check,
	const struct tg_probe_result *result, uint64_t wall)
{
	enum tg_health before = status->state;

	status->streak = result->ok == status->last.ok ? status->streak + 1 : 1;
	status->last = *result;
	status->checked = wall;
	if (result->ok)
		status->ok++;
	else
		status->failed++;
	status->state = next_state(status, check);
	if (status->state == before)
		return false;
	status->since = wall;
	return true;
}

const char *tg_health_name(enum tg_health state)
{
	static const char *const names[] = { "unknown", "up", "down" };

	return names[state];
}

uint64_t tg_wall_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return now.tv_sec * 1000000000ULL + now.tv_nsec;
}
