/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The programs of a datapath: XDP's main one, which links attach, those that it calls at its end for
 * rare packets (bpf/rare.h), by an array of its own, and TC's two. Putting them in force, in the place of others.
 */
#ifndef TG_DATAPATH_PROGRAM_H
#define TG_DATAPATH_PROGRAM_H

#include "datapath.h"
#include "datapath_load.h"

struct bpf_object;
struct xdp_bpf;
struct tc_bpf;

/* Tells the main program of a loaded object those that it calls. 0 or a negative errno. */
int tg_program_enter_rare(struct bpf_object *object);

/* What is to be in force: loaded programs, or NULL where those in force stay. */
struct tg_programs {
	struct xdp_bpf *xdp;
	struct tc_bpf *tc;
	__u32 features;
	struct tg_policies policies;
};

/*
 * Puts all of it in force, with policies that are others than those in force: attaches and pins programs,
 * unless those that are pinned are the same. On failure what was goes on.
 */
int tg_program_put_in_force(
	struct tg_datapath *dp, const struct tg_programs *programs, struct tg_error *error);

#endif
