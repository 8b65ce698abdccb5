/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The daemon's end of the control socket, as far as it is C: making the socket, and telling who is at
 * its other end. Connections, frames and requests are lua/tidegate/console.lua, on libuv's pipes.
 */
#ifndef TG_CONSOLE_H
#define TG_CONSOLE_H

#include <stdbool.h>
#include <sys/socket.h>

#include "error.h"

/*
 * Makes a listening socket at `path`, mode 0600 from its first moment on, not blocking, close-on-exec.
 * A socket that lies there is replaced, since the caller holds the instance's lock; anything else is
 * refused (-EEXIST). Returns the descriptor or a negative errno.
 */
int tg_console_listen(const char *path, struct tg_error *error);

/* Who connected; 0 or a negative errno. */
int tg_console_peer(int fd, struct ucred *peer);
/* Only root and the daemon's own user may give orders. */
bool tg_console_welcomes(const struct ucred *peer);

#endif
