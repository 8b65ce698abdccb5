/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Loading the datapath's objects: each with the instance's maps, which are pinned by the first that needs them,
 * and with the settings that it is specialised for.
 */
#ifndef TG_DATAPATH_LOAD_H
#define TG_DATAPATH_LOAD_H

#include "datapath.h"

struct bpf_object;
struct bpf_object_skeleton;

/* Policies as programs are given them. */
struct tg_policies {
	int map; /* `policy_pages`; -1: there are none */
	__u32 words;
	__u64 hash; /* of the pages */
};

/* Keeps libbpf's warnings for the errors here. */
void tg_load_listen(void);

/* `settings`: the object's read-only data. */
int tg_load_object(const struct tg_datapath *dp, struct bpf_object_skeleton *skeleton,
	void *settings, __u32 features, const struct tg_policies *policies, struct tg_error *error);
/* Keeps descriptors and mappings of the maps for longer than the object lives. */
int tg_load_keep_maps(
	struct tg_datapath *dp, const struct bpf_object *object, struct tg_error *error);
void tg_load_unmap(struct tg_datapath *dp);
/* Returns `code`; the text is libbpf's last warning if there is none yet. */
int tg_load_error(int code, struct tg_error *error);

const char *tg_load_map_name(enum tg_map map);

#endif
