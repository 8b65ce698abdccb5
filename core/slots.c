/* SPDX-License-Identifier: GPL-2.0-only */
#include "slots.h"

#include <math.h>

uint64_t tg_slot_retarget(uint64_t slot, uint32_t target, bool home_lives, uint32_t epoch)
{
	uint32_t home = TG_SLOT_HOME(slot), next = TG_SLOT_NEXT(slot);
	bool moves = TG_SLOT_T(slot);

	if (!home_lives) {
		if (home == target && next == target)
			return slot;
		if (!moves && !home)
			return TG_SLOT(target, target, 0);
		return TG_SLOT_MOVED(target, target, epoch, 0);
	}
	if (next == target)
		return slot;
	/* Late stays late: every flow that was unknown has been entered. */
	return TG_SLOT_MOVED(home, target, epoch, moves && home != next && TG_SLOT_LATE(slot));
}

uint64_t tg_slot_settle(uint64_t slot, uint8_t seen, uint32_t epoch)
{
	uint32_t home = TG_SLOT_HOME(slot), next = TG_SLOT_NEXT(slot);
	bool waited = tg_age(TG_SLOT_SINCE(slot), epoch) > TG_IDLE_EPOCHS;

	if (!TG_SLOT_T(slot) || !waited)
		return slot;
	if (tg_age(seen, epoch) <= TG_IDLE_EPOCHS)
		return home == next ? slot : slot | TG_SLOT_MOVED(0, 0, 0, 1);
	if (home == next)
		return TG_SLOT(next, next, 0);
	/* The second step is not taken before the epoch after the next. */
	return TG_SLOT_MOVED(next, next, epoch - TG_IDLE_EPOCHS + 1, 0);
}

/* Linear counting (Whang, Vander-Zanden, Taylor 1990): flows fall on slots at random. */
uint32_t tg_slots_estimate(uint32_t slots, uint32_t active)
{
	double empty = active < slots ? slots - active : 0.5;

	return active ? lround(-log(empty / slots) * slots) : 0;
}
