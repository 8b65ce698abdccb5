/* SPDX-License-Identifier: GPL-2.0-only */
/* core/classify.h, and bpf/classify.h as it looks packets up: against a plain search through the rules. */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>

#include "classify.h"
#include "unit.h"

static const char *pages; /* of the classifier that is asked */

static const void *policy_page(__u32 number)
{
	return pages + (number - 1) * (size_t)TG_POLICY_PAGE;
}

#include "../../bpf/classify.h"

/* --- rules and packets at random ----------------------------------------------------------------------- */

#define MOST_OF_A_LIST 5

struct random_rule {
	struct tg_rule rule;
	struct tg_cidr src[MOST_OF_A_LIST], dst[MOST_OF_A_LIST];
	struct tg_port_range sport[MOST_OF_A_LIST], dport[MOST_OF_A_LIST], port[MOST_OF_A_LIST];
	uint8_t protos[MOST_OF_A_LIST], types[MOST_OF_A_LIST];
};

struct sample { /* a packet */
	int family;
	struct tg_cidr src, dst; /* hosts */
	uint8_t proto, flags, type;
	uint16_t sport, dport;
	enum policy_part part;
};

static struct random_rule set[TG_POLICY_RULES];
static struct tg_rule rules[TG_POLICY_RULES];
static uint64_t random_state = 1;
static int decided, undecided; /* packets of all comparisons */

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
		.part = one_in(6) ? 1 + below(2) : POLICY_WHOLE };

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
		   s->part != POLICY_LATER_FRAGMENT;

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
	bool later = s->part == POLICY_LATER_FRAGMENT;
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
	if (rule->fragment == TG_RULE_FRAGMENTS && s->part == POLICY_WHOLE)
		return false;
	if (rule->fragment == TG_RULE_NO_FRAGMENTS && s->part != POLICY_WHOLE)
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

/* --- both ---------------------------------------------------------------------------------------------- */

static uint32_t ask(const struct tg_classifier *classifier, const struct sample *s)
{
	bool later = s->part == POLICY_LATER_FRAGMENT;
	uint8_t detail = s->proto == IPPROTO_TCP				  ? s->flags
			 : s->proto == IPPROTO_ICMP || s->proto == IPPROTO_ICMPV6 ? s->type
										  : 0;
	struct policy_key key = {
		.src_hi = s->src.hi,
		.src_lo = s->src.lo,
		.dst_hi = s->dst.hi,
		.dst_lo = s->dst.lo,
		.kind = TG_POLICY_KIND_OF(s->proto, later ? 0 : detail),
		.sport = s->sport,
		.dport = s->dport,
		.has_ports = (s->proto == IPPROTO_TCP || s->proto == IPPROTO_UDP) && !later,
		.part = s->part,
	};

	pages = classifier->pages;
	return classify(&classifier->policy, &key, s->family == 6, classifier->policy.words);
}

static void compare(size_t count, int samples)
{
	struct tg_classifier classifier;
	struct tg_error error = { "" };

	random_set(count);
	CHECK_INT(0, tg_classify(rules, count, &classifier, &error));
	CHECK_STR("", error.text);
	for (int i = 0; i < samples && !unit_faults; i++) {
		struct sample s = random_sample();
		uint32_t first = plain_search(count, &s);

		CHECK_INT(first, ask(&classifier, &s));
		*(first < count ? &decided : &undecided) += 1;
	}
	if (unit_faults)
		fprintf(stderr, "of %zu rules\n", count);
	tg_classifier_free(&classifier);
}

static void the_first_rule_that_matches_is_found(void)
{
	for (int i = 0; i < unit_some(100) && !unit_faults; i++)
		compare(1 + below(i % 10 ? 60 : unit_some(TG_POLICY_RULES)), 2000);
	if (!unit_faults)
		compare(unit_some(TG_POLICY_RULES), 2000);
	CHECK(decided > 10000 && undecided > 10000);
}

static void no_rules_match_nothing(void)
{
	compare(0, 100);
}

static void the_lowest_bit_is_found(void)
{
	for (int bit = 0; bit < 64; bit++) {
		CHECK_INT(bit, policy_lowest(1ull << bit));
		CHECK_INT(bit, policy_lowest(~0ull << bit));
	}
}

/* --- what is wrong with rules --------------------------------------------------------------------------- */

static struct tg_rule_finding found[TG_POLICY_RULES];

static void examine(size_t count)
{
	struct tg_classifier classifier;
	struct tg_error error;

	CHECK_INT(0, tg_classify(rules, count, &classifier, &error));
	CHECK_INT(0, tg_classifier_examine(&classifier, found));
	tg_classifier_free(&classifier);
}

static struct tg_cidr prefix(const char *text)
{
	struct tg_cidr cidr;

	CHECK(!tg_cidr_parse(text, strlen(text), &cidr));
	return cidr;
}

