/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The backend's side of ipip and gue: bpf/decap.bpf.c on a device, pinned, so that it goes on without
 * a process until it is detached. Pins lie in /sys/fs/bpf/tidegate-decap/DEV-NETNS/, where NETNS is the
 * inode of the network namespace that the device is in: several namespaces share one BPF file system.
 */
#ifndef TG_DECAP_H
#define TG_DECAP_H

#include "addr.h"
#include "decap_abi.h"
#include "error.h"
#include "tidegate_abi.h"

#include <stddef.h>

#define TG_DECAP_DIR "/sys/fs/bpf/tidegate-decap"

/* Addresses that packets may have, outside or inside. */
struct tg_decap_list {
	struct tg_addr addr[TG_DECAP_MAX_ADDRESSES / 2];
	size_t count;
};

struct tg_decap {
	struct tg_decap_list to;   /* outer destinations; none: those of the device */
	struct tg_decap_list vips; /* inner destinations; none: those of lo, but for the loopback ones */
	uint16_t gue_port;	   /* host order; 0: TG_GUE_PORT */
	const char *xdp;	   /* "auto", "native" or "generic" */
	bool generic;		   /* out: attached so */
};

/* Adds an address. -ENOSPC. */
int tg_decap_add(struct tg_decap_list *list, const struct tg_addr *addr);

/*
 * Attaches the program, or gives the one that is there these settings without missing a packet; its
 * counters go on. Fills in the lists that are empty. Errors: -ENODEV, -EBUSY (another program is
 * there), -EADDRNOTAVAIL (no address to accept), -EPERM.
 */
int tg_decap_attach(struct tg_decap *decap, const char *device, struct tg_error *error);

/* Detaches and removes the pins. -ENOENT: nothing was there. */
int tg_decap_detach(const char *device, struct tg_error *error);

/* What became of packets, summed over CPUs, by enum tg_decap_counter. -ENOENT: nothing is attached. */
int tg_decap_read(const char *device, struct tg_counter counters[TG_DECAP_COUNTER_COUNT],
	struct tg_error *error);

/* Tells what on this host keeps packets that were taken out from being answered. */
void tg_decap_advise(const struct tg_decap *decap, const char *device,
	void (*tell)(void *user, const char *text), void *user);

#endif
