/* SPDX-License-Identifier: GPL-2.0-only */
/* core/policy.h: policies compiled, asked, laid out together, and read back as the programs do. */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>

#include "policy.h"
#include "unit.h"

static const char *laid_out; /* the pages that are read */

static const void *policy_page(__u32 number)
{
	return laid_out + number * (size_t)TG_POLICY_PAGE;
}

#include "../../bpf/classify.h"

#define TELNET 0 /* rules of the policy `plain` */
#define WEB    1
#define STAFF  2
#define PING   3

static struct tg_cidr cidr(const char *text)
{
	struct tg_cidr prefix = { 0 };

	CHECK(!tg_cidr_parse(text, strlen(text), &prefix));
	return prefix;
}

static struct tg_addr addr(const char *text)
{
	struct tg_addr out = { 0 };

	CHECK_INT(0, tg_addr_parse(text, &out));
	return out;
}

static struct tg_policy_packet tcp(const char *src, const char *dst, uint16_t dport)
{
	return (struct tg_policy_packet){ .src = addr(src),
		.dst = addr(dst),
		.proto = IPPROTO_TCP,
		.tcp_flags = 2,
		.sport = 40000,
		.dport = dport };
}

static const uint8_t tcp_only[] = { IPPROTO_TCP }, icmp_only[] = { IPPROTO_ICMP }, echo[] = { 8 };
static const struct tg_port_range telnet[] = { { 23, 23 } },
				  web[] = { { 80, 80 }, { 443, 443 }, { 8000, 8099 } };

/* Four rules, by default drop. */
static void compile_plain(struct tg_compiled_policy *policy, uint32_t first_counter)
{
	struct tg_cidr staff[] = { cidr("10.1.0.0/16"), cidr("2001:db8::/48") };
	struct tg_rule rules[] = {
		[TELNET] = { .protos = tcp_only,
			.proto_count = 1,
			.dport = telnet,
			.dport_count = 1 },
		[WEB] = { .protos = tcp_only, .proto_count = 1, .dport = web, .dport_count = 3 },
		[STAFF] = { .src = staff, .src_count = 2 },
		[PING] = { .protos = icmp_only,
			.proto_count = 1,
			.icmp_types = echo,
			.icmp_type_count = 1 },
	};
	struct tg_policy_rule does[] = { { TG_ACTION_REJECT, TG_RULE_LOG, 0, first_counter },
		{ TG_ACTION_ACCEPT, 0, 0, first_counter + 1 },
		{ TG_ACTION_ACCEPT, 0, 0, first_counter + 2 },
		{ TG_ACTION_ACCEPT, TG_RULE_AUDIT, 0, first_counter + 3 } };
	struct tg_policy_spec spec = { .rules = rules,
		.does = does,
		.count = 4,
		.otherwise = { TG_ACTION_DROP, 0, 0, first_counter + 4 },
		.flags = TG_POLICY_STATEFUL | TG_POLICY_NO_FRAGMENTS };
	struct tg_error error;

	CHECK_INT(0, tg_policy_compile(&spec, policy, NULL, &error));
}

/* `count` rules, each a destination port of its own, with many prefixes: pages enough to be misplaced. */
static void compile_large(struct tg_compiled_policy *policy, size_t count)
{
	struct tg_rule *rules = calloc(count, sizeof(*rules));
	struct tg_policy_rule *does = calloc(count, sizeof(*does));
	struct tg_port_range *ports = calloc(count, sizeof(*ports));
	struct tg_cidr *prefixes = calloc(count, sizeof(*prefixes));
	struct tg_policy_spec spec = { .rules = rules, .does = does, .count = count };
	struct tg_error error;

	for (size_t i = 0; i < count; i++) {
		ports[i].first = ports[i].last = 1000 + i;
		prefixes[i] = cidr("10.2.0.0/32");
		prefixes[i].hi |= (uint64_t)i << 32;
		rules[i] = (struct tg_rule){
			.dport = &ports[i], .dport_count = 1, .src = &prefixes[i], .src_count = 1
		};
		does[i] = (struct tg_policy_rule){ .action = TG_ACTION_REJECT, .counter = 100 + i };
	}
	CHECK_INT(0, tg_policy_compile(&spec, policy, NULL, &error));
	free(rules);
	free(does);
	free(ports);
	free(prefixes);
}

