/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The TC programs on devices: by TCX links (kernel 6.6 and later), pinned as ingress/DEV and egress/DEV, else, or
 * where it is asked for, as filters of clsact (datapath_clsact.h). By TCX ours run after those that were there
 * when they were attached; what they let through goes on to the next. A device is entered in `ports` before it is
 * attached, and leaves it after it is detached (datapath_ports.h).
 */
#ifndef TG_DATAPATH_TC_H
#define TG_DATAPATH_TC_H

#include "datapath.h"

enum tg_tc_how { TG_TC_AUTO, TG_TC_TCX, TG_TC_CLSACT };

struct tg_tc_attachment {
	unsigned int ifindex;
	enum tg_tc_how how; /* TCX or clsact, as it is now */
	bool adopted;	    /* it was attached like this already */
	char why[128];	    /* why not by TCX, or empty */
};

/* Attaches both programs, which are loaded; or takes over what is attached, unless it is to be otherwise. */
int tg_tc_attach(struct tg_datapath *dp, const char *device, enum tg_tc_how how,
	struct tg_tc_attachment *out, struct tg_error *error);
/* Detaches both; a device without is no error. */
int tg_tc_detach(struct tg_datapath *dp, const char *device, struct tg_error *error);
/* Calls fn for each device that is attached. `ifindex` is 0 when it is gone. */
void tg_tc_each(const struct tg_datapath *dp,
	void (*fn)(void *user, const char *device, unsigned int ifindex, enum tg_tc_how how),
	void *user);

/* Lets every device run other programs; -1 among them: nothing happens. Stops at the first that refuses, unless `error` is NULL. */
int tg_tc_update(struct tg_datapath *dp, const int programs[TG_DIRECTIONS], struct tg_error *error);

/*
 * Removes the filters that the pins below DIR tell of; in the network namespace with that inode, if it is
 * another. TCX links go with their pins (datapath_pins.h).
 */
int tg_tc_remove_filters(const char *dir, __u64 netns);

#endif
