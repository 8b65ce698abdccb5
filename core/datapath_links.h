/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Links that are pinned below the instance's directory as KIND/DEVICE: "links" of XDP, "ingress" and "egress" of
 * TC.
 */
#ifndef TG_DATAPATH_LINKS_H
#define TG_DATAPATH_LINKS_H

#include "datapath.h"

/* Where the link of a device is pinned. */
void tg_link_path(
	const struct tg_datapath *dp, const char *kind, const char *device, char path[256]);
/* The device that a link is on; 0 when that is gone. */
unsigned int tg_link_ifindex(int link);
/* The link of a device: a descriptor, or a negative errno. */
int tg_link_open(const struct tg_datapath *dp, const char *kind, const char *device);
/* Calls fn for each, `ifindex` 0 when its device is gone. 0 or a negative errno. */
int tg_links_each(const struct tg_datapath *dp, const char *kind,
	void (*fn)(void *user, const char *device, unsigned int ifindex, int link), void *user);
/* Gives all of them another program. Stops at the first that refuses, unless `error` is NULL. */
int tg_links_update(
	const struct tg_datapath *dp, const char *kind, int program, struct tg_error *error);
/* Pins a new link, which is closed; one that can't be pinned is detached. */
int tg_link_keep(const struct tg_datapath *dp, const char *kind, const char *device, int link,
	struct tg_error *error);
/* Detaches and unpins; a device without such a link is no error. */
int tg_link_remove(
	const struct tg_datapath *dp, const char *kind, const char *device, struct tg_error *error);

#endif
