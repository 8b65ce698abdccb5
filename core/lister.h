/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The daemon's lists (core/lists.h) on the datapath's tables (core/deny.h), in a thread of their own: a million
 * prefixes take a good part of a second, which neither scripts nor the engine wait for. The thread also ends
 * what has a time to live.
 *
 * The main thread starts and stops it and posts work to it (tg_call_in_engine); the functions that take a
 * tg_lister are called there, by such work.
 */
#ifndef TG_LISTER_H
#define TG_LISTER_H

#include "datapath.h"
#include "deny.h"
#include "engine.h"
#include "lists.h"

struct tg_lister {
	struct tg_engine *engine;
	struct tg_datapath *dp;
	struct tg_deny *deny;
	struct tg_lists *lists;
	uv_timer_t timer; /* of what expires next */
	char path[128];	  /* of what a restart must not lose */
	bool adopted;	  /* what the tables had has been read */
	bool added;	  /* something came since packets were last waited for */
};

/* Starts the thread; the datapath is open. NULL, and `error` says why. */
struct tg_lister *tg_lister_start(
	struct tg_datapath *dp, const char *instance, struct tg_error *error);
void tg_lister_stop(struct tg_lister *lister);

/*
 * After tg_datapath_specialise: uses the tables that are there now. The first time it adopts what they hold,
 * and restores what the file has; that it is damaged is logged.
 */
int tg_lister_open(struct tg_lister *lister, struct tg_error *error);
/* After a change: looks again when something expires. */
void tg_lister_changed(struct tg_lister *lister);

/* Removes the file of an instance, as its pins. From any thread, with no daemon or at its end. */
void tg_lister_unload(const char *instance);

struct tg_deny_prefix tg_deny_prefix_of(const struct tg_cidr *prefix);
struct tg_cidr tg_cidr_of_deny(const struct tg_deny_prefix *prefix);

#endif
