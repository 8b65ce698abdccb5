/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A timer wheel: thousands of timers that are set, moved and cancelled all the time, each in O(1).
 * Time is CLOCK_MONOTONIC in nanoseconds, resolved to ticks of about 4 ms; a timer never fires early
 * and at most one tick late. Seven levels of 64 slots cover every 64-bit time (after Varghese and
 * Lauck 1987): a timer waits in the level of the highest digit (base 64) in which its tick differs
 * from now, and comes down a level when that digit's turn has come.
 *
 * The wheel calls nobody and knows no event loop. The owner asks tg_wheel_next() how long to sleep,
 * then takes what is due with tg_wheel_pop() until that returns NULL. Timers live in their owners'
 * structs; between two pops any timer may be set, moved, cancelled or freed (once cancelled).
 */
#ifndef TG_WHEEL_H
#define TG_WHEEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TG_WHEEL_TICK_BITS 22 /* a tick is 2^22 ns = 4.19 ms */
#define TG_WHEEL_TICK	   (1ULL << TG_WHEEL_TICK_BITS)
#define TG_WHEEL_NEVER	   UINT64_MAX

#define TG_WHEEL_SLOT_BITS 6
#define TG_WHEEL_SLOTS	   (1 << TG_WHEEL_SLOT_BITS)
#define TG_WHEEL_LEVELS	   ((64 - TG_WHEEL_TICK_BITS) / TG_WHEEL_SLOT_BITS)

/* All zero: not set. */
struct tg_timer {
	struct tg_timer *next, **link; /* link: what points at this timer; NULL when not set */
	uint64_t tick;
	uint8_t level, slot;
};

struct tg_wheel {
	uint64_t now; /* a tick; all earlier ones are done */
	uint64_t pending[TG_WHEEL_LEVELS]; /* a bit per slot that is not empty */
	struct tg_timer *slots[TG_WHEEL_LEVELS][TG_WHEEL_SLOTS];
};

void tg_wheel_init(struct tg_wheel *wheel, uint64_t now);
/* Sets or moves a timer. A time that has passed means: with the next pop. */
void tg_wheel_set(struct tg_wheel *wheel, struct tg_timer *timer, uint64_t due);
/* Does nothing to a timer that is not set. */
void tg_wheel_cancel(struct tg_wheel *wheel, struct tg_timer *timer);
/* When to call tg_wheel_pop() next: never later than the first timer, sometimes earlier. */
uint64_t tg_wheel_next(const struct tg_wheel *wheel);
/* Takes one timer that is due at `now` out of the wheel, in the order of ticks; NULL: no more. */
struct tg_timer *tg_wheel_pop(struct tg_wheel *wheel, uint64_t now);

static inline bool tg_timer_is_set(const struct tg_timer *timer)
{
	return timer->link != NULL;
}

#endif
