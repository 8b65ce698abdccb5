/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Things of one size, each kept once: equal bytes have one number. Numbers count from 0 in the order of
 * the first appearance; the things lie in one array in that order.
 */
#ifndef TG_INTERN_H
#define TG_INTERN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tg_interned {
	void *things;
	size_t size, count, most;
	size_t room;	     /* of `things` */
	uint32_t *buckets;   /* open addressing: a number + 1, or 0 */
	size_t bucket_count; /* a power of 2, or 0 */
	bool full;	     /* a thing beyond `most` was refused */
};

/* Of `size` bytes each, `most` of them at the most. Padding bytes count: clear them. */
void tg_interned_init(struct tg_interned *interned, size_t size, size_t most);
/* The thing's number, or -ENOSPC or -ENOMEM. */
int tg_intern(struct tg_interned *interned, const void *thing);
/* `full` stays as it was. */
void tg_interned_free(struct tg_interned *interned);

#endif
