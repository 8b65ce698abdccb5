/* SPDX-License-Identifier: GPL-2.0-only */
#include "pcapng.h"

#include <string.h>

enum block {
	SECTION = 0x0a0d0d0a,
	INTERFACE = 1,
	STATISTICS = 5,
	PACKET = 6,
};

enum option {
	END_OF_OPTIONS = 0,
	COMMENT = 1,
	SECTION_APPLICATION = 4,
	INTERFACE_NAME = 2,
	INTERFACE_RESOLUTION = 9,
	INTERFACE_FILTER = 11,
	PACKET_FLAGS = 2,
	STATISTICS_START = 2,
	STATISTICS_END = 3,
	STATISTICS_RECEIVED = 4,
	STATISTICS_DROPPED = 5,
	STATISTICS_ACCEPTED = 6,
	STATISTICS_DELIVERED = 8,
};

#define ETHERNET	  1 /* LINKTYPE_ETHERNET */
#define NANOSECONDS	  9 /* if_tsresol: 10^-9 */
#define FILTER_EXPRESSION 0 /* if_filter: a libpcap expression follows */
#define BYTE_ORDER_MAGIC  0x1a2b3c4d

static uint8_t *put16(uint8_t *at, uint16_t value)
{
	memcpy(at, &value, sizeof(value));
	return at + sizeof(value);
}

static uint8_t *put32(uint8_t *at, uint32_t value)
{
	memcpy(at, &value, sizeof(value));
	return at + sizeof(value);
}

/* Of a time, the upper word comes first in either byte order. */
static uint8_t *put_time(uint8_t *at, uint64_t time)
{
	return put32(put32(at, time >> 32), time);
}

/* Everything is padded to 32 bits. */
static uint8_t *pad(uint8_t *at, uint32_t size)
{
	uint32_t padding = -size & 3;

	memset(at, 0, padding);
	return at + padding;
}

static uint8_t *put_bytes(uint8_t *at, const void *bytes, uint32_t size)
{
	memcpy(at, bytes, size);
	return pad(at + size, size);
}

static uint8_t *put_option(uint8_t *at, enum option code, const void *value, uint16_t size)
{
	return put_bytes(put16(put16(at, code), size), value ? value : "", size);
}

static uint8_t *put_text(uint8_t *at, enum option code, const char *text)
{
	return text ? put_option(at, code, text, strnlen(text, TG_PCAPNG_TEXT)) : at;
}

static uint8_t *put_count(uint8_t *at, enum option code, uint64_t count)
{
	return put_option(at, code, &count, sizeof(count));
}

static uint8_t *begin(uint8_t *block, enum block type)
{
	return put32(block, type) + sizeof(uint32_t);
}

/* The length of a block stands at both of its ends. */
static uint8_t *end(uint8_t *block, uint8_t *at)
{
	uint32_t length = at + sizeof(uint32_t) - block;

	put32(block + sizeof(uint32_t), length);
	return put32(at, length);
}

static uint8_t *end_options(uint8_t *block, uint8_t *at)
{
	return end(block, put_option(at, END_OF_OPTIONS, NULL, 0));
}

uint8_t *tg_pcapng_section(uint8_t *block, const char *application)
{
	static const int64_t unknown_length = -1;
	uint8_t *at = begin(block, SECTION);

	at = put32(at, BYTE_ORDER_MAGIC);
	at = put16(put16(at, 1), 0); /* the version */
	at = put_bytes(at, &unknown_length, sizeof(unknown_length));
	at = put_text(at, SECTION_APPLICATION, application);
	return end_options(block, at);
}

static uint8_t *put_filter(uint8_t *at, const char *filter)
{
	char value[1 + TG_PCAPNG_TEXT] = { FILTER_EXPRESSION };
	size_t length = strnlen(filter, TG_PCAPNG_TEXT);

	memcpy(value + 1, filter, length);
	return put_option(at, INTERFACE_FILTER, value, 1 + length);
}

uint8_t *tg_pcapng_interface(uint8_t *block, const struct tg_pcapng_interface *interface)
{
	static const uint8_t resolution = NANOSECONDS;
	uint8_t *at = begin(block, INTERFACE);

	at = put16(put16(at, ETHERNET), 0);
	at = put32(at, interface->snap);
	at = put_text(at, INTERFACE_NAME, interface->name);
	at = put_option(at, INTERFACE_RESOLUTION, &resolution, sizeof(resolution));
	if (interface->filter)
		at = put_filter(at, interface->filter);
	return end_options(block, at);
}

uint8_t *tg_pcapng_packet(uint8_t *block, const struct tg_pcapng_packet *packet)
{
	uint32_t flags = packet->direction;
	uint8_t *at = begin(block, PACKET);

	at = put32(at, packet->interface);
	at = put_time(at, packet->time);
	at = put32(at, packet->captured);
	at = put32(at, packet->length);
	at = put_bytes(at, packet->data, packet->captured);
	at = put_option(at, PACKET_FLAGS, &flags, sizeof(flags));
	at = put_text(at, COMMENT, packet->comment);
	return end_options(block, at);
}

static uint8_t *put_time_option(uint8_t *at, enum option code, uint64_t time)
{
	uint8_t value[8];

	put_time(value, time);
	return put_option(at, code, value, sizeof(value));
}

uint8_t *tg_pcapng_statistics(uint8_t *block, const struct tg_pcapng_statistics *statistics)
{
	uint8_t *at = begin(block, STATISTICS);

	at = put32(at, statistics->interface);
	at = put_time(at, statistics->end);
	at = put_time_option(at, STATISTICS_START, statistics->start);
	at = put_time_option(at, STATISTICS_END, statistics->end);
	at = put_count(at, STATISTICS_RECEIVED, statistics->received);
	at = put_count(at, STATISTICS_DROPPED, statistics->dropped);
	at = put_count(at, STATISTICS_ACCEPTED, statistics->accepted);
	at = put_count(at, STATISTICS_DELIVERED, statistics->delivered);
	return end_options(block, at);
}

/* The length of the block there, 0: the end, or half a block. */
static uint32_t length_of(const uint8_t *block, uint64_t size)
{
	uint32_t length;

	if (size < 2 * sizeof(length))
		return 0;
	memcpy(&length, block + sizeof(length), sizeof(length));
	return length < 3 * sizeof(length) || length > size ? 0 : length;
}

uint64_t tg_pcapng_whole(const uint8_t *blocks, uint64_t size)
{
	uint64_t whole = 0;
	uint32_t length;

	while ((length = length_of(blocks + whole, size - whole)))
		whole += length;
	return whole;
}

uint64_t tg_pcapng_packets(const uint8_t *blocks, uint64_t size)
{
	uint64_t packets = 0;
	uint32_t length, type;

	for (; (length = length_of(blocks, size)); blocks += length, size -= length) {
		memcpy(&type, blocks, sizeof(type));
		packets += type == PACKET;
	}
	return packets;
}
