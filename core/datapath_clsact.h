/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * TC programs as filters of a clsact qdisc, for kernels without TCX (before 6.6), or where it is asked for. Ours
 * have a priority of TG_CLSACT_PRIORITY or the next few, and are told from others' by their programs: a filter whose
 * program is not one of ours is never touched. Filters of lower priority numbers run before.
 */
#ifndef TG_DATAPATH_CLSACT_H
#define TG_DATAPATH_CLSACT_H

#include "error.h"
#include "ports_abi.h"

#include <stdbool.h>

#define TG_CLSACT_PRIORITY 29799 /* "tg" */
#define TG_CLSACT_PLACES   16

/* The programs, by direction, that a filter of ours may run. */
#define TG_CLSACT_OURS 2
struct tg_clsact_ours {
	__u32 ids[TG_DIRECTIONS][TG_CLSACT_OURS]; /* 0: none */
};

/* Is the filter of that direction there? */
bool tg_clsact_has(
	unsigned int ifindex, enum tg_direction direction, const struct tg_clsact_ours *ours);
/*
 * Lets both directions run these programs, by new filters or in the place of ours. *made: the qdisc was not
 * there, and is ours. On failure what was not there before is removed.
 */
int tg_clsact_attach(unsigned int ifindex, const char *device, const int programs[TG_DIRECTIONS],
	const struct tg_clsact_ours *ours, bool *made, struct tg_error *error);
/* Removes our filters, and with `qdisc` that too, if nobody else's filter is in it. 0 or a negative errno. */
int tg_clsact_detach(unsigned int ifindex, const struct tg_clsact_ours *ours, bool qdisc);

#endif
