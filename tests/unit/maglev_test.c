/* SPDX-License-Identifier: GPL-2.0-only */
#include "maglev.h"

#include <errno.h>
#include <stdlib.h>

#include "unit.h"

#define SIZE 65537

static uint32_t first[SIZE], second[SIZE];
static struct tg_maglev_backend backends[10000];

static void make_backends(size_t count, uint32_t weight)
{
	for (uint32_t i = 0; i < count; i++) {
		uint32_t addr = 0x0a000001 + i;

		backends[i] = (struct tg_maglev_backend){
			.key = tg_maglev_key(&addr, sizeof(addr)), .id = i + 1, .weight = weight };
	}
}

static void count_slots(const uint32_t *slots, size_t backend_count, uint32_t *counts)
{
	memset(counts, 0, (backend_count + 1) * sizeof(*counts));
	for (size_t i = 0; i < SIZE; i++) {
		CHECK(slots[i] <= backend_count);
		counts[slots[i]]++;
	}
}

static void every_slot_has_a_backend_in_equal_shares(void)
{
	uint32_t counts[11];

	make_backends(10, 1);
	CHECK_INT(0, tg_maglev_build(backends, 10, first, SIZE));
	count_slots(first, 10, counts);
	CHECK_INT(0, counts[0]);
	for (int i = 1; i <= 10; i++)
		CHECK(counts[i] == SIZE / 10 || counts[i] == SIZE / 10 + 1);
}

static void the_order_of_the_backends_does_not_matter(void)
{
	struct tg_maglev_backend swap;

	make_backends(10, 3);
	tg_maglev_build(backends, 10, first, SIZE);
	swap = backends[2];
	backends[2] = backends[7];
	backends[7] = swap;
	tg_maglev_build(backends, 10, second, SIZE);
	CHECK(memcmp(first, second, sizeof(first)) == 0);
}

static void a_removal_moves_few_slots_of_the_others(void)
{
	size_t moved = 0;

	make_backends(10, 1);
	tg_maglev_build(backends, 10, first, SIZE);
	backends[4].weight = 0;
	tg_maglev_build(backends, 10, second, SIZE);
	for (size_t i = 0; i < SIZE; i++)
		moved += first[i] != 5 && first[i] != second[i];
	CHECK(moved < SIZE / 100);
	for (size_t i = 0; i < SIZE; i++)
		CHECK(second[i] != 5 && second[i] != 0);
}

static void shares_follow_weights(void)
{
	uint32_t counts[11];

	make_backends(10, 10);
	backends[0].weight = 20;
	backends[1].weight = 1;
	tg_maglev_build(backends, 10, first, SIZE);
	count_slots(first, 10, counts);
	CHECK(abs((int)counts[1] - 2 * (int)counts[3]) <= 4);
	CHECK(abs((int)counts[2] * 10 - (int)counts[3]) <= 10);
}

static void a_thousand_heavy_backends_all_have_slots(void)
{
	uint32_t counts[1001];

	make_backends(1000, 100);
	tg_maglev_build(backends, 1000, first, SIZE);
	count_slots(first, 1000, counts);
	for (int i = 1; i <= 1000; i++)
		CHECK(counts[i] == 65 || counts[i] == 66);
}

static void extreme_weights_fill_the_table_too(void)
{
	uint32_t counts[10001];

	make_backends(10000, 1);
	backends[0].weight = 65535;
	CHECK_INT(0, tg_maglev_build(backends, 10000, first, SIZE));
	count_slots(first, 10000, counts);
	CHECK_INT(0, counts[0]);
	CHECK(counts[1] > 50000);
}

static void nobody_to_choose_from_gives_zeros(void)
{
	make_backends(2, 0);
	CHECK_INT(0, tg_maglev_build(backends, 2, first, SIZE));
	CHECK_INT(0, tg_maglev_build(backends, 0, second, SIZE));
	CHECK(memcmp(first, second, sizeof(first)) == 0);
	CHECK_INT(0, first[SIZE - 1]);
}

static void sizes_that_are_no_prime_are_refused(void)
{
	make_backends(2, 1);
	CHECK_INT(-EINVAL, tg_maglev_build(backends, 2, first, 65536));
	CHECK_INT(-EINVAL, tg_maglev_build(backends, 2, first, 0));
	CHECK_INT(-EINVAL, tg_maglev_build(backends, 2, first, 1));
	CHECK_INT(0, tg_maglev_build(backends, 2, first, 2));
	CHECK_INT(3, first[0] + first[1]);
}

static void the_default_size_grows_with_the_backends(void)
{
	CHECK_INT(65537, tg_maglev_default_size(1));
	CHECK_INT(65537, tg_maglev_default_size(655));
	CHECK_INT(65609, tg_maglev_default_size(656));
	CHECK_INT(1000003, tg_maglev_default_size(10000));
	CHECK_INT(16777213, tg_maglev_default_size(1000000));
}

int main(void)
{
	RUN(every_slot_has_a_backend_in_equal_shares);
	RUN(the_order_of_the_backends_does_not_matter);
	RUN(a_removal_moves_few_slots_of_the_others);
	RUN(shares_follow_weights);
	RUN(a_thousand_heavy_backends_all_have_slots);
	RUN(extreme_weights_fill_the_table_too);
	RUN(nobody_to_choose_from_gives_zeros);
	RUN(sizes_that_are_no_prime_are_refused);
	RUN(the_default_size_grows_with_the_backends);
	return unit_result();
}
