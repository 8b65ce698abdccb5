/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The flow hash: 64 bits of {addresses, ports, protocol} under a secret key. The datapath and the
 * controller (`lookup`) include this same file, so that both name the same backend for a flow, and
 * so do two nodes that share a seed.
 *
 * It is multilinear hashing by half multiplications (Lemire, Kaser: Strongly universal string
 * hashing is fast, 2014), whatever two flows a stranger picks, they meet with the probability of
 * chance, as long as the key is unknown; then a bijective finish, so that neighbouring ports do not
 * walk round the ring in step. Two multiplications for IPv4, five for IPv6, and one to finish.
 *
 * The key is spread from the instance's seed once, by the loader: tg_flow_key(seed, &key).
 */
#ifndef TIDEGATE_FLOW_HASH_H
#define TIDEGATE_FLOW_HASH_H

#include <linux/types.h>

#define TG_FLOW_KEY_WORDS 10

struct tg_flow_key {
	__u64 word[TG_FLOW_KEY_WORDS];
};

/* The finish: a bijection of 64 bits. */
static inline __attribute__((always_inline)) __u64 tg_mix(__u64 x)
{
	x ^= x >> 32;
	x *= 0xd6e8feb86659fd93ull;
	return x ^ x >> 32;
}

/* Spreads a seed of 128 bits: a counter under the seed, mixed three times (splitmix64's manner). */
static inline void tg_flow_key(const __u64 seed[2], struct tg_flow_key *key)
{
	for (int i = 0; i < TG_FLOW_KEY_WORDS; i++) {
		__u64 x = tg_mix(seed[0] + (i + 1) * 0x9e3779b97f4a7c15ull);

		key->word[i] = tg_mix(tg_mix(x ^ seed[1]) + seed[0]);
	}
}

/* Both ports as the packet's four bytes are loaded; the arguments are in network order. */
static inline __attribute__((always_inline)) __u32 tg_ports(__be16 source, __be16 dest)
{
	return (__u32)source | (__u32)dest << 16;
}

static inline __attribute__((always_inline)) __u64 tg_flow_hash4(
	const volatile struct tg_flow_key *key, __be32 source, __be32 dest, __u32 ports, __u8 proto)
{
	return tg_mix((key->word[0] + source) * (key->word[1] + dest) +
		      (key->word[2] + ports) * (key->word[3] + proto));
}

static inline __attribute__((always_inline)) __u64 tg_flow_hash6(
	const volatile struct tg_flow_key *key, const __be32 source[4], const __be32 dest[4],
	__u32 ports, __u8 proto)
{
	__u64 sum = (key->word[8] + ports) * (key->word[9] + proto);

	sum += (key->word[0] + source[0]) * (key->word[1] + source[1]);
	sum += (key->word[2] + source[2]) * (key->word[3] + source[3]);
	sum += (key->word[4] + dest[0]) * (key->word[5] + dest[1]);
	sum += (key->word[6] + dest[2]) * (key->word[7] + dest[3]);
	return tg_mix(sum);
}

/*
 * Of an endpoint in the endpoint index; `word` is its port, protocol and kind as they lie there.
 * Not keyed: endpoints are the operator's, and a foreign one that looks alike is told apart by its
 * whole key.
 */
static inline __attribute__((always_inline)) __u64 tg_endpoint_hash4(__be32 addr, __u32 word)
{
	return tg_mix(((__u64)word << 32 | addr) * 0x9e3779b97f4a7c15ull);
}

static inline __attribute__((always_inline)) __u64 tg_endpoint_hash6(
	const __be32 addr[4], __u32 word)
{
	return tg_mix(((__u64)addr[1] << 32 | addr[0]) * 0x9e3779b97f4a7c15ull +
		      ((__u64)addr[3] << 32 | addr[2]) * 0xc2b2ae3d27d4eb4full +
		      word * 0x165667b19e3779f9ull);
}

/* Which of `slots` (below 2^32) a flow belongs to: the hash as a fraction, no division. */
static inline __attribute__((always_inline)) __u32 tg_slot_of(__u64 hash, __u32 slots)
{
	return (hash >> 32) * slots >> 32;
}

#endif
