/* SPDX-License-Identifier: GPL-2.0-only */
/* bpf/track.h: flows of stateful policies, packet by packet through the real TC programs. */
#include "track_world.h"

#define ISN_IN	5000u	    /* initial sequence numbers of the outer host … */
#define ISN_OUT 0xfffffff0u /* … and the inner one, which passes zero */
#define SYN_IN(port)                                                                               \
	{                                                                                          \
		IPPROTO_TCP, port, TG_ACTION_ACCEPT, FLAG_SYN | FLAG_ACK, FLAG_SYN                 \
	}
#define STATE(table, symbol) CHECK_INT(TG_TRACK_STATE_##symbol, state_in(table, IPPROTO_TCP))

/* What comes in is dropped, but SYNs to port 22 and datagrams to port 53; what leaves is not judged. */
static void stateful_policy(void)
{
	no_policy(0, OUT);
	no_policy(1, IN);
	no_policy(1, OUT);
	POLICY(0, IN, TG_POLICY_STATEFUL, TG_ACTION_DROP, SYN_IN(22),
		{ IPPROTO_UDP, 53, TG_ACTION_ACCEPT, 0, 0 });
	fresh_flow();
}

/* The inner host opens; what follows is at ISN + 1. */
static void open_outwards(void)
{
	CHECK(segment(OUT, FLAG_SYN, ISN_OUT, 0, 0));
	CHECK(segment(IN, FLAG_SYN | FLAG_ACK, ISN_IN, ISN_OUT + 1, 0));
	CHECK(segment(OUT, FLAG_ACK, ISN_OUT + 1, ISN_IN + 1, 0));
}

static bool data_in(void)
{
	return segment(IN, FLAG_ACK, ISN_IN + 1, ISN_OUT + 1, 100);
}

static void what_leaves_may_be_answered(void)
{
	stateful_policy();
	CHECK(segment(OUT, FLAG_SYN, ISN_OUT, 0, 0));
	STATE("embryos", SYN_SENT);
	CHECK(segment(IN, FLAG_SYN | FLAG_ACK, ISN_IN, ISN_OUT + 1, 0));
	STATE("embryos", SYN_RECEIVED);
	CHECK(segment(OUT, FLAG_ACK, ISN_OUT + 1, ISN_IN + 1, 0));
	STATE("flows", ESTABLISHED);
	CHECK_INT(-1, state_in("embryos", IPPROTO_TCP));
	CHECK(data_in());
	CHECK(segment(OUT, FLAG_ACK | FLAG_PSH, ISN_OUT + 1, ISN_IN + 101, 50));
}

static void what_is_let_in_may_be_answered(void)
{
	struct tg_track track;

	stateful_policy();
	POLICY(0, OUT, TG_POLICY_STATEFUL, TG_ACTION_DROP, SYN_IN(1));
	world.inner = 22;
	CHECK(segment(IN, FLAG_SYN, ISN_IN, 0, 0));
	CHECK(segment(OUT, FLAG_SYN | FLAG_ACK, ISN_OUT, ISN_IN + 1, 0));
	CHECK(segment(IN, FLAG_ACK, ISN_IN + 1, ISN_OUT + 1, 0));
	CHECK(segment(OUT, FLAG_ACK, ISN_OUT + 1, ISN_IN + 1, 700));
	STATE("flows", ESTABLISHED);
	CHECK(read_track("flows", IPPROTO_TCP, &track));
	CHECK_INT(2, track.side[track.origin].packets);
	CHECK_INT(2, track.side[!track.origin].packets);
	CHECK_INT(2 * (ETH_HLEN + ip_size()) + 28 + 20, track.side[track.origin].bytes);
	CHECK_INT(7, track.side[0].scale);
	CHECK_INT(0, track.gate[0].rule);
}

static void what_nobody_asked_for_is_dropped(void)
{
	stateful_policy();
	CHECK(!segment(IN, FLAG_SYN, ISN_IN, 0, 0));
	CHECK(!segment(IN, FLAG_SYN | FLAG_ACK, ISN_IN, ISN_OUT + 1, 0));
	CHECK(!segment(IN, FLAG_ACK, ISN_IN, ISN_OUT + 1, 0));
	CHECK(!segment(IN, FLAG_RST, ISN_IN, 0, 0));
	CHECK(!datagram(IN));
	CHECK(!echo(IN, false, 7));
	CHECK(!other_protocol(IN, IPPROTO_GRE));
	CHECK_INT(-1, state_in("embryos", IPPROTO_TCP));
}

