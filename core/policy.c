/* SPDX-License-Identifier: GPL-2.0-only */
#include "policy.h"

#include "digest.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static _Thread_local const char *asked; /* the pages of the policy that is asked */

static const void *policy_page(__u32 number)
{
	return asked + number * (size_t)TG_POLICY_PAGE;
}

#include "../bpf/classify.h"

static int no_memory(struct tg_error *error)
{
	return tg_fail(error, -ENOMEM, "no memory for the policy's tables");
}

static uint32_t pages_for(size_t bytes)
{
	return (bytes + TG_POLICY_PAGE - 1) / TG_POLICY_PAGE;
}

static char *page_of(const struct tg_compiled_policy *policy, uint32_t number)
{
	return (char *)policy->pages + number * (size_t)TG_POLICY_PAGE;
}

/* --- one policy -------------------------------------------------------------------------------------- */

static struct tg_policy_rule without_counter(const struct tg_policy_rule *rule)
{
	return (struct tg_policy_rule){ .action = rule->action, .flags = rule->flags };
}

static void write_head(const struct tg_policy_spec *spec, const struct tg_classifier *classifier,
	struct tg_compiled_policy *policy)
{
	struct tg_policy_head *head = policy->pages;

	head->tables = classifier->policy;
	head->otherwise = without_counter(&spec->otherwise);
	head->rules = 1 + classifier->page_count;
	head->flags = spec->flags;
}

/* The version follows from what the policy says, so that it is the same after a restart; not from counters. */
static void write_rules(const struct tg_policy_spec *spec, struct tg_compiled_policy *policy)
{
	struct tg_policy_head *head = policy->pages;
	struct tg_policy_rule *does = (void *)page_of(policy, head->rules);

	for (size_t i = 0; i < spec->count; i++)
		does[i] = without_counter(&spec->does[i]);
	head->version = tg_digest(policy->pages, policy->page_count * (size_t)TG_POLICY_PAGE, 0);
	head->version += !head->version;
	for (size_t i = 0; i < spec->count; i++)
		does[i].counter = spec->does[i].counter;
	head->otherwise.counter = spec->otherwise.counter;
}

/* The head, the tables (numbered from 1 as they are), the rules. */
static int assemble(const struct tg_policy_spec *spec, const struct tg_classifier *classifier,
	struct tg_compiled_policy *policy)
{
	policy->page_count =
		1 + classifier->page_count + pages_for(spec->count * sizeof(struct tg_policy_rule));
	policy->pages = calloc(policy->page_count, TG_POLICY_PAGE);
	if (!policy->pages)
		return -ENOMEM;
	memcpy(page_of(policy, 1), classifier->pages,
		classifier->page_count * (size_t)TG_POLICY_PAGE);
	write_head(spec, classifier, policy);
	write_rules(spec, policy);
	return 0;
}

int tg_policy_compile(const struct tg_policy_spec *spec, struct tg_compiled_policy *policy,
	struct tg_rule_finding *findings, struct tg_error *error)
{
	struct tg_classifier classifier;
	int result;

	*policy = (struct tg_compiled_policy){ 0 };
	result = tg_classify(spec->rules, spec->count, &classifier, error);
	if (result)
		return result;
	if (findings)
		result = tg_classifier_examine(&classifier, findings);
	if (!result)
		result = assemble(spec, &classifier, policy);
	tg_classifier_free(&classifier);
	return result ? no_memory(error) : 0;
}

void tg_policy_free(struct tg_compiled_policy *policy)
{
	free(policy->pages);
	*policy = (struct tg_compiled_policy){ 0 };
}

const struct tg_policy_rule *tg_policy_rule(const struct tg_compiled_policy *policy, uint32_t rule)
{
	const struct tg_policy_head *head = tg_policy_head(policy);

	if (rule >= head->tables.rules)
		return &head->otherwise;
	return (const struct tg_policy_rule *)page_of(policy, head->rules) + rule;
}

/* --- a packet asked in user space ----------------------------------------------------------------------- */

