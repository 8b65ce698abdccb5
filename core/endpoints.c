/* SPDX-License-Identifier: GPL-2.0-only */
#include "endpoints.h"
#include "flow_hash.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define BATCH 4096

static int map_shared(int fd, size_t size, void *out)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (memory == MAP_FAILED)
		return -errno;
	*(void **)out = memory;
	return 0;
}

int tg_endpoints_open(struct tg_endpoints *endpoints, int clock, int lines, int all)
{
	int result;

	memset(endpoints, 0, sizeof(*endpoints));
	result = map_shared(clock, sizeof(*endpoints->clock), &endpoints->clock);
	if (!result)
		result = map_shared(
			lines, TG_INDEX_LINES * sizeof(*endpoints->lines), &endpoints->lines);
	if (!result)
		result = map_shared(
			all, TG_INDEX_ENDPOINTS * sizeof(*endpoints->all), &endpoints->all);
	if (result)
		tg_endpoints_close(endpoints);
	return result;
}

void tg_endpoints_close(struct tg_endpoints *endpoints)
{
	if (endpoints->clock)
		munmap(endpoints->clock, sizeof(*endpoints->clock));
	if (endpoints->lines)
		munmap(endpoints->lines, TG_INDEX_LINES * sizeof(*endpoints->lines));
	if (endpoints->all)
		munmap(endpoints->all, TG_INDEX_ENDPOINTS * sizeof(*endpoints->all));
	memset(endpoints, 0, sizeof(*endpoints));
}

static void use_lines(struct tg_endpoints *endpoints, uint32_t lines)
{
	__atomic_store_n(&endpoints->clock->index_lines, lines, __ATOMIC_RELEASE);
}

void tg_endpoints_forget(struct tg_endpoints *endpoints)
{
	use_lines(endpoints, 0);
}

/* --- reading the hash maps -------------------------------------------------------------------- */

union key {
	struct tg_vip4_key v4;
	struct tg_vip6_key v6;
};

union value {
	struct tg_vip vip;
	struct tg_reverse4 reverse4;
	struct tg_reverse6 reverse6;
};

static const struct {
	size_t key, value;
} sizes[] = {
	[TG_ENDPOINT_VIP4] = { sizeof(struct tg_vip4_key), sizeof(struct tg_vip) },
	[TG_ENDPOINT_VIP6] = { sizeof(struct tg_vip6_key), sizeof(struct tg_vip) },
	[TG_ENDPOINT_REVERSE4] = { sizeof(struct tg_vip4_key), sizeof(struct tg_reverse4) },
	[TG_ENDPOINT_REVERSE6] = { sizeof(struct tg_vip6_key), sizeof(struct tg_reverse6) },
};

static bool is_v6(enum tg_endpoint_kind kind)
{
	return kind == TG_ENDPOINT_VIP6 || kind == TG_ENDPOINT_REVERSE6;
}

static void set_key(struct tg_endpoint *endpoint, enum tg_endpoint_kind kind, const void *bytes)
{
	union key key;

	memcpy(&key, bytes, sizes[kind].key);
	endpoint->kind = kind;
	if (is_v6(kind)) {
		memcpy(endpoint->addr, key.v6.addr, sizeof(endpoint->addr));
		endpoint->port = key.v6.port;
		endpoint->proto = key.v6.proto;
	} else {
		endpoint->addr[0] = key.v4.addr;
		endpoint->port = key.v4.port;
		endpoint->proto = key.v4.proto;
	}
}

static void set_value(struct tg_endpoint *endpoint, enum tg_endpoint_kind kind, const void *bytes)
{
	union value value;

	memcpy(&value, bytes, sizes[kind].value);
	if (kind == TG_ENDPOINT_REVERSE4)
		endpoint->reverse = (struct tg_reverse6){ .addr = { value.reverse4.addr },
			.port = value.reverse4.port,
			.service = value.reverse4.service,
			.backend = value.reverse4.backend };
	else if (kind == TG_ENDPOINT_REVERSE6)
		endpoint->reverse = value.reverse6;
	else
		endpoint->vip = value.vip;
}

/* What a batch is read into. */
struct buffer {
	char keys[BATCH * sizeof(union key)];
	char values[BATCH * sizeof(union value)];
};

/* Appends a map's endpoints to the index's. `count` is how many there are, 0 being no endpoint's
 * number. */
static int read_map(struct tg_endpoints *endpoints, enum tg_endpoint_kind kind, int fd,
	struct buffer *buffer, uint32_t *count)
{
	__u32 position, got;
	void *from = NULL;
	int result = 0;

	while (!result) {
		got = BATCH;
		result = bpf_map_lookup_batch(
			fd, from, &position, buffer->keys, buffer->values, &got, NULL);
		if (result && errno != ENOENT) /* which says that this is the last batch */
			return -errno;
		if (*count + got >= TG_INDEX_ENDPOINTS)
			return -E2BIG;
		for (__u32 i = 0; i < got; i++) {
			struct tg_endpoint *endpoint = &endpoints->all[++*count];

			memset(endpoint, 0, sizeof(*endpoint));
			set_key(endpoint, kind, buffer->keys + i * sizes[kind].key);
			set_value(endpoint, kind, buffer->values + i * sizes[kind].value);
		}
		from = &position;
	}
	return 0;
}

/* --- filling the lines ------------------------------------------------------------------------ */

static uint64_t hash_of(const struct tg_endpoint *endpoint)
{
	uint32_t word;

	memcpy(&word, &endpoint->port, sizeof(word));
	return is_v6(endpoint->kind) ? tg_endpoint_hash6(endpoint->addr, word)
				     : tg_endpoint_hash4(endpoint->addr[0], word);
}

/* Two to four to a line on average, so that lines of more than eight are few. */
static uint32_t lines_for(uint32_t count)
{
	uint32_t lines = 1;

	while (lines < TG_INDEX_LINES && lines * 2 < count)
		lines *= 2;
	return lines;
}

static void enter(struct tg_line *line, uint64_t hash, uint32_t index)
{
	for (int i = 0; i < TG_LINE_ENTRIES; i++) {
		if (line->entry[i])
			continue;
		line->entry[i] = (hash & 0xffffffffff) << 24 | index;
		return;
	}
	line->entry[TG_LINE_ENTRIES - 1] = TG_INDEX_MORE;
}

void tg_endpoints_compile(struct tg_endpoints *endpoints, uint32_t count)
{
	uint32_t lines = lines_for(count);

	memset(endpoints->lines, 0, lines * sizeof(*endpoints->lines));
	for (uint32_t i = 1; i <= count; i++) {
		uint64_t hash = hash_of(&endpoints->all[i]);

		enter(&endpoints->lines[tg_slot_of(hash, lines)], hash, i);
	}
	use_lines(endpoints, lines);
}

int tg_endpoints_publish(struct tg_endpoints *endpoints, const int maps[4])
{
	struct buffer *buffer = malloc(sizeof(*buffer));
	uint32_t count = 0;
	int result = buffer ? 0 : -ENOMEM;

	use_lines(endpoints, 0);
	for (int kind = TG_ENDPOINT_VIP4; !result && kind <= TG_ENDPOINT_REVERSE6; kind++)
		if (maps[kind - 1] >= 0)
			result = read_map(endpoints, kind, maps[kind - 1], buffer, &count);
	free(buffer);
	if (!result)
		tg_endpoints_compile(endpoints, count);
	return result;
}