static void a_rule_that_an_earlier_one_covers_is_told(void)
{
	struct tg_cidr ten = prefix("10.0.0.0/8"), part = prefix("10.1.0.0/16"),
		       six = prefix("2001:db8::/32");
	struct tg_port_range web[] = { { 80, 80 }, { 443, 443 } }, low = { 0, 1023 };
	uint8_t tcp = IPPROTO_TCP, udp = IPPROTO_UDP, icmp = IPPROTO_ICMP;

	rules[0] = (struct tg_rule){ .src = &ten, .src_count = 1, .dport = &low, .dport_count = 1 };
	rules[1] = (struct tg_rule){ .src = &part,
		.src_count = 1,
		.dport = web,
		.dport_count = 2,
		.protos = &tcp,
		.proto_count = 1 };
	rules[2] = rules[0];
	rules[3] = (struct tg_rule){ .src = &part, .src_count = 1 };
	rules[4] = (struct tg_rule){ .src = &ten, .src_count = 1, .dst = &six, .dst_count = 1 };
	rules[5] =
		(struct tg_rule){ .protos = &udp, .proto_count = 1, .tcp_mask = 2, .tcp_flags = 2 };
	rules[6] = (struct tg_rule){
		.protos = &icmp, .proto_count = 1, .dport = &low, .dport_count = 1
	};
	rules[7] = (struct tg_rule){ .port = &low, .port_count = 1 };
	rules[8] = (struct tg_rule){ .port = web, .port_count = 2, .dst = &six, .dst_count = 1 };
	rules[9] = (struct tg_rule){ .dport = web, .dport_count = 2 };
	rules[10] = (struct tg_rule){ .tcp_mask = 2, .tcp_flags = 2 };
	rules[11] = (struct tg_rule){ .tcp_mask = 18, .tcp_flags = 2, .src = &six, .src_count = 1 };
	examine(12);
	for (int i = 0; i < 12; i++) {
		static const struct tg_rule_finding want[] = { { TG_RULE_SOUND, 0 },
			{ TG_RULE_SHADOWED, 0 }, { TG_RULE_DUPLICATE, 0 }, { TG_RULE_SOUND, 0 },
			{ TG_RULE_VOID, 0 }, { TG_RULE_VOID, 0 }, { TG_RULE_VOID, 0 },
			{ TG_RULE_SOUND, 0 }, { TG_RULE_SHADOWED, 7 }, { TG_RULE_SOUND, 0 },
			{ TG_RULE_SOUND, 0 }, { TG_RULE_SHADOWED, 10 } };

		CHECK_INT(want[i].fault, found[i].fault);
		CHECK_INT(want[i].by, found[i].by);
	}
}

/* Of rules at random: none that is said never to decide does, and a duplicate of each is found. */
static void what_is_said_never_to_decide_never_does(void)
{
	int faulty = 0;

	for (int turn = 0; turn < unit_some(20) && !unit_faults; turn++) {
		size_t count = 20 + below(100);

		random_set(count);
		rules[count] = rules[below(count)];
		examine(count + 1);
		CHECK(found[count].fault != TG_RULE_SOUND);
		for (int i = 0; i < 5000; i++) {
			struct sample s = random_sample();
			uint32_t first = plain_search(count, &s);

			CHECK(first >= count || found[first].fault == TG_RULE_SOUND);
		}
		for (size_t i = 0; i < count; i++)
			faulty += found[i].fault != TG_RULE_SOUND;
	}
	CHECK(faulty > 10);
}

static void what_is_too_much_is_refused(void)
{
	static struct tg_rule many[TG_POLICY_RULES + 1];
	struct tg_cidr *prefixes = calloc(40000, sizeof(*prefixes));
	struct tg_classifier classifier;
	struct tg_error error = { "" };

	CHECK_INT(-E2BIG, tg_classify(many, TG_POLICY_RULES + 1, &classifier, &error));
	CHECK_STR("1025 rules: a policy has at most 1024", error.text);
	for (uint32_t i = 0; i < 40000; i++)
		prefixes[i] = (struct tg_cidr){
			.hi = (uint64_t)i << 48 | 0xabcd00000000, .family = 4, .length = 32
		};
	many[0] = (struct tg_rule){ .src = prefixes, .src_count = 40000 };
	CHECK_INT(-E2BIG, tg_classify(many, 1, &classifier, &error));
	CHECK(strstr(error.text, "more tables"));
	many[0].src_count = unit_some(16000);
	CHECK_INT(0, tg_classify(many, 1, &classifier, &error));
	tg_classifier_free(&classifier);
	free(prefixes);
}

int main(void)
{
	RUN(the_lowest_bit_is_found);
	RUN(no_rules_match_nothing);
	RUN(the_first_rule_that_matches_is_found);
	RUN(a_rule_that_an_earlier_one_covers_is_told);
	RUN(what_is_said_never_to_decide_never_does);
	RUN(what_is_too_much_is_refused);
	return unit_result();
}
