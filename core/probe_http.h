/* SPDX-License-Identifier: GPL-2.0-only */
/* The little of HTTP/1 that a health check speaks: one request, one status line. */
#ifndef TG_PROBE_HTTP_H
#define TG_PROBE_HTTP_H

#include "error.h"

#include <stddef.h>

/* "HTTP/1.1 200 " is all that a check reads. */
#define TG_HTTP_HEAD 13

/*
 * Builds the request of a check, to be freed. Without a host (NULL) it is HTTP/1.0 with no Host
 * header. NULL with `error` when a part can't stand in a request: spaces or control characters, a
 * path that does not begin with its slash.
 */
char *tg_http_request(const char *method, const char *path, const char *host,
	struct tg_error *error);

/*
 * The status of an answer of which the first `length` bytes are there: 100..999, -EAGAIN when more
 * bytes are needed, -EPROTO when it isn't HTTP/1.0 or HTTP/1.1.
 */
int tg_http_status(const char *head, size_t length);

#endif
