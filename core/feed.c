/* SPDX-License-Identifier: GPL-2.0-only */
#include "feed.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int grow(struct tg_feed *feed, struct tg_error *error)
{
	size_t room = feed->room ? 2 * feed->room : 16;
	struct tg_cidr *moved;

	if (feed->count >= TG_FEED_MAX)
		return tg_fail(error, -E2BIG, "more than %d prefixes", TG_FEED_MAX);
	moved = realloc(feed->prefixes, room * sizeof(*moved));
	if (!moved)
		return tg_fail(error, -ENOMEM, "no memory for %zu prefixes", room);
	feed->prefixes = moved;
	feed->room = room;
	return 0;
}

static void note_broken(
	struct tg_feed *feed, const char *text, size_t size, size_t line, const char *why)
{
	struct tg_feed_error *broken;

	if (feed->broken++ >= TG_FEED_ERRORS)
		return;
	broken = &feed->errors[feed->broken - 1];
	broken->line = line;
	broken->why = why;
	if (size >= sizeof(broken->text))
		size = sizeof(broken->text) - 1;
	for (size_t i = 0; i < size; i++)
		broken->text[i] = text[i] < ' ' || text[i] > '~' ? '?' : text[i];
	broken->text[size] = '\0';
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static bool is_end(char c)
{
	return is_blank(c) || c == '#' || c == ';';
}

int tg_feed_line(
	struct tg_feed *feed, const char *text, size_t size, size_t line, struct tg_error *error)
{
	struct tg_cidr prefix;
	const char *why;
	size_t length = 0, rest;

	while (size && is_blank(text[size - 1]))
		size--;
	while (size && is_blank(*text))
		text++, size--;
	while (length < size && !is_end(text[length]))
		length++;
	for (rest = length; rest < size && is_blank(text[rest]);)
		rest++;
	if (rest == size && !length)
		return 0;
	if (!length && is_end(*text))
		return 0;
	why = tg_cidr_parse(text, length, &prefix);
	if (!why && rest < size && !is_end(text[rest]))
		why = "text after the prefix (a comment begins with # or ;)";
	if (!why && !prefix.length)
		why = "a feed can't name all addresses (add /0 by hand if it is meant)";
	if (why) {
		note_broken(feed, text, size, line, why);
		return 0;
	}
	if (feed->count == feed->room && grow(feed, error))
		return feed->count >= TG_FEED_MAX ? -E2BIG : -ENOMEM;
	feed->prefixes[feed->count++] = prefix;
	return 0;
}

/*
 * Most lines are an IPv4 prefix and an end: read in one go, 20 ns instead of 80. Returns what follows the line,
 * or NULL: it is something else, to be looked at as a whole.
 */
static const char *plain_line(struct tg_feed *feed, const char *text, const char *end)
{
	uint32_t addr = 0;
	unsigned int length = 32;

	if (end - text < 20 || feed->count == feed->room)
		return NULL; /* room for the longest one, so that nothing below has to look */
	for (int i = 0; i < 4; i++) {
		unsigned int octet = *text - '0';

		if (octet > 9)
			return NULL;
		for (text++; *text >= '0' && *text <= '9'; text++) {
			octet = octet * 10 + (*text - '0');
			if (octet < 10 || octet > 255)
				return NULL;
		}
		addr = addr << 8 | octet;
		if (i < 3 && *text++ != '.')
			return NULL;
	}
	if (*text == '/') {
		length = text[1] - '0';
		text += 2;
		if (length - 1 > 8)
			return NULL;
		if (*text >= '0' && *text <= '9')
			length = length * 10 + (*text++ - '0');
		if (length > 32)
			return NULL;
	}
	text += *text == '\r';
	if (*text != '\n')
		return NULL;
	feed->prefixes[feed->count++] = (struct tg_cidr){
		.family = 4, .length = length, .hi = (uint64_t)(addr & ~0u << (32 - length)) << 32
	};
	return text + 1;
}

int tg_feed_parse(struct tg_feed *feed, const char *text, size_t size, struct tg_error *error)
{
	const char *end = text + size, *stop;
	size_t line = 0;
	int result = 0;

	if (size >= 3 && !memcmp(text, "\xef\xbb\xbf", 3))
		text += 3;
	while (text < end && !result) {
		line++;
		stop = plain_line(feed, text, end);
		if (!stop) {
			stop = memchr(text, '\n', end - text);
			stop = stop ? stop + 1 : end;
			result = tg_feed_line(feed, text, stop - text, line, error);
		}
		text = stop;
	}
	return result;
}

/* Not mapped: a file that somebody shortens meanwhile would kill us. */
static char *read_all(int fd, size_t *size)
{
	char *text = malloc(*size + 1);
	size_t got = 0;
	ssize_t n = 1;

	while (text && got < *size && n > 0) {
		n = read(fd, text + got, *size - got);
		got += n > 0 ? n : 0;
	}
	if (n < 0) {
		free(text);
		return NULL;
	}
	*size = got;
	return text;
}

static int parse_open(struct tg_feed *feed, int fd, const char *path, struct tg_error *error)
{
	struct stat st;
	size_t size;
	char *text;
	int result;

	if (fstat(fd, &st))
		return tg_fail(error, -errno, "%s: %s", path, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return tg_fail(
			error, S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL, "%s: not a file", path);
	size = st.st_size;
	text = read_all(fd, &size);
	if (!text)
		return tg_fail(error, -errno, "%s: %s", path, strerror(errno));
	result = tg_feed_parse(feed, text, size, error);
	free(text);
	return result;
}

int tg_feed_read(struct tg_feed *feed, const char *path, struct tg_error *error)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), result;

	if (fd < 0)
		return tg_fail(error, -errno, "%s: %s", path, strerror(errno));
	result = parse_open(feed, fd, path, error);
	close(fd);
	return result;
}

void tg_feed_free(struct tg_feed *feed)
{
	free(feed->prefixes);
	*feed = (struct tg_feed){ 0 };
}
