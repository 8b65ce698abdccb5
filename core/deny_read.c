/* SPDX-License-Identifier: GPL-2.0-only */
/* What is on the lists, and what they did (see deny.h). */
#include "deny_internal.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

bool tg_deny_has(struct tg_deny *deny, int class, const struct tg_deny_prefix *prefix)
{
	struct tg_deny_key key = tg_deny_key_of(prefix);
	bool has;

	tg_deny_lock(deny);
	has = deny->open[prefix->v6] &&
	      tg_deny_store_find(tg_deny_store_of(deny, prefix->v6), &key, class) != TG_NO_RECORD;
	tg_deny_unlock(deny);
	return has;
}

bool tg_deny_find(struct tg_deny *deny, uint64_t classes, const struct tg_deny_prefix *of,
	struct tg_deny_prefix *found)
{
	struct tg_deny_store *store = tg_deny_store_of(deny, of->v6);
	struct tg_deny_key key = tg_deny_key_of(of);
	uint32_t record = TG_NO_RECORD;

	tg_deny_lock(deny);
	if (deny->open[of->v6])
		record = tg_deny_store_cover(store, &key, of->length, 0, classes);
	if (record != TG_NO_RECORD)
		*found = tg_deny_prefix_at(store, record);
	tg_deny_unlock(deny);
	return record != TG_NO_RECORD;
}

/* The cursor goes through IPv4's records, then IPv6's. */
size_t tg_deny_each(struct tg_deny *deny, uint64_t classes, size_t *cursor,
	struct tg_deny_prefix *prefixes, size_t room)
{
	size_t count = 0;

	tg_deny_lock(deny);
	while (count < room && *cursor < TG_DENY4_MAX + TG_DENY6_MAX) {
		bool v6 = *cursor >= TG_DENY4_MAX;
		struct tg_deny_store *store = tg_deny_store_of(deny, v6);
		size_t record = *cursor - (v6 ? TG_DENY4_MAX : 0);
		uint16_t what;

		if (!deny->open[v6] || record >= store->used) {
			*cursor = v6 ? TG_DENY4_MAX + TG_DENY6_MAX : TG_DENY4_MAX;
			continue;
		}
		what = tg_deny_store_what(store, record);
		if (what && classes >> TG_DENY_CLASS(what) & 1)
			prefixes[count++] = tg_deny_prefix_at(store, record);
		++*cursor;
	}
	tg_deny_unlock(deny);
	return count;
}

int tg_deny_host_counter(
	struct tg_deny *deny, const struct tg_deny_prefix *prefix, struct tg_counter *counter)
{
	struct tg_deny_key key = tg_deny_key_of(prefix);
	struct tg_host host = tg_deny_host_of(prefix->v6, &key);
	int cpus = libbpf_num_possible_cpus(), result = 0;
	struct tg_counter *values = calloc(cpus, sizeof(*values));

	memset(counter, 0, sizeof(*counter));
	if (!values)
		return -ENOMEM;
	if (!tg_deny_is_host(prefix->v6, prefix->length) || deny->dp->maps[TG_MAP_DENY_HOSTS] < 0 ||
		bpf_map_lookup_elem(deny->dp->maps[TG_MAP_DENY_HOSTS], &host, values))
		result = -ENOENT;
	for (int i = 0; !result && i < cpus; i++) {
		counter->packets += values[i].packets;
		counter->bytes += values[i].bytes;
	}
	free(values);
	return result;
}

/* --- the heaviest sources --- */

#define PLACES (1u << TG_DENY_SAMPLE_BITS)

/* Adds a CPU's sample to those of its place, which begin at `first`. Returns their new end. */
static size_t merge(
	struct tg_deny_source *all, size_t first, size_t end, const struct tg_deny_sample *sample)
{
	struct tg_deny_source *at = &all[first];

	while (at < &all[end] &&
		(memcmp(at->addr, sample->addr, sizeof(at->addr)) || at->v6 != sample->v6))
		at++;
	if (at == &all[end]) {
		*at = (struct tg_deny_source){ .v6 = sample->v6, .class = sample->class };
		memcpy(at->addr, sample->addr, sizeof(at->addr));
		end++;
	}
	at->packets += sample->packets;
	at->bytes += sample->bytes;
	return end;
}

static int heavier_first(const void *a, const void *b)
{
	const struct tg_deny_source *x = a, *y = b;

	return (x->packets < y->packets) - (x->packets > y->packets);
}

size_t tg_deny_top(struct tg_deny *deny, struct tg_deny_source *sources, size_t room)
{
	int cpus = libbpf_num_possible_cpus(), map = deny->dp->maps[TG_MAP_DENY_SAMPLES];
	struct tg_deny_sample *samples = calloc(cpus, sizeof(*samples));
	struct tg_deny_source *all = calloc(PLACES * cpus, sizeof(*all));
	size_t count = 0;

	for (__u32 place = 0; map >= 0 && samples && all && place < PLACES; place++) {
		size_t first = count;

		if (bpf_map_lookup_elem(map, &place, samples))
			continue;
		for (int cpu = 0; cpu < cpus; cpu++)
			if (samples[cpu].packets)
				count = merge(all, first, count, &samples[cpu]);
	}
	if (count)
		qsort(all, count, sizeof(*all), heavier_first);
	if (count > room)
		count = room;
	if (count)
		memcpy(sources, all, count * sizeof(*sources));
	free(samples);
	free(all);
	return count;
}

void tg_deny_top_reset(struct tg_deny *deny)
{
	int map = deny->dp->maps[TG_MAP_DENY_SAMPLES];
	struct tg_deny_sample *zeros = calloc(libbpf_num_possible_cpus(), sizeof(*zeros));

	for (__u32 place = 0; map >= 0 && zeros && place < PLACES; place++)
		bpf_map_update_elem(map, &place, zeros, BPF_ANY);
	free(zeros);
}
