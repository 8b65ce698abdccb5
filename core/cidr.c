/* SPDX-License-Identifier: GPL-2.0-only */
#include "cidr.h"

#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- text ---- */

static uint64_t mask64(int length)
{
	if (length <= 0)
		return 0;
	return length >= 64 ? ~0ull : ~0ull << (64 - length);
}

struct tg_cidr tg_cidr_cut(const struct tg_cidr *prefix, uint8_t length)
{
	struct tg_cidr cut = *prefix;

	cut.hi &= mask64(length);
	cut.lo &= mask64((int)length - 64);
	cut.length = length;
	return cut;
}

/* A decimal number of at most three digits, without leading zeros; the digits read, or 0. */
static size_t number(const char *text, const char *end, unsigned int *value)
{
	size_t n = 0;

	*value = 0;
	while (n < 3 && text + n < end && text[n] >= '0' && text[n] <= '9')
		*value = *value * 10 + (text[n++] - '0');
	return n > 1 && text[0] == '0' ? 0 : n;
}

/* Four numbers and three dots: a feed has a million of them, and inet_pton takes thrice as long. */
static const char *parse_v4(const char *text, const char *end, uint64_t *hi)
{
	unsigned int octet;
	uint32_t addr = 0;
	size_t n;

	for (int i = 0; i < 4; i++) {
		if (i && (text == end || *text++ != '.'))
			return NULL;
		n = number(text, end, &octet);
		if (!n || octet > 255)
			return NULL;
		addr = addr << 8 | octet;
		text += n;
	}
	*hi = (uint64_t)addr << 32;
	return text == end ? text : NULL;
}

/* The value of a hexadecimal digit, or -1. */
static inline int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* One to four digits; how many, 0 for none. */
static inline size_t group(const char *text, const char *end, unsigned int *value)
{
	size_t n = 0;
	int digit;

	*value = 0;
	while (n < 4 && text + n < end && (digit = hex(text[n])) >= 0) {
		*value = *value << 4 | digit;
		n++;
	}
	return n;
}

/* Puts groups where they belong: those from `gap` on (-1: there is none) are the last ones. */
static bool place(const uint16_t *groups, int count, int gap, struct tg_cidr *prefix)
{
	uint16_t all[8] = { 0 };

	if (gap < 0 ? count != 8 : count > 7)
		return false;
	for (int i = 0; i < count; i++)
		all[gap < 0 || i < gap ? i : 8 - count + i] = groups[i];
	for (int i = 0; i < 4; i++) {
		prefix->hi = prefix->hi << 16 | all[i];
		prefix->lo = prefix->lo << 16 | all[4 + i];
	}
	return true;
}

/* What is written in groups alone. False: it may be right all the same, in another way. */
static bool parse_groups(const char *text, const char *end, struct tg_cidr *prefix)
{
	int count = 0, gap = -1;
	uint16_t groups[8];
	unsigned int value;
	size_t n;

	if (end - text >= 2 && text[0] == ':' && text[1] == ':') {
		gap = 0;
		text += 2;
	}
	while (text < end) {
		n = group(text, end, &value);
		if (!n || count == 8)
			return false;
		groups[count++] = value;
		text += n;
		if (text == end)
			break;
		if (*text++ != ':' || text == end)
			return false;
		if (*text == ':') {
			if (gap >= 0)
				return false;
			gap = count;
			text++;
		}
	}
	return place(groups, count, gap, prefix);
}

static bool parse_v6(const char *text, size_t size, struct tg_cidr *prefix)
{
	char copy[INET6_ADDRSTRLEN];
	uint64_t words[2];

	if (parse_groups(text, text + size, prefix))
		return true;
	if (size >= sizeof(copy))
		return false;
	memcpy(copy, text, size);
	copy[size] = '\0';
	if (strlen(copy) != size || inet_pton(AF_INET6, copy, words) != 1)
		return false;
	prefix->hi = be64toh(words[0]);
	prefix->lo = be64toh(words[1]);
	return true;
}

static const char *parse_length(const char *text, const char *end, struct tg_cidr *prefix)
{
	unsigned int length;
	size_t n = number(text, end, &length);

	if (!n || text + n != end || length > tg_cidr_full(prefix))
		return prefix->family == 4 ? "after the slash: 0 to 32 allowed"
					   : "after the slash: 0 to 128 allowed";
	*prefix = tg_cidr_cut(prefix, length);
	return NULL;
}

const char *tg_cidr_parse(const char *text, size_t size, struct tg_cidr *prefix)
{
	const char *slash = memchr(text, '/', size), *end = text + size;
	size_t length = slash ? (size_t)(slash - text) : size;

	memset(prefix, 0, sizeof(*prefix));
	prefix->family = memchr(text, ':', length) ? 6 : 4;
	prefix->length = tg_cidr_full(prefix);
	if (prefix->family == 4 ? !parse_v4(text, text + length, &prefix->hi)
				: !parse_v6(text, length, prefix))
		return "not an IP address or prefix";
	return slash ? parse_length(slash + 1, end, prefix) : NULL;
}

