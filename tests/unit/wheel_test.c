/* SPDX-License-Identifier: GPL-2.0-only */
#include "unit.h"
#include "wheel.h"

#include <stdlib.h>

#define TICK   TG_WHEEL_TICK
#define TIMERS 3000

static struct tg_wheel wheel;

/* Pops everything due at `now` and returns how many. */
static int drain(uint64_t now)
{
	int count = 0;

	while (tg_wheel_pop(&wheel, now))
		count++;
	return count;
}

static void timers_fire_in_the_order_of_their_times(void)
{
	static const uint64_t due[] = { 70 * TICK, 3 * TICK, 5000 * TICK, 64 * TICK, 2 * TICK };
	static const int order[] = { 4, 1, 3, 0, 2 };
	struct tg_timer timers[5] = { 0 };

	tg_wheel_init(&wheel, 0);
	for (int i = 0; i < 5; i++)
		tg_wheel_set(&wheel, &timers[i], due[i]);
	for (int i = 0; i < 5; i++)
		CHECK(tg_wheel_pop(&wheel, 10000 * TICK) == &timers[order[i]]);
	CHECK(!tg_wheel_pop(&wheel, 10000 * TICK));
	CHECK(tg_wheel_next(&wheel) == TG_WHEEL_NEVER);
}

static void a_timer_is_never_early_and_at_most_a_tick_late(void)
{
	struct tg_timer timer = { 0 };
	uint64_t start = 123456789012345, due = start + 987654321;

	tg_wheel_init(&wheel, start);
	tg_wheel_set(&wheel, &timer, due);
	CHECK_INT(0, drain(due - 1));
	CHECK(tg_timer_is_set(&timer));
	CHECK_INT(1, drain(due + TICK));
	CHECK(!tg_timer_is_set(&timer));
}

static void a_time_that_has_passed_fires_with_the_next_pop(void)
{
	struct tg_timer timer = { 0 };

	tg_wheel_init(&wheel, 1000 * TICK);
	CHECK_INT(0, drain(2000 * TICK));
	tg_wheel_set(&wheel, &timer, 5 * TICK);
	CHECK_INT(1, drain(2000 * TICK));
}

static void cancelled_and_moved_timers_leave_no_trace(void)
{
	struct tg_timer timers[3] = { 0 };

	tg_wheel_init(&wheel, 0);
	for (int i = 0; i < 3; i++)
		tg_wheel_set(&wheel, &timers[i], 100 * TICK);
	tg_wheel_cancel(&wheel, &timers[1]);
	tg_wheel_cancel(&wheel, &timers[1]);
	tg_wheel_set(&wheel, &timers[2], 300 * TICK);
	CHECK_INT(1, drain(299 * TICK));
	CHECK_INT(1, drain(300 * TICK));
	CHECK(tg_wheel_next(&wheel) == TG_WHEEL_NEVER);
}

static void far_timers_keep_their_time(void)
{
	static const uint64_t day = 86400 * 1000000000ULL;
	uint64_t due[] = { day, 400 * day, 100000 * day, UINT64_MAX - 2 * TICK, UINT64_MAX };
	struct tg_timer timers[5] = { 0 };

	tg_wheel_init(&wheel, 7 * day);
	for (int i = 0; i < 5; i++)
		tg_wheel_set(&wheel, &timers[i], due[i]);
	CHECK_INT(1, drain(7 * day)); /* the first one has passed */
	for (int i = 1; i < 4; i++) {
		CHECK_INT(0, drain(due[i] - 1));
		CHECK_INT(1, drain(due[i] + TICK));
	}
}

static void the_next_time_is_never_later_than_the_first_timer(void)
{
	struct tg_timer timer = { 0 };
	int wakes = 0;

	tg_wheel_init(&wheel, 0);
	tg_wheel_set(&wheel, &timer, 300000 * TICK + 17);
	while (tg_timer_is_set(&timer)) {
		uint64_t next = tg_wheel_next(&wheel);

		CHECK(next <= 300001 * TICK);
		drain(next);
		wakes++;
	}
	CHECK(wakes <= TG_WHEEL_LEVELS);
}

struct model {
	struct tg_timer timer;
	uint64_t due; /* 0: not set */
};

static uint64_t random_time(uint64_t now)
{
	uint64_t reach = 1ULL << (16 + rand() % 26); /* up to 73 minutes */

	return now + (((uint64_t)rand() << 31 | rand()) & (reach - 1));
}

static void change_one(struct model *model, uint64_t now)
{
	if (rand() % 3) {
		model->due = random_time(now);
		tg_wheel_set(&wheel, &model->timer, model->due);
	} else {
		model->due = 0;
		tg_wheel_cancel(&wheel, &model->timer);
	}
}

/* Timers fire exactly when the tick after their time has come; those left wait for later ones. */
static void compare(struct model *models, uint64_t now)
{
	uint64_t last = 0, reached = now >> TG_WHEEL_TICK_BITS;
	struct tg_timer *timer;

	while ((timer = tg_wheel_pop(&wheel, now))) {
		struct model *model = (struct model *)timer;

		CHECK(model->due && (model->due + TICK - 1) >> TG_WHEEL_TICK_BITS <= reached);
		CHECK(timer->tick >= last);
		last = timer->tick;
		model->due = 0;
	}
	for (int i = 0; i < TIMERS; i++)
		CHECK(!models[i].due || (models[i].due + TICK - 1) >> TG_WHEEL_TICK_BITS > reached);
}

static void thousands_of_random_timers_agree_with_a_naive_model(void)
{
	static struct model models[TIMERS];
	uint64_t now = 1ULL << 40;

	srand(1);
	tg_wheel_init(&wheel, now);
	for (int round = 0; round < 1000; round++) {
		for (int i = 0; i < 100; i++)
			change_one(&models[rand() % TIMERS], now);
		now = random_time(now);
		compare(models, now);
	}
}

int main(void)
{
	RUN(timers_fire_in_the_order_of_their_times);
	RUN(a_timer_is_never_early_and_at_most_a_tick_late);
	RUN(a_time_that_has_passed_fires_with_the_next_pop);
	RUN(cancelled_and_moved_timers_leave_no_trace);
	RUN(far_timers_keep_their_time);
	RUN(the_next_time_is_never_later_than_the_first_timer);
	RUN(thousands_of_random_timers_agree_with_a_naive_model);
	return unit_result();
}
