/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A structure-aware fuzzer of the XDP program (xdp_fuzz.c). Packets are made from what the live
 * tables name (dictionary.c), with every header that the datapath knows and every way to get one
 * wrong (generate.c), sent through the pinned program by test runs, and what comes out is judged by
 * a reader of packets that shares nothing with the datapath's (judge.c).
 */
#ifndef TG_FUZZ_H
#define TG_FUZZ_H

#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FUZZ_MAX_PACKET 9216
#define FUZZ_MAX_WORDS	512 /* addresses of a family, ports */

/* --- random numbers: xorshift64* (Vigna 2016), seeded for each packet ----------------------- */

struct rng {
	uint64_t state;
};

void rng_seed(struct rng *rng, uint64_t seed);
uint64_t rng_next(struct rng *rng);
/* Below `limit`, which is not 0. */
uint32_t rng_below(struct rng *rng, uint32_t limit);
/* True once in `times`. */
bool rng_once_in(struct rng *rng, uint32_t times);

/* --- what there is to aim at ------------------------------------------------------------------ */

/* Something that the tables know by address, port and protocol. */
struct aim {
	__be32 addr[4]; /* IPv4 in the first */
	__be16 port;
	uint8_t proto;
};

struct dictionary {
	struct aim aims[2][FUZZ_MAX_WORDS]; /* of IPv4, of IPv6 */
	size_t aim_count[2];
	__be32 addr4[FUZZ_MAX_WORDS];
	__be32 addr6[FUZZ_MAX_WORDS][4];
	__be16 port[FUZZ_MAX_WORDS];
	size_t addr4_count, addr6_count, port_count;
	size_t from4, from6; /* those from here on are no endpoint's: they send */
};

/* Reads VIPs, backends and their ports from an instance's pins; adds what always matters. */
void dictionary_read(struct dictionary *words, const char *maps_dir);
/* Adds an address ("192.0.2.1" or "2001:db8::1"); false if it is none. */
bool dictionary_add(struct dictionary *words, const char *text);

/* --- packets ----------------------------------------------------------------------------------- */

struct bytes {
	uint32_t length;
	uint8_t at[FUZZ_MAX_PACKET];
};

/* Makes packet number `number` of a run; the same again for the same arguments. */
void generate(struct bytes *packet, const struct dictionary *words, uint64_t seed, uint64_t number);

/* --- judgement --------------------------------------------------------------------------------- */

/* The offset of the IP header behind up to two VLAN tags; 0 if there is none. */
uint32_t link_header(const struct bytes *packet, bool *v6);

/* NULL if `out` is what may become of `in` with this verdict, else what is wrong with it. */
const char *judge(const struct bytes *in, const struct bytes *out, uint32_t verdict);

/* --- deny and allow lists ---------------------------------------------------------------------- */

/* Reads which there are; then "NAME=PREFIX/LENGTH" for each prefix that is on one: false if that is no such text. */
void lists_open(const char *maps_dir);
bool lists_add(struct dictionary *words, const char *text);

/* The class that a packet's source is in, 0 if in none that is asked; does it deny? Counts what is expected. */
struct listed {
	uint32_t class;
	bool denied;
};
struct listed lists_find(const struct bytes *packet);

/* From here on each list has to count what lists_find finds; NULL, or what it did not. */
void lists_begin(void);
const char *lists_differ(void);
void lists_report(void);

/* --- the tracer -------------------------------------------------------------------------------- */

void trace_open(const char *instance);
/* Traces a packet, before it is sent. */
void trace_ask(const struct bytes *in, unsigned int device);
/* The class that the trace shows for its source, 0 if none. */
uint32_t trace_class(void);
/* After that: NULL if it was as traced, else what was not. */
const char *trace_differs(const struct bytes *out, uint32_t verdict);

/* --- all tables, to see that nothing changed --------------------------------------------------- */

#define FUZZ_MAX_TABLES 512

struct tables {
	struct table_sum {
		char name[64];
		uint64_t sum;
	} table[FUZZ_MAX_TABLES];
	size_t count;
};

void tables_read(struct tables *tables, const char *pins);
/* The name of a table that has changed, or NULL. */
const char *tables_differ(const struct tables *before, const struct tables *after);

#endif
