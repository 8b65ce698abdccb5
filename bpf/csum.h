/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The Internet checksum, updated in place: HC' = ~(~HC + ~m + m') (RFC 1624, equation 3). What was
 * wrong before stays wrong by as much, so that damage is never signed. A change is collected as a
 * sum of ~m + m' over all words that change, then applied to each checksum that covers them.
 * Words are taken as they lie in memory; one's complement addition does not mind the byte order.
 */
#ifndef TIDEGATE_CSUM_H
#define TIDEGATE_CSUM_H

#include "packet.h"

static __always_inline __u64 csum_change16(__u16 from, __u16 to)
{
	return (__u64)(__u16)~from + to;
}

static __always_inline __u64 csum_change32(__u32 from, __u32 to)
{
	return (__u64)(__u32)~from + to;
}

/* The sum of up to 2^16 words of 32 bits, folded to 16. */
static __always_inline __u16 csum_fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}

static __always_inline void csum_apply(__sum16 *check, __u64 change)
{
	*check = ~csum_fold((__u16)~*check + change);
}

/* UDP's: 0 means "none" and stays, one that becomes 0 is sent as 0xffff (RFC 768). */
static __always_inline void csum_apply_udp(__sum16 *check, __u64 change)
{
	__u16 sum;

	if (!*check)
		return;
	sum = ~csum_fold((__u16)~*check + change);
	*check = sum ? sum : 0xffff;
}

#endif
