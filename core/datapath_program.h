/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The programs of a datapath: the main one, which links attach, and those that it calls at its end for
 * rare packets (bpf/rare.h), by an array of its own. Putting them in force, in the place of others.
 */
#ifndef TG_DATAPATH_PROGRAM_H
#define TG_DATAPATH_PROGRAM_H

#include "datapath.h"

struct bpf_object;
struct xdp_bpf;

/* Tells the main program of a loaded object those that it calls. 0 or a negative errno. */
int tg_program_enter_rare(struct bpf_object *object);

/* Attaches and pins the loaded programs, unless those that are pinned are the same. */
int tg_program_put_in_force(struct tg_datapath *dp, struct xdp_bpf *skeleton, __u32 features,
	struct tg_error *error);

#endif
