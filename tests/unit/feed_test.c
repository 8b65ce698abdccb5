/* SPDX-License-Identifier: GPL-2.0-only */
#include "feed.h"
#include "unit.h"

#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

static struct tg_feed feed;

static void parse(const char *text, size_t size)
{
	struct tg_error error;

	tg_feed_free(&feed);
	CHECK_INT(0, tg_feed_parse(&feed, text, size, &error));
}

#define PARSE(text) parse(text, sizeof(text) - 1)

static const char *nth(size_t i)
{
	static char text[TG_CIDR_TEXT];

	return i < feed.count ? tg_cidr_print(&feed.prefixes[i], text) : "none";
}

static void a_netset_of_firehol_is_read(void)
{
	PARSE("#\n# firehol_level1\n#\n# Maintainer      : FireHOL\n# Entries : 4 subnets, 600 "
	      "unique IPs\n#\n"
	      "0.0.0.0/8\n1.10.16.0/20\n2.56.192.7\n224.0.0.0/3\n");
	CHECK_INT(4, feed.count);
	CHECK_INT(0, feed.broken);
	CHECK_STR("0.0.0.0/8", nth(0));
	CHECK_STR("1.10.16.0/20", nth(1));
	CHECK_STR("2.56.192.7", nth(2));
	CHECK_STR("224.0.0.0/3", nth(3));
}

static void spamhaus_drop_is_read(void)
{
	PARSE("; Spamhaus DROP List 2024/05/14 - (c) 2024 The Spamhaus Project SLU\r\n"
	      "; Last-Modified: Tue, 14 May 2024 09:05:00 GMT\r\n"
	      "1.10.16.0/20 ; SBL256894\r\n1.19.0.0/16 ; SBL434604\r\n2a06:e480::/29 ; "
	      "SBL301771\r\n");
	CHECK_INT(3, feed.count);
	CHECK_INT(0, feed.broken);
	CHECK_STR("1.10.16.0/20", nth(0));
	CHECK_STR("2a06:e480::/29", nth(2));
}

static void a_mark_blanks_and_a_last_line_without_end_do_no_harm(void)
{
	PARSE("\xef\xbb\xbf"
	      "10.0.0.1\n\n   \t\r\n  192.0.2.0/24\t# ours\n2001:DB8::1;x\n198.51.100.7");
	CHECK_INT(4, feed.count);
	CHECK_INT(0, feed.broken);
	CHECK_STR("10.0.0.1", nth(0));
	CHECK_STR("192.0.2.0/24", nth(1));
	CHECK_STR("2001:db8::1", nth(2));
	CHECK_STR("198.51.100.7", nth(3));
	PARSE("");
	CHECK_INT(0, feed.count + feed.broken);
	PARSE("\n");
	CHECK_INT(0, feed.count + feed.broken);
}

static void host_bits_are_masked(void)
{
	PARSE("10.1.2.3/8\n255.255.255.255/1\n10.0.0.1/32\n2001:db8:1:2:3:4:5:6/47\n2001:db8::ffff/"
	      "65\n"
	      "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/127\n");
	CHECK_INT(6, feed.count);
	CHECK_STR("10.0.0.0/8", nth(0));
	CHECK_STR("128.0.0.0/1", nth(1));
	CHECK_STR("10.0.0.1", nth(2));
	CHECK_STR("2001:db8::/47", nth(3));
	CHECK_STR("2001:db8::/65", nth(4));
	CHECK_STR("ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe/127", nth(5));
}

