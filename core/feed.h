/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Feeds: texts with a prefix a line, as FireHOL (netset, ipset), Spamhaus (DROP) and others publish
 * them. A line is a prefix or an address, IPv4 and IPv6 mixed, with blanks around it; from `#` or `;` on
 * it is a comment. Line ends are LF or CRLF, a byte order mark at the start is skipped. Host bits are
 * masked ("10.1.2.3/8" is 10.0.0.0/8). Any other line is broken, and so is /0: a feed that denies
 * everything is a mistake of the feed.
 *
 * Broken lines are counted and the first ones kept with their numbers; what to do about them is the
 * caller's to say. Runs in any thread: a million lines take some 60 ms.
 */
#ifndef TG_FEED_H
#define TG_FEED_H

#include "cidr.h"
#include "error.h"

#define TG_FEED_ERRORS 20	/* broken lines that are kept */
#define TG_FEED_MAX    16777216 /* prefixes */

struct tg_feed_error {
	uint32_t line;
	char text[48]; /* of the line, cut, with what does not print as '?' */
	const char *why;
};

struct tg_feed {
	struct tg_cidr *prefixes; /* in the order of the text; not sorted */
	size_t count, room;
	size_t broken;
	struct tg_feed_error errors[TG_FEED_ERRORS];
};

/* Appends what the text has; an empty feed is all zero. 0, -ENOMEM or -E2BIG. */
int tg_feed_parse(struct tg_feed *feed, const char *text, size_t size, struct tg_error *error);
/* The same of a file; names it in `error`. */
int tg_feed_read(struct tg_feed *feed, const char *path, struct tg_error *error);
/* Appends one line's text. 0, also when it is broken; -ENOMEM or -E2BIG. */
int tg_feed_line(
	struct tg_feed *feed, const char *text, size_t size, size_t line, struct tg_error *error);
void tg_feed_free(struct tg_feed *feed);

#endif