static void a_syn_may_come_again(void)
{
	stateful_policy();
	for (int i = 0; i < 3; i++)
		CHECK(segment(OUT, FLAG_SYN, ISN_OUT, 0, 0));
	for (int i = 0; i < 3; i++)
		CHECK(segment(IN, FLAG_SYN | FLAG_ACK, ISN_IN, ISN_OUT + 1, 0));
	CHECK(segment(OUT, FLAG_SYN, ISN_OUT, 0, 0));
	STATE("embryos", SYN_RECEIVED);
	CHECK(segment(OUT, FLAG_ACK, ISN_OUT + 1, ISN_IN + 1, 0));
	CHECK(segment(IN, FLAG_SYN | FLAG_ACK, ISN_IN, ISN_OUT + 1, 0)); /* the ACK was lost */
	STATE("flows", ESTABLISHED);
}

static void both_may_begin_at_once(void)
{
	stateful_policy();
	CHECK(segment(OUT, FLAG_SYN, ISN_OUT, 0, 0));
	CHECK(segment(IN, FLAG_SYN, ISN_IN, 0, 0));
	STATE("embryos", SYN_RECEIVED);
	CHECK(segment(OUT, FLAG_SYN | FLAG_ACK, ISN_OUT, ISN_IN + 1, 0));
	CHECK(segment(IN, FLAG_SYN | FLAG_ACK, ISN_IN, ISN_OUT + 1, 0));
	STATE("flows", ESTABLISHED);
	CHECK(data_in());
}

static void an_answer_must_be_to_that_syn(void)
{
	__u64 invalid = counted(TG_TRACK_INVALID);

	stateful_policy();
	CHECK(segment(OUT, FLAG_SYN, ISN_OUT, 0, 0));
	CHECK(!segment(IN, FLAG_SYN | FLAG_ACK, ISN_IN, ISN_OUT, 0));
	CHECK(!segment(IN, FLAG_SYN | FLAG_ACK, ISN_IN, ISN_OUT + 2, 0));
	CHECK(!segment(IN, FLAG_RST | FLAG_ACK, 0, ISN_OUT + 2, 0));
	CHECK(!segment(IN, FLAG_RST, 0, 0, 0));
	CHECK(!segment(IN, FLAG_FIN | FLAG_ACK, ISN_IN, ISN_OUT + 1, 0));
	CHECK_INT(invalid + 5, counted(TG_TRACK_INVALID));
	STATE("embryos", SYN_SENT);
	CHECK(segment(IN, FLAG_RST | FLAG_ACK, 0, ISN_OUT + 1, 0));
	STATE("embryos", CLOSED);
}

/* Who guesses the last step of a handshake fills no table that others need. */
static void a_handshake_is_over_when_it_is_acknowledged(void)
{
	stateful_policy();
	world.inner = 22;
	CHECK(segment(IN, FLAG_SYN, ISN_IN, 0, 0));
	CHECK(segment(OUT, FLAG_SYN | FLAG_ACK, ISN_OUT, ISN_IN + 1, 0));
	CHECK(!segment(IN, FLAG_ACK, ISN_IN + 1, ISN_OUT, 0));
	CHECK(!segment(IN, FLAG_ACK, ISN_IN + 1, ISN_OUT + 2, 0));
	STATE("embryos", SYN_RECEIVED);
	CHECK_INT(-1, state_in("flows", IPPROTO_TCP));
	CHECK(segment(IN, FLAG_ACK, ISN_IN + 1, ISN_OUT + 1, 0));
	STATE("flows", ESTABLISHED);
}

static void a_close_is_followed(void)
{
	stateful_policy();
	open_outwards();
	CHECK(segment(OUT, FLAG_FIN | FLAG_ACK, ISN_OUT + 1, ISN_IN + 1, 10));
	STATE("flows", FIN_WAIT);
	CHECK(segment(IN, FLAG_ACK, ISN_IN + 1, ISN_OUT + 12, 500));
	STATE("flows", FIN_WAIT);
	CHECK(segment(IN, FLAG_FIN | FLAG_ACK, ISN_IN + 501, ISN_OUT + 12, 0));
	STATE("flows", CLOSING);
	CHECK(segment(OUT, FLAG_ACK, ISN_OUT + 12, ISN_IN + 502, 0));
	STATE("flows", TIME_WAIT);
	CHECK(segment(IN, FLAG_FIN | FLAG_ACK, ISN_IN + 501, ISN_OUT + 12, 0));
	STATE("flows", TIME_WAIT);
}

