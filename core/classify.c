/* SPDX-License-Identifier: GPL-2.0-only */
#include "classify.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "intern.h"

#define VALUES 65536 /* of a field, or of an address's first 16 bits */

struct compiler {
	const struct tg_rule *rules;
	size_t count;
	struct tg_classifier *classifier;
	struct tg_interned blocks, steps, vectors, ports;
	uint16_t *tables[TG_POLICY_FIELDS]; /* NULL: one entry for all */
	uint16_t constants[TG_POLICY_FIELDS];
	bool failed; /* out of memory or numbers: what is made from then on is not used */
};

static void set_rule(struct tg_policy_vector *vector, size_t rule)
{
	vector->rules[rule / 64] |= 1ull << rule % 64;
}

/* The class of a vector, the block's entry of a block …: equal ones have one number. */
static uint16_t number_of(struct compiler *c, struct tg_interned *pool, const void *thing)
{
	int number = tg_intern(pool, thing);

	if (number < 0) {
		c->failed = true;
		return 0;
	}
	return number;
}

/* --- addresses: a table of the first 16 bits, blocks and steps below it ------------------------------ */

/* A prefix of a rule, left-aligned. */
struct branch {
	struct tg_cidr prefix;
	uint16_t rule;
};

static int compare_branches(const void *a, const void *b)
{
	return tg_cidr_compare(
		&((const struct branch *)a)->prefix, &((const struct branch *)b)->prefix);
}

static uint32_t byte_of(const struct tg_cidr *prefix, uint32_t number)
{
	return (number < 8 ? prefix->hi : prefix->lo) >> (56 - number % 8 * 8) & 0xff;
}

static uint64_t mask_of(int bits)
{
	return bits <= 0 ? 0 : bits >= 64 ? ~0ull : ~0ull << (64 - bits);
}

/* How many bits both begin with, at most `most`. */
static uint32_t common_bits(const struct tg_cidr *a, const struct tg_cidr *b, uint32_t most)
{
	uint32_t bits = 128;

	if (a->hi != b->hi)
		bits = __builtin_clzll(a->hi ^ b->hi);
	else if (a->lo != b->lo)
		bits = 64 + __builtin_clzll(a->lo ^ b->lo);
	return bits < most ? bits : most;
}

/* The prefix that all of these share; they are sorted, and none is shorter than what it returns. */
static uint32_t shared_length(const struct branch *branches, size_t count)
{
	uint32_t shortest = 128;

	for (size_t i = 0; i < count; i++)
		if (branches[i].prefix.length < shortest)
			shortest = branches[i].prefix.length;
	return common_bits(&branches[0].prefix, &branches[count - 1].prefix, shortest);
}

static uint16_t node(struct compiler *c, struct branch *branches, size_t count, uint32_t depth,
	const struct tg_policy_vector *above);

/*
 * The entries of a table by the `bits` bits (8 or 16) that follow `depth`, a multiple of 8: what ends
 * there is painted over all its values, what goes on has one value, and a node of its own.
 */
static void fill(struct compiler *c, uint16_t *entries, uint32_t bits, struct branch *branches,
	size_t count, uint32_t depth, const struct tg_policy_vector *above)
{
	struct tg_policy_vector *rows = malloc(sizeof(*rows) << bits);
	struct branch *longer = branches; /* those stay in order at the front */
	size_t left = 0, from = 0;

	if (!rows) {
		c->failed = true;
		return;
	}
	for (size_t value = 0; value < 1ul << bits; value++)
		rows[value] = *above;
	for (size_t i = 0; i < count; i++) {
		const struct tg_cidr *prefix = &branches[i].prefix;
		uint32_t value = byte_of(prefix, depth / 8), end;

		if (bits == 16)
			value = value << 8 | byte_of(prefix, depth / 8 + 1);
		if (prefix->length > depth + bits) {
			longer[left++] = branches[i];
			continue;
		}
		end = value + (1u << (depth + bits - prefix->length));
		for (; value < end; value++)
			set_rule(&rows[value], branches[i].rule);
	}
	for (size_t value = 0; value < 1ul << bits && !c->failed; value++) {
		size_t to = from;

		while (to < left && (bits == 16 ? longer[to].prefix.hi >> 48
						: byte_of(&longer[to].prefix, depth / 8)) == value)
			to++;
		if (to > from)
			entries[value] =
				node(c, longer + from, to - from, depth + bits, &rows[value]);
		else if (value && entries[value - 1] < TG_POLICY_BLOCK &&
			 !memcmp(&rows[value], &rows[value - 1], sizeof(*rows)))
			entries[value] = entries[value - 1];
		else
			entries[value] = number_of(c, &c->vectors, &rows[value]);
		from = to;
	}
	free(rows);
}

