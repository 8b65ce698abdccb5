/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The log: one line a message on stderr, with a timestamp, or with the journal's priority prefix
 * when systemd reads it. Further lines of a message (a traceback) are indented. The last
 * TG_LOG_RECENT messages are kept for `status` and for tests. Any thread may log.
 */
#ifndef TG_LOG_H
#define TG_LOG_H

#include <stdint.h>

#define TG_LOG_RECENT 256	/* messages kept */
#define TG_LOG_TEXT   4096	/* bytes kept of one message */

enum tg_log_level { TG_LOG_DEBUG, TG_LOG_INFO, TG_LOG_WARN, TG_LOG_ERROR };

/* Messages below `least` are neither printed nor kept; TG_LOG_INFO at first. */
void tg_log_set_level(enum tg_log_level least);
void tg_log(enum tg_log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));
void tg_log_text(enum tg_log_level level, const char *text);

/* Calls `each` for the kept messages with a serial number above `after`, oldest first. */
void tg_log_recent(uint64_t after,
	void (*each)(void *user, uint64_t serial, enum tg_log_level level, const char *text), void *user);

#endif
