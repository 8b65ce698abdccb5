/* SPDX-License-Identifier: GPL-2.0-only */
/* Adding and removing prefixes (see deny.h), in slices, so that who asks something meanwhile waits little. */
#include "deny_internal.h"

#include "grace.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SLICE 512 /* prefixes: below a millisecond */
#define AHEAD 8
#define V6    0x80000000u

/* A change under way. */
struct change {
	struct tg_deny *deny;
	int class;
	uint32_t *added; /* the records added, V6 with those of IPv6 */
	size_t count;
	uint8_t *keep[2]; /* by record, a bit: it was given; NULL: not asked */
	struct tg_deny_change done;
	struct tg_error *error;
};

static int apply(struct tg_deny *deny, bool v6, const struct tg_deny_key *key)
{
	return v6 ? tg_deny6_apply(&deny->six, key) : tg_deny4_apply(&deny->four, key);
}

/* Many prefixes are many cache misses: those of the ones ahead are fetched meanwhile. */
static void expect(const struct tg_deny *deny, const struct tg_deny_prefix *prefix)
{
	struct tg_deny_key key = tg_deny_key_of(prefix);

	if (prefix->v6)
		tg_deny6_expect(&deny->six, &key);
	else
		tg_deny4_expect(&deny->four, &key);
}

static void tidy(struct tg_deny *deny)
{
	if (deny->open[0])
		tg_deny4_tidy(&deny->four);
	if (deny->open[1])
		tg_deny6_tidy(&deny->six);
}

/* --- counters of hosts --- */

/* Another class may count the same address: its counters stay. */
static bool is_counted(const struct tg_deny_store *store, const struct tg_deny_key *key)
{
	for (int class = 1; class <= TG_DENY_CLASSES; class ++) {
		uint32_t record = store->by_class[class] ? tg_deny_store_find(store, key, class)
							 : TG_NO_RECORD;

		if (record != TG_NO_RECORD &&
			TG_DENY_WHAT_COUNTED(tg_deny_store_what(store, record)))
			return true;
	}
	return false;
}

static int start_counting(struct tg_deny *deny, bool v6, const struct tg_deny_key *key)
{
	struct tg_host host = tg_deny_host_of(v6, key);
	struct tg_counter *zeros;
	int result = 0;

	if (deny->dp->maps[TG_MAP_DENY_HOSTS] < 0)
		return -ENODEV;
	zeros = calloc(libbpf_num_possible_cpus(), sizeof(*zeros));
	if (!zeros)
		return -ENOMEM;
	if (bpf_map_update_elem(deny->dp->maps[TG_MAP_DENY_HOSTS], &host, zeros, BPF_NOEXIST) &&
		errno != EEXIST)
		result = errno == E2BIG ? -ENOSPC : -errno;
	free(zeros);
	if (!result)
		deny->counted++;
	return result;
}

/* Its record no longer counts. */
static void stop_counting(struct tg_deny *deny, bool v6, const struct tg_deny_key *key)
{
	struct tg_host host = tg_deny_host_of(v6, key);

	deny->counted--;
	if (!is_counted(tg_deny_store_of(deny, v6), key))
		bpf_map_delete_elem(deny->dp->maps[TG_MAP_DENY_HOSTS], &host);
}

/* --- one prefix --- */

static void remove_record(struct tg_deny *deny, bool v6, uint32_t record)
{
	struct tg_deny_store *store = tg_deny_store_of(deny, v6);
	struct tg_deny_key key = tg_deny_store_key(store, record);
	bool counted = TG_DENY_WHAT_COUNTED(tg_deny_store_what(store, record));

	tg_deny_store_remove(store, record);
	apply(deny, v6, &key);
	tg_deny_store_clear(store, record);
	if (counted)
		stop_counting(deny, v6, &key);
}

static int add_record(struct change *change, bool v6, const struct tg_deny_key *key, bool counted)
{
	struct tg_deny *deny = change->deny;
	struct tg_deny_store *store = tg_deny_store_of(deny, v6);
	uint32_t record;
	int result = counted ? start_counting(deny, v6, key) : 0;

	if (result)
		return result;
	record = tg_deny_store_add(store, key, change->class, counted);
	if (record == TG_NO_RECORD) {
		if (counted)
			stop_counting(deny, v6, key);
		return -ENOSPC;
	}
	result = apply(deny, v6, key);
	if (result) {
		remove_record(deny, v6, record);
		return result;
	}
	change->added[change->count++] = record | (v6 ? V6 : 0);
	change->done.added++;
	return 0;
}

