/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Which rules can never decide, read off the compiled tables: in a field, a rule is covered by those
 * that stand in every vector in which it stands itself.
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "classify.h"

typedef struct tg_policy_vector rule_set;

/* Of one field: the rules that match some value of it, and of each those that match wherever it does. */
struct field_facts {
	rule_set possible;
	rule_set covers[TG_POLICY_RULES];
};

struct examination {
	const struct tg_classifier *classifier;
	uint8_t *used; /* by a number: the field leads there */
	bool *seen;    /* blocks */
};

static bool has(const rule_set *set, uint32_t rule)
{
	return set->rules[rule / 64] >> rule % 64 & 1;
}

static void keep(rule_set *set, const rule_set *other)
{
	for (int i = 0; i < TG_POLICY_WORDS; i++)
		set->rules[i] &= other->rules[i];
}

static const void *thing_at(
	const struct tg_classifier *classifier, uint32_t page, uint32_t number, size_t size)
{
	return (const char *)classifier->pages + (page - 1) * (size_t)TG_POLICY_PAGE +
	       number * size;
}

/* --- which classes a field leads to ------------------------------------------------------------------- */

static void mark(struct examination *e, uint32_t entry)
{
	const struct tg_policy *policy = &e->classifier->policy;
	uint32_t number = entry & TG_POLICY_NUMBER;

	if (entry < TG_POLICY_BLOCK) {
		e->used[entry] = true;
	} else if (entry >= TG_POLICY_STEP) {
		const struct tg_policy_step *step =
			thing_at(e->classifier, policy->steps, number, sizeof(*step));

		mark(e, step->inside);
		mark(e, step->outside);
	} else if (!e->seen[number]) {
		const struct tg_policy_block *block =
			thing_at(e->classifier, policy->blocks, number, sizeof(*block));

		e->seen[number] = true;
		for (int i = 0; i < 256; i++)
			mark(e, block->entry[i]);
	}
}

/* The values from `first` to `last`. */
static void mark_table(
	struct examination *e, enum tg_policy_field field, uint32_t first, uint32_t last)
{
	const struct tg_policy_table *table = &e->classifier->policy.table[field];
	const uint16_t *entries;

	if (!table->page) {
		mark(e, table->entry);
		return;
	}
	entries = thing_at(e->classifier, table->page, 0, 0);
	for (uint32_t value = first; value <= last; value++)
		if (value == first || entries[value] != entries[value - 1])
			mark(e, entries[value]);
}

static void forget_marks(struct examination *e)
{
	memset(e->used, 0, TG_POLICY_MOST);
	memset(e->seen, 0, TG_POLICY_MOST * sizeof(*e->seen));
}

/* --- what its vectors say ---------------------------------------------------------------------------- */

static void learn(struct field_facts *facts, const rule_set *vector, uint32_t rules)
{
	for (uint32_t rule = 0; rule < rules; rule++) {
		if (!has(vector, rule))
			continue;
		facts->possible.rules[rule / 64] |= 1ull << rule % 64;
		keep(&facts->covers[rule], vector);
	}
}

/* From all vectors that are marked: vectors, or (`size` of a pair) a pair's at `offset`. */
static void learn_marked(
	struct examination *e, struct field_facts *facts, uint32_t page, size_t size, size_t offset)
{
	memset(&facts->possible, 0, sizeof(facts->possible));
	memset(facts->covers, 0xff, sizeof(facts->covers));
	for (uint32_t number = 0; number < TG_POLICY_MOST; number++)
		if (e->used[number])
			learn(facts,
				(const void *)((const char *)thing_at(
						       e->classifier, page, number, size) +
					       offset),
				e->classifier->policy.rules);
}

static void learn_address(
	struct examination *e, struct field_facts *facts, enum tg_policy_field field)
{
	forget_marks(e);
	mark_table(e, field, 0, 65535);
	learn_marked(e, facts, e->classifier->policy.vectors, sizeof(rule_set), 0);
}

static void learn_kinds(struct examination *e, struct field_facts *facts)
{
	forget_marks(e);
	for (int field = TG_POLICY_KIND; field <= TG_POLICY_LATER; field++)
		mark_table(e, field, 0, 65535);
	learn_marked(e, facts, e->classifier->policy.vectors, sizeof(rule_set), 0);
}

/* Of packets that have ports. */
static void learn_ported_kinds(struct examination *e, struct field_facts *facts)
{
	forget_marks(e);
	for (int field = TG_POLICY_KIND; field <= TG_POLICY_FIRST; field++) {
		mark_table(e, field, TG_POLICY_KIND_OF(IPPROTO_TCP, 0),
			TG_POLICY_KIND_OF(IPPROTO_TCP, 255));
		mark_table(e, field, TG_POLICY_KIND_OF(IPPROTO_UDP, 0),
			TG_POLICY_KIND_OF(IPPROTO_UDP, 0));
	}
	learn_marked(e, facts, e->classifier->policy.vectors, sizeof(rule_set), 0);
}

