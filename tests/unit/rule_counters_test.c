/* SPDX-License-Identifier: GPL-2.0-only */
/* core/rule_counters.h: a rule keeps its counter while it stays, and nobody gets it before that is over. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "rule_counters.h"
#include "unit.h"

static struct tg_rule_counters *counters;
static struct tg_rule_key recorded[TG_MAX_RULE_COUNTERS]; /* as the pinned map */
static int zeroed;

static int ask(const char *key)
{
	return tg_rule_counters_ask(counters, key, strlen(key));
}

static int on_fresh(void *user, __u32 counter, const struct tg_rule_key *key)
{
	recorded[counter] = *key;
	zeroed++;
	return 0;
}

static void on_gone(void *user, __u32 counter)
{
	recorded[counter] = (struct tg_rule_key){ 0 };
}

/* Puts a policy in force whose two rules and default have these counters. */
static void commit(int first, int second, int otherwise)
{
	struct tg_rule rules[2] = { 0 };
	struct tg_policy_rule does[2] = { { .counter = first }, { .counter = second } };
	struct tg_policy_spec spec = {
		.rules = rules, .does = does, .count = 2, .otherwise = { .counter = otherwise }
	};
	const struct tg_compiled_policy *policies[TG_MAX_POLICIES] = { 0 };
	struct tg_compiled_policy policy;
	struct tg_error error;

	CHECK_INT(0, tg_policy_compile(&spec, &policy, NULL, &error));
	policies[5] = &policy;
	zeroed = 0;
	CHECK_INT(0, tg_rule_counters_begin(counters, policies, on_fresh, NULL));
	tg_rule_counters_end(counters, policies, on_gone, NULL);
	tg_policy_free(&policy);
}

static int count_recorded(void)
{
	int count = 0;

	for (int i = 0; i < TG_MAX_RULE_COUNTERS; i++)
		count += recorded[i].digest[0] != 0;
	return count;
}

static void start(void)
{
	counters = tg_rule_counters_new();
	memset(recorded, 0, sizeof(recorded));
}

static void stop(void)
{
	tg_rule_counters_free(counters);
}

static void a_rule_that_stays_keeps_its_counter_and_what_it_counted(void)
{
	int a, b, other;

	start();
	a = ask("a"), b = ask("b"), other = ask("default");
	CHECK(a != b && b != other && a != other);
	commit(a, b, other);
	CHECK_INT(3, zeroed);
	CHECK_INT(a, ask("a"));
	CHECK_INT(b, ask("b"));
	commit(b, a, other);
	CHECK_INT(0, zeroed);
	stop();
}

static void the_counter_of_a_rule_that_went_is_free_and_set_to_zero_for_the_next(void)
{
	int a, b, c, other;

	start();
	a = ask("a"), b = ask("b"), other = ask("default");
	commit(a, b, other);
	ask("a"), ask("default");
	commit(a, a, other);
	CHECK_INT(2, count_recorded());
	CHECK_INT(0, (int)tg_rule_counters_key(counters, b).digest[0]);
	for (int i = 0; i < TG_MAX_RULE_COUNTERS - 2; i++) {
		char key[16];

		snprintf(key, sizeof(key), "n%d", i);
		c = ask(key);
		CHECK(c >= 0 && c != a && c != other);
	}
	CHECK_INT(-ENOSPC, ask("one too many"));
	commit(a, b, other);
	CHECK_INT(1, zeroed);
	stop();
}

static void what_a_generation_that_failed_asked_for_is_free_two_commits_later(void)
{
	int a, failed, other;

	start();
	a = ask("a"), other = ask("default");
	commit(a, a, other);
	failed = ask("failed");
	commit(a, a, other);
	CHECK(tg_rule_counters_key(counters, failed).digest[0] != 0);
	CHECK_INT(failed, ask("failed")); /* a generation that another one overtook */
	commit(a, a, other);
	CHECK(tg_rule_counters_key(counters, failed).digest[0] != 0);
	commit(a, a, other);
	CHECK_INT(0, (int)tg_rule_counters_key(counters, failed).digest[0]);
	stop();
}

static void the_next_daemon_finds_the_same_counters(void)
{
	int a, b, other;

	start();
	ask("something before");
	a = ask("a"), b = ask("b"), other = ask("default");
	commit(a, b, other);
	tg_rule_counters_free(counters);
	counters = tg_rule_counters_new();
	tg_rule_counters_adopt(counters, recorded);
	CHECK_INT(other, ask("default"));
	CHECK_INT(b, ask("b"));
	CHECK_INT(a, ask("a"));
	commit(a, b, other);
	CHECK_INT(0, zeroed);
	CHECK_INT(3, count_recorded());
	stop();
}

static int refuse(void *user, __u32 counter, const struct tg_rule_key *key)
{
	return -EPERM;
}

static void a_failure_to_record_stops(void)
{
	struct tg_rule rule = { 0 };
	struct tg_policy_rule does = { 0 };
	struct tg_policy_spec spec = { .rules = &rule, .does = &does, .count = 1 };
	const struct tg_compiled_policy *policies[TG_MAX_POLICIES] = { 0 };
	struct tg_compiled_policy policy;
	struct tg_error error;

	start();
	does.counter = spec.otherwise.counter = ask("a");
	CHECK_INT(0, tg_policy_compile(&spec, &policy, NULL, &error));
	policies[0] = &policy;
	CHECK_INT(-EPERM, tg_rule_counters_begin(counters, policies, refuse, NULL));
	CHECK_INT(0, tg_rule_counters_begin(counters, policies, on_fresh, NULL));
	tg_policy_free(&policy);
	stop();
}

int main(void)
{
	RUN(a_rule_that_stays_keeps_its_counter_and_what_it_counted);
	RUN(the_counter_of_a_rule_that_went_is_free_and_set_to_zero_for_the_next);
	RUN(what_a_generation_that_failed_asked_for_is_free_two_commits_later);
	RUN(the_next_daemon_finds_the_same_counters);
	RUN(a_failure_to_record_stops);
	return unit_result();
}
