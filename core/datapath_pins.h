/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The directory of pins of an instance, as files: making and removing.
 */
#ifndef TG_DATAPATH_PINS_H
#define TG_DATAPATH_PINS_H

#include "error.h"

#include <linux/types.h>
#include <stdbool.h>

/* Makes DIR and its maps/, rings/, links/, ingress/ and egress/. */
int tg_pins_make_dirs(const char *dir, struct tg_error *error);
/* Is there nothing but empty directories? */
bool tg_pins_empty(const char *dir);
/*
 * Detaches what DIR/links, ingress and egress pin, removes TC filters, in the network namespace with that inode (0:
 * the caller's), and DIR with all its pins. 0 or a negative errno.
 */
int tg_pins_remove(const char *dir, __u64 netns);

#endif