static int keep_record(struct change *change, bool v6, uint32_t record,
	const struct tg_deny_key *key, bool counted)
{
	struct tg_deny *deny = change->deny;
	struct tg_deny_store *store = tg_deny_store_of(deny, v6);
	bool was = TG_DENY_WHAT_COUNTED(tg_deny_store_what(store, record));
	int result = counted && !was ? start_counting(deny, v6, key) : 0;

	if (result)
		return result;
	change->done.kept++;
	if (counted == was)
		return 0;
	tg_deny_store_count(store, record, counted);
	apply(deny, v6, key);
	if (was)
		stop_counting(deny, v6, key);
	return 0;
}

static int add_one(struct change *change, const struct tg_deny_prefix *prefix)
{
	struct tg_deny_key key = tg_deny_key_of(prefix);
	bool v6 = prefix->v6, counted = prefix->count && tg_deny_is_host(v6, prefix->length);
	struct tg_deny_store *store = tg_deny_store_of(change->deny, v6);
	uint32_t record = tg_deny_store_find(store, &key, change->class);
	int result;

	if (record != TG_NO_RECORD) {
		result = keep_record(change, v6, record, &key, counted);
	} else {
		result = add_record(change, v6, &key, counted);
		if (!result)
			record = change->added[change->count - 1] & ~V6;
	}
	if (!result && change->keep[v6])
		change->keep[v6][record / 8] |= 1 << record % 8;
	return result;
}

/* --- many --- */

static int refuse(const struct change *change, int code, bool v6)
{
	if (code == -ENODEV)
		return tg_fail(
			change->error, code, "the program has no lists for IPv%d yet", v6 ? 6 : 4);
	if (code == -ENOSPC)
		return tg_fail(change->error, code,
			"no room for more IPv%d prefixes on lists: there are %zu, of at most %d, "
			"and "
			"fewer of odd lengths; or too many addresses with counters, of at most %d",
			v6 ? 6 : 4, tg_deny_store_of(change->deny, v6)->live,
			v6 ? TG_DENY6_MAX : TG_DENY4_MAX, TG_MAX_DENY_HOSTS);
	return tg_fail(change->error, code, "prefixes can't be added: %s", strerror(-code));
}

static bool is_sound(const struct tg_deny_prefix *prefix)
{
	return prefix->v6 <= 1 && prefix->length <= (prefix->v6 ? 128 : 32);
}

/* What would be refused anyway, before anything is touched. */
static int check(const struct change *change, const struct tg_deny_prefix *prefixes, size_t count)
{
	const struct tg_deny_class *classes = change->deny->classes;

	if (change->class < 1 || change->class > TG_DENY_CLASSES || !classes ||
		!classes[change->class].name[0])
		return tg_fail(change->error, -EINVAL, "no such class: %d", change->class);
	for (size_t i = 0; i < count; i++) {
		if (!is_sound(&prefixes[i]))
			return tg_fail(change->error, -EINVAL, "prefix %zu: IPv%d/%d", i + 1,
				prefixes[i].v6 ? 6 : 4, prefixes[i].length);
		if (!change->deny->open[prefixes[i].v6])
			return refuse(change, -ENODEV, prefixes[i].v6);
	}
	return 0;
}

/* Places of IPv6 records that were removed can be had after a grace period. */
static void make_room(struct tg_deny *deny, size_t count)
{
	if (!deny->six.store.resting_count || tg_deny_store_room(&deny->six.store) >= count)
		return;
	tg_grace();
	tg_deny_lock(deny);
	tg_deny_store_rested(&deny->six.store);
	tg_deny_unlock(deny);
}

static void undo(struct change *change)
{
	for (size_t i = 0; i < change->count; i++) {
		if (i % SLICE == 0) {
			if (i)
				tg_deny_unlock(change->deny);
			tg_deny_lock(change->deny);
		}
		remove_record(change->deny, change->added[i] & V6, change->added[i] & ~V6);
	}
	if (change->count)
		tg_deny_unlock(change->deny);
}

static int add_all(struct change *change, const struct tg_deny_prefix *prefixes, size_t count)
{
	int result = check(change, prefixes, count);
	size_t i = 0;

	if (result)
		return result;
	make_room(change->deny, count);
	if (change->deny->open[0])
		tg_deny4_prefer(&change->deny->four, change->class);
	while (!result && i < count) {
		tg_deny_lock(change->deny);
		for (size_t end = i + SLICE; !result && i < count && i < end; i++) {
			if (i + AHEAD < count)
				expect(change->deny, &prefixes[i + AHEAD]);
			result = add_one(change, &prefixes[i]);
		}
		tg_deny_unlock(change->deny);
	}
	if (!result)
		return 0;
	undo(change);
	return refuse(change, result, prefixes[i - 1].v6);
}