/* Past the bits that all share. */
static uint16_t step(struct compiler *c, struct branch *branches, size_t count, uint32_t length,
	const struct tg_policy_vector *above)
{
	const struct tg_cidr *prefix = &branches[0].prefix;
	struct tg_policy_step step = {
		.mask_hi = mask_of(length), .mask_lo = mask_of((int)length - 64), .next = length / 8
	};

	step.hi = prefix->hi & step.mask_hi;
	step.lo = prefix->lo & step.mask_lo;
	step.outside = number_of(c, &c->vectors, above);
	step.inside = node(c, branches, count, length, above);
	return TG_POLICY_STEP | number_of(c, &c->steps, &step);
}

/*
 * The entry for addresses whose first `depth` bits are those of all these prefixes; none is shorter.
 * `above`: the rules that match by a shorter prefix, or without any.
 */
static uint16_t node(struct compiler *c, struct branch *branches, size_t count, uint32_t depth,
	const struct tg_policy_vector *above)
{
	struct tg_policy_vector here = *above;
	struct tg_policy_block block;
	size_t left = 0;
	uint32_t shared;

	for (size_t i = 0; i < count; i++) {
		if (branches[i].prefix.length == depth)
			set_rule(&here, branches[i].rule);
		else
			branches[left++] = branches[i];
	}
	if (!left || c->failed)
		return number_of(c, &c->vectors, &here);
	shared = shared_length(branches, left);
	if (shared / 8 > depth / 8 || branches[left - 1].prefix.length == shared)
		return step(c, branches, left, shared, &here);
	fill(c, block.entry, 8, branches, left, depth / 8 * 8, &here);
	return TG_POLICY_BLOCK | number_of(c, &c->blocks, &block);
}

/* A rule's prefixes of one side. */
static const struct tg_cidr *prefixes_of(const struct tg_rule *rule, bool source, uint32_t *count)
{
	*count = source ? rule->src_count : rule->dst_count;
	return source ? rule->src : rule->dst;
}

/* All prefixes of one side and family, in order. */
static struct branch *gather(struct compiler *c, bool source, int family, size_t *count)
{
	size_t room = 1;
	uint32_t n;
	struct branch *branches;

	for (size_t i = 0; i < c->count; i++)
		room += source ? c->rules[i].src_count : c->rules[i].dst_count;
	branches = malloc(room * sizeof(*branches));
	*count = 0;
	for (size_t i = 0; branches && i < c->count; i++) {
		const struct tg_cidr *prefixes = prefixes_of(&c->rules[i], source, &n);

		for (uint32_t k = 0; k < n; k++)
			if (prefixes[k].family == family)
				branches[(*count)++] = (struct branch){ prefixes[k], i };
	}
	if (branches)
		qsort(branches, *count, sizeof(*branches), compare_branches);
	else
		c->failed = true;
	return branches;
}

static void compile_addresses(
	struct compiler *c, enum tg_policy_field field, bool source, int family)
{
	struct tg_policy_vector anywhere = { 0 };
	size_t count;
	uint32_t n;
	struct branch *branches = gather(c, source, family, &count);