/* What the programs find (bpf/policy.h): NULL, there is no policy. */
static const struct tg_policy_rule *rule_in_force(
	const struct tg_policy_pages *pages, uint32_t policy, const struct tg_policy_packet *packet)
{
	struct tg_cidr src = tg_cidr_of(&packet->src), dst = tg_cidr_of(&packet->dst);
	struct policy_key key = { src.hi, src.lo, dst.hi, dst.lo,
		TG_POLICY_KIND_OF(packet->proto,
			packet->proto == IPPROTO_TCP ? packet->tcp_flags : packet->icmp_type),
		packet->sport, packet->dport, packet->proto == IPPROTO_TCP, POLICY_WHOLE };
	const struct tg_policy_directory *directory = pages->pages;
	const struct tg_policy_head *head;
	uint32_t number;

	laid_out = pages->pages;
	if (!directory->page[policy])
		return NULL;
	head = policy_page(directory->page[policy]);
	number = classify(&head->tables, &key, packet->src.family == AF_INET6, pages->words);
	return number == TG_POLICY_NO_RULE
		       ? &head->otherwise
		       : policy_at(head->rules, number, sizeof(struct tg_policy_rule));
}

/* --- tests ----------------------------------------------------------------------------------------------- */

static void a_policy_decides_by_its_first_rule_that_matches(void)
{
	struct tg_policy_packet packet = tcp("10.1.2.3", "192.0.2.1", 23);
	struct tg_compiled_policy policy;

	compile_plain(&policy, 0);
	CHECK_INT(TELNET, tg_policy_match(&policy, &packet));
	packet.dport = 8050;
	CHECK_INT(WEB, tg_policy_match(&policy, &packet));
	packet.dport = 22;
	CHECK_INT(STAFF, tg_policy_match(&policy, &packet));
	packet = tcp("2001:db8:0:7::1", "2001:db8:1::1", 22);
	CHECK_INT(STAFF, tg_policy_match(&policy, &packet));
	packet = tcp("10.2.2.3", "192.0.2.1", 22);
	CHECK_INT(TG_POLICY_NO_RULE, tg_policy_match(&policy, &packet));
	tg_policy_free(&policy);
}

static void what_a_packet_does_not_show_matches_no_rule_that_asks_for_it(void)
{
	struct tg_policy_packet packet = { .src = addr("10.2.2.3"),
		.dst = addr("192.0.2.1"),
		.proto = IPPROTO_ICMP,
		.icmp_type = 8,
		.dport = 80 };
	struct tg_compiled_policy policy;

	compile_plain(&policy, 0);
	CHECK_INT(PING, tg_policy_match(&policy, &packet));
	packet.part = TG_PACKET_LATER;
	CHECK_INT(TG_POLICY_NO_RULE, tg_policy_match(&policy, &packet));
	packet = tcp("10.2.2.3", "192.0.2.1", 80);
	packet.part = TG_PACKET_FIRST;
	CHECK_INT(WEB, tg_policy_match(&policy, &packet));
	packet.part = TG_PACKET_LATER;
	CHECK_INT(TG_POLICY_NO_RULE, tg_policy_match(&policy, &packet));
	tg_policy_free(&policy);
}

static void a_rule_keeps_what_it_does(void)
{
	struct tg_compiled_policy policy;
	const struct tg_policy_rule *rule;

	compile_plain(&policy, 40);
	rule = tg_policy_rule(&policy, TELNET);
	CHECK(rule->action == TG_ACTION_REJECT && rule->flags == TG_RULE_LOG &&
		rule->counter == 40);
	rule = tg_policy_rule(&policy, PING);
	CHECK(rule->action == TG_ACTION_ACCEPT && rule->flags == TG_RULE_AUDIT &&
		rule->counter == 43);
	rule = tg_policy_rule(&policy, TG_POLICY_NO_RULE);
	CHECK(rule->action == TG_ACTION_DROP && rule->counter == 44);
	CHECK_INT(TG_POLICY_STATEFUL | TG_POLICY_NO_FRAGMENTS, tg_policy_head(&policy)->flags);
	tg_policy_free(&policy);
}

static void rules_that_can_not_decide_are_found(void)
{
	struct tg_rule rules[3] = { { .dport = web, .dport_count = 3 },
		{ .dport = web, .dport_count = 1 }, { .dport = web, .dport_count = 3 } };
	struct tg_policy_rule does[3] = { 0 };
	struct tg_policy_spec spec = { .rules = rules, .does = does, .count = 3 };
	struct tg_rule_finding findings[3];
	struct tg_compiled_policy policy;
	struct tg_error error;

	CHECK_INT(0, tg_policy_compile(&spec, &policy, findings, &error));
	CHECK_INT(TG_RULE_SOUND, findings[0].fault);
	CHECK(findings[1].fault == TG_RULE_SHADOWED && findings[1].by == 0);
	CHECK(findings[2].fault == TG_RULE_DUPLICATE && findings[2].by == 0);
	tg_policy_free(&policy);
}

static void too_many_rules_are_refused(void)
{
	static struct tg_rule rules[TG_POLICY_RULES + 1];
	static struct tg_policy_rule does[TG_POLICY_RULES + 1];
	struct tg_policy_spec spec = { .rules = rules, .does = does, .count = TG_POLICY_RULES + 1 };
	struct tg_compiled_policy policy;
	struct tg_error error = { "" };

	CHECK_INT(-E2BIG, tg_policy_compile(&spec, &policy, NULL, &error));
	CHECK_STR("1025 rules: a policy has at most 1024", error.text);
	CHECK(!policy.pages);
}

