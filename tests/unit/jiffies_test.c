/* SPDX-License-Identifier: GPL-2.0-only */
/* core/jiffies.h: how long a tick is, and when one was. */
#include "jiffies.h"

#include <time.h>
#include <unistd.h>

#include "unit.h"

static __u64 ticks_after(__u32 hz, double seconds)
{
	return (__u32)(-300 * (int)hz) + (__u64)(seconds * hz);
}

static void the_length_of_a_tick_follows_from_count_and_time(void)
{
	static const __u32 known[] = { 100, 250, 300, 1000 };
	static const double uptimes[] = { 2, 60, 299, 300, 301, 3600, 86400 * 400.0 };

	for (size_t i = 0; i < 4; i++)
		for (size_t k = 0; k < sizeof(uptimes) / sizeof(*uptimes); k++)
			if (uptimes[k] < 299 || uptimes[k] > 301) /* there all counts meet */
				CHECK_INT(known[i], tg_ticks_per_second(ticks_after(known[i], uptimes[k]),
							    uptimes[k] * 1e9));
}

static void a_tick_is_a_date(void)
{
	struct tg_ticks ticks = { .now = 5000, .now_ns = 0, .per_second = 250 };
	struct timespec since, now;

	clock_gettime(CLOCK_MONOTONIC, &since);
	clock_gettime(CLOCK_REALTIME, &now);
	ticks.now_ns = since.tv_sec * 1000000000ull + since.tv_nsec;
	CHECK(tg_ticks_date(&ticks, 5000 - 250 * 60) < now.tv_sec - 60 + 2);
	CHECK(tg_ticks_date(&ticks, 5000 - 250 * 60) > now.tv_sec - 60 - 2);
}

static void the_kernel_tells(void)
{
	struct tg_error error;
	struct tg_ticks a, b;

	if (geteuid())
		return;
	CHECK_INT(0, tg_ticks_read(&a, &error));
	usleep(200000);
	CHECK_INT(0, tg_ticks_read(&b, &error));
	CHECK(b.now > a.now);
	CHECK((b.now - a.now) / (double)a.per_second < (b.now_ns - a.now_ns) / 1e9 + 0.05);
	CHECK((b.now - a.now) / (double)a.per_second > (b.now_ns - a.now_ns) / 1e9 - 0.05);
}

int main(void)
{
	RUN(the_length_of_a_tick_follows_from_count_and_time);
	RUN(a_tick_is_a_date);
	RUN(the_kernel_tells);
	return unit_result();
}