/* Removes what is in the class and was not given. */
static void remove_others(struct change *change, bool v6)
{
	struct tg_deny *deny = change->deny;
	struct tg_deny_store *store = tg_deny_store_of(deny, v6);
	uint32_t record = 0;

	while (deny->open[v6] && record < store->used) {
		size_t removed = 0;

		tg_deny_lock(deny);
		for (uint32_t end = record + 16 * SLICE;
			record < store->used && record < end && removed < SLICE; record++) {
			if (TG_DENY_CLASS(tg_deny_store_what(store, record)) != change->class ||
				change->keep[v6][record / 8] >> record % 8 & 1)
				continue;
			remove_record(deny, v6, record);
			removed++;
		}
		tg_deny_unlock(deny);
		change->done.removed += removed;
	}
}

/* How many will go. */
static size_t others(const struct change *change)
{
	struct tg_deny *deny = change->deny;
	size_t kept = 0;

	for (int v6 = 0; v6 < 2; v6++)
		for (uint32_t i = 0; i < tg_deny_store_of(deny, v6)->used / 8 + 1; i++)
			kept += __builtin_popcount(change->keep[v6][i]);
	return deny->four.store.by_class[change->class] + deny->six.store.by_class[change->class] -
	       kept;
}

static int begin(struct change *change, size_t count, bool replace)
{
	change->added = calloc(count + 1, sizeof(*change->added));
	if (!change->added)
		return -ENOMEM;
	if (!replace)
		return 0;
	change->keep[0] = calloc(TG_DENY4_MAX / 8 + 1, 1);
	change->keep[1] = calloc(TG_DENY6_MAX / 8 + 1, 1);
	return change->keep[0] && change->keep[1] ? 0 : -ENOMEM;
}

static void finish(struct change *change, struct tg_deny_change *out)
{
	free(change->added);
	free(change->keep[0]);
	free(change->keep[1]);
	if (out)
		*out = change->done;
}

/* Only the tables that packets are looked up in change, which nobody else does: the lock need not be held. */
static void choose_favourite(struct tg_deny *deny)
{
	int class = deny->open[0] ? tg_deny4_rival(&deny->four) : 0;

	if (!class)
		return;
	tg_deny4_unseat(&deny->four);
	tg_grace();
	tg_deny4_seat(&deny->four, class);
}

static int run(struct change *change, const struct tg_deny_prefix *prefixes, size_t count,
	bool replace, struct tg_deny_change *out)
{
	struct tg_deny *deny = change->deny;
	int result = begin(change, count, replace);

	pthread_mutex_lock(&deny->writer);
	result = result ? tg_fail(change->error, result, "no memory for %zu prefixes", count)
			: add_all(change, prefixes, count);
	if (result)
		change->done = (struct tg_deny_change){ 0 };
	if (!result && replace && others(change)) {
		/* A packet that missed what is new still finds what is old. */
		if (change->done.added)
			tg_grace();
		remove_others(change, false);
		remove_others(change, true);
		tg_deny_lock(deny);
		tidy(deny);
		tg_deny_unlock(deny);
	}
	choose_favourite(deny);
	pthread_mutex_unlock(&deny->writer);
	finish(change, out);
	return result;
}

int tg_deny_add(struct tg_deny *deny, int class, const struct tg_deny_prefix *prefixes,
	size_t count, struct tg_deny_change *change, struct tg_error *error)
{
	struct change this = { .deny = deny, .class = class, .error = error };

	return run(&this, prefixes, count, false, change);
}

int tg_deny_replace(struct tg_deny *deny, int class, const struct tg_deny_prefix *prefixes,
	size_t count, struct tg_deny_change *change, struct tg_error *error)
{
	struct change this = { .deny = deny, .class = class, .error = error };

	return run(&this, prefixes, count, true, change);
}

void tg_deny_remove(struct tg_deny *deny, int class, const struct tg_deny_prefix *prefixes,
	size_t count, struct tg_deny_change *change)
{
	struct tg_deny_change done = { 0 };
	size_t i = 0;

	pthread_mutex_lock(&deny->writer);
	while (i < count) {
		tg_deny_lock(deny);
		for (size_t end = i + SLICE; i < count && i < end; i++) {
			struct tg_deny_key key = tg_deny_key_of(&prefixes[i]);
			struct tg_deny_store *store = tg_deny_store_of(deny, prefixes[i].v6);
			uint32_t record = is_sound(&prefixes[i]) && deny->open[prefixes[i].v6]
						  ? tg_deny_store_find(store, &key, class)
						  : TG_NO_RECORD;

			if (record == TG_NO_RECORD)
				continue;
			remove_record(deny, prefixes[i].v6, record);
			done.removed++;
		}
		tg_deny_unlock(deny);
	}
	tg_deny_lock(deny);
	tidy(deny);
	tg_deny_unlock(deny);
	pthread_mutex_unlock(&deny->writer);
	if (change)
		*change = done;
}
