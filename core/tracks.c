/* SPDX-License-Identifier: GPL-2.0-only */
#include "tracks.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MOST_IN_BUCKET 65536 /* flows of one hash bucket: more can't be read at once */

static const uint64_t default_seconds[TG_TRACK_STATE_COUNT] = {
#define STATE_SECONDS(symbol, name, seconds) [TG_TRACK_STATE_##symbol] = seconds,
	TG_TRACK_STATES(STATE_SECONDS)
#undef STATE_SECONDS
};

static const enum tg_map tables[] = { TG_MAP_FLOWS, TG_MAP_EMBRYOS };
#define TABLES 2

uint64_t tg_track_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
	return ts.tv_sec * 1000000000ull + ts.tv_nsec;
}

static struct tg_track_settings settings_of(const struct tg_datapath *dp)
{
	struct tg_track_settings settings = { .new_sample = 0 };
	__u32 zero = 0;

	bpf_map_lookup_elem(dp->maps[TG_MAP_TRACK_SETTINGS], &zero, &settings);
	return settings;
}

static int64_t left_of(
	const struct tg_track_settings *settings, const struct tg_track *track, uint64_t now)
{
	uint64_t timeout;

	if (track->state >= TG_TRACK_STATE_COUNT)
		return 0;
	timeout = settings->timeout_ns[track->state];
	if (!timeout)
		timeout = default_seconds[track->state] * 1000000000ull;
	return (int64_t)timeout - (int64_t)(now - track->seen);
}

int64_t tg_track_left(const struct tg_datapath *dp, const struct tg_track *track, uint64_t now)
{
	struct tg_track_settings settings = settings_of(dp);

	return left_of(&settings, track, now);
}

/* --- which ------------------------------------------------------------------------------------------ */

static bool address_matches(const struct tg_cidr *prefix, const __be32 word[4])
{
	struct tg_addr addr = { .family = AF_INET6 };
	struct tg_cidr host;

	if (!prefix->family)
		return true;
	memcpy(addr.word, word, sizeof(addr.word));
	if (!word[0] && !word[1] && word[2] == htonl(0xffff))
		addr = (struct tg_addr){ .family = AF_INET, .word = { word[3] } };
	host = tg_cidr_of(&addr);
	if (host.family != prefix->family)
		return false;
	host = tg_cidr_cut(&host, prefix->length);
	return !tg_cidr_compare(&host, prefix);
}

bool tg_track_matches(const struct tg_track_filter *filter, const struct tg_track_entry *entry)
{
	const struct tg_track_id *id = &entry->id;
	int origin = entry->track.origin & 1;
	int sport = ntohs(id->port[origin]), dport = ntohs(id->port[!origin]);

	return (!filter->proto || filter->proto == id->proto) &&
	       (!filter->states || filter->states >> entry->track.state & 1) &&
	       (filter->sport < 0 || filter->sport == sport) &&
	       (filter->dport < 0 || filter->dport == dport) &&
	       (filter->port < 0 || filter->port == sport || filter->port == dport) &&
	       (filter->slot < 0 ||
		       (uint32_t)filter->slot == entry->track.gate[0].policy / TG_DIRECTIONS) &&
	       address_matches(&filter->src, id->addr[origin]) &&
	       address_matches(&filter->dst, id->addr[!origin]);
}

/* --- reading ---------------------------------------------------------------------------------------- */

struct batch {
	struct tg_track_id *ids;
	struct tg_track *tracks;
	uint32_t room, count;
	bool embryos;
};

static void free_batch(struct batch *batch)
{
	free(batch->ids);
	free(batch->tracks);
	*batch = (struct batch){ 0 };
}

static bool make_batch(struct batch *batch, uint32_t room)
{
	*batch = (struct batch){ malloc(room * sizeof(*batch->ids)),
		malloc(room * sizeof(*batch->tracks)), room, 0, false };
	if (batch->ids && batch->tracks)
		return true;
	free_batch(batch);
	return false;
}

/* One batch of one table; its end is no error. */
static int read_table(int map, struct tg_track_cursor *cursor, struct batch *batch)
{
	uint32_t next = 0;
	int result;

	batch->count = batch->room;
	result = bpf_map_lookup_batch(map, cursor->under_way ? &cursor->position : NULL, &next,
			 batch->ids, batch->tracks, &batch->count, NULL)
			 ? -errno
			 : 0;
	if (result == -ENOENT) { /* these were the last */
		cursor->table++;
		cursor->under_way = false;
		return 0;
	}
	if (!result) {
		cursor->position = next;
		cursor->under_way = true;
	}
	return result;
}

/* The next batch; without flows only at the end. Larger where a bucket has more than there is room for. */
static int read_batch(
	const struct tg_datapath *dp, struct tg_track_cursor *cursor, struct batch *batch)
{
	int result = 0;

	batch->count = 0;
	while (!result && !batch->count && cursor->table < TABLES) {
		int map = dp->maps[tables[cursor->table]];

		batch->embryos = cursor->table == 1;
		if (map < 0)
			return -ENOENT;
		result = read_table(map, cursor, batch);
		while (result == -ENOSPC && batch->room < MOST_IN_BUCKET) {
			uint32_t room = batch->room * 2;

			free_batch(batch);
			if (!make_batch(batch, room))
				return -ENOMEM;
			batch->embryos = cursor->table == 1;
			result = read_table(map, cursor, batch);
		}
	}
	return result;
}

static struct tg_track_entry entry_of(const struct batch *batch, uint32_t i)
{
	return (struct tg_track_entry){ batch->ids[i], batch->tracks[i], batch->embryos };
}