	for (size_t i = 0; i < c->count; i++) {
		prefixes_of(&c->rules[i], source, &n);
		if (!n)
			set_rule(&anywhere, i);
	}
	c->constants[field] = number_of(c, &c->vectors, &anywhere);
	if (count)
		c->tables[field] = calloc(VALUES, sizeof(uint16_t));
	if (c->tables[field])
		fill(c, c->tables[field], 16, branches, count, 0, &anywhere);
	else if (count)
		c->failed = true;
	free(branches);
}

/* --- ports: an interval begins wherever the rules that match change ----------------------------------- */

struct edge {
	uint32_t port;
	uint16_t rule;
	int8_t change; /* 1: a range begins, -1: one has ended */
	bool either;
};

static int compare_edges(const void *a, const void *b)
{
	return (int)((const struct edge *)a)->port - (int)((const struct edge *)b)->port;
}

static size_t add_edges(struct edge *edges, const struct tg_port_range *ranges, uint32_t count,
	size_t rule, bool either)
{
	for (uint32_t i = 0; i < count; i++) {
		edges[2 * i] = (struct edge){ ranges[i].first, rule, 1, either };
		edges[2 * i + 1] = (struct edge){ ranges[i].last + 1u, rule, -1, either };
	}
	return 2 * count;
}

static struct edge *gather_edges(struct compiler *c, bool source, size_t *count)
{
	size_t room = 1;
	struct edge *edges;

	for (size_t i = 0; i < c->count; i++)
		room += 2 * (c->rules[i].sport_count + c->rules[i].dport_count +
				    c->rules[i].port_count);
	edges = malloc(room * sizeof(*edges));
	*count = 0;
	for (size_t i = 0; edges && i < c->count; i++) {
		const struct tg_rule *rule = &c->rules[i];

		*count += add_edges(edges + *count, source ? rule->sport : rule->dport,
			source ? rule->sport_count : rule->dport_count, i, false);
		*count += add_edges(edges + *count, rule->port, rule->port_count, i, true);
	}
	if (edges)
		qsort(edges, *count, sizeof(*edges), compare_edges);
	else
		c->failed = true;
	return edges;
}

/* The rules that ask nothing of this port, and so match every one, and packets without. */
static struct tg_policy_ports any_port(const struct compiler *c, bool source)
{
	struct tg_policy_ports any = { 0 };

	for (size_t i = 0; i < c->count; i++) {
		if (!(source ? c->rules[i].sport_count : c->rules[i].dport_count))
			set_rule(&any.own, i);
		if (!c->rules[i].port_count)
			set_rule(&any.either, i);
	}
	return any;
}

static void cross_edge(struct tg_policy_ports *ports, uint16_t (*depth)[2], const struct edge *edge)
{
	uint16_t *in = &depth[edge->rule][edge->either]; /* in so many ranges of the rule */
	__u64 *rules = (edge->either ? &ports->either : &ports->own)->rules;
	__u64 bit = 1ull << edge->rule % 64;

	*in += edge->change;
	rules[edge->rule / 64] = *in ? rules[edge->rule / 64] | bit : rules[edge->rule / 64] & ~bit;
}

static void sweep_ports(struct compiler *c, uint16_t *entries, struct tg_policy_ports ports,
	const struct edge *edges, size_t count)
{
	uint16_t(*depth)[2] = calloc(c->count, sizeof(*depth));
	size_t at = 0;

	if (!depth) {
		c->failed = true;
		return;
	}
	for (uint32_t port = 0; port < VALUES; port++) {
		bool changed = !port;

		for (; at < count && edges[at].port == port; at++, changed = true)
			cross_edge(&ports, depth, &edges[at]);
		entries[port] = changed ? number_of(c, &c->ports, &ports) : entries[port - 1];
	}
	free(depth);
}

