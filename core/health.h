/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a health check asks, and what its answers make of a backend: the rise/fall machine. Pure
 * values; core/probe.h runs the probes.
 *
 * UP becomes DOWN with `fall` failures in a row, DOWN becomes UP with `rise` successes in a row.
 * From UNKNOWN the first answer decides (for a backend of which nothing is known yet; what it counts
 * as until then is its owner's decision). A backend that dies is DOWN within fall × interval +
 * timeout, whether it refuses (each probe fails at once) or is silent (each takes its time limit).
 * A probe that failed for want of something on *this* machine (descriptors, memory, local ports)
 * says nothing about the backend: it is counted as skipped and changes nothing.
 */
#ifndef TG_HEALTH_H
#define TG_HEALTH_H

#include "addr.h"
#include "error.h"

#define TG_CHECK_INTERVAL_MIN 10000000ULL	  /* ns: 10 ms */
#define TG_CHECK_INTERVAL_MAX (86400 * 1000000000ULL) /* ns: a day */
#define TG_CHECK_TIMEOUT_MIN  1000000ULL	  /* ns: 1 ms */
#define TG_CHECK_COUNT_MAX    255		  /* rise, fall */
#define TG_CHECK_REQUEST_MAX  4096		  /* bytes; fits any socket buffer at once */
#define TG_REASON_TEXT	      96

enum tg_check_type {
	TG_CHECK_TCP,	   /* up: the connection is accepted */
	TG_CHECK_HTTP,	   /* up: and the request is answered with a status in a range */
	TG_CHECK_EXTERNAL, /* somebody else probes (a Lua plugin) and reports the results */
};

struct tg_check {
	enum tg_check_type type;
	struct tg_addr addr;
	uint16_t port;		   /* host order */
	uint64_t interval;	   /* ns, from one start to the next; probes never overlap */
	uint64_t timeout;	   /* ns, for the whole probe; at most the interval */
	unsigned int rise, fall;   /* 1..TG_CHECK_COUNT_MAX */
	const char *request;	   /* http: every byte of it, see tg_http_request() */
	uint16_t status_min, status_max; /* http: what counts as up; 0, 0 means 200..399 */
};

enum tg_health { TG_HEALTH_UNKNOWN, TG_HEALTH_UP, TG_HEALTH_DOWN };

struct tg_probe_result {
	bool ok;
	uint64_t latency_ns;	     /* from start to verdict */
	char reason[TG_REASON_TEXT]; /* why not: "connection refused", "status 503"; "" when ok */
};

struct tg_health_status {
	enum tg_health state;
	uint64_t since;		     /* of this state: wall clock, ns since 1970 */
	uint64_t checked;	     /* of the last result: wall clock; 0 before the first */
	struct tg_probe_result last;
	unsigned int streak;	     /* results in a row that agree with the last */
	uint64_t ok, failed, skipped; /* probes */
};

/* 0, or -EINVAL with the text of what is wrong. */
int tg_check_validate(const struct tg_check *check, struct tg_error *error);

/* Copies a valid check, with its request and its defaults filled in. 0 or -ENOMEM. */
int tg_check_copy(struct tg_check *to, const struct tg_check *from);
/* Frees what a copy holds. */
void tg_check_release(struct tg_check *check);

/* A history that begins now, in a state that is decided already or unknown. */
struct tg_health_status tg_health_begin(enum tg_health state, uint64_t wall);
/* Takes a result in; true when it changed the state. */
bool tg_health_update(struct tg_health_status *status, const struct tg_check *check,
	const struct tg_probe_result *result, uint64_t wall);

/* "unknown", "up", "down". */
const char *tg_health_name(enum tg_health state);
/* The wall clock in ns since 1970. */
uint64_t tg_wall_now(void);

#endif
