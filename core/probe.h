/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The prober: thousands of health checks on one uv loop, each at its own interval.
 *
 * A target is one check and its history; its owner hears of changes of state alone. The prober has
 * one epoll descriptor for all its sockets (one uv_poll) and one timer wheel for all schedules and
 * time limits (one uv_timer). It calls nothing but the owner's callbacks, all on the loop's thread;
 * everything here belongs to that thread.
 *
 * Schedule: the first probe of a target starts at once or, with many targets, within a millisecond
 * for each; later ones up to 1/16 of the interval less than an interval after each other, at random.
 * One probe per target is in flight at most.
 *
 * Cost: a tcp probe is two system calls, connect and disconnect (core/probe_socket.h). The last ACK
 * of its handshake is held back, so that it never wakes the server: its kernel answers, which says
 * that somebody listens and that the accept queue has room.
 */
#ifndef TG_PROBE_H
#define TG_PROBE_H

#include "error.h"
#include "health.h"

#include <uv.h>

struct tg_prober;
struct tg_target;

struct tg_prober_stats {
	uint64_t probes;      /* started */
	uint64_t skipped;     /* not started or given up, for want of something on this machine */
	unsigned int targets;
	unsigned int in_flight;
	unsigned int sockets; /* open, in flight or waiting for their next use */
};

/* The state changed; `last` is the result that did it. May add and remove targets, this one too. */
typedef void (*tg_target_cb)(void *user, enum tg_health state, const struct tg_probe_result *last);

/*
 * This machine can't probe: `code` is a negative errno (EMFILE, ENOBUFS, EADDRNOTAVAIL …), told once
 * when it begins; 0 when it has been over for ten seconds. Meant for the log.
 */
typedef void (*tg_prober_trouble_cb)(void *user, int code);

/* NULL with `error` when the system refuses. */
struct tg_prober *tg_prober_new(uv_loop_t *loop, struct tg_error *error);
void tg_prober_on_trouble(struct tg_prober *prober, tg_prober_trouble_cb trouble, void *user);
struct tg_prober_stats tg_prober_stats(const struct tg_prober *prober);
/*
 * Ends all probes, frees all targets, and the prober once the loop has run; then calls `closed`
 * (may be NULL). Not from within a callback of the prober.
 */
void tg_prober_close(struct tg_prober *prober, void (*closed)(void *user), void *user);

/*
 * Begins to probe (TG_CHECK_EXTERNAL: to be reported to). The check is copied. `initial` is what is
 * known of the backend; UNKNOWN: the first result decides, and is told as a change. NULL with
 * `error` when the check is not valid.
 */
struct tg_target *tg_prober_add(struct tg_prober *prober, const struct tg_check *check,
	enum tg_health initial, tg_target_cb changed, void *user, struct tg_error *error);
/* Ends the probe in flight without a result, and frees the target. */
void tg_prober_remove(struct tg_target *target);

/*
 * Changes interval, timeout, rise, fall, request or expected status, keeping the history. -EINVAL
 * with `error` when the check is not valid or asks another endpoint or type: that's another target.
 */
int tg_target_set_check(struct tg_target *target, const struct tg_check *check,
	struct tg_error *error);
/* Takes in the result of somebody else's probe. May call the target's callback. */
void tg_target_report(struct tg_target *target, const struct tg_probe_result *result);
/* Valid as long as the target. */
const struct tg_health_status *tg_target_status(const struct tg_target *target);

#endif
