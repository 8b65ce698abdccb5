/* SPDX-License-Identifier: GPL-2.0-only */
#include "rule_counters.h"

#include "digest.h"
#include "table.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

struct rule_counter {
	struct tg_table_node node; /* in `known`, unless its key is 0 */
	struct tg_rule_key key;	   /* 0: free */
	uint32_t asked;		   /* when: the number of commits before */
	bool recorded;		   /* in force, at some commit since it was given */
	bool used;		   /* by the policies that are looked at */
};

struct tg_rule_counters {
	uv_mutex_t lock;
	struct tg_table known;
	uint32_t commits;
	uint32_t next; /* where to look for a free one */
	struct rule_counter all[TG_MAX_RULE_COUNTERS];
};

struct tg_rule_counters *tg_rule_counters_new(void)
{
	struct tg_rule_counters *counters = calloc(1, sizeof(*counters));

	if (counters)
		uv_mutex_init(&counters->lock);
	return counters;
}

void tg_rule_counters_free(struct tg_rule_counters *counters)
{
	if (!counters)
		return;
	tg_table_free(&counters->known);
	uv_mutex_destroy(&counters->lock);
	free(counters);
}

static bool is_free(const struct rule_counter *counter)
{
	return !counter->key.digest[0];
}

static struct tg_rule_key key_of(const void *text, size_t size)
{
	struct tg_rule_key key = { { tg_digest(text, size, 1), tg_digest(text, size, 2) } };

	key.digest[0] += !key.digest[0];
	return key;
}

static struct rule_counter *find(struct tg_rule_counters *counters, const struct tg_rule_key *key)
{
	struct tg_table_node *node = tg_table_first(&counters->known, key->digest[0]);

	for (; node; node = tg_table_next(node)) {
		struct rule_counter *counter = (struct rule_counter *)node;

		if (!memcmp(&counter->key, key, sizeof(*key)))
			return counter;
	}
	return NULL;
}

static struct rule_counter *find_free(struct tg_rule_counters *counters)
{
	for (uint32_t i = 0; i < TG_MAX_RULE_COUNTERS; i++) {
		uint32_t number = (counters->next + i) % TG_MAX_RULE_COUNTERS;

		if (is_free(&counters->all[number])) {
			counters->next = number + 1;
			return &counters->all[number];
		}
	}
	return NULL;
}

static int give(struct tg_rule_counters *counters, struct rule_counter *counter,
	const struct tg_rule_key *key)
{
	int result = tg_table_insert(&counters->known, &counter->node, key->digest[0]);

	if (!result)
		counter->key = *key;
	return result;
}

static void set_free(struct tg_rule_counters *counters, struct rule_counter *counter)
{
	tg_table_remove(&counters->known, &counter->node);
	*counter = (struct rule_counter){ 0 };
}

static int ask(struct tg_rule_counters *counters, const struct tg_rule_key *key)
{
	struct rule_counter *counter = find(counters, key);
	int result;

	if (!counter) {
		counter = find_free(counters);
		result = counter ? give(counters, counter, key) : -ENOSPC;
		if (result)
			return result;
	}
	counter->asked = counters->commits;
	return counter - counters->all;
}

int tg_rule_counters_ask(struct tg_rule_counters *counters, const void *key, size_t size)
{
	struct tg_rule_key recorded = key_of(key, size);
	int result;

	uv_mutex_lock(&counters->lock);
	result = ask(counters, &recorded);
	uv_mutex_unlock(&counters->lock);
	return result;
}

struct tg_rule_key tg_rule_counters_key(struct tg_rule_counters *counters, int counter)
{
	struct tg_rule_key key;

	uv_mutex_lock(&counters->lock);
	key = counters->all[counter].key;
	uv_mutex_unlock(&counters->lock);
	return key;
}

void tg_rule_counters_adopt(struct tg_rule_counters *counters, const struct tg_rule_key *keys)
{
	for (uint32_t i = 0; i < TG_MAX_RULE_COUNTERS; i++)
		if (keys[i].digest[0] && !find(counters, &keys[i]) &&
			!give(counters, &counters->all[i], &keys[i]))
			counters->all[i].recorded = true;
}

/* --- commits --------------------------------------------------------------------------------------------- */

static void mark(struct tg_rule_counters *counters, const struct tg_policy_rule *rule)
{
	if (rule->counter < TG_MAX_RULE_COUNTERS && !is_free(&counters->all[rule->counter]))
		counters->all[rule->counter].used = true;
}

static void mark_used(struct tg_rule_counters *counters,
	const struct tg_compiled_policy *const policies[TG_MAX_POLICIES])
{
	for (uint32_t i = 0; i < TG_MAX_RULE_COUNTERS; i++)
		counters->all[i].used = false;
	for (int i = 0; i < TG_MAX_POLICIES; i++) {
		if (!policies[i])
			continue;
		mark(counters, &tg_policy_head(policies[i])->otherwise);
		for (uint32_t rule = 0; rule < tg_policy_head(policies[i])->tables.rules; rule++)
			mark(counters, tg_policy_rule(policies[i], rule));
	}
}

int tg_rule_counters_begin(struct tg_rule_counters *counters,
	const struct tg_compiled_policy *const policies[TG_MAX_POLICIES],
	int (*fresh)(void *user, __u32 counter, const struct tg_rule_key *key), void *user)
{
	int result = 0;

	uv_mutex_lock(&counters->lock);
	mark_used(counters, policies);
	for (uint32_t i = 0; !result && i < TG_MAX_RULE_COUNTERS; i++)
		if (counters->all[i].used && !counters->all[i].recorded)
			result = fresh(user, i, &counters->all[i].key);
	uv_mutex_unlock(&counters->lock);
	return result;
}

void tg_rule_counters_end(struct tg_rule_counters *counters,
	const struct tg_compiled_policy *const policies[TG_MAX_POLICIES],
	void (*gone)(void *user, __u32 counter), void *user)
{
	uv_mutex_lock(&counters->lock);
	mark_used(counters, policies);
	for (uint32_t i = 0; i < TG_MAX_RULE_COUNTERS; i++) {
		struct rule_counter *counter = &counters->all[i];

		if (is_free(counter))
			continue;
		if (counter->used) {
			counter->recorded = true;
		} else if (counter->asked != counters->commits) {
			set_free(counters, counter);
			gone(user, i);
		}
	}
	counters->commits++;
	uv_mutex_unlock(&counters->lock);
}