static uint32_t detail_of(const struct tg_policy_packet *packet)
{
	if (packet->part == TG_PACKET_LATER)
		return 0;
	if (packet->proto == IPPROTO_TCP)
		return packet->tcp_flags;
	return packet->proto == IPPROTO_ICMP || packet->proto == IPPROTO_ICMPV6 ? packet->icmp_type
										: 0;
}

static struct policy_key key_of(const struct tg_policy_packet *packet)
{
	struct tg_cidr src = tg_cidr_of(&packet->src), dst = tg_cidr_of(&packet->dst);
	struct policy_key key = { .src_hi = src.hi,
		.src_lo = src.lo,
		.dst_hi = dst.hi,
		.dst_lo = dst.lo,
		.kind = TG_POLICY_KIND_OF(packet->proto, detail_of(packet)),
		.part = (enum policy_part)packet->part };

	key.has_ports = packet->part != TG_PACKET_LATER &&
			(packet->proto == IPPROTO_TCP || packet->proto == IPPROTO_UDP);
	key.sport = key.has_ports ? packet->sport : 0;
	key.dport = key.has_ports ? packet->dport : 0;
	return key;
}

uint32_t tg_policy_match(
	const struct tg_compiled_policy *policy, const struct tg_policy_packet *packet)
{
	const struct tg_policy *tables = &tg_policy_head(policy)->tables;
	struct policy_key key = key_of(packet);

	asked = policy->pages;
	return classify(tables, &key, packet->src.family == AF_INET6, tables->words);
}

/* --- all policies together ------------------------------------------------------------------------------ */

static uint32_t moved(uint32_t page, uint32_t by)
{
	return page ? page + by : 0;
}

static void move_head(struct tg_policy_head *head, uint32_t by)
{
	struct tg_policy *tables = &head->tables;

	for (int field = 0; field < TG_POLICY_FIELDS; field++)
		tables->table[field].page = moved(tables->table[field].page, by);
	tables->blocks = moved(tables->blocks, by);
	tables->steps = moved(tables->steps, by);
	tables->vectors = moved(tables->vectors, by);
	tables->ports = moved(tables->ports, by);
	head->rules = moved(head->rules, by);
}

static void lay_out_one(
	struct tg_policy_pages *pages, const struct tg_compiled_policy *policy, uint32_t at)
{
	char *first = (char *)pages->pages + at * (size_t)TG_POLICY_PAGE;
	uint32_t words = tg_policy_head(policy)->tables.words;

	memcpy(first, policy->pages, policy->page_count * (size_t)TG_POLICY_PAGE);
	move_head((struct tg_policy_head *)first, at);
	if (words > pages->words)
		pages->words = words;
}

int tg_policy_lay_out(const struct tg_compiled_policy *const policies[TG_MAX_POLICIES],
	struct tg_policy_pages *pages, struct tg_error *error)
{
	struct tg_policy_directory *directory;
	uint32_t at = 1;

	*pages = (struct tg_policy_pages){ .count = 1 };
	for (int i = 0; i < TG_MAX_POLICIES; i++)
		pages->count += policies[i] ? policies[i]->page_count : 0;
	directory = pages->pages = calloc(pages->count, TG_POLICY_PAGE);
	if (!directory)
		return no_memory(error);
	for (int i = 0; i < TG_MAX_POLICIES; i++) {
		if (!policies[i])
			continue;
		directory->page[i] = at;
		if (i < TG_POLICY_OF_TAP(0) && tg_policy_head(policies[i])->flags & TG_POLICY_STATEFUL)
			directory->stateful[i / TG_DIRECTIONS / 32] |= 1u << i / TG_DIRECTIONS % 32;
		lay_out_one(pages, policies[i], at);
		at += policies[i]->page_count;
	}
	pages->hash = tg_digest(pages->pages, pages->count * (size_t)TG_POLICY_PAGE, 0);
	directory->generation = pages->hash;
	directory->generation += !directory->generation;
	return 0;
}

void tg_policy_pages_free(struct tg_policy_pages *pages)
{
	free(pages->pages);
	*pages = (struct tg_policy_pages){ 0 };
}
