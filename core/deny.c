/* SPDX-License-Identifier: GPL-2.0-only */
#include "deny_internal.h"

#include "grace.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

/* The mapped tables: of which family (2: of both), and how large. */
static const struct {
	enum tg_map map;
	int family;
	size_t size;
} tables[] = {
	{ TG_MAP_DENY_STATE, 2, sizeof(struct tg_deny_state) },
	{ TG_MAP_DENY_CLASSES, 2, (TG_DENY_CLASSES + 1) * sizeof(struct tg_deny_class) },
	{ TG_MAP_DENY4_MARKS, 0, sizeof(struct tg_deny4_marks) },
	{ TG_MAP_DENY4_BLOCKS, 0, 16 * sizeof(struct tg_deny4_part) },
	{ TG_MAP_DENY4_PLAIN, 0, sizeof(struct tg_deny4_marks) },
	{ TG_MAP_DENY4_BUCKETS, 0, sizeof(__u64) << TG_DENY4_BUCKET_BITS },
	{ TG_MAP_DENY4_SAID, 0, sizeof(struct tg_deny4_said) },
	{ TG_MAP_DENY4_RECORDS, 0,
		TG_DENY4_MAX / TG_DENY_RECORDS * sizeof(struct tg_deny4_records) },
	{ TG_MAP_DENY6_TOP, 1, sizeof(struct tg_deny6_top) },
	{ TG_MAP_DENY6_GUARD32, 1, sizeof(struct tg_deny6_guard32) },
	{ TG_MAP_DENY6_GUARD48, 1, sizeof(struct tg_deny6_guard48) },
	{ TG_MAP_DENY6_GUARD64, 1, sizeof(struct tg_deny6_guard64) },
	{ TG_MAP_DENY6_BUCKETS, 1, sizeof(struct tg_deny_bucket) << TG_DENY_BUCKET_BITS },
	{ TG_MAP_DENY6_RECORDS, 1,
		TG_DENY6_MAX / TG_DENY_RECORDS * sizeof(struct tg_deny6_records) },
};
#define TABLES (sizeof(tables) / sizeof(*tables))

void tg_deny_lock(struct tg_deny *deny)
{
	pthread_mutex_lock(&deny->next);
	pthread_mutex_lock(&deny->lock);
	pthread_mutex_unlock(&deny->next);
}

void tg_deny_unlock(struct tg_deny *deny)
{
	pthread_mutex_unlock(&deny->lock);
}

/* --- prefixes as keys --- */

struct tg_deny_key tg_deny_key_of(const struct tg_deny_prefix *prefix)
{
	uint64_t high = (uint64_t)ntohl(prefix->addr[0]) << 32, low = 0;

	if (prefix->v6) {
		high |= ntohl(prefix->addr[1]);
		low = (uint64_t)ntohl(prefix->addr[2]) << 32 | ntohl(prefix->addr[3]);
	}
	return tg_deny_cut(high, low, prefix->length);
}

struct tg_deny_prefix tg_deny_prefix_at(const struct tg_deny_store *store, uint32_t record)
{
	struct tg_deny_key key = tg_deny_store_key(store, record);
	uint16_t what = tg_deny_store_what(store, record);

	return (struct tg_deny_prefix){
		.addr = { htonl(key.high >> 32), htonl(key.high), htonl(key.low >> 32),
			htonl(key.low) },
		.v6 = store->v6,
		.length = key.length,
		.count = TG_DENY_WHAT_COUNTED(what),
		.class = TG_DENY_CLASS(what),
	};
}

struct tg_host tg_deny_host_of(bool v6, const struct tg_deny_key *key)
{
	if (!v6)
		return (struct tg_host){ { 0, 0, htonl(0xffff), htonl(key->high >> 32) } };
	return (struct tg_host){ { htonl(key->high >> 32), htonl(key->high), htonl(key->low >> 32),
		htonl(key->low) } };
}

/* --- life --- */

struct tg_deny *tg_deny_new(struct tg_datapath *dp)
{
	struct tg_deny *deny = calloc(1, sizeof(*deny));

	if (!deny)
		return NULL;
	deny->dp = dp;
	pthread_mutex_init(&deny->writer, NULL);
	pthread_mutex_init(&deny->next, NULL);
	pthread_mutex_init(&deny->lock, NULL);
	return deny;
}

static int map_tables(struct tg_deny *deny, int family)
{
	for (size_t i = 0; i < TABLES; i++) {
		enum tg_map map = tables[i].map;
		void *memory;

		if (tables[i].family != family || deny->memory[map])
			continue;
		memory = mmap(NULL, tables[i].size, PROT_READ | PROT_WRITE, MAP_SHARED,
			deny->dp->maps[map], 0);
		if (memory == MAP_FAILED)
			return -errno;
		deny->memory[map] = memory;
	}
	return 0;
}

