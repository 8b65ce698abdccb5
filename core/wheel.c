/* SPDX-License-Identifier: GPL-2.0-only */
#include "wheel.h"

#include <assert.h>
#include <string.h>

static_assert(TG_WHEEL_LEVELS * TG_WHEEL_SLOT_BITS + TG_WHEEL_TICK_BITS == 64,
	"the levels cover every time, so that no timer is too far");

/* Puts a timer where it belongs as seen from now: see the header. */
static void place(struct tg_wheel *wheel, struct tg_timer *timer)
{
	uint64_t differs = timer->tick ^ wheel->now;
	struct tg_timer **head;

	timer->level = differs ? (63 - __builtin_clzll(differs)) / TG_WHEEL_SLOT_BITS : 0;
	timer->slot = timer->tick >> (timer->level * TG_WHEEL_SLOT_BITS) & (TG_WHEEL_SLOTS - 1);
	head = &wheel->slots[timer->level][timer->slot];
	timer->next = *head;
	if (timer->next)
		timer->next->link = &timer->next;
	timer->link = head;
	*head = timer;
	wheel->pending[timer->level] |= 1ULL << timer->slot;
}

static int first_level(const struct tg_wheel *wheel)
{
	for (int level = 0; level < TG_WHEEL_LEVELS; level++)
		if (wheel->pending[level])
			return level;
	return -1;
}

/* The tick at which the first slot of a level begins; slots before now's are always empty. */
static uint64_t slot_begins(const struct tg_wheel *wheel, int level)
{
	int shift = level * TG_WHEEL_SLOT_BITS;
	uint64_t slot = __builtin_ctzll(wheel->pending[level]);
	uint64_t digit = wheel->now >> shift & (TG_WHEEL_SLOTS - 1);

	return ((wheel->now >> shift) - digit + slot) << shift;
}

/* Now has come to the first slot of this level: its timers go to lower levels. */
static void cascade(struct tg_wheel *wheel, int level)
{
	int slot = __builtin_ctzll(wheel->pending[level]);
	struct tg_timer *timer = wheel->slots[level][slot], *next;

	wheel->slots[level][slot] = NULL;
	wheel->pending[level] &= ~(1ULL << slot);
	for (; timer; timer = next) {
		next = timer->next;
		place(wheel, timer);
	}
}

void tg_wheel_init(struct tg_wheel *wheel, uint64_t now)
{
	memset(wheel, 0, sizeof(*wheel));
	wheel->now = now >> TG_WHEEL_TICK_BITS;
}

void tg_wheel_set(struct tg_wheel *wheel, struct tg_timer *timer, uint64_t due)
{
	tg_wheel_cancel(wheel, timer);
	timer->tick = due >> TG_WHEEL_TICK_BITS;
	if (due & (TG_WHEEL_TICK - 1) && due < -TG_WHEEL_TICK)
		timer->tick++; /* never early */
	if (timer->tick < wheel->now)
		timer->tick = wheel->now;
	place(wheel, timer);
}

void tg_wheel_cancel(struct tg_wheel *wheel, struct tg_timer *timer)
{
	if (!timer->link)
		return;
	*timer->link = timer->next;
	if (timer->next)
		timer->next->link = timer->link;
	timer->link = NULL;
	if (!wheel->slots[timer->level][timer->slot])
		wheel->pending[timer->level] &= ~(1ULL << timer->slot);
}

uint64_t tg_wheel_next(const struct tg_wheel *wheel)
{
	int level = first_level(wheel);

	return level < 0 ? TG_WHEEL_NEVER : slot_begins(wheel, level) << TG_WHEEL_TICK_BITS;
}

struct tg_timer *tg_wheel_pop(struct tg_wheel *wheel, uint64_t now)
{
	uint64_t until = now >> TG_WHEEL_TICK_BITS, begins;
	struct tg_timer *timer;
	int level;

	while ((level = first_level(wheel)) >= 0) {
		begins = slot_begins(wheel, level);
		if (begins > until)
			break;
		wheel->now = begins;
		if (level) {
			cascade(wheel, level);
			continue;
		}
		timer = wheel->slots[0][begins & (TG_WHEEL_SLOTS - 1)];
		tg_wheel_cancel(wheel, timer);
		return timer;
	}
	if (until > wheel->now)
		wheel->now = until;
	return NULL;
}
