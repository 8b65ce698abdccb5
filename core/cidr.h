/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * IP prefixes of both families as one small value, made for arrays of a million: 24 bytes, ordered by
 * family, address and length, so that in a sorted array a prefix stands right before what it covers.
 * Core of the deny lists (core/feed.h, core/lists.h).
 */
#ifndef TG_CIDR_H
#define TG_CIDR_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "addr.h"

#define TG_CIDR_TEXT (INET6_ADDRSTRLEN + 4)

struct tg_cidr {
	uint64_t hi, lo; /* the bits, left-aligned, host order; beyond `length` all are 0 */
	uint8_t family;	 /* 4 or 6 */
	uint8_t length;
	uint8_t rank, flags;	/* the owner's: `rank` orders equal prefixes */
	uint32_t tag;	     /* the owner's */
};

/*
 * "10.0.0.0/8", "2001:db8::/32", or an address alone; host bits are masked. Exactly `size` bytes.
 * NULL, or what is wrong with it.
 */
const char *tg_cidr_parse(const char *text, size_t size, struct tg_cidr *prefix);
/* The canonical text, a host without its length; `text` has room for TG_CIDR_TEXT. Returns `text`. */
char *tg_cidr_print(const struct tg_cidr *prefix, char *text);
struct tg_cidr tg_cidr_of(const struct tg_addr *addr);

/* As memcmp, by family, address and length; the owner's fields don't count. */
static inline int tg_cidr_compare(const struct tg_cidr *a, const struct tg_cidr *b)
{
	if (a->family != b->family)
		return a->family < b->family ? -1 : 1;
	if (a->hi != b->hi)
		return a->hi < b->hi ? -1 : 1;
	if (a->lo != b->lo)
		return a->lo < b->lo ? -1 : 1;
	return (int)a->length - (int)b->length;
}

/* 32 or 128: a single address's length. */
static inline uint8_t tg_cidr_full(const struct tg_cidr *prefix)
{
	return prefix->family == 4 ? 32 : 128;
}

/* The prefix shortened to `length` bits. */
struct tg_cidr tg_cidr_cut(const struct tg_cidr *prefix, uint8_t length);

/* Sorts by prefix and rank; equal ones stay in their order. 0 or -ENOMEM. */
int tg_cidr_sort(struct tg_cidr *prefixes, size_t count);

/*
 * The first position from `from` on of a sorted array that is not before `prefix`. Galloping: cheap when
 * it is near.
 */
size_t tg_cidr_seek(
	const struct tg_cidr *prefixes, size_t count, size_t from, const struct tg_cidr *prefix);

#endif
