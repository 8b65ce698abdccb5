/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The tracer: what would become of a packet, by the datapath's own instructions on the live tables,
 * without anybody noticing. The program is bpf/trace.bpf.c, specialised as the one that is in force; it is
 * loaded at the first trace (some 0.1 s), kept, and loaded anew when another one is put in force.
 *
 * One packet at a time: runs in several threads wait for each other. They block; call them in a thread of
 * libuv's pool. The datapath outlives its tracer.
 */
#ifndef TG_TRACE_H
#define TG_TRACE_H

#include "datapath.h"

#define TG_FRAME_MIN  14	  /* bytes: an Ethernet header */
#define TG_FRAME_ROOM (128 << 10) /* for the largest packet, and what the program may add */

struct tg_tracer;

struct tg_trace {
	__u32 verdict;		 /* XDP_* */
	size_t size;		 /* of what came out */
	struct tg_trace_log log; /* the tables consulted, and the reason */
	unsigned char frame[TG_FRAME_ROOM];
};

struct tg_tracer *tg_tracer_new(const struct tg_datapath *dp);
/*
 * What becomes of a frame that comes in by the device `ifindex`. Errors: -EINVAL (a frame that the kernel
 * does not run), -ENODEV, -EAGAIN (no program is in force), and what loading refuses.
 */
int tg_tracer_run(struct tg_tracer *tracer, unsigned int ifindex, const void *frame, size_t size,
	struct tg_trace *out, struct tg_error *error);
void tg_tracer_free(struct tg_tracer *tracer);

/* Names as scripts have them: "tx", "not-vip"; "?" for a number that there is not. */
const char *tg_verdict_name(__u32 verdict);
const char *tg_reason_name(__u32 reason);

#endif