/* One broken line each, between two good ones. */
static void broken_lines_are_counted_and_the_others_kept(void)
{
	static const char *const lines[] = {
		"10.0.0.300",
		"10.0.0",
		"10.0.0.0.0",
		"10.0.0.0/33",
		"10.0.0.0/",
		"10.0.0.0/-1",
		"10.0.0.0/8/8",
		"10.0.0.0/08",
		"010.0.0.1",
		"10.0.0.1x",
		"10..0.1",
		".10.0.0.1",
		"1.2.3.4-1.2.3.9",
		"example.org",
		"<html>",
		"1.2.3.4 17",
		"1.2.3.4,5.6.7.8",
		"2001:db8::/129",
		"2001:db8:::1",
		"2001:db8::1%eth0",
		"1:2:3:4:5:6:7:8:9",
		"0.0.0.0/0",
		"::/0",
		"/24",
		"10.0.0.0 /8",
		"10.0.0.1/0x8",
		"\x01",
		"::1::",
		"2001:db8::1111:2222:3333:4444:5555:6666:7777:8888:9999",
	};

	for (size_t i = 0; i < sizeof(lines) / sizeof(*lines); i++) {
		char text[256];

		parse(text, snprintf(text, sizeof(text), "192.0.2.1\n%s\r\n192.0.2.2\n", lines[i]));
		if (feed.count != 2 || feed.broken != 1)
			fprintf(stderr, "line \"%s\": %zu prefixes, %zu broken\n", lines[i],
				feed.count, feed.broken);
		CHECK_INT(2, feed.count);
		CHECK_INT(1, feed.broken);
		CHECK_INT(2, feed.errors[0].line);
		CHECK(feed.errors[0].why);
	}
}

static void a_broken_line_is_quoted_so_that_it_can_be_printed(void)
{
	PARSE("\x1b[31mred\xff\n1.2.3.4\0\n");
	CHECK_INT(0, feed.count);
	CHECK_INT(2, feed.broken);
	CHECK_STR("?[31mred?", feed.errors[0].text);
	CHECK_STR("1.2.3.4?", feed.errors[1].text);
}

static void only_the_first_broken_lines_are_kept(void)
{
	char text[8000] = "";

	for (int i = 0; i < 1000; i++)
		strcat(text, "oops\n");
	parse(text, strlen(text));
	CHECK_INT(1000, feed.broken);
	CHECK_INT(TG_FEED_ERRORS, feed.errors[TG_FEED_ERRORS - 1].line);
}

static void what_is_printed_is_read_back(void)
{
	unsigned int seed = 1;
	char text[TG_CIDR_TEXT];

	for (int i = 0; i < 20000; i++) {
		struct tg_cidr given = { .family = i & 1 ? 4 : 6 }, read;

		given.hi = (uint64_t)rand_r(&seed) << 33 ^ (uint64_t)rand_r(&seed) << 2;
		given.hi = given.family == 4 ? given.hi & ~0ull << 32 : given.hi;
		given.lo = given.family == 4 ? 0 : (uint64_t)rand_r(&seed) << 33 ^ rand_r(&seed);
		given = tg_cidr_cut(&given, rand_r(&seed) % (tg_cidr_full(&given) + 1));
		tg_cidr_print(&given, text);
		CHECK(!tg_cidr_parse(text, strlen(text), &read));
		CHECK_INT(0, tg_cidr_compare(&given, &read));
	}
}

/* Half right, half wrong: what inet_pton says counts. */
static void addresses_of_ipv6_are_what_inet_pton_says(void)
{
	static const char letters[] = "0123456789abcdefABCDEF:::::::::::::.g";
	unsigned int seed = 3;
	int right = 0;

	for (int i = 0; i < 400000; i++) {
		struct tg_cidr read;
		uint64_t words[2], got[2];
		char text[48];
		size_t size = 2 + rand_r(&seed) % 24;
		bool valid, is;

		for (size_t k = 0; k < size; k++)
			text[k] = k % 3 || size < 8 ? letters[rand_r(&seed) % (sizeof(letters) - 1)] : ':';
		text[size] = '\0';
		if (!strchr(text, ':'))
			continue;
		valid = inet_pton(AF_INET6, text, words) == 1;
		is = !tg_cidr_parse(text, size, &read);
		if (valid != is)
			fprintf(stderr, "%s\n", text);
		CHECK_INT(valid, is);
		got[0] = htobe64(read.hi);
		got[1] = htobe64(read.lo);
		CHECK(!valid || !memcmp(words, got, sizeof(got)));
		right += valid;
	}
	CHECK(right > 1000);
}