static void a_close_out_of_window_is_ignored(void)
{
	__u64 invalid = counted(TG_TRACK_INVALID);

	stateful_policy();
	open_outwards();
	CHECK(!segment(IN, FLAG_FIN | FLAG_ACK, ISN_IN + 200000, ISN_OUT + 1, 0));
	CHECK(!segment(IN, FLAG_FIN | FLAG_ACK, ISN_IN - 200000, ISN_OUT + 1, 0));
	CHECK(!segment(IN, FLAG_FIN | FLAG_ACK, ISN_IN + 1, ISN_OUT + 200000, 0));
	CHECK(!segment(IN, FLAG_FIN | FLAG_ACK, ISN_IN + 1, ISN_OUT - 200000, 0));
	CHECK(!segment(IN, FLAG_FIN, ISN_IN + 1, 0, 0));
	CHECK_INT(invalid + 5, counted(TG_TRACK_INVALID));
	STATE("flows", ESTABLISHED);
	CHECK(data_in());
}

static void a_reset_must_be_near_exact(void)
{
	stateful_policy();
	open_outwards();
	CHECK(data_in());
	CHECK(!segment(IN, FLAG_RST, ISN_IN, 0, 0));
	CHECK(!segment(IN, FLAG_RST, ISN_IN + 102, 0, 0)); /* within the window, not what is due */
	STATE("flows", ESTABLISHED);
	CHECK(segment(IN, FLAG_RST, ISN_IN + 1, 0, 0)); /* the data may be lost on its way */
	STATE("flows", CLOSED);
	CHECK(segment(IN, FLAG_RST, ISN_IN + 101, 0, 0));
	age(IPPROTO_TCP, 6);
	CHECK(!data_in());
}

/* A reset that got by us, and not by the host that it was to fool. */
static void who_goes_on_did_not_reset(void)
{
	stateful_policy();
	open_outwards();
	CHECK(segment(IN, FLAG_RST, ISN_IN + 1, 0, 0));
	STATE("flows", CLOSED);
	CHECK(segment(OUT, FLAG_ACK, ISN_OUT + 1, ISN_IN + 1, 0));
	STATE("flows", CLOSED);
	CHECK(data_in());
	STATE("flows", ESTABLISHED);
}

static void strays_pass_and_change_nothing(void)
{
	struct tg_track before, now;

	stateful_policy();
	open_outwards();
	CHECK(read_track("flows", IPPROTO_TCP, &before));
	CHECK(segment(IN, FLAG_ACK, ISN_IN + 0x40000000, ISN_OUT + 1, 100));
	CHECK(segment(IN, FLAG_ACK, ISN_IN + 1, ISN_OUT + 0x40000000, 100));
	CHECK(read_track("flows", IPPROTO_TCP, &now));
	CHECK_INT(before.side[0].end, now.side[0].end);
	CHECK_INT(before.side[1].end, now.side[1].end);
	CHECK_INT(before.side[0].ack, now.side[0].ack);
	CHECK_INT(before.side[1].ack, now.side[1].ack);
	CHECK(!segment(IN, FLAG_RST, ISN_IN + 0x40000000 + 100, 0, 0));
	STATE("flows", ESTABLISHED);
}

/* What was not seen (another way, a loss before us) does not put a flow out of step. */
static void gaps_are_made_good(void)
{
	stateful_policy();
	open_outwards();
	CHECK(segment(IN, FLAG_ACK, ISN_IN + 5001, ISN_OUT + 1, 100));
	CHECK(segment(OUT, FLAG_ACK, ISN_OUT + 3001, ISN_IN + 5101, 0));
	CHECK(segment(IN, FLAG_FIN | FLAG_ACK, ISN_IN + 5101, ISN_OUT + 3001, 0));
	STATE("flows", FIN_WAIT);
}

