/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * How a slot of a ring moves from one backend to another (see TG_SLOT in tidegate_abi.h and
 * bpf/slots.h). Only the controller writes slots; packets mark `seen`. What holds throughout:
 *
 *   I1	a live flow without an entry is on `home`;
 *   I3	with T = 0, no live flow is anywhere else.
 *
 * So `home` stays when the target changes, however often, until it dies; and T stays until all that
 * goes elsewhere has been silent for TG_IDLE_EPOCHS. Then the slot settles, in two steps with
 * at least an epoch between them:
 *
 *	{home, next, T}  ->  {next, next, T}  ->  {next, next, 0}
 *
 * In the first, packets that read the slot just before may still enter flows or mark it; they are done
 * long before the second: a program runs for microseconds, and an epoch is 100 ms at the least. (A
 * grace period of RCU is the bound for that, and takes 8 to 20 ms.) If a flow spoke meanwhile that an
 * entry leads elsewhere, the slot stays in the first.
 */
#ifndef TG_SLOTS_H
#define TG_SLOTS_H

#include "tidegate_abi.h"

#include <stdbool.h>
#include <stdint.h>

/* How many epochs ago, below 256. */
static inline uint8_t tg_age(uint8_t then, uint32_t now)
{
	return now - then;
}

/*
 * The slot when new flows shall go to backend `target`. A slot that is there already is as it was. With
 * a dead home nobody is left on it. A slot that no flow can have been on (home 0, T = 0) is not moved.
 */
uint64_t tg_slot_retarget(uint64_t slot, uint32_t target, bool home_lives, uint32_t epoch);

/* The slot after an epoch, given when it was last seen to lead elsewhere than to `next`. */
uint64_t tg_slot_settle(uint64_t slot, uint8_t seen, uint32_t epoch);

/* A value of `seen` that says: not lately. */
static inline uint8_t tg_not_seen(uint32_t epoch)
{
	return epoch - TG_IDLE_EPOCHS - 1;
}

/* About how many flows there are if `active` of `slots` slots have some. */
uint32_t tg_slots_estimate(uint32_t slots, uint32_t active);

#endif
