/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Devices of kind vxlan (RFC 7348) that mirrors send by: made for one collector each, named tgvxN, told
 * from others' by their alias. Frames that leave by one go to the collector in UDP; whatever comes in by it is
 * dropped: nobody shall bring frames into this host by its port.
 *
 * All functions wait for the kernel, for milliseconds; from any thread.
 */
#ifndef TG_VXLAN_H
#define TG_VXLAN_H

#include "addr.h"
#include "error.h"

#include <net/if.h>

#define TG_VXLAN_OWNER 80

struct tg_vxlan {
	struct tg_addr to;
	uint32_t vni;
	uint16_t port; /* host order */
	char owner[TG_VXLAN_OWNER]; /* what its alias begins with */
};

void tg_vxlan_owner(const char *instance, char owner[TG_VXLAN_OWNER]);

/* Makes the device, or finds the one that was made for the same; it is up. `device`: its name. 0 or a negative errno. */
int tg_vxlan_make(const struct tg_vxlan *vxlan, char device[IF_NAMESIZE], struct tg_error *error);
/* Removes it; one that is not there is no error. */
int tg_vxlan_remove(const struct tg_vxlan *vxlan, struct tg_error *error);
/* Removes all that an owner made in the caller's network namespace. */
void tg_vxlan_remove_all(const char *owner);

#endif