/* Walks over all of both tables, or `most` flows; fn says of each that lives or not what it likes. */
static int walk(const struct tg_datapath *dp, struct tg_track_cursor *cursor, size_t most,
	void (*fn)(void *user, const struct tg_track_entry *entry, bool live), void *user)
{
	struct tg_track_settings settings = settings_of(dp);
	uint64_t now = tg_track_now();
	struct batch batch;
	size_t seen = 0;
	int result = 0;

	if (!make_batch(&batch, TG_TRACK_BATCH))
		return -ENOMEM;
	while (!result && cursor->table < TABLES && seen < most) {
		result = read_batch(dp, cursor, &batch);
		for (uint32_t i = 0; !result && i < batch.count; i++) {
			struct tg_track_entry entry = entry_of(&batch, i);

			fn(user, &entry, left_of(&settings, &entry.track, now) > 0);
		}
		seen += batch.count;
	}
	free_batch(&batch);
	return result;
}

struct reading {
	const struct tg_track_filter *filter;
	struct tg_track_entry *out;
	size_t count, room;
	struct tg_track_sum *sum;
};

static void take(void *user, const struct tg_track_entry *entry, bool live)
{
	struct reading *reading = user;

	if (live && reading->count < reading->room && tg_track_matches(reading->filter, entry))
		reading->out[reading->count++] = *entry;
}

int tg_tracks_read(const struct tg_datapath *dp, struct tg_track_cursor *cursor,
	const struct tg_track_filter *filter, struct tg_track_entry *out, size_t room)
{
	struct reading reading = { .filter = filter, .out = out, .room = room };
	int result = 0;

	while (!result && !reading.count && cursor->table < TABLES)
		result = walk(dp, cursor, 1, take, &reading); /* one batch */
	return result ? result : (int)reading.count;
}

static void add(void *user, const struct tg_track_entry *entry, bool live)
{
	struct reading *reading = user;

	if (!live || !tg_track_matches(reading->filter, entry))
		return;
	reading->sum->flows += !entry->embryo;
	reading->sum->embryos += entry->embryo;
	reading->sum->states[entry->track.state]++;
}

int tg_tracks_count(const struct tg_datapath *dp, const struct tg_track_filter *filter,
	struct tg_track_sum *sum)
{
	struct reading reading = { .filter = filter, .sum = sum };
	struct tg_track_cursor cursor = { 0 };

	memset(sum, 0, sizeof(*sum));
	return walk(dp, &cursor, SIZE_MAX, add, &reading);
}

/* --- removing ------------------------------------------------------------------------------------------ */

struct removal {
	const struct tg_datapath *dp;
	const struct tg_track_filter *filter; /* NULL: those that have expired */
	struct tg_track_settings settings;
	tg_track_end ended;
	void *user;
	int64_t count;
};

/*
 * Takes an entry out, as it is now: a packet may have come since it was read. One that lives again, as a flow
 * has begun anew with its ports, goes back.
 */
static void take_out(struct removal *removal, const struct tg_track_entry *entry)
{
	int map = removal->dp->maps[tables[entry->embryo]];
	struct tg_track_entry now = *entry;

	if (bpf_map_lookup_and_delete_elem(map, &entry->id, &now.track))
		return;
	if (!removal->filter && left_of(&removal->settings, &now.track, tg_track_now()) > 0) {
		bpf_map_update_elem(map, &entry->id, &now.track, BPF_NOEXIST);
		return;
	}
	removal->count++;
	if (removal->ended)
		removal->ended(removal->user, &now);
}

static void remove_entry(void *user, const struct tg_track_entry *entry, bool live)
{
	struct removal *removal = user;

	if (removal->filter ? live && tg_track_matches(removal->filter, entry) : !live)
		take_out(removal, entry);
}

int64_t tg_tracks_kill(const struct tg_datapath *dp, const struct tg_track_filter *filter,
	tg_track_end ended, void *user)
{
	struct removal removal = { .dp = dp, .filter = filter, .ended = ended, .user = user };
	struct tg_track_cursor cursor = { 0 };
	int result = walk(dp, &cursor, SIZE_MAX, remove_entry, &removal);

	return result ? result : removal.count;
}

int tg_tracks_collect(const struct tg_datapath *dp, struct tg_track_cursor *cursor, size_t most,
	tg_track_end ended, void *user)
{
	struct removal removal = {
		.dp = dp, .settings = settings_of(dp), .ended = ended, .user = user
	};
	int result;

	if (cursor->table >= TABLES)
		*cursor = (struct tg_track_cursor){ 0 };
	result = walk(dp, cursor, most, remove_entry, &removal);
	if (result)
		*cursor = (struct tg_track_cursor){ 0 };
	return result ? result : (int)removal.count;
}

/* --- the rest -------------------------------------------------------------------------------------------- */

uint64_t tg_tracks_counter(const struct tg_datapath *dp, enum tg_track_count what)
{
	__u64 *values = calloc(libbpf_num_possible_cpus(), sizeof(*values));
	__u32 key = what;
	uint64_t sum = 0;

	if (values && dp->maps[TG_MAP_TRACK_COUNTERS] >= 0 &&
		!bpf_map_lookup_elem(dp->maps[TG_MAP_TRACK_COUNTERS], &key, values))
		for (int i = 0; i < libbpf_num_possible_cpus(); i++)
			sum += values[i];
	free(values);
	return sum;
}

int tg_tracks_set(const struct tg_datapath *dp, const struct tg_track_settings *settings)
{
	__u32 zero = 0;

	return bpf_map_update_elem(dp->maps[TG_MAP_TRACK_SETTINGS], &zero, settings, BPF_ANY)
		       ? -errno
		       : 0;
}
