/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A client of a running daemon: connects to the instance's control socket, sends a request, copies
 * what comes back to standard output and standard error, and ends with the request's exit code.
 * Ctrl-C cancels the request; a second one leaves without waiting for the daemon. Everything blocks.
 */
#ifndef TG_CLIENT_H
#define TG_CLIENT_H

#include <stdbool.h>

#include "error.h"
#include "frame.h"
#include "instance.h"

/* Exit codes of a request beside 0 to 4: the REPL's entry goes on in the next line. */
#define TG_EXIT_INCOMPLETE 254

struct tg_client {
	int fd;
	const struct tg_instance *instance;
	int descriptor; /* goes with the next request; -1: none */
	struct tg_frame_reader reader;
};

/*
 * Connects; the client lives until tg_client_close(). -ENOENT or -ECONNREFUSED when no daemon runs,
 * -EACCES when it is not ours to talk to; `error` names the socket.
 */
int tg_client_open(struct tg_client *client, const struct tg_instance *instance,
	struct tg_error *error);
void tg_client_close(struct tg_client *client);

/* Sends argv and waits; the request's exit code (0 to 255), or a negative errno with `error` filled. */
int tg_client_request(struct tg_client *client, int argc, char *const argv[],
	struct tg_error *error);

/* A whole command: connects to the named instance (NULL: default), asks, and returns the exit code for main(). */
int tg_client_run(const char *instance, int argc, char *const argv[]);
/* Whether a daemon listens on the named instance's socket, be it that it is not ours to talk to. */
bool tg_client_daemon_runs(const char *instance);
/* `path` from the root, since the daemon has another working directory; to be freed. NULL: no memory. */
char *tg_client_absolute(const char *path);

#endif
