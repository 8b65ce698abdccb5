/* SPDX-License-Identifier: GPL-2.0-only */
/* Which programs features and policies ask for, and how they come into force (see datapath.h). */
#include "datapath_load.h"
#include "datapath_pins.h"
#include "datapath_ports.h"
#include "datapath_program.h"
#include "datapath_tracks.h"
#include "flow_hash.h"
#include "policy.h"
#include "rule_counters.h"

#include "tc.skel.h"
#include "xdp.skel.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef const struct tg_compiled_policy *const *policy_list;

/* --- policies ------------------------------------------------------------------------------------------- */

/* In one call: an array that programs may not write can't be mapped to be written. */
static int fill_map(int map, const struct tg_policy_pages *pages)
{
	__u32 *keys = calloc(pages->count, sizeof(*keys)), count = pages->count;
	int result = keys ? 0 : -ENOMEM;

	for (__u32 i = 0; keys && i < count; i++)
		keys[i] = i;
	if (!result && bpf_map_update_batch(map, keys, pages->pages, &count, NULL))
		result = -errno;
	free(keys);
	return result;
}

static int make_map(const struct tg_policy_pages *pages, struct tg_error *error)
{
	LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = BPF_F_MMAPABLE | BPF_F_RDONLY_PROG);
	int map = bpf_map_create(BPF_MAP_TYPE_ARRAY, "policy_pages", sizeof(__u32), TG_POLICY_PAGE,
		    pages->count, &options),
	    result;

	if (map < 0)
		return tg_load_error(-errno, error);
	result = fill_map(map, pages);
	if (!result)
		return map;
	close(map);
	return tg_fail(error, result, "the policies' table can't be filled: %s", strerror(-result));
}

static bool asks_policies(__u32 features)
{
	return features & TG_FOR_POLICY;
}

/* Those in force are the same, or nobody asks. */
static bool same_policies(
	const struct tg_datapath *dp, __u32 features, const struct tg_policy_pages *pages)
{
	return !asks_policies(features) ||
	       (dp->policy_pages >= 0 && (!pages || pages->hash == dp->info.policy_hash));
}

/* The map for these pages: the one in force, or a new one. To be closed. */
static int choose_policies(const struct tg_datapath *dp, __u32 features,
	const struct tg_policy_pages *pages, struct tg_policies *policies, struct tg_error *error)
{
	static const struct tg_compiled_policy *const none[TG_MAX_POLICIES];
	struct tg_policy_pages empty = { 0 };
	int result = 0;

	*policies = (struct tg_policies){ -1, dp->info.policy_words, dp->info.policy_hash };
	if (same_policies(dp, features, pages)) {
		policies->map = dp->policy_pages < 0 ? -1 : dup(dp->policy_pages);
		return 0;
	}
	if (!pages)
		result = tg_policy_lay_out(none, &empty, error);
	if (result)
		return result;
	pages = pages ? pages : &empty;
	*policies = (struct tg_policies){ make_map(pages, error), pages->words, pages->hash };
	tg_policy_pages_free(&empty);
	return policies->map < 0 ? policies->map : 0;
}

/* --- which programs ----------------------------------------------------------------------------------------- */

/* Is one to be loaded, if only to see whether it is the pinned one? `of` is what matters to its hook. */
static bool differs(const struct tg_datapath *dp, int program, __u32 features,
	const struct tg_policies *policies, __u32 (*of)(__u32 features))
{
	return program < 0 || of(features) != of(dp->info.features) ||
	       (asks_policies(of(features)) && policies->hash != dp->info.policy_hash);
}

static int load_xdp(struct tg_datapath *dp, struct tg_programs *programs, struct tg_error *error)
{
	int result;

	programs->xdp = xdp_bpf__open();
	if (!programs->xdp)
		return tg_load_error(-errno, error);
	result = tg_load_object(dp, programs->xdp->skeleton, programs->xdp->rodata,
		tg_features_of_xdp(programs->features), &programs->policies, error);
	if (!result)
		result = tg_program_enter_rare(programs->xdp->obj);
	if (result)
		return tg_load_error(result, error);
	return tg_load_keep_maps(dp, programs->xdp->obj, error);
}

