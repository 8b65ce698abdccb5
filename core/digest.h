/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A hash of bytes that is the same in every process, to tell by a number whether something that outlives a
 * daemon is what the next one would make. Against chance, not against people who look for collisions.
 */
#ifndef TG_DIGEST_H
#define TG_DIGEST_H

#include <stddef.h>
#include <stdint.h>

/* Of other seeds, other hashes. */
uint64_t tg_digest(const void *bytes, size_t size, uint64_t seed);

#endif
