/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What flow tracking asks of the loader: the size of its tables, and where flows are the kernel's (bpf/conntrack.h)
 * the programs that know how to ask for them.
 */
#ifndef TG_DATAPATH_TRACKS_H
#define TG_DATAPATH_TRACKS_H

#include "datapath.h"

struct bpf_object;
struct tc_bpf;

/* Gives the tables of flows their size: that of those pinned, or dp->tracked. */
int tg_tracks_size(const struct tg_datapath *dp, struct bpf_object *object);

/* Has the kernel a function that programs can ask for its connections? *module: not in itself, and no module that has it is loaded. */
bool tg_conntrack_supported(const char *function, bool *module);

/* Opens the TC programs that these features ask for; NULL: `error` says why not, *code an errno. */
struct tc_bpf *tg_tracks_open_programs(__u32 features, int *code, struct tg_error *error);

#endif