static int by_order(const void *a, const void *b)
{
	const struct tg_cidr *x = a, *y = b;
	int order = tg_cidr_compare(x, y);

	if (!order)
		order = (int)x->rank - y->rank;
	return order ? order : (int)x->tag - (int)y->tag;
}

static void sorting_is_stable_and_a_prefix_precedes_what_it_covers(void)
{
	static struct tg_cidr mine[5000], other[5000];
	static const size_t sizes[] = { 0, 1, 2, 20, 33, 5000 };
	unsigned int seed = 7;

	for (size_t s = 0; s < sizeof(sizes) / sizeof(*sizes); s++) {
		for (size_t i = 0; i < sizes[s]; i++) {
			struct tg_cidr *prefix = &mine[i];

			*prefix = (struct tg_cidr){ .family = rand_r(&seed) & 1 ? 4 : 6, .tag = i };
			prefix->hi = (uint64_t)(rand_r(&seed) % 64) << 58 |
				     (uint64_t)(rand_r(&seed) % 4) << 32;
			prefix->lo = prefix->family == 4 ? 0 : rand_r(&seed) % 5;
			*prefix = tg_cidr_cut(prefix, rand_r(&seed) % (tg_cidr_full(prefix) + 1));
			prefix->rank = rand_r(&seed) % 4;
			other[i] = *prefix;
		}
		qsort(other, sizes[s], sizeof(*other), by_order);
		CHECK_INT(0, tg_cidr_sort(mine, sizes[s]));
		CHECK(!memcmp(mine, other, sizes[s] * sizeof(*mine)));
	}
	for (size_t i = 0; i < 5000; i++) {
		size_t from = rand_r(&seed) % (i + 1),
		       at = tg_cidr_seek(mine, 5000, from, &mine[i]);

		CHECK(at <= i && at >= from &&
			(at < i ? !tg_cidr_compare(&mine[at], &mine[i]) : at == i));
		CHECK(at == from || tg_cidr_compare(&mine[at - 1], &mine[i]) < 0);
	}
}

static void files_that_are_none_are_refused_by_name(void)
{
	struct tg_error error;
	char path[] = "/tmp/tidegate-feed.XXXXXX";
	int fd = mkstemp(path);

	tg_feed_free(&feed);
	CHECK_INT(-ENOENT, tg_feed_read(&feed, "/nowhere/drop.netset", &error));
	CHECK_STR("/nowhere/drop.netset: No such file or directory", error.text);
	CHECK_INT(-EISDIR, tg_feed_read(&feed, "/tmp", &error));
	CHECK_STR("/tmp: not a file", error.text);
	CHECK_INT(-EINVAL, tg_feed_read(&feed, "/dev/zero", &error));
	CHECK(write(fd, "10.0.0.1\n", 9) == 9);
	close(fd);
	CHECK_INT(0, tg_feed_read(&feed, path, &error));
	CHECK_INT(1, feed.count);
	unlink(path);
}

int main(void)
{
	RUN(a_netset_of_firehol_is_read);
	RUN(spamhaus_drop_is_read);
	RUN(a_mark_blanks_and_a_last_line_without_end_do_no_harm);
	RUN(host_bits_are_masked);
	RUN(broken_lines_are_counted_and_the_others_kept);
	RUN(a_broken_line_is_quoted_so_that_it_can_be_printed);
	RUN(only_the_first_broken_lines_are_kept);
	RUN(what_is_printed_is_read_back);
	RUN(addresses_of_ipv6_are_what_inet_pton_says);
	RUN(sorting_is_stable_and_a_prefix_precedes_what_it_covers);
	RUN(files_that_are_none_are_refused_by_name);
	tg_feed_free(&feed);
	return unit_result();
}