static void compile_ports(struct compiler *c, enum tg_policy_field field, bool source)
{
	size_t count;
	struct edge *edges = gather_edges(c, source, &count);
	struct tg_policy_ports any = any_port(c, source);

	c->constants[field] = number_of(c, &c->ports, &any);
	if (count)
		c->tables[field] = calloc(VALUES, sizeof(uint16_t));
	if (c->tables[field])
		sweep_ports(c, c->tables[field], any, edges, count);
	else if (count)
		c->failed = true;
	free(edges);
}

/* --- the kind: protocol, TCP's flags or ICMP's type, fragment ----------------------------------------- */

static bool lists(const uint8_t *list, uint32_t count, uint8_t value)
{
	return !count || memchr(list, value, count);
}

static bool has_detail(uint8_t proto)
{
	return proto == IPPROTO_TCP || proto == IPPROTO_ICMP || proto == IPPROTO_ICMPV6;
}

/* Does the rule match this kind of packet? `field`: one of the three of kinds. */
static bool matches_kind(
	const struct tg_rule *rule, enum tg_policy_field field, uint8_t proto, uint8_t detail)
{
	bool fragment = field != TG_POLICY_KIND, later = field == TG_POLICY_LATER;

	if (rule->fragment != TG_RULE_ANY_PACKET &&
		fragment != (rule->fragment == TG_RULE_FRAGMENTS))
		return false;
	if (!lists(rule->protos, rule->proto_count, proto))
		return false;
	if (rule->tcp_mask &&
		(later || proto != IPPROTO_TCP || (detail & rule->tcp_mask) != rule->tcp_flags))
		return false;
	if (rule->icmp_type_count &&
		(later || !has_detail(proto) || proto == IPPROTO_TCP ||
			!lists(rule->icmp_types, rule->icmp_type_count, detail)))
		return false;
	return true;
}

static uint16_t kind_class(
	struct compiler *c, enum tg_policy_field field, uint8_t proto, uint8_t detail)
{
	struct tg_policy_vector vector = { 0 };

	for (size_t i = 0; i < c->count; i++)
		if (matches_kind(&c->rules[i], field, proto, detail))
			set_rule(&vector, i);
	return number_of(c, &c->vectors, &vector);
}

static void compile_kinds(struct compiler *c, enum tg_policy_field field)
{
	uint16_t *entries = c->tables[field] = calloc(VALUES, sizeof(uint16_t));

	if (!entries) {
		c->failed = true;
		return;
	}
	for (uint32_t proto = 0; proto < 256; proto++) {
		bool detailed = has_detail(proto) && field != TG_POLICY_LATER;

		for (uint32_t detail = 0; detail < 256; detail++)
			entries[TG_POLICY_KIND_OF(proto, detail)] =
				detail && !detailed ? entries[TG_POLICY_KIND_OF(proto, 0)]
						    : kind_class(c, field, proto, detail);
	}
}

/* --- into pages -------------------------------------------------------------------------------------- */

static uint32_t pages_for(size_t bytes)
{
	return (bytes + TG_POLICY_PAGE - 1) / TG_POLICY_PAGE;
}

/* All alike: one entry for all values. */
static void drop_uniform(struct compiler *c, enum tg_policy_field field)
{
	uint16_t *entries = c->tables[field];

	if (!entries || memcmp(entries, entries + 1, (VALUES - 1) * sizeof(*entries)))
		return;
	c->constants[field] = entries[0];
	c->tables[field] = NULL;
	free(entries);
}

/* Where the next region begins, after `bytes` more; copied there if there are pages yet. */
static uint32_t place(struct tg_classifier *classifier, const void *bytes, size_t size)
{
	uint32_t page = classifier->page_count + 1;

	if (classifier->pages && size)
		memcpy((char *)classifier->pages + classifier->page_count * TG_POLICY_PAGE, bytes,
			size);
	classifier->page_count += pages_for(size);
	return page;
}

static uint32_t place_interned(struct tg_classifier *classifier, const struct tg_interned *pool)
{
	return place(classifier, pool->things, pool->count * pool->size);
}