static void unmap_tables(struct tg_deny *deny, int family)
{
	for (size_t i = 0; i < TABLES; i++) {
		if (tables[i].family != family || !deny->memory[tables[i].map])
			continue;
		munmap(deny->memory[tables[i].map], tables[i].size);
		deny->memory[tables[i].map] = NULL;
	}
}

/* Draws the hashes' keys, once an instance. */
static int open_state(struct tg_deny *deny)
{
	__u64 key[4];
	int result = map_tables(deny, 2);

	if (result)
		return result;
	deny->state = deny->memory[TG_MAP_DENY_STATE];
	deny->classes = deny->memory[TG_MAP_DENY_CLASSES];
	if (deny->state->key[0])
		return 0;
	if (getrandom(key, sizeof(key), 0) != sizeof(key))
		return -EIO;
	for (int i = 0; i < 4; i++)
		deny->state->key[i] = key[i] | 1;
	return 0;
}

static int open4(struct tg_deny *deny)
{
	struct tg_deny4_maps maps = {
		.marks = deny->memory[TG_MAP_DENY4_MARKS],
		.blocks = deny->memory[TG_MAP_DENY4_BLOCKS],
		.plain = deny->memory[TG_MAP_DENY4_PLAIN],
		.buckets = deny->memory[TG_MAP_DENY4_BUCKETS],
		.said = deny->memory[TG_MAP_DENY4_SAID],
		.records = deny->memory[TG_MAP_DENY4_RECORDS],
	};

	return tg_deny4_open(&deny->four, &maps, deny->state);
}

static int open6(struct tg_deny *deny)
{
	struct tg_deny6_maps maps = {
		.top = deny->memory[TG_MAP_DENY6_TOP],
		.guard32 = deny->memory[TG_MAP_DENY6_GUARD32],
		.guard48 = deny->memory[TG_MAP_DENY6_GUARD48],
		.guard64 = deny->memory[TG_MAP_DENY6_GUARD64],
		.buckets = deny->memory[TG_MAP_DENY6_BUCKETS],
		.records = deny->memory[TG_MAP_DENY6_RECORDS],
	};

	return tg_deny6_open(&deny->six, &maps, deny->state);
}

static void close_family(struct tg_deny *deny, bool v6)
{
	if (v6)
		tg_deny6_close(&deny->six);
	else
		tg_deny4_close(&deny->four);
	unmap_tables(deny, v6);
	deny->open[v6] = false;
}

static void count_counted(struct tg_deny *deny, bool v6)
{
	const struct tg_deny_store *store = tg_deny_store_of(deny, v6);

	for (uint32_t record = 0; record < store->used; record++)
		deny->counted += TG_DENY_WHAT_COUNTED(tg_deny_store_what(store, record));
}

static int open_family(struct tg_deny *deny, bool v6)
{
	int result;

	if (deny->open[v6] || deny->dp->maps[v6 ? TG_MAP_DENY6_TOP : TG_MAP_DENY4_BLOCKS] < 0)
		return 0;
	result = deny->state ? 0 : open_state(deny);
	if (!result)
		result = map_tables(deny, v6);
	if (!result)
		result = v6 ? open6(deny) : open4(deny);
	if (result) {
		close_family(deny, v6);
		return result;
	}
	deny->open[v6] = true;
	count_counted(deny, v6);
	return 0;
}

int tg_deny_open(struct tg_deny *deny, struct tg_error *error)
{
	int result;

	pthread_mutex_lock(&deny->writer);
	tg_grace(); /* what a daemon that died had just removed */
	tg_deny_lock(deny);
	result = open_family(deny, false);
	if (!result)
		result = open_family(deny, true);
	tg_deny_unlock(deny);
	pthread_mutex_unlock(&deny->writer);
	return result ? tg_fail(error, result, "can't use the tables of the deny lists: %s",
				strerror(-result))
		      : 0;
}

void tg_deny_release(struct tg_deny *deny)
{
	static const __u32 feature[] = { TG_FEATURE_DENY4, TG_FEATURE_DENY6 };

	pthread_mutex_lock(&deny->writer);
	tg_deny_lock(deny);
	for (int v6 = 0; v6 < 2; v6++) {
		if (!deny->open[v6] || tg_deny_store_of(deny, v6)->live ||
			deny->dp->info.features & feature[v6])
			continue;
		close_family(deny, v6);
		for (size_t i = 0; i < TABLES; i++)
			if (tables[i].family == v6)
				tg_datapath_remove_map(deny->dp, tables[i].map);
	}
	tg_deny_unlock(deny);
	pthread_mutex_unlock(&deny->writer);
}

void tg_deny_free(struct tg_deny *deny)
{
	if (!deny)
		return;
	close_family(deny, false);
	close_family(deny, true);
	unmap_tables(deny, 2);
	pthread_mutex_destroy(&deny->writer);
	pthread_mutex_destroy(&deny->next);
	pthread_mutex_destroy(&deny->lock);
	free(deny);
}

