/* SPDX-License-Identifier: GPL-2.0-only */
/* The table of port ranges, filled in plain memory, and what is found in it. */
#include "ranges.h"
#include "unit.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

static struct tg_range_table table;
static struct tg_endpoint all[2 * TG_MAX_RANGES], list[TG_MAX_RANGES];
static struct tg_ranges ranges = { .table = &table, .all = all };

static struct tg_endpoint interval(
	enum tg_endpoint_kind kind, uint32_t addr, __u16 first, __u16 last)
{
	struct tg_endpoint one = {
		.addr = { addr }, .proto = 6, .kind = kind, .ports = { first, last }
	};

	return one;
}

static const struct tg_endpoint *find(enum tg_endpoint_kind kind, uint32_t addr, __u16 port)
{
	__be32 words[4] = { addr };

	return tg_ranges_find(&ranges, kind, words, 6, port);
}

static void finds_nothing_in_an_empty_table(void)
{
	tg_ranges_publish(&ranges, list, 0);
	CHECK(!find(TG_ENDPOINT_VIP4, 1, 80));
	CHECK(!find(TG_ENDPOINT_VIP6, 0, 0));
}

/* Intervals of an address are side by side: each port of the 64 has one, of its own. */
static void finds_the_interval_of_each_port(void)
{
	static const uint32_t counts[] = { 1, 2, 3, 31, 32, 33, 4095, 4096, 4097, TG_MAX_RANGES };

	for (size_t n = 0; n < sizeof(counts) / sizeof(counts[0]); n++) {
		for (uint32_t i = 0; i < counts[n]; i++)
			list[i] = interval(TG_ENDPOINT_VIP4 + i / 32 % 4, i / 128, i % 32 * 2 + 1,
				i % 32 * 2 + 2);
		tg_ranges_publish(&ranges, list, counts[n]);
		for (uint32_t i = 0; i < counts[n] + 40; i++)
			for (uint32_t port = 0; port < 4; port++) {
				enum tg_endpoint_kind kind = TG_ENDPOINT_VIP4 + i / 32 % 4;
				uint32_t wanted = i % 32 * 2 + port;
				uint32_t owner = i / 32 * 32 + (wanted - 1) / 2;
				const struct tg_endpoint *found = find(kind, i / 128, wanted);

				if (!wanted || wanted > 64 || owner >= counts[n])
					CHECK(!found);
				else
					CHECK(found && found->kind == kind &&
						found->addr[0] == i / 128 &&
						found->ports.first <= wanted &&
						found->ports.last >= wanted);
			}
	}
}

static void writes_the_half_that_is_not_in_force(void)
{
	uint32_t before = table.current;

	list[0] = interval(TG_ENDPOINT_VIP4, 7, 1, 9);
	tg_ranges_publish(&ranges, list, 1);
	CHECK_INT(!before, table.current);
	CHECK_INT(TG_MAX_RANGES, table.half[before].count); /* as the test before left it */
	tg_ranges_publish(&ranges, list, 1);
	CHECK_INT(!before, table.current); /* the same again: nothing is written */
	list[0].ports.last = 10;
	tg_ranges_publish(&ranges, list, 1);
	CHECK_INT(before, table.current);
}

static void lets_a_half_rest(void)
{
	uint64_t start;

	list[0] = interval(TG_ENDPOINT_VIP4, 7, 1, 9);
	tg_ranges_publish(&ranges, list, 1);
	start = uv_hrtime();
	list[0].ports.first = 2;
	tg_ranges_publish(&ranges, list, 1);
	CHECK(uv_hrtime() - start >= TG_RANGES_REST_NS * 9 / 10);
}

/* Two addresses whose 47 bits are the same under salt 0; found once by trying 40 million. */
static void tells_addresses_apart_that_look_alike(void)
{
	uint32_t a = 1524532448, b = 1431922514;

	list[0] = interval(TG_ENDPOINT_VIP4, a, 1, 100);
	list[1] = interval(TG_ENDPOINT_VIP4, b, 50, 60);
	tg_ranges_publish(&ranges, list, 2);
	CHECK_INT(1, table.half[table.current].salt);
	CHECK(find(TG_ENDPOINT_VIP4, a, 55)->addr[0] == a);
	CHECK(find(TG_ENDPOINT_VIP4, a, 70)->addr[0] == a);
	CHECK(find(TG_ENDPOINT_VIP4, b, 55)->addr[0] == b);
	CHECK(!find(TG_ENDPOINT_VIP4, b, 70));
}

int main(void)
{
	RUN(finds_nothing_in_an_empty_table);
	RUN(finds_the_interval_of_each_port);
	RUN(writes_the_half_that_is_not_in_force);
	RUN(lets_a_half_rest);
	RUN(tells_addresses_apart_that_look_alike);
	return unit_result();
}
