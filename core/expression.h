/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * tcpdump's expressions ("tcp port 80 and host 192.0.2.7"), compiled and run by libpcap. A module of its own:
 * libpcap and the kernel each have a struct bpf_insn.
 */
#ifndef TG_EXPRESSION_H
#define TG_EXPRESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "error.h"

struct tg_expression;

/* Of Ethernet frames. A name in it is asked of the resolver, which may take long. NULL: `error` says why. */
struct tg_expression *tg_expression_new(const char *text, struct tg_error *error);
/* Of a frame of `length` bytes the first `captured`. */
bool tg_expression_matches(const struct tg_expression *expression, const void *frame,
	uint32_t length, uint32_t captured);
/* As it was given. */
const char *tg_expression_text(const struct tg_expression *expression);
/* NULL is allowed. */
void tg_expression_free(struct tg_expression *expression);

#endif