static void learn_ports(
	struct examination *e, struct field_facts *facts, enum tg_policy_field field, size_t offset)
{
	const struct tg_policy *policy = &e->classifier->policy;

	forget_marks(e);
	mark_table(e, field, 0, 65535);
	mark(e, field == TG_POLICY_SPORT ? policy->sport_none : policy->dport_none);
	learn_marked(e, facts, policy->ports, sizeof(struct tg_policy_ports), offset);
}

/* --- together ------------------------------------------------------------------------------------------ */

struct verdicts {
	rule_set covers[TG_POLICY_RULES]; /* by rule: those that match whatever it matches */
	rule_set possible;
};

static void join(struct verdicts *v, const struct field_facts *facts)
{
	keep(&v->possible, &facts->possible);
	for (int rule = 0; rule < TG_POLICY_RULES; rule++)
		keep(&v->covers[rule], &facts->covers[rule]);
}

/* The rules that ask nothing of ports match also what has none. */
static void drop_portless(
	struct verdicts *v, const struct examination *e, const struct field_facts *ported)
{
	const struct tg_policy *policy = &e->classifier->policy;
	const struct tg_policy_ports *sport, *dport;

	sport = thing_at(e->classifier, policy->ports, policy->sport_none, sizeof(*sport));
	dport = thing_at(e->classifier, policy->ports, policy->dport_none, sizeof(*dport));
	for (int i = 0; i < TG_POLICY_WORDS; i++)
		v->possible.rules[i] &=
			ported->possible.rules[i] |
			(sport->own.rules[i] & dport->own.rules[i] & sport->either.rules[i]);
}

/* What one family's packets tell; a rule that none of them can match is covered there by all. */
static void judge_family(struct verdicts *v, struct examination *e, struct field_facts *facts,
	enum tg_policy_field source, enum tg_policy_field dest)
{
	memset(v, 0xff, sizeof(*v));
	learn_address(e, facts, source);
	join(v, facts);
	learn_address(e, facts, dest);
	join(v, facts);
	for (uint32_t rule = 0; rule < TG_POLICY_RULES; rule++)
		if (!has(&v->possible, rule))
			memset(&v->covers[rule], 0xff, sizeof(v->covers[rule]));
}

static void join_families(
	struct verdicts *v, const struct verdicts *four, const struct verdicts *six)
{
	for (int i = 0; i < TG_POLICY_WORDS; i++)
		v->possible.rules[i] &= four->possible.rules[i] | six->possible.rules[i];
	for (int rule = 0; rule < TG_POLICY_RULES; rule++) {
		keep(&v->covers[rule], &four->covers[rule]);
		keep(&v->covers[rule], &six->covers[rule]);
	}
}

static struct tg_rule_finding finding_of(const struct verdicts *v, uint32_t rule)
{
	if (!has(&v->possible, rule))
		return (struct tg_rule_finding){ TG_RULE_VOID, 0 };
	for (uint32_t other = 0; other < rule; other++)
		if (has(&v->covers[rule], other))
			return (struct tg_rule_finding){
				has(&v->covers[other], rule) ? TG_RULE_DUPLICATE : TG_RULE_SHADOWED,
				other
			};
	return (struct tg_rule_finding){ TG_RULE_SOUND, 0 };
}

struct work {
	struct field_facts facts; /* of the field that was looked at last */
	struct verdicts all, four, six;
	uint8_t used[TG_POLICY_MOST];
	bool seen[TG_POLICY_MOST];
};

static void examine(struct examination *e, struct work *work)
{
	static const size_t own = offsetof(struct tg_policy_ports, own),
			    either = offsetof(struct tg_policy_ports, either);
	struct field_facts *facts = &work->facts;
	struct verdicts *v = &work->all;

	memset(v, 0xff, sizeof(*v));
	learn_ports(e, facts, TG_POLICY_SPORT, own);
	join(v, facts);
	learn_ports(e, facts, TG_POLICY_DPORT, own);
	join(v, facts);
	learn_ports(e, facts, TG_POLICY_SPORT, either);
	join(v, facts);
	learn_kinds(e, facts);
	join(v, facts);
	learn_ported_kinds(e, facts);
	drop_portless(v, e, facts);
	judge_family(&work->four, e, facts, TG_POLICY_SRC4, TG_POLICY_DST4);
	judge_family(&work->six, e, facts, TG_POLICY_SRC6, TG_POLICY_DST6);
	join_families(v, &work->four, &work->six);
}

int tg_classifier_examine(const struct tg_classifier *classifier, struct tg_rule_finding *findings)
{
	struct work *work = malloc(sizeof(*work));
	struct examination e = { classifier, work ? work->used : NULL, work ? work->seen : NULL };

	if (!work)
		return -ENOMEM;
	examine(&e, work);
	for (uint32_t rule = 0; rule < classifier->policy.rules; rule++)
		findings[rule] = finding_of(&work->all, rule);
	free(work);
	return 0;
}
