/* SPDX-License-Identifier: GPL-2.0-only */
/* core/classify.h, and bpf/classify.h as it looks packets up: against a plain search through the rules. */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>

#include "classify.h"
#include "random_rules.h"
#include "unit.h"

static const char *pages; /* of the classifier that is asked */

static const void *policy_page(__u32 number)
{
	return pages + (number - 1) * (size_t)TG_POLICY_PAGE;
}

#include "../../bpf/classify.h"

static int decided, undecided; /* packets of all comparisons */

/* --- both ---------------------------------------------------------------------------------------------- */

static uint32_t ask(const struct tg_classifier *classifier, const struct sample *s)
{
	bool later = s->part == LATER_OF_PACKET;
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
		.part = (enum policy_part)s->part,
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