static int load_tc(struct tg_datapath *dp, struct tg_programs *programs, struct tg_error *error)
{
	int result;

	programs->tc = tg_tracks_open_programs(programs->features, &result, error);
	if (!programs->tc)
		return result;
	result = tg_load_object(dp, programs->tc->skeleton, programs->tc->rodata,
		tg_features_of_tc(programs->features), &programs->policies, error);
	return result ? result : tg_load_keep_maps(dp, programs->tc->obj, error);
}

static int load_those_that_differ(
	struct tg_datapath *dp, struct tg_programs *programs, struct tg_error *error)
{
	__u32 features = programs->features;
	int result = 0;

	if (differs(dp, dp->program, features, &programs->policies, tg_features_of_xdp))
		result = load_xdp(dp, programs, error);
	if (!result && features & TG_FEATURES_TC &&
		differs(dp, dp->tc[0], features, &programs->policies, tg_features_of_tc))
		result = load_tc(dp, programs, error);
	return result;
}

/* --- counters of rules ---------------------------------------------------------------------------------------- */

/* The rule's, from zero. */
static int begin_counter(void *user, __u32 counter, const struct tg_rule_key *key)
{
	struct tg_datapath *dp = user;
	struct tg_rule_counter *zeros = calloc(libbpf_num_possible_cpus(), sizeof(*zeros));
	int result = zeros ? 0 : -ENOMEM;

	if (!result &&
		bpf_map_update_elem(dp->maps[TG_MAP_RULE_COUNTERS], &counter, zeros, BPF_ANY))
		result = -errno;
	if (!result && bpf_map_update_elem(dp->maps[TG_MAP_RULE_KEYS], &counter, key, BPF_ANY))
		result = -errno;
	free(zeros);
	return result;
}

static void end_counter(void *user, __u32 counter)
{
	static const struct tg_rule_key nobody;
	struct tg_datapath *dp = user;

	if (dp->maps[TG_MAP_RULE_KEYS] >= 0)
		bpf_map_update_elem(dp->maps[TG_MAP_RULE_KEYS], &counter, &nobody, BPF_ANY);
}

static int begin_counters(
	struct tg_datapath *dp, __u32 features, policy_list policies, struct tg_error *error)
{
	int result = 0;

	if (policies && asks_policies(features))
		result = tg_rule_counters_begin(dp->counters, policies, begin_counter, dp);
	return result ? tg_fail(error, result, "the counters of rules can't be written: %s",
				strerror(-result))
		      : 0;
}

/* --- together --------------------------------------------------------------------------------------------------- */

static bool nothing_changes(
	const struct tg_datapath *dp, __u32 features, const struct tg_policy_pages *pages)
{
	return dp->program >= 0 && dp->info.features == features &&
	       same_policies(dp, features, pages);
}

static void destroy(struct tg_programs *programs)
{
	xdp_bpf__destroy(programs->xdp);
	tc_bpf__destroy(programs->tc);
	if (programs->policies.map >= 0)
		close(programs->policies.map);
}

static int specialise(struct tg_datapath *dp, __u32 features, policy_list policies,
	const struct tg_policy_pages *pages, struct tg_error *error)
{
	struct tg_programs programs = { .features = features, .policies.map = -1 };
	int result;

	error->text[0] = 0;
	if (nothing_changes(dp, features, pages))
		return begin_counters(dp, features, policies, error);
	result = tg_pins_make_dirs(dp->dir, error);
	if (!result)
		result = choose_policies(dp, features, pages, &programs.policies, error);
	if (!result)
		result = load_those_that_differ(dp, &programs, error);
	if (!result)
		result = begin_counters(dp, features, policies, error);
	if (!result)
		result = tg_program_put_in_force(dp, &programs, error);
	if (!result)
		tg_port_slots_record(dp);
	destroy(&programs);
	return result;
}

int tg_datapath_specialise(struct tg_datapath *dp, __u32 features, struct tg_error *error)
{
	return specialise(dp, features, NULL, NULL, error);
}

int tg_datapath_commit(struct tg_datapath *dp, __u32 features,
	const struct tg_compiled_policy *const policies[TG_MAX_POLICIES], struct tg_error *error)
{
	struct tg_policy_pages pages;
	int result = tg_policy_lay_out(policies, &pages, error);

	if (!result)
		result = specialise(dp, features, policies, &pages, error);
	if (!result)
		tg_rule_counters_end(dp->counters, policies, end_counter, dp);
	tg_policy_pages_free(&pages);
	return result;
}