static void ports_that_are_done_with_are_used_again(void)
{
	stateful_policy();
	open_outwards();
	CHECK(segment(OUT, FLAG_RST, ISN_OUT + 1, 0, 0));
	CHECK(segment(OUT, FLAG_SYN, 77, 0, 0));
	STATE("embryos", SYN_SENT);
	CHECK(segment(IN, FLAG_SYN | FLAG_ACK, 99, 78, 0));
	CHECK(segment(OUT, FLAG_ACK, 78, 100, 0));
	STATE("flows", ESTABLISHED);
	CHECK_INT(-1, state_in("embryos", IPPROTO_TCP));
	CHECK(segment(IN, FLAG_ACK, 100, 78, 10));
}

/* A host has forgotten a connection that is established to us. */
static void a_lost_connection_begins_anew(void)
{
	stateful_policy();
	open_outwards();
	CHECK(segment(OUT, FLAG_SYN, 77, 0, 0));		  /* the inner one rebooted */
	CHECK(segment(IN, FLAG_ACK, ISN_IN + 1, ISN_OUT + 1, 0)); /* the outer one is astonished */
	STATE("flows", ESTABLISHED);
	CHECK(segment(OUT, FLAG_RST, ISN_OUT + 1, 0, 0));
	STATE("flows", CLOSED);
	CHECK(segment(OUT, FLAG_SYN, 77, 0, 0));
	CHECK(segment(IN, FLAG_SYN | FLAG_ACK, 99, 78, 0));
	CHECK(segment(OUT, FLAG_ACK, 78, 100, 0));
	STATE("flows", ESTABLISHED);
	CHECK(segment(OUT, FLAG_SYN, 7777, 0, 0)); /* both did */
	CHECK(segment(IN, FLAG_SYN | FLAG_ACK, 9999, 7778, 0));
	CHECK(segment(OUT, FLAG_ACK, 7778, 10000, 0));
	CHECK(segment(IN, FLAG_FIN | FLAG_ACK, 10000, 7778, 0));
	STATE("flows", FIN_WAIT);
}

static void only_a_syn_begins(void)
{
	stateful_policy();
	CHECK(segment(OUT, FLAG_ACK, ISN_OUT, ISN_IN, 10));
	CHECK(segment(OUT, FLAG_SYN | FLAG_ACK, ISN_OUT, ISN_IN, 0));
	CHECK(segment(OUT, FLAG_SYN | FLAG_FIN, ISN_OUT, 0, 0));
	CHECK(segment(OUT, FLAG_RST, ISN_OUT, 0, 0));
	CHECK(!segment(IN, FLAG_ACK, ISN_IN, ISN_OUT, 10));
	CHECK_INT(-1, state_in("embryos", IPPROTO_TCP));
}

static void what_was_there_is_picked_up_for_a_while(void)
{
	stateful_policy();
	world.settings->pick_up_until = ~0ull;
	CHECK(!segment(IN, FLAG_ACK, ISN_IN, ISN_OUT, 10));
	CHECK(segment(OUT, FLAG_ACK, ISN_OUT, ISN_IN, 10));
	STATE("embryos", ESTABLISHED);
	CHECK(segment(IN, FLAG_ACK, ISN_IN, ISN_OUT + 10, 10));
	STATE("flows", ESTABLISHED);
	world.settings->pick_up_until = 0;
	CHECK(!segment(IN, FLAG_RST, ISN_IN + 5000, 0, 0));
	CHECK(segment(OUT, FLAG_RST, ISN_OUT + 10, 0, 0));
	STATE("flows", CLOSED);
}

static void silence_ends_a_flow(void)
{
	stateful_policy();
	open_outwards();
	age(IPPROTO_TCP, 7190);
	CHECK(data_in());
	age(IPPROTO_TCP, 7201);
	CHECK(!data_in());
	world.settings->timeout_ns[TG_TRACK_STATE_SYN_SENT] = 10000000000ull;
	CHECK(segment(OUT, FLAG_SYN, ISN_OUT, 0, 0));
	age(IPPROTO_TCP, 11);
	CHECK(!segment(IN, FLAG_SYN | FLAG_ACK, ISN_IN, ISN_OUT + 1, 0));
	world.settings->timeout_ns[TG_TRACK_STATE_SYN_SENT] = 0;
}

