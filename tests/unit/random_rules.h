/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Random lists of rules and packets that meet them, and a plain search for the first rule that matches: what
 * the classifier is compared with, by itself (classify_test.c) and in the programs
 * (tests/property/classify_test.c).
 */
#ifndef TG_RANDOM_RULES_H
#define TG_RANDOM_RULES_H

#include <netinet/in.h>
#include <string.h>

#include "classify.h"

/* --- rules and packets at random ----------------------------------------------------------------------- */

#define MOST_OF_A_LIST 5

struct random_rule {
	struct tg_rule rule;
	struct tg_cidr src[MOST_OF_A_LIST], dst[MOST_OF_A_LIST];
	struct tg_port_range sport[MOST_OF_A_LIST], dport[MOST_OF_A_LIST], port[MOST_OF_A_LIST];
	uint8_t protos[MOST_OF_A_LIST], types[MOST_OF_A_LIST];
};

enum sample_part { WHOLE_PACKET, FIRST_OF_PACKET, LATER_OF_PACKET }; /* as enum policy_part */

struct sample { /* a packet */
	int family;
	struct tg_cidr src, dst; /* hosts */
	uint8_t proto, flags, type;
	uint16_t sport, dport;
	enum sample_part part;
};

static struct random_rule set[TG_POLICY_RULES];
static struct tg_rule rules[TG_POLICY_RULES];
static uint64_t random_state = 1;

static uint64_t random64(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	return random_state ^= random_state << 17;
}

static uint32_t below(uint32_t n)
{
	return (random64() >> 32) * n >> 32;
}

static bool one_in(uint32_t n)
{
	return !below(n);
}

/* Few bits vary, so that prefixes nest and packets meet them; at times all do. */
static struct tg_cidr random_prefix(int family)
{
	static const uint8_t lengths4[] = { 0, 7, 8, 12, 15, 16, 17, 20, 23, 24, 25, 30, 31, 32, 32,
		32 };
	static const uint8_t lengths6[] = { 0, 3, 16, 20, 32, 47, 48, 56, 61, 63, 64, 65, 96, 127,
		128, 128 };
	struct tg_cidr prefix = { .family = family,
		.hi = family == 4 ? 0x0a000000ull << 32 : 0x20010db800000000ull,
		.length = family == 4 ? lengths4[below(16)] : lengths6[below(16)] };

	prefix.hi ^=
		random64() & (one_in(8) ? ~0ull : 0x0003000101030107ull << (family == 4 ? 20 : 0));
	prefix.lo = family == 4 ? 0 : random64() & 0x8000000000010003ull;
	if (family == 4)
		prefix.hi &= ~0ull << 32;
	return tg_cidr_cut(&prefix, prefix.length);
}

static struct tg_cidr random_host(int family)
{
	struct tg_cidr host = random_prefix(family);

	host.length = tg_cidr_full(&host);
	if (one_in(2)) {
		host.hi ^= random64() & (family == 4 ? 0x1ffull << 32 : 0x10001ull);
		host.lo ^= family == 4 ? 0 : random64() & 0x8000000000000003ull;
	}
	return host;
}

static uint16_t random_port(void)
{
	static const uint16_t usual[] = { 0, 22, 53, 80, 443, 1023, 1024, 8080, 65534, 65535 };

	return one_in(3) ? random64() : usual[below(10)] + below(2);
}

static uint8_t random_proto(void)
{
	static const uint8_t usual[] = { IPPROTO_TCP, IPPROTO_TCP, IPPROTO_UDP, IPPROTO_ICMP,
		IPPROTO_ICMPV6, IPPROTO_GRE };

	return one_in(10) ? random64() : usual[below(6)];
}

static uint32_t random_ranges(struct tg_port_range *ranges)
{
	uint32_t count = 1 + below(MOST_OF_A_LIST);

	for (uint32_t i = 0; i < count; i++) {
		uint16_t a = random_port(), b = one_in(2) ? a : random_port();

		ranges[i] = a < b ? (struct tg_port_range){ a, b } : (struct tg_port_range){ b, a };
	}
	return count;
}

static uint32_t random_prefixes(struct tg_cidr *prefixes)
{
	uint32_t count = 1 + below(MOST_OF_A_LIST), family = one_in(2) ? 4 : 6;

	for (uint32_t i = 0; i < count; i++)
		prefixes[i] = random_prefix(one_in(4) ? 10 - family : family);
	return count;
}

