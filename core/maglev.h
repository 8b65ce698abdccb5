/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Maglev tables (Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer",
 * NSDI 2016, section 3.4). Every backend walks its own permutation of the slots and takes the next
 * free one whenever it has a turn. Weights are turns per round, fractions included: a backend of
 * weight w has its k-th turn in round ceil((k - 1/2) * wmax / w), so that heavy backends neither
 * starve light ones nor move when another comes or goes.
 *
 * The table depends on the backends' keys and weights alone, not on their order: two nodes with the
 * same backends build the same table.
 */
#ifndef TG_MAGLEV_H
#define TG_MAGLEV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TG_MAGLEV_MAX_SLOTS (1u << 24)

struct tg_maglev_backend {
	uint64_t key;	 /* who it is: tg_maglev_key of its address */
	uint32_t id;	 /* what is written to its slots */
	uint32_t weight; /* 0: no slots */
};

/* A key from an identity's bytes. */
uint64_t tg_maglev_key(const void *bytes, size_t size);

/*
 * Fills slots[0 … size-1] with ids; with no backend of positive weight, with 0. `size` is a prime
 * of at most TG_MAGLEV_MAX_SLOTS. Returns 0, -EINVAL (not a prime) or -ENOMEM.
 */
int tg_maglev_build(
	const struct tg_maglev_backend *backends, size_t count, uint32_t *slots, uint32_t size);

bool tg_is_prime(uint64_t n);
/* The size of a service's table by default: 65,537, or the next prime from 100 slots a backend. */
uint32_t tg_maglev_default_size(size_t backends);

#endif