static void datagrams_are_answered(void)
{
	stateful_policy();
	CHECK(datagram(OUT));
	CHECK_INT(TG_TRACK_STATE_UDP_NEW, state_in("embryos", IPPROTO_UDP));
	CHECK(datagram(IN));
	CHECK_INT(TG_TRACK_STATE_UDP, state_in("embryos", IPPROTO_UDP));
	CHECK(datagram(OUT)); /* who began has heard */
	CHECK_INT(TG_TRACK_STATE_UDP, state_in("flows", IPPROTO_UDP));
	age(IPPROTO_UDP, 170);
	CHECK(datagram(IN));
	age(IPPROTO_UDP, 181);
	CHECK(!datagram(IN));
	CHECK(datagram(OUT));
	CHECK(datagram(IN));
}

static void pings_are_answered(void)
{
	stateful_policy();
	CHECK(echo(OUT, true, 7));
	CHECK(!echo(IN, true, 7)); /* the same number the other way is another flow */
	CHECK(echo(IN, false, 7));
	CHECK(!echo(IN, false, 8));
	CHECK(echo(OUT, false, 9)); /* an answer begins nothing */
	CHECK(!echo(IN, true, 9));
	CHECK(!echo(IN, false, 9));
}

static void other_protocols_are_answered(void)
{
	stateful_policy();
	CHECK(!other_protocol(IN, IPPROTO_GRE));
	CHECK(other_protocol(OUT, IPPROTO_GRE));
	CHECK(other_protocol(IN, IPPROTO_GRE));
	CHECK(!other_protocol(IN, IPPROTO_ESP));
}

static bool tcp_error(enum way way, uint32_t seq)
{
	uint8_t quoted[20];

	put_tcp(quoted, way == IN ? OUT : IN, FLAG_ACK, seq, 0, false);
	return error_about(way, IPPROTO_TCP, quoted);
}

static void errors_about_flows_pass(void)
{
	uint8_t udp[8] = { world.inner >> 8, world.inner, 0, 80 }, ping[8] = { 8, 0, 0, 0, 0, 7 };

	stateful_policy();
	CHECK(!tcp_error(IN, ISN_OUT + 1));
	open_outwards();
	CHECK(tcp_error(IN, ISN_OUT + 1));
	CHECK(!tcp_error(IN, ISN_OUT + 0x10000000));
	udp[0] = world.inner >> 8;
	udp[1] = world.inner;
	CHECK(!error_about(IN, IPPROTO_UDP, udp));
	CHECK(datagram(OUT));
	CHECK(error_about(IN, IPPROTO_UDP, udp));
	ping[0] = world.v6 ? 128 : 8;
	CHECK(!error_about(IN, icmp_proto(), ping));
	CHECK(echo(OUT, true, 7));
	CHECK(error_about(IN, icmp_proto(), ping));
}

static void a_rule_counts_the_flows_that_it_let_in(void)
{
	__u64 rule = rule_counted(0), otherwise = rule_counted(DEFAULT);

	stateful_policy();
	world.inner = 22;
	CHECK(segment(IN, FLAG_SYN, ISN_IN, 0, 0));
	CHECK(segment(OUT, FLAG_SYN | FLAG_ACK, ISN_OUT, ISN_IN + 1, 0));
	CHECK(segment(IN, FLAG_ACK, ISN_IN + 1, ISN_OUT + 1, 0));
	CHECK(segment(IN, FLAG_ACK, ISN_IN + 1, ISN_OUT + 1, 40));
	CHECK(!segment(IN, FLAG_RST, ISN_IN + 9000, 0, 0));
	CHECK_INT(rule + 3, rule_counted(0)); /* nobody judges what leaves */
	CHECK_INT(otherwise + 1, rule_counted(DEFAULT));
}

/* A port that follows flows as of its other direction judges each packet here. */
static void a_policy_without_flows_judges_every_packet(void)
{
	stateful_policy();
	POLICY(0, OUT, 0, TG_ACTION_ACCEPT, { IPPROTO_TCP, 23, TG_ACTION_DROP, 0, 0 });
	open_outwards();
	CHECK(data_in());
	POLICY(0, OUT, 0, TG_ACTION_ACCEPT, { IPPROTO_TCP, 80, TG_ACTION_DROP, 0, 0 });
	CHECK(!segment(OUT, FLAG_ACK, ISN_OUT + 1, ISN_IN + 1, 10));
	CHECK(data_in());
}