static void the_version_follows_from_what_the_rules_say(void)
{
	struct tg_compiled_policy policy, counted_otherwise, large, larger;

	compile_plain(&policy, 0);
	compile_plain(&counted_otherwise, 7);
	compile_large(&large, 100);
	compile_large(&larger, 101);
	CHECK(tg_policy_head(&policy)->version != 0);
	CHECK_INT(tg_policy_head(&policy)->version, tg_policy_head(&counted_otherwise)->version);
	CHECK(tg_policy_head(&large)->version != tg_policy_head(&larger)->version);
	tg_policy_free(&policy);
	tg_policy_free(&counted_otherwise);
	tg_policy_free(&large);
	tg_policy_free(&larger);
}

#define PLAIN TG_POLICY_OF_PORT(3, TG_EGRESS)
#define LARGE TG_POLICY_OF_TAP(31)

/* A large policy lies behind a plain one. */
static void lay_out_both(struct tg_policy_pages *pages, struct tg_compiled_policy *plain,
	struct tg_compiled_policy *large, uint32_t first_counter)
{
	const struct tg_compiled_policy *policies[TG_MAX_POLICIES] = {
		[PLAIN] = plain, [LARGE] = large
	};
	struct tg_error error;

	compile_plain(plain, first_counter);
	compile_large(large, TG_POLICY_RULES);
	CHECK_INT(0, tg_policy_lay_out(policies, pages, &error));
}

static void policies_laid_out_together_say_what_each_said(void)
{
	struct tg_policy_packet packet = tcp("10.2.2.3", "192.0.2.1", 443);
	struct tg_compiled_policy plain, large;
	const struct tg_policy_rule *rule;
	struct tg_policy_pages pages;
	char text[32];

	lay_out_both(&pages, &plain, &large, 50);
	CHECK_INT(1 + plain.page_count + large.page_count, pages.count);
	CHECK_INT(TG_POLICY_WORDS, pages.words);
	CHECK(!rule_in_force(&pages, TG_POLICY_OF_PORT(3, TG_INGRESS), &packet));
	CHECK_INT(51, rule_in_force(&pages, PLAIN, &packet)->counter);
	packet.dport = 444;
	CHECK_INT(54, rule_in_force(&pages, PLAIN, &packet)->counter);
	for (int i = 0; i < TG_POLICY_RULES; i++) {
		snprintf(text, sizeof(text), "10.2.%d.%d", i / 256, i % 256);
		packet = tcp(text, "192.0.2.1", 1000 + i);
		CHECK_INT(i, tg_policy_match(&large, &packet));
		rule = rule_in_force(&pages, LARGE, &packet);
		CHECK(rule->action == TG_ACTION_REJECT && rule->counter == 100u + i);
		packet.dport++;
		CHECK_INT(TG_ACTION_ACCEPT, rule_in_force(&pages, LARGE, &packet)->action);
	}
	tg_policy_pages_free(&pages);
	tg_policy_free(&plain);
	tg_policy_free(&large);
}

static void equal_policies_have_equal_hashes_and_other_counters_another(void)
{
	struct tg_policy_pages pages[3];

	for (int i = 0; i < 3; i++) {
		struct tg_compiled_policy plain, large;

		lay_out_both(&pages[i], &plain, &large, i / 2);
		tg_policy_free(&plain);
		tg_policy_free(&large);
	}
	CHECK(pages[0].hash == pages[1].hash);
	CHECK(pages[0].hash != pages[2].hash);
	for (int i = 0; i < 3; i++)
		tg_policy_pages_free(&pages[i]);
}

static void no_policy_at_all_is_an_empty_directory(void)
{
	const struct tg_compiled_policy *policies[TG_MAX_POLICIES] = { 0 };
	struct tg_policy_packet packet = tcp("10.2.2.3", "192.0.2.1", 443);
	struct tg_policy_pages pages;
	struct tg_error error;

	CHECK_INT(0, tg_policy_lay_out(policies, &pages, &error));
	CHECK_INT(1, pages.count);
	CHECK_INT(0, pages.words);
	CHECK(!rule_in_force(&pages, 0, &packet));
	tg_policy_pages_free(&pages);
}

int main(void)
{
	RUN(a_policy_decides_by_its_first_rule_that_matches);
	RUN(what_a_packet_does_not_show_matches_no_rule_that_asks_for_it);
	RUN(a_rule_keeps_what_it_does);
	RUN(rules_that_can_not_decide_are_found);
	RUN(too_many_rules_are_refused);
	RUN(the_version_follows_from_what_the_rules_say);
	RUN(policies_laid_out_together_say_what_each_said);
	RUN(equal_policies_have_equal_hashes_and_other_counters_another);
	RUN(no_policy_at_all_is_an_empty_directory);
	return unit_result();
}
