/* SPDX-License-Identifier: GPL-2.0-only */
#include "digest.h"

#include <string.h>

/* The finalizer of MurmurHash3 (Austin Appleby, public domain), also as the step from word to word. */
static uint64_t mix(uint64_t word)
{
	word ^= word >> 33;
	word *= 0xff51afd7ed558ccdull;
	word ^= word >> 33;
	word *= 0xc4ceb9fe1a85ec53ull;
	return word ^ word >> 33;
}

uint64_t tg_digest(const void *bytes, size_t size, uint64_t seed)
{
	const char *at = bytes;
	uint64_t hash = mix(seed + 0x9e3779b97f4a7c15ull) ^ size, word;

	for (; size >= sizeof(word); at += sizeof(word), size -= sizeof(word)) {
		memcpy(&word, at, sizeof(word));
		hash = mix(hash ^ word);
	}
	word = 0;
	memcpy(&word, at, size);
	return mix(hash ^ word);
}
