/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The watchdog: a thread outside Lua for what no hook can stop, a C function that does not come back.
 * When one entry into a task (core/guard.h) has lasted longer than its budget, and for `limit` no
 * hook ran in it, by the clock on the wall, `on_hang` is called once for it, in the watchdog's
 * thread. The daemon passes tg_watchdog_restart. Entries without a budget are not watched.
 *
 * One watchdog a process. While it calls, the main thread may hold any lock: malloc's, stdio's, the
 * log's. tg_watchdog_restart uses none of them.
 */
#ifndef TG_WATCHDOG_H
#define TG_WATCHDOG_H

#include <stdint.h>

#include "vm.h"

#define TG_WATCHDOG_LIMIT 5000000000ull	/* ns */

struct tg_hang {
	const char *task;
	const char *script;	/* its path; "" for a task of the library's own */
	uint64_t lasted;	/* ns */
};

typedef void (*tg_on_hang)(void *user, const struct tg_hang *hang);

/* 0 or a negative errno. */
int tg_watchdog_start(struct tg_vm *vm, uint64_t limit, tg_on_hang on_hang, void *user);
/* Ends the thread; before the VM is closed. */
void tg_watchdog_stop(void);

/* An on_hang: says what hangs on stderr, puts the script into the quarantine list `user` (a path,
 * core/quarantine.h), and executes this program anew with its arguments. Does not return. A task that
 * has its script's path for a name is the one that loads it. */
void tg_watchdog_restart(void *user, const struct tg_hang *hang);

#endif
