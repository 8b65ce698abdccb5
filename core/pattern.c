/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A pattern is a row of items: a single character class with or without a repetition, a capture's
 * begin or end, %b, %f, a back reference, or the final $. `match` walks the row; an item either
 * moves the cursor on, or decides the rest by recursion (where there is more than one way to go on).
 */
#include "pattern.h"

#include <ctype.h>
#include <stdbool.h>
#include <string.h>

#define DEPTH 200	/* recursions; Lua's own limit */

enum progress { ON, DECIDED };	/* the cursor moved; or its `at` is the result, NULL for no match */

struct cursor {
	const char *at;		/* in the subject */
	const char *item;	/* in the pattern */
};

static const char *match(struct tg_match *m, const char *at, const char *item);

void tg_match_init(struct tg_match *m, const char *subject, size_t subject_length,
	const char *pattern, size_t pattern_length)
{
	*m = (struct tg_match){
		.subject = subject,
		.subject_end = subject + subject_length,
		.pattern_end = pattern + pattern_length,
	};
}

void tg_match_count(struct tg_match *m, size_t steps)
{
	m->steps += steps;
	if (m->steps < TG_PATTERN_STEPS)
		return;
	m->steps = 0;
	if (m->poll)
		m->poll(m->user);
}

static const char *fault(struct tg_match *m, const char *error)
{
	if (!m->error)
		m->error = error;
	return NULL;
}

/* --- single characters --- */

/* The end of a [set] that begins behind its bracket. NULL: it has none. */
static const char *set_end(struct tg_match *m, const char *p)
{
	if (*p == '^')
		p++;
	do {
		if (p == m->pattern_end)
			return fault(m, "malformed pattern (missing ']')");
		if (*p++ == '%' && p < m->pattern_end)
			p++;
	} while (*p != ']');
	return p + 1;
}

/* The end of the single character class at `p`. */
static const char *class_end(struct tg_match *m, const char *p)
{
	if (*p == '[')
		return set_end(m, p + 1);
	if (*p != '%')
		return p + 1;
	if (p + 1 == m->pattern_end)
		return fault(m, "malformed pattern (ends with '%%')");
	return p + 2;
}

static bool in_class(int c, int letter)
{
	bool in;

	switch (tolower(letter)) {
	case 'a': in = isalpha(c); break;
	case 'c': in = iscntrl(c); break;
	case 'd': in = isdigit(c); break;
	case 'g': in = isgraph(c); break;
	case 'l': in = islower(c); break;
	case 'p': in = ispunct(c); break;
	case 's': in = isspace(c); break;
	case 'u': in = isupper(c); break;
	case 'w': in = isalnum(c); break;
	case 'x': in = isxdigit(c); break;
	case 'z': in = c == 0; break;
	default: return letter == c;
	}
	return isupper(letter) ? !in : in;
}

/* Is `c` in the set from `p`, its bracket, to `last`, the closing one? */
static bool in_set(int c, const char *p, const char *last)
{
	bool negated = p[1] == '^';

	for (p += 1 + negated; p < last; p++) {
		if (*p == '%') {
			p++;
			if (in_class(c, (unsigned char)*p))
				return !negated;
		} else if (p[1] == '-' && p + 2 < last) {
			if ((unsigned char)p[0] <= c && c <= (unsigned char)p[2])
				return !negated;
			p += 2;
		} else if ((unsigned char)*p == c) {
			return !negated;
		}
	}
	return negated;
}

/* Does the character at `at` belong to the class [item, end)? */
static bool is_in(struct tg_match *m, const char *at, const char *item, const char *end)
{
	int c = (unsigned char)*at;

	if (++m->steps >= TG_PATTERN_STEPS)
		tg_match_count(m, 0);
	if (at >= m->subject_end)
		return false;
	switch (*item) {
	case '.': return true;
	case '%': return in_class(c, (unsigned char)item[1]);
	case '[': return in_set(c, item, end - 1);
	default: return (unsigned char)*item == c;
	}
}

/* --- items that decide the rest --- */

static enum progress decide(struct cursor *cursor, const char *result)
{
	cursor->at = result;
	return DECIDED;
}

/* As many as possible first. */
static const char *repeat_most(struct tg_match *m, const char *at, const char *item, const char *end)
{
	const char *last = at;

	while (is_in(m, last, item, end))
		last++;
	for (; last >= at; last--) {
		const char *result = match(m, last, end + 1);

		if (result || m->error)
			return result;
	}
	return NULL;
}

/* As few as possible first. */
static const char *repeat_least(struct tg_match *m, const char *at, const char *item, const char *end)
{
	for (;;) {
		const char *result = match(m, at, end + 1);

		if (result || m->error)
			return result;
		if (!is_in(m, at, item, end))
			return NULL;
		at++;
	}
}

static enum progress maybe_one(struct tg_match *m, struct cursor *cursor, const char *end)
{
	const char *result = match(m, cursor->at + 1, end + 1);

	if (result || m->error)
		return decide(cursor, result);
	cursor->item = end + 1;
	return ON;
}

static enum progress single(struct tg_match *m, struct cursor *cursor)
{
	const char *item = cursor->item, *end = class_end(m, item);

