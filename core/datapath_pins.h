/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The directory of pins of an instance, as files: making and removing.
 */
#ifndef TG_DATAPATH_PINS_H
#define TG_DATAPATH_PINS_H

#include "error.h"

#include <stdbool.h>

/* Makes DIR and its maps/, rings/ and links/. */
int tg_pins_make_dirs(const char *dir, struct tg_error *error);
/* Is there nothing but empty directories? */
bool tg_pins_empty(const char *dir);
/* Detaches what DIR/links pins and removes DIR with all its pins. 0 or a negative errno. */
int tg_pins_remove(const char *dir);

#endif
