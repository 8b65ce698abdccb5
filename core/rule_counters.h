/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Which counter of `rule_counters` is whose. A rule is known by a text, its key; it has the same counter as long
 * as it stays, over reloads and restarts: the pinned map `rule_keys` tells the next daemon.
 *
 * A counter is asked for while files load, and belongs to nobody until a commit: what the first commit after
 * that does not use may come with the next one, what that does not use either is free again. Every function
 * may be called by any thread.
 */
#ifndef TG_RULE_COUNTERS_H
#define TG_RULE_COUNTERS_H

#include <stddef.h>

#include "policy.h"
#include "ports_abi.h"

struct tg_rule_counters;

struct tg_rule_counters *tg_rule_counters_new(void);
void tg_rule_counters_free(struct tg_rule_counters *counters);

/* The counter of the rule with that key, or -ENOSPC or -ENOMEM. */
int tg_rule_counters_ask(struct tg_rule_counters *counters, const void *key, size_t size);
/* Its key as it is recorded. */
struct tg_rule_key tg_rule_counters_key(struct tg_rule_counters *counters, int counter);

/* Takes over the counters that TG_MAX_RULE_COUNTERS `keys` tell of. Before anybody asks. */
void tg_rule_counters_adopt(struct tg_rule_counters *counters, const struct tg_rule_key *keys);

/*
 * Before these policies (NULL among them: none) are put in force: calls `fresh` for each counter of theirs that was
 * not in force, which is to be set to zero and recorded. Not 0 stops and is returned.
 */
int tg_rule_counters_begin(struct tg_rule_counters *counters,
	const struct tg_compiled_policy *const policies[TG_MAX_POLICIES],
	int (*fresh)(void *user, __u32 counter, const struct tg_rule_key *key), void *user);
/* Now they are in force: calls `gone` for each counter that is free again. */
void tg_rule_counters_end(struct tg_rule_counters *counters,
	const struct tg_compiled_policy *const policies[TG_MAX_POLICIES],
	void (*gone)(void *user, __u32 counter), void *user);

#endif
