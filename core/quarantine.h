/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The quarantine: a list, one file an instance, of scripts that hung the daemon, each with a hash of
 * what it was then, and whether it hung while it was loaded or in a task that it had started. A
 * script is held as long as it has not changed. A line is `HASH load|task PATH`.
 *
 * Nothing here allocates or uses stdio's streams: tg_quarantine_add runs in the watchdog's thread.
 */
#ifndef TG_QUARANTINE_H
#define TG_QUARANTINE_H

enum tg_quarantine {
	TG_QUARANTINE_NONE,
	TG_QUARANTINE_TASK,	/* declares what it always did, but none of its tasks may run */
	TG_QUARANTINE_LOAD,	/* must not be loaded */
};

/* Puts `script`, as it is now, into the list. 0 or a negative errno. */
int tg_quarantine_add(const char *list, const char *script, enum tg_quarantine how);
/* How the list holds `script` as it is now. */
enum tg_quarantine tg_quarantine_of(const char *list, const char *script);

#endif
