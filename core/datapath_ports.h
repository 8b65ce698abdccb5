/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Ports as TC and policies know them (bpf/ports_abi.h): each device that was asked about has a slot, over reloads
 * and restarts, until it is forgotten; the programs find it by the interface index while it is entered.
 * tg_port_slot, tg_port_taps and tg_port_keep may be called by any thread.
 */
#ifndef TG_DATAPATH_PORTS_H
#define TG_DATAPATH_PORTS_H

#include "datapath.h"

struct tg_port_slots;

struct tg_port_slots *tg_port_slots_new(void);
void tg_port_slots_free(struct tg_port_slots *slots);
/* Takes over those that the pinned maps `port_names` and `ports` tell of. */
void tg_port_slots_adopt(struct tg_port_slots *slots, int names, int ports);
/* Writes them into the map, which is there now. */
void tg_port_slots_record(struct tg_datapath *dp);

/* The slot of a device, which gets one if it has none; or -ENOSPC. */
int tg_port_slot(struct tg_datapath *dp, const char *device, struct tg_error *error);
/* Frees the slots of all devices but these, and but those that are entered. */
void tg_port_keep(struct tg_datapath *dp, const char *const *devices, size_t count);
/* Whose slot it is; false: nobody's. */
bool tg_port_device(const struct tg_datapath *dp, __u32 slot, char device[TG_PORT_NAME]);

/*
 * The taps at work on a device in a direction, from now on, and when it is entered anew. 0 or a negative errno.
 */
int tg_port_taps(struct tg_datapath *dp, const char *device, enum tg_direction direction,
	__u32 taps, struct tg_error *error);

/* Lets the programs know the device, with TG_PORT_* `flags`; by another index of it no longer. */
int tg_port_enter(struct tg_datapath *dp, unsigned int ifindex, const char *device, __u32 flags,
	struct tg_error *error);
/* The programs know it no longer. */
void tg_port_leave(struct tg_datapath *dp, const char *device);
/* How a device is entered; false: it is not. */
bool tg_port_entered(const struct tg_datapath *dp, unsigned int ifindex, struct tg_port *port);
/* Calls fn for each entry of a map `ports`; it may remove that one. */
void tg_ports_each(int map,
	void (*fn)(void *user, unsigned int ifindex, const struct tg_port *port), void *user);

#endif
