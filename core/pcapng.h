/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * pcapng (draft-ietf-opsawg-pcapng): the blocks of a capture, written into memory, in this machine's byte
 * order. A file is a section header, then before its first packet each interface, then packets, and in
 * the end the statistics of each interface. Times are ns since 1970.
 *
 * Each function writes one block at `at` and returns where it ends. The caller has seen to the room:
 * TG_PCAPNG_BLOCK bytes, for a packet as many more as it has bytes.
 */
#ifndef TG_PCAPNG_H
#define TG_PCAPNG_H

#include <stdint.h>

#define TG_PCAPNG_TEXT	1024 /* bytes of an option's text at most; longer ones are cut */
#define TG_PCAPNG_BLOCK (4 * TG_PCAPNG_TEXT)

struct tg_pcapng_interface {
	const char *name;
	const char *filter; /* a tcpdump expression, or NULL */
	uint32_t snap;
};

enum tg_pcapng_direction { TG_PCAPNG_INBOUND = 1, TG_PCAPNG_OUTBOUND = 2 };

struct tg_pcapng_packet {
	uint32_t interface; /* counted from 0, in the order of their blocks */
	uint64_t time;
	uint32_t length;   /* on the wire */
	uint32_t captured; /* bytes of `data` */
	const void *data;
	enum tg_pcapng_direction direction;
	const char *comment; /* or NULL */
};

struct tg_pcapng_statistics {
	uint32_t interface;
	uint64_t start, end;
	uint64_t received, dropped, accepted, delivered;
};

uint8_t *tg_pcapng_section(uint8_t *at, const char *application);
uint8_t *tg_pcapng_interface(uint8_t *at, const struct tg_pcapng_interface *interface);
uint8_t *tg_pcapng_packet(uint8_t *at, const struct tg_pcapng_packet *packet);
uint8_t *tg_pcapng_statistics(uint8_t *at, const struct tg_pcapng_statistics *statistics);

/* How many of the first `size` bytes of blocks are whole blocks. */
uint64_t tg_pcapng_whole(const uint8_t *blocks, uint64_t size);
/* How many packets there are in whole blocks. */
uint64_t tg_pcapng_packets(const uint8_t *blocks, uint64_t size);

#endif
