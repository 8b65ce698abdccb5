/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The endpoint index (tidegate_abi.h, bpf/endpoint.h): the hash maps of VIPs and of nat's way back,
 * compiled for the datapath. The hash maps are the truth, the index only says it faster:
 *
 * - tg_endpoints_forget before the first change of a hash map: the datapath asks them from now on;
 * - tg_endpoints_publish after the last one, and no sooner than TG_ENDPOINTS_REST_MS after forget,
 *   when no packet is under way that still reads the old index.
 *
 * Used by one thread. A daemon that adopts an instance adopts its index: it is in the pinned maps.
 */
#ifndef TG_ENDPOINTS_H
#define TG_ENDPOINTS_H

#include "tidegate_abi.h"

#define TG_ENDPOINTS_REST_MS 100

struct tg_endpoints {
	struct tg_clock *clock; /* all three mapped */
	struct tg_line *lines;
	struct tg_endpoint *all;
};

/* Maps the index, given descriptors of `clock`, `endpoint_lines`, `endpoints`. 0 or negative errno.
 */
int tg_endpoints_open(struct tg_endpoints *endpoints, int clock, int lines, int all);
void tg_endpoints_close(struct tg_endpoints *endpoints);

void tg_endpoints_forget(struct tg_endpoints *endpoints);

/*
 * Compiles what the maps (descriptors by enum tg_endpoint_kind - 1, -1: there is no such map) hold.
 * -E2BIG: too many endpoints, the hash maps stay in use; other errors likewise.
 */
int tg_endpoints_publish(struct tg_endpoints *endpoints, const int maps[4]);

/* The half of it that needs no maps: fills the lines for all[1 … count] and puts them in use. */
void tg_endpoints_compile(struct tg_endpoints *endpoints, __u32 count);

#endif
