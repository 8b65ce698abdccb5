/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The quarantine: a list, one file an instance, of scripts that hung the daemon, each with a hash of
 * what it was then. A script is held as long as it has not changed. A line is `HASH PATH`.
 *
 * Nothing here allocates or uses stdio's streams: tg_quarantine_add runs in the watchdog's thread.
 */
#ifndef TG_QUARANTINE_H
#define TG_QUARANTINE_H

#include <stdbool.h>

/* Puts `script`, as it is now, into the list. 0 or a negative errno. */
int tg_quarantine_add(const char *list, const char *script);
/* Is `script`, as it is now, in the list? */
bool tg_quarantine_holds(const char *list, const char *script);

#endif