	if (!end)
		return decide(cursor, NULL);
	if (!is_in(m, cursor->at, item, end)) {
		if (*end != '*' && *end != '?' && *end != '-')
			return decide(cursor, NULL);
		cursor->item = end + 1;		/* none of it is fine */
		return ON;
	}
	switch (*end) {
	case '?': return maybe_one(m, cursor, end);
	case '*': return decide(cursor, repeat_most(m, cursor->at, item, end));
	case '+': return decide(cursor, repeat_most(m, cursor->at + 1, item, end));
	case '-': return decide(cursor, repeat_least(m, cursor->at, item, end));
	}
	cursor->at++;
	cursor->item = end;
	return ON;
}

static const char *open_capture(struct tg_match *m, const char *at, const char *item, ptrdiff_t kind)
{
	const char *result;

	if (m->captures >= TG_PATTERN_CAPTURES)
		return fault(m, "too many captures");
	m->capture[m->captures].start = at;
	m->capture[m->captures].length = kind;
	m->captures++;
	result = match(m, at, item);
	if (!result)
		m->captures--;
	return result;
}

static const char *close_capture(struct tg_match *m, const char *at, const char *item)
{
	int i = m->captures - 1;
	const char *result;

	while (i >= 0 && m->capture[i].length != TG_CAPTURE_OPEN)
		i--;
	if (i < 0)
		return fault(m, "invalid pattern capture");
	m->capture[i].length = at - m->capture[i].start;
	result = match(m, at, item);
	if (!result)
		m->capture[i].length = TG_CAPTURE_OPEN;
	return result;
}

/* --- items behind a % --- */

static enum progress balance(struct tg_match *m, struct cursor *cursor)
{
	const char *p = cursor->item + 2, *at = cursor->at;
	int open = 1;

	if (p >= m->pattern_end - 1)
		return decide(cursor, fault(m, "malformed pattern (missing arguments to '%%b')"));
	if (*at != p[0])
		return decide(cursor, NULL);
	while (++at < m->subject_end) {
		tg_match_count(m, 1);
		if (*at == p[1]) {
			if (--open == 0) {
				cursor->at = at + 1;
				cursor->item = p + 2;
				return ON;
			}
		} else if (*at == p[0]) {
			open++;
		}
	}
	return decide(cursor, NULL);
}

static enum progress frontier(struct tg_match *m, struct cursor *cursor)
{
	const char *set = cursor->item + 2, *at = cursor->at, *end;
	int before = at == m->subject ? 0 : (unsigned char)at[-1];

	if (*set != '[')
		return decide(cursor, fault(m, "missing '[' after '%%f' in pattern"));
	end = class_end(m, set);
	if (!end || in_set(before, set, end - 1) || !in_set((unsigned char)*at, set, end - 1))
		return decide(cursor, NULL);
	cursor->item = end;
	return ON;
}

static enum progress back_reference(struct tg_match *m, struct cursor *cursor)
{
	int i = cursor->item[1] - '1';
	size_t length;

	if (i < 0 || i >= m->captures || m->capture[i].length == TG_CAPTURE_OPEN) {
		m->error_index = i + 1;
		return decide(cursor, fault(m, "invalid capture index %%%d"));
	}
	length = m->capture[i].length;
	if ((size_t)(m->subject_end - cursor->at) < length)
		return decide(cursor, NULL);
	tg_match_count(m, 1 + length / 64);
	if (memcmp(m->capture[i].start, cursor->at, length))
		return decide(cursor, NULL);
	cursor->at += length;
	cursor->item += 2;
	return ON;
}

static enum progress escaped(struct tg_match *m, struct cursor *cursor)
{
	int c = (unsigned char)cursor->item[1];

	if (c == 'b')
		return balance(m, cursor);
	if (c == 'f')
		return frontier(m, cursor);
	if (isdigit(c))
		return back_reference(m, cursor);
	return single(m, cursor);
}

/* --- the row --- */

static enum progress one_item(struct tg_match *m, struct cursor *cursor)
{
	const char *item = cursor->item;

	switch (*item) {
	case '(':
		if (item[1] == ')')
			return decide(cursor, open_capture(m, cursor->at, item + 2, TG_CAPTURE_POSITION));
		return decide(cursor, open_capture(m, cursor->at, item + 1, TG_CAPTURE_OPEN));
	case ')':
		return decide(cursor, close_capture(m, cursor->at, item + 1));
	case '$':
		if (item + 1 == m->pattern_end)
			return decide(cursor, cursor->at == m->subject_end ? cursor->at : NULL);
		return single(m, cursor);
	case '%':
		return escaped(m, cursor);
	default:
		return single(m, cursor);
	}
}

static const char *match(struct tg_match *m, const char *at, const char *item)
{
	struct cursor cursor = { at, item };

	if (m->depth == DEPTH)
		return fault(m, "pattern too complex");
	m->depth++;
	tg_match_count(m, 1);
	while (cursor.item != m->pattern_end && one_item(m, &cursor) == ON)
		;
	m->depth--;
	return cursor.at;
}

const char *tg_match_at(struct tg_match *m, const char *at, const char *pattern)
{
	m->captures = 0;
	m->depth = 0;
	m->error = NULL;
	return match(m, at, pattern);
}