static void place_all(struct compiler *c)
{
	struct tg_classifier *classifier = c->classifier;
	struct tg_policy *policy = &classifier->policy;

	classifier->page_count = 0;
	for (int field = 0; field < TG_POLICY_FIELDS; field++) {
		policy->table[field] = (struct tg_policy_table){ .entry = c->constants[field] };
		if (c->tables[field])
			policy->table[field].page =
				place(classifier, c->tables[field], VALUES * sizeof(uint16_t));
	}
	policy->vectors = place_interned(classifier, &c->vectors);
	policy->ports = place_interned(classifier, &c->ports);
	policy->blocks = place_interned(classifier, &c->blocks);
	policy->steps = place_interned(classifier, &c->steps);
}

/* Once to count the pages, once to fill them. */
static void lay_out(struct compiler *c)
{
	place_all(c);
	c->classifier->pages = calloc(c->classifier->page_count, TG_POLICY_PAGE);
	if (c->classifier->pages)
		place_all(c);
	else
		c->failed = true;
}

static void compile(struct compiler *c)
{
	struct tg_policy *policy = &c->classifier->policy;

	compile_addresses(c, TG_POLICY_SRC4, true, 4);
	compile_addresses(c, TG_POLICY_DST4, false, 4);
	compile_addresses(c, TG_POLICY_SRC6, true, 6);
	compile_addresses(c, TG_POLICY_DST6, false, 6);
	compile_ports(c, TG_POLICY_SPORT, true);
	compile_ports(c, TG_POLICY_DPORT, false);
	policy->sport_none = c->constants[TG_POLICY_SPORT];
	policy->dport_none = c->constants[TG_POLICY_DPORT];
	for (int field = TG_POLICY_KIND; field <= TG_POLICY_LATER; field++)
		compile_kinds(c, field);
	for (int field = 0; field < TG_POLICY_FIELDS; field++)
		drop_uniform(c, field);
	policy->rules = c->count;
	policy->words = (c->count + 63) / 64;
	for (size_t i = 0; i < c->count; i++)
		policy->either |= c->rules[i].port_count > 0;
	if (!c->failed)
		lay_out(c);
}

static bool out_of_numbers(const struct compiler *c)
{
	return c->blocks.full || c->steps.full || c->vectors.full || c->ports.full;
}

int tg_classify(const struct tg_rule *rules, size_t count, struct tg_classifier *classifier,
	struct tg_error *error)
{
	struct compiler c = { .rules = rules, .count = count, .classifier = classifier };

	*classifier = (struct tg_classifier){ 0 };
	if (count > TG_POLICY_RULES)
		return tg_fail(error, -E2BIG, "%zu rules: a policy has at most %d", count,
			TG_POLICY_RULES);
	tg_interned_init(&c.blocks, sizeof(struct tg_policy_block), TG_POLICY_MOST);
	tg_interned_init(&c.steps, sizeof(struct tg_policy_step), TG_POLICY_MOST);
	tg_interned_init(&c.vectors, sizeof(struct tg_policy_vector), TG_POLICY_MOST);
	tg_interned_init(&c.ports, sizeof(struct tg_policy_ports), TG_POLICY_MOST);
	compile(&c);
	for (int field = 0; field < TG_POLICY_FIELDS; field++)
		free(c.tables[field]);
	tg_interned_free(&c.blocks);
	tg_interned_free(&c.steps);
	tg_interned_free(&c.vectors);
	tg_interned_free(&c.ports);
	if (!c.failed)
		return 0;
	tg_classifier_free(classifier);
	if (out_of_numbers(&c))
		return tg_fail(error, -E2BIG,
			"the rules' prefixes and ports need more tables than there may be");
	return tg_fail(error, -ENOMEM, "no memory for the policy's tables");
}

void tg_classifier_free(struct tg_classifier *classifier)
{
	free(classifier->pages);
	*classifier = (struct tg_classifier){ 0 };
}
