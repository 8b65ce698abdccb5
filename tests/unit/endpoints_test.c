/* SPDX-License-Identifier: GPL-2.0-only */
/* The endpoint index, compiled in plain memory and looked up as bpf/endpoint.h does. */
#include "endpoints.h"
#include "flow_hash.h"
#include "unit.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static struct tg_clock clock_page;
static struct tg_line lines[TG_INDEX_LINES];
static struct tg_endpoint all[TG_INDEX_ENDPOINTS];
static struct tg_endpoints endpoints = { &clock_page, lines, all };

/* The number of the endpoint that is like `one`; 0: none; -1: the line says to ask the maps. */
static int look(const struct tg_endpoint *one)
{
	bool v6 = one->kind == TG_ENDPOINT_VIP6 || one->kind == TG_ENDPOINT_REVERSE6;
	uint32_t word = one->port | one->proto << 16 | (uint32_t)one->kind << 24;
	uint64_t hash =
		v6 ? tg_endpoint_hash6(one->addr, word) : tg_endpoint_hash4(one->addr[0], word);
	const struct tg_line *line = &lines[tg_slot_of(hash, clock_page.index_lines)];

	for (int i = 0; i < TG_LINE_ENTRIES && line->entry[i]; i++) {
		uint32_t index = TG_INDEX_OF(line->entry[i]);

		if (line->entry[i] == TG_INDEX_MORE)
			return -1;
		if (TG_ENTRY_FINGERPRINT(line->entry[i]) == (hash & 0xffffffffff) &&
			!memcmp(&all[index], one, 20))
			return index;
	}
	return 0;
}

/* Endpoint number i: neighbouring addresses, a few ports, all kinds. */
static struct tg_endpoint endpoint(uint32_t i)
{
	struct tg_endpoint out = { .proto = i & 1 ? 6 : 17, .kind = 1 + i / 2 % 4 };

	out.addr[0] = __builtin_bswap32(0x0a000000 + i / 8);
	out.port = __builtin_bswap16(80 + i % 3);
	if (out.kind == TG_ENDPOINT_VIP6 || out.kind == TG_ENDPOINT_REVERSE6) {
		out.addr[3] = out.addr[0];
		out.addr[0] = __builtin_bswap32(0x20010db8);
	}
	return out;
}

static void fill(uint32_t count)
{
	for (uint32_t i = 1; i <= count; i++)
		all[i] = endpoint(i);
	tg_endpoints_compile(&endpoints, count);
}

static void finds_all_that_it_holds_and_nothing_else(void)
{
	static const uint32_t counts[] = { 0, 1, 2, 9, 100, 5000, TG_INDEX_ENDPOINTS - 1 };

	for (size_t n = 0; n < sizeof(counts) / sizeof(counts[0]); n++) {
		uint32_t count = counts[n], asked = 0;

		fill(count);
		for (uint32_t i = 1; i <= 2 * count + 10; i++) {
			struct tg_endpoint one = endpoint(i);
			int found = look(&one);

			if (found < 0)
				asked++;
			else
				CHECK_INT(i <= count ? i : 0, found);
		}
		/* The maps are asked for a few at most: an eighth where lines hold four on average.
		 */
		CHECK(asked <= (2 * count + 10) / 8);
	}
}

static void is_not_used_once_forgotten(void)
{
	fill(10);
	CHECK_INT(8, clock_page.index_lines);
	tg_endpoints_forget(&endpoints);
	CHECK_INT(0, clock_page.index_lines);
}

static void too_full_a_line_sends_to_the_maps(void)
{
	struct tg_endpoint one;
	int found, asked = 0;

	for (uint32_t i = 1; i <= TG_LINE_ENTRIES + 1; i++)
		all[i] = endpoint(1); /* the same one over and over: all in one line */
	one = endpoint(1);
	one.pad[0] = 1;
	tg_endpoints_compile(&endpoints, TG_LINE_ENTRIES + 1);
	found = look(&one);
	CHECK(found == 1); /* what is in it is found */
	for (uint32_t i = 2; i < 1000; i++) {
		one = endpoint(i);
		found = look(&one);
		asked += found < 0;
		CHECK(found <= 0);
	}
	CHECK(asked > 0);
}

int main(void)
{
	RUN(finds_all_that_it_holds_and_nothing_else);
	RUN(is_not_used_once_forgotten);
	RUN(too_full_a_line_sends_to_the_maps);
	return unit_result();
}
