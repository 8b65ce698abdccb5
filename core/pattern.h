/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Lua 5.4's patterns, matched by a matcher that can be interrupted: it counts its steps and calls
 * `poll` every TG_PATTERN_STEPS of them, which may leave by longjmp. Matching, captures and error
 * texts are those of Lua's own (tests/unit/pattern_test.c compares the two on random input).
 *
 * A match is tried at one place of the subject; finding one, and what to do with it, is the
 * caller's (core/bounded.c). Subject and pattern must be followed by a NUL, as Lua's strings are.
 */
#ifndef TG_PATTERN_H
#define TG_PATTERN_H

#include <stddef.h>

#define TG_PATTERN_CAPTURES 32
#define TG_PATTERN_STEPS    8192	/* steps between two polls; a step is about 5 ns */

/* `length` of a capture that is none */
#define TG_CAPTURE_OPEN     (-1)
#define TG_CAPTURE_POSITION (-2)

struct tg_match {
	const char *subject, *subject_end;
	const char *pattern_end;
	int captures;			/* found so far */
	struct {
		const char *start;
		ptrdiff_t length;
	} capture[TG_PATTERN_CAPTURES];
	const char *error;		/* after a NULL result: what is wrong with the pattern, or NULL: */
	int error_index;		/* a format for this, the index of a capture */
	int depth;
	unsigned int steps;
	void (*poll)(void *user);	/* may be NULL */
	void *user;
};

void tg_match_init(struct tg_match *match, const char *subject, size_t subject_length,
	const char *pattern, size_t pattern_length);
/* The end of the match of `pattern` that begins at `at`, or NULL. */
const char *tg_match_at(struct tg_match *match, const char *at, const char *pattern);
/* Counts steps of the caller's own. */
void tg_match_count(struct tg_match *match, size_t steps);

#endif