static void random_rule(struct random_rule *r)
{
	struct tg_rule *rule = &r->rule;

	memset(rule, 0, sizeof(*rule));
	*rule = (struct tg_rule){ .src = r->src,
		.dst = r->dst,
		.sport = r->sport,
		.dport = r->dport,
		.port = r->port,
		.protos = r->protos,
		.icmp_types = r->types };
	if (!one_in(3))
		rule->src_count = random_prefixes(r->src);
	if (!one_in(3))
		rule->dst_count = random_prefixes(r->dst);
	if (one_in(4))
		rule->sport_count = random_ranges(r->sport);
	if (one_in(2))
		rule->dport_count = random_ranges(r->dport);
	if (one_in(10))
		rule->port_count = random_ranges(r->port);
	if (!one_in(3))
		for (rule->proto_count = 1 + below(2); !r->protos[rule->proto_count - 1];)
			for (uint32_t i = 0; i < rule->proto_count; i++)
				r->protos[i] = random_proto();
	if (one_in(8)) {
		rule->tcp_mask = random64() & 0x17;
		rule->tcp_flags = random64() & rule->tcp_mask;
	}
	if (one_in(12))
		for (rule->icmp_type_count = 1 + below(2); one_in(2);)
			r->types[below(2)] = below(12);
	if (one_in(10))
		rule->fragment = 1 + below(2);
}

static void random_set(size_t count)
{
	for (size_t i = 0; i < count; i++) {
		random_rule(&set[i]);
		rules[i] = set[i].rule;
	}
}

static struct sample random_sample(void)
{
	struct sample s = { .family = one_in(2) ? 4 : 6,
		.proto = random_proto(),
		.flags = random64(),
		.type = below(14),
		.sport = random_port(),
		.dport = random_port(),
		.part = one_in(6) ? 1 + below(2) : WHOLE_PACKET };

	s.src = random_host(s.family);
	s.dst = random_host(s.family);
	return s;
}

/* --- a plain search ------------------------------------------------------------------------------------ */

static bool within(const struct tg_cidr *prefixes, uint32_t count, const struct tg_cidr *host)
{
	for (uint32_t i = 0; i < count; i++) {
		struct tg_cidr cut =
			tg_cidr_cut(host, prefixes[i].length < 129 ? prefixes[i].length : 128);

		if (prefixes[i].family == host->family && cut.hi == prefixes[i].hi &&
			cut.lo == prefixes[i].lo)
			return true;
	}
	return !count;
}

static bool in_ranges(const struct tg_port_range *ranges, uint32_t count, uint16_t port)
{
	for (uint32_t i = 0; i < count; i++)
		if (ranges[i].first <= port && port <= ranges[i].last)
			return true;
	return false;
}

static bool ports_match(const struct tg_rule *rule, const struct sample *s)
{
	bool has = (s->proto == IPPROTO_TCP || s->proto == IPPROTO_UDP) &&
		   s->part != LATER_OF_PACKET;

	if (rule->sport_count && !(has && in_ranges(rule->sport, rule->sport_count, s->sport)))
		return false;
	if (rule->dport_count && !(has && in_ranges(rule->dport, rule->dport_count, s->dport)))
		return false;
	return !rule->port_count ||
	       (has && (in_ranges(rule->port, rule->port_count, s->sport) ||
			       in_ranges(rule->port, rule->port_count, s->dport)));
}

static bool kind_matches(const struct tg_rule *rule, const struct sample *s)
{
	bool later = s->part == LATER_OF_PACKET;
	bool icmp = s->proto == IPPROTO_ICMP || s->proto == IPPROTO_ICMPV6,
	     listed = !rule->proto_count;

	for (uint32_t i = 0; i < rule->proto_count; i++)
		listed |= rule->protos[i] == s->proto;
	if (rule->tcp_mask && (s->proto != IPPROTO_TCP || later ||
				      (s->flags & rule->tcp_mask) != rule->tcp_flags))
		return false;
	if (rule->icmp_type_count) {
		bool found = false;

		for (uint32_t i = 0; i < rule->icmp_type_count; i++)
			found |= rule->icmp_types[i] == s->type;
		if (!icmp || later || !found)
			return false;
	}
	if (rule->fragment == TG_RULE_FRAGMENTS && s->part == WHOLE_PACKET)
		return false;
	if (rule->fragment == TG_RULE_NO_FRAGMENTS && s->part != WHOLE_PACKET)
		return false;
	return listed;
}

static bool matches(const struct tg_rule *rule, const struct sample *s)
{
	return within(rule->src, rule->src_count, &s->src) &&
	       within(rule->dst, rule->dst_count, &s->dst) && ports_match(rule, s) &&
	       kind_matches(rule, s);
}

static uint32_t plain_search(size_t count, const struct sample *s)
{
	for (size_t i = 0; i < count; i++)
		if (matches(&rules[i], s))
			return i;
	return TG_POLICY_NO_RULE;
}

#endif