static void ports_without_flows_have_none(void)
{
	stateful_policy();
	POLICY(0, IN, 0, TG_ACTION_ACCEPT, SYN_IN(22));
	CHECK(segment(OUT, FLAG_SYN, ISN_OUT, 0, 0));
	CHECK_INT(-1, state_in("embryos", IPPROTO_TCP));
}

/* A port's policy judges flows that another port let in, once, as the packets that began them. */
static void each_policy_judges_a_flow(void)
{
	stateful_policy();
	POLICY(1, OUT, TG_POLICY_STATEFUL, TG_ACTION_DROP, SYN_IN(25));
	world.inner = 22;
	CHECK(segment(IN, FLAG_SYN, ISN_IN, 0, 0)); /* by port 0, let in */
	enter_port(1);
	CHECK(!datagram(OUT));
	CHECK(segment(OUT, FLAG_SYN | FLAG_ACK, ISN_OUT, ISN_IN + 1, 0)); /* an answer, by port 1 */
	fresh_flow();
	enter_port(0);
	world.inner = 22;
	CHECK(segment(IN, FLAG_SYN, ISN_IN, 0, 0));
	enter_port(1);
	POLICY(1, IN, TG_POLICY_STATEFUL, TG_ACTION_DROP, SYN_IN(25));
	CHECK(!segment(
		IN, FLAG_SYN, ISN_IN, 0, 0)); /* the same flow, by a port that does not want it */
	POLICY(1, IN, TG_POLICY_STATEFUL, TG_ACTION_DROP, SYN_IN(22));
	CHECK(segment(OUT, FLAG_SYN | FLAG_ACK, ISN_OUT, ISN_IN + 1, 0));
	CHECK(segment(IN, FLAG_ACK, ISN_IN + 1, ISN_OUT + 1, 0)); /* by one that would */
	STATE("flows", ESTABLISHED);
	enter_port(0);
	CHECK(segment(IN, FLAG_ACK, ISN_IN + 1, ISN_OUT + 1, 10));
}

static void let_in_and_change(uint32_t flags)
{
	stateful_policy();
	POLICY(0, IN, TG_POLICY_STATEFUL | flags, TG_ACTION_DROP, SYN_IN(22), SYN_IN(25));
	world.inner = 22;
	CHECK(segment(IN, FLAG_SYN, ISN_IN, 0, 0));
	CHECK(segment(OUT, FLAG_SYN | FLAG_ACK, ISN_OUT, ISN_IN + 1, 0));
	CHECK(segment(IN, FLAG_ACK, ISN_IN + 1, ISN_OUT + 1, 0));
	POLICY(0, IN, TG_POLICY_STATEFUL | flags, TG_ACTION_DROP, SYN_IN(25));
}

static void flows_stay_when_the_policy_changes(void)
{
	__u64 before = rule_counted(0);

	let_in_and_change(0);
	CHECK_INT(before + 2, rule_counted(0));
	CHECK(segment(IN, FLAG_ACK, ISN_IN + 1, ISN_OUT + 1, 10));
	CHECK(segment(OUT, FLAG_ACK, ISN_OUT + 1, ISN_IN + 11, 10));
	CHECK_INT(before + 2, rule_counted(0)); /* the rule is another one now */
	world.inner++;
	CHECK(!segment(IN, FLAG_SYN, ISN_IN, 0, 0));
}

static void flows_are_cut_when_the_policy_says_recheck(void)
{
	__u64 cut = counted(TG_TRACK_CUT), rechecked = counted(TG_TRACK_RECHECKED);

	let_in_and_change(TG_POLICY_RECHECK);
	CHECK(!segment(IN, FLAG_ACK, ISN_IN + 1, ISN_OUT + 1, 10));
	CHECK_INT(TG_TRACK_STATE_CUT, state_in("flows", IPPROTO_TCP));
	CHECK_INT(cut + 1, counted(TG_TRACK_CUT));
	CHECK_INT(rechecked + 1, counted(TG_TRACK_RECHECKED));
	POLICY(0, OUT, TG_POLICY_STATEFUL, TG_ACTION_DROP, SYN_IN(1));
	CHECK(!segment(OUT, FLAG_ACK, ISN_OUT + 1, ISN_IN + 1, 10));
}