uint32_t tg_deny_features(const struct tg_deny *deny)
{
	size_t four = __atomic_load_n(&deny->four.store.live, __ATOMIC_RELAXED);
	size_t six = __atomic_load_n(&deny->six.store.live, __ATOMIC_RELAXED);
	size_t counted = __atomic_load_n(&deny->counted, __ATOMIC_RELAXED);

	return (four ? TG_FEATURE_DENY4 : 0) | (six ? TG_FEATURE_DENY6 : 0) |
	       (counted ? TG_FEATURE_DENY_COUNT : 0);
}

struct tg_deny_memory tg_deny_memory(const struct tg_deny *deny)
{
	struct tg_deny_memory memory = { .controller = tg_deny4_memory(&deny->four) +
						       tg_deny6_memory(&deny->six) };

	for (size_t i = 0; i < TABLES; i++)
		if (tables[i].family < 2 && deny->memory[tables[i].map])
			memory.tables[tables[i].family] += tables[i].size;
	return memory;
}

/* --- classes --- */

static int find_class(const struct tg_deny *deny, const char *name)
{
	for (int class = 1; deny->classes && class <= TG_DENY_CLASSES; class ++)
		if (!strncmp(deny->classes[class].name, name, TG_NAME_SIZE))
			return class;
	return -ENOENT;
}

/* The name last: a daemon that dies before has made no class. */
static int make_class(struct tg_deny *deny, const char *name, enum tg_deny_verdict verdict)
{
	int class = find_class(deny, "");
	__u64 bit = 1ull << (class & 63), allow;

	if (class < 0)
		return -ENOSPC;
	allow = verdict == TG_DENY_ALLOW ? deny->state->allow | bit : deny->state->allow & ~bit;
	__atomic_store_n(&deny->state->allow, allow, __ATOMIC_RELEASE);
	deny->four.store.allow = deny->six.store.allow = allow;
	tg_datapath_reset_counter(deny->dp, TG_MAP_DENY_COUNTERS, class);
	deny->classes[class].verdict = verdict;
	memcpy(deny->classes[class].name, name, strlen(name) + 1);
	return class;
}

int tg_deny_class(struct tg_deny *deny, const char *name, enum tg_deny_verdict verdict,
	struct tg_error *error)
{
	int class;

	if (!name[0] || strlen(name) >= TG_NAME_SIZE)
		return tg_fail(error, -EINVAL, "list \"%s\": a name has 1 to %d characters", name,
			TG_NAME_SIZE - 1);
	tg_deny_lock(deny);
	class = deny->state ? find_class(deny, name) : -ENODEV;
	if (class == -ENOENT)
		class = make_class(deny, name, verdict);
	else if (class > 0 && deny->classes[class].verdict != verdict)
		class = -EEXIST;
	tg_deny_unlock(deny);
	if (class == -ENODEV)
		return tg_fail(error, class, "list \"%s\": the program has no lists yet", name);
	if (class == -ENOSPC)
		return tg_fail(error, class, "list \"%s\": there are %d lists, no more can be made",
			name, TG_DENY_CLASSES);
	if (class == -EEXIST)
		return tg_fail(error, class, "list \"%s\" %s, it can't %s as well", name,
			verdict == TG_DENY_ALLOW ? "denies" : "allows",
			verdict == TG_DENY_ALLOW ? "allow" : "deny");
	return class;
}

int tg_deny_class_find(struct tg_deny *deny, const char *name)
{
	int class;

	tg_deny_lock(deny);
	class = name[0] ? find_class(deny, name) : -ENOENT;
	tg_deny_unlock(deny);
	return class;
}

void tg_deny_class_drop(struct tg_deny *deny, int class)
{
	if (class < 1 || class > TG_DENY_CLASSES)
		return;
	tg_deny_replace(deny, class, NULL, 0, NULL, NULL);
	tg_deny_lock(deny);
	if (deny->classes)
		deny->classes[class].name[0] = 0;
	tg_deny_unlock(deny);
}

bool tg_deny_class_info(struct tg_deny *deny, int class, struct tg_deny_class_info *info)
{
	memset(info, 0, sizeof(*info));
	if (class < 1 || class > TG_DENY_CLASSES)
		return false;
	tg_deny_lock(deny);
	if (deny->classes) {
		memcpy(info->name, deny->classes[class].name, sizeof(info->name));
		info->verdict = deny->classes[class].verdict;
		info->prefixes[0] = deny->four.store.by_class[class];
		info->prefixes[1] = deny->six.store.by_class[class];
	}
	tg_deny_unlock(deny);
	info->counter = tg_datapath_counter(deny->dp, TG_MAP_DENY_COUNTERS, class);
	return info->name[0];
}