char *tg_cidr_print(const struct tg_cidr *prefix, char *text)
{
	uint64_t words[2] = { htobe64(prefix->hi), htobe64(prefix->lo) };
	int family = prefix->family == 4 ? AF_INET : AF_INET6;

	if (!inet_ntop(family, words, text, INET6_ADDRSTRLEN))
		return strcpy(text, "?");
	if (prefix->length != tg_cidr_full(prefix))
		sprintf(text + strlen(text), "/%u", prefix->length);
	return text;
}

struct tg_cidr tg_cidr_of(const struct tg_addr *addr)
{
	struct tg_cidr prefix = { .family = addr->family == AF_INET ? 4 : 6 };
	uint64_t words[2];

	memcpy(words, addr->word, sizeof(words));
	prefix.hi = be64toh(words[0]);
	prefix.lo = be64toh(words[1]);
	prefix.length = tg_cidr_full(&prefix);
	return prefix;
}

/* ---- order ---- */

#define DIGITS 19 /* bytes that the order looks at: rank, length, lo, hi, family */

/* The byte of that weight, the least first. */
static inline uint8_t digit(const struct tg_cidr *prefix, int place)
{
	if (place == 0)
		return prefix->rank;
	if (place == 1)
		return prefix->length;
	if (place < 10)
		return prefix->lo >> 8 * (place - 2);
	return place < 18 ? prefix->hi >> 8 * (place - 10) : prefix->family;
}

static bool is_sorted(const struct tg_cidr *prefixes, size_t count)
{
	for (size_t i = 1; i < count; i++) {
		int order = tg_cidr_compare(&prefixes[i - 1], &prefixes[i]);

		if (order > 0 || (order == 0 && prefixes[i - 1].rank > prefixes[i].rank))
			return false;
	}
	return true;
}

/* By insertion: a few prefixes. */
static void sort_few(struct tg_cidr *prefixes, size_t count)
{
	for (size_t i = 1; i < count; i++) {
		struct tg_cidr moved = prefixes[i];
		size_t at = i;

		for (; at > 0; at--) {
			int order = tg_cidr_compare(&prefixes[at - 1], &moved);

			if (order < 0 || (order == 0 && prefixes[at - 1].rank <= moved.rank))
				break;
			prefixes[at] = prefixes[at - 1];
		}
		prefixes[at] = moved;
	}
}

static void scatter(const struct tg_cidr *from, struct tg_cidr *to, size_t count, int place,
	const size_t *counts)
{
	size_t start[256], sum = 0;

	for (int i = 0; i < 256; i++) {
		start[i] = sum;
		sum += counts[i];
	}
	for (size_t i = 0; i < count; i++)
		to[start[digit(&from[i], place)]++] = from[i];
}

/* A radix sort, byte by byte from the least; those that are the same in all cost nothing. */
static int sort_many(struct tg_cidr *prefixes, size_t count)
{
	struct tg_cidr *spare = malloc(count * sizeof(*spare)), *from = prefixes, *to = spare;
	size_t(*counts)[256] = calloc(DIGITS, sizeof(*counts));

	if (!spare || !counts) {
		free(spare);
		free(counts);
		return -ENOMEM;
	}
	for (size_t i = 0; i < count; i++)
		for (int place = 0; place < DIGITS; place++)
			counts[place][digit(&prefixes[i], place)]++;
	for (int place = 0; place < DIGITS; place++) {
		struct tg_cidr *sorted = to;

		if (counts[place][digit(from, place)] == count)
			continue;
		scatter(from, to, count, place, counts[place]);
		to = from;
		from = sorted;
	}
	if (from != prefixes)
		memcpy(prefixes, from, count * sizeof(*prefixes));
	free(spare);
	free(counts);
	return 0;
}

int tg_cidr_sort(struct tg_cidr *prefixes, size_t count)
{
	if (is_sorted(prefixes, count))
		return 0;
	if (count > 32)
		return sort_many(prefixes, count);
	sort_few(prefixes, count);
	return 0;
}

size_t tg_cidr_seek(
	const struct tg_cidr *prefixes, size_t count, size_t from, const struct tg_cidr *prefix)
{
	size_t low = from, step = 1, high;

	while (low + step <= count && tg_cidr_compare(&prefixes[low + step - 1], prefix) < 0) {
		low += step;
		step *= 2;
	}
	high = low + step - 1 < count ? low + step - 1 : count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (tg_cidr_compare(&prefixes[middle], prefix) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}
