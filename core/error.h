/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Errors for people. A function that can fail for an interesting reason takes a struct tg_error and
 * returns 0 or a negative errno; on failure the text says what was given and what would be right,
 * complete enough to print as it stands.
 */
#ifndef TG_ERROR_H
#define TG_ERROR_H

struct tg_error {
	char text[512];
};

/* Fills `error` (may be NULL) and returns `code` (negative errno), so that a caller can `return tg_fail(…)`. */
int tg_fail(struct tg_error *error, int code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

#endif