static void an_answer_can_tell_that_its_flow_is_cut(void)
{
	stateful_policy();
	POLICY(0, OUT, TG_POLICY_STATEFUL | TG_POLICY_RECHECK, TG_ACTION_ACCEPT, SYN_IN(1));
	open_outwards();
	CHECK(data_in());
	POLICY(0, OUT, TG_POLICY_STATEFUL | TG_POLICY_RECHECK, TG_ACTION_DROP, SYN_IN(80));
	CHECK(data_in());
	POLICY(0, OUT, TG_POLICY_STATEFUL | TG_POLICY_RECHECK, TG_ACTION_DROP, SYN_IN(81));
	CHECK(!data_in());
}

static void many_flows(unsigned int count, bool whole)
{
	for (unsigned int i = 0; i < count; i++) {
		world.host = 100000 + i;
		CHECK(segment(IN, FLAG_SYN, ISN_IN, 0, 0));
		if (!whole)
			continue;
		CHECK(segment(OUT, FLAG_SYN | FLAG_ACK, ISN_OUT, ISN_IN + 1, 0));
		CHECK(segment(IN, FLAG_ACK, ISN_IN + 1, ISN_OUT + 1, 0));
	}
}

static void half_open_flows_push_out_only_their_like(void)
{
	stateful_policy();
	open_outwards();
	fresh_flow();
	world.inner = 22;
	CHECK(segment(IN, FLAG_SYN, ISN_IN, 0, 0));
	many_flows(unit_some(80000), false);
	world.inner = 22;
	world.host = 0;
	stateful_policy();
	open_outwards();
	CHECK(data_in());
}

static void a_full_table_is_counted_and_flows_work(void)
{
	__u64 full = counted(TG_TRACK_FULL), confirmed = counted(TG_TRACK_CONFIRMED);

	stateful_policy();
	world.inner = 22;
	many_flows(2000, true);
	CHECK(counted(TG_TRACK_FULL) > full);
	CHECK_INT(2000, counted(TG_TRACK_FULL) - full + counted(TG_TRACK_CONFIRMED) - confirmed);
	STATE("embryos", ESTABLISHED);
	for (int i = 0; i < 3; i++)
		CHECK(data_in());
	CHECK(!segment(IN, FLAG_RST, ISN_IN + 9000, 0, 0));
	CHECK_INT(2000, counted(TG_TRACK_FULL) - full + counted(TG_TRACK_CONFIRMED) - confirmed);
}

static void run_all(void)
{
	RUN(what_leaves_may_be_answered);
	RUN(what_is_let_in_may_be_answered);
	RUN(what_nobody_asked_for_is_dropped);
	RUN(a_syn_may_come_again);
	RUN(both_may_begin_at_once);
	RUN(an_answer_must_be_to_that_syn);
	RUN(a_handshake_is_over_when_it_is_acknowledged);
	RUN(a_close_is_followed);
	RUN(a_close_out_of_window_is_ignored);
	RUN(a_reset_must_be_near_exact);
	RUN(who_goes_on_did_not_reset);
	RUN(strays_pass_and_change_nothing);
	RUN(gaps_are_made_good);
	RUN(ports_that_are_done_with_are_used_again);
	RUN(a_lost_connection_begins_anew);
	RUN(only_a_syn_begins);
	RUN(what_was_there_is_picked_up_for_a_while);
	RUN(silence_ends_a_flow);
	RUN(datagrams_are_answered);
	RUN(pings_are_answered);
	RUN(other_protocols_are_answered);
	RUN(errors_about_flows_pass);
	RUN(a_rule_counts_the_flows_that_it_let_in);
	RUN(a_policy_without_flows_judges_every_packet);
	RUN(ports_without_flows_have_none);
	RUN(each_policy_judges_a_flow);
	RUN(flows_stay_when_the_policy_changes);
	RUN(flows_are_cut_when_the_policy_says_recheck);
	RUN(an_answer_can_tell_that_its_flow_is_cut);
}

int main(void)
{
	if (geteuid())
		return puts("skip flows: only root may load programs"), 0;
	libbpf_set_print(NULL);
	world_open(1024, TG_FEATURE_FLOW);
	for (int family = 0; family < 2; family++) {
		world.v6 = family;
		run_all();
	}
	RUN(half_open_flows_push_out_only_their_like);
	RUN(a_full_table_is_counted_and_flows_work);
	return unit_result();
}
