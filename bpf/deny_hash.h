/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Where a prefix stands in the exact hashes of the deny lists. The datapath looks there and the
 * controller writes there, both by this file. The keys are odd random numbers of tg_deny_state: who
 * doesn't know them can't choose addresses that meet in one bucket.
 *
 * IPv4's hash is a bijection of 32 bits, or of 28 for a /28: 19 of its bits are the bucket, the others
 * stand in the entry, so that both together are the key again. The second place is the first one moved
 * by a function of those others.
 */
#ifndef TIDEGATE_DENY_HASH_H
#define TIDEGATE_DENY_HASH_H

#include <linux/types.h>

#include "flow_hash.h"
#include "tidegate_abi.h"

#define TG_DENY4_TAG_BITS(level) ((level)-TG_DENY4_BUCKET_BITS)

/* `key` is the address, or its first 28 bits, in host order; `level` 32 or 28. */
static inline __attribute__((always_inline)) __u32 tg_deny4_hash(
	const struct tg_deny_state *state, __u32 key, const __u32 level)
{
	key = key * (__u32)state->key[0] & ~0u >> (32 - level);
	key ^= key >> 15;
	return key * (__u32)state->key[1] & ~0u >> (32 - level);
}

static inline __attribute__((always_inline)) __u32 tg_deny4_bucket(__u32 hash, const __u32 level)
{
	return hash >> TG_DENY4_TAG_BITS(level);
}

/* The entry in its first place, without its kind. */
static inline __attribute__((always_inline)) __u32 tg_deny4_entry(__u32 hash, const __u32 level)
{
	__u32 tag = hash & ((1u << TG_DENY4_TAG_BITS(level)) - 1);

	return TG_DENY4_TAG(tag) | (level == 28 ? TG_DENY4_TAG28 : 0);
}

/* What to change of a bucket's number for an entry's other place; never 0. */
static inline __attribute__((always_inline)) __u32 tg_deny4_move(__u32 entry)
{
	__u32 tag = entry & (TG_DENY4_SECOND - 1) & ~3u;

	return (tag * 0x9e3779b1u) >> (32 - TG_DENY4_BUCKET_BITS) | 1;
}

/*
 * IPv6: of the first `level` bits, the others are 0; in host order. The bucket, how to move it, and the
 * entry's 8 bits are taken from different bits of it; a guard's cell from the first.
 */
static inline __attribute__((always_inline)) __u64 tg_deny6_hash(
	const struct tg_deny_state *state, __u64 high, __u64 low, __u32 level)
{
	return tg_mix(high * state->key[0] + low * state->key[1] + level * state->key[2]);
}

static inline __attribute__((always_inline)) __u32 tg_deny6_bucket(__u64 hash)
{
	return hash >> (64 - TG_DENY_BUCKET_BITS);
}

static inline __attribute__((always_inline)) __u32 tg_deny6_move(__u64 hash)
{
	return (hash & ((1 << TG_DENY_BUCKET_BITS) - 1)) | 1;
}

static inline __attribute__((always_inline)) __u32 tg_deny6_tag(__u64 hash)
{
	return hash >> 24 & 0xff;
}

static inline __attribute__((always_inline)) __u32 tg_deny6_guard(__u64 hash, __u32 bits)
{
	return hash >> (64 - bits);
}

/* Of an address, for places where a few may meet: `vip_marks`, `deny_samples`. */
static inline __attribute__((always_inline)) __u32 tg_address_hash(
	const __be32 *addr, int v6, __u32 bits)
{
	__u32 x = v6 ? (addr[0] ^ addr[1] * 3) + (addr[2] ^ addr[3] * 5) * 7 : addr[0];

	return (x * 0x9e3779b1u) >> (32 - bits);
}

#endif
