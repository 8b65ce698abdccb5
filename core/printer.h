/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Prints a capture while it arrives: a thread reads pcapng from a descriptor and writes a line a packet to standard
 * output. The lines are lua/tidegate/packet/pcapng.lua's, in a Lua of the thread's own: a daemon has no part
 * in it.
 */
#ifndef TG_PRINTER_H
#define TG_PRINTER_H

#include "error.h"

struct tg_printer;

/* Starts the thread; the descriptor is the printer's, also if that fails: NULL, and `error` says why. */
struct tg_printer *tg_printer_start(int fd, struct tg_error *error);
/* Waits until all was printed, which is when nobody writes to the descriptor any more. Frees the printer. */
void tg_printer_finish(struct tg_printer *printer);

#endif
