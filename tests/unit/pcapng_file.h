/* SPDX-License-Identifier: GPL-2.0-only */
/* For the tests of captures: a pcapng file read back, block by block, from what the format's draft says. */
#include <fcntl.h>
#include <linux/types.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "unit.h"

#define FILE_MOST (64 << 20)

static struct {
	__u8 data[FILE_MOST];
	size_t size, at;
} file;

struct block {
	__u32 type, length;
	const __u8 *body;
};

static void read_file(const char *path)
{
	int fd = open(path, O_RDONLY);
	ssize_t n;

	file.size = file.at = 0;
	while ((n = read(fd, file.data + file.size, FILE_MOST - file.size)) > 0)
		file.size += n;
	close(fd);
}

static __u32 word(const __u8 *at)
{
	__u32 value;

	memcpy(&value, at, sizeof(value));
	return value;
}

static __u64 long_word(const __u8 *at)
{
	__u64 value;

	memcpy(&value, at, sizeof(value));
	return value;
}

/* The next block, whose lengths agree; false: the end. */
static bool next_block(struct block *block)
{
	const __u8 *at = file.data + file.at;

	if (file.size - file.at < 12)
		return false;
	block->type = word(at);
	block->length = word(at + 4);
	block->body = at + 8;
	CHECK_INT(0, block->length % 4);
	CHECK(block->length >= 12 && block->length <= file.size - file.at);
	CHECK_INT(block->length, word(at + block->length - 4));
	file.at += block->length;
	return true;
}

/* An option's value, from where the options of a block begin; NULL: it has none such. */
static const __u8 *option(const struct block *block, __u32 offset, __u16 code, __u16 *size)
{
	const __u8 *at = block->body + offset, *end = block->body + block->length - 12;
	__u16 head[2];

	while (at + 4 <= end) {
		memcpy(head, at, 4);
		if (head[0] == 0)
			return NULL;
		*size = head[1];
		if (head[0] == code)
			return at + 4;
		at += 4 + ((head[1] + 3) & ~3);
	}
	return NULL;
}

static char *text_option(const struct block *block, __u32 offset, __u16 code)
{
	static char text[2048];
	__u16 size = 0;
	const __u8 *value = option(block, offset, code, &size);

	snprintf(text, sizeof(text), "%.*s", value ? size : 0, value ? (const char *)value : "");
	return text;
}

struct packet {
	__u64 time;
	__u32 interface, captured, length, flags;
	const __u8 *data;
	char comment[256];
};

static struct packet packet_of(const struct block *block)
{
	struct packet packet = {
		.interface = word(block->body),
		.time = (__u64)word(block->body + 4) << 32 | word(block->body + 8),
		.captured = word(block->body + 12),
		.length = word(block->body + 16),
		.data = block->body + 20,
	};
	__u32 options = 20 + ((packet.captured + 3) & ~3);
	const __u8 *flags;
	__u16 size;

	flags = option(block, options, 2, &size);
	CHECK(flags && size == 4);
	packet.flags = flags ? word(flags) : 0;
	snprintf(packet.comment, sizeof(packet.comment), "%.255s", text_option(block, options, 1));
	return packet;
}

/* The next packet, past other blocks; false: there are no more. */
static bool next_packet(struct packet *packet)
{
	struct block block;

	while (next_block(&block))
		if (block.type == 6) {
			*packet = packet_of(&block);
			return true;
		}
	return false;
}
