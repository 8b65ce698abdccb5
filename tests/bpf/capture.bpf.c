// SPDX-License-Identifier: GPL-2.0-only
/*
 * For tests/unit/capture_test.c and tests/bench/capture_bench.c: the step of captures alone. What of a packet
 * is told comes from its first bytes: direction, verdict, reason, rule, and to how many times 256 bytes it grows
 * (a test run takes no more than a page).
 */
#define TG_TC
#include "maps.h"

#include "capture.h"

static __always_inline void count_as(__u32 tap, int what, __u32 length)
{
	__u32 index = tap * TG_TAP_COUNT + what;
	struct tg_counter *counter = bpf_map_lookup_elem(&tap_counters, &index);

	if (!counter)
		return;
	counter->packets++;
	counter->bytes += length;
}

SEC("tc")
int capture(struct __sk_buff *skb)
{
	__u32 which = 0;
	struct tg_tap *tap = bpf_map_lookup_elem(&taps, &which);
	struct tg_record head = { .tap = which, .ifindex = skb->ifindex };
	__u8 told[6];
	int what;

	if (!tap || bpf_skb_load_bytes(skb, 0, told, sizeof(told)))
		return 0;
	if (tap->kind != TG_TAP_CAPTURE || tap->until <= bpf_ktime_get_ns())
		return 0;
	if (told[5] && bpf_skb_change_tail(skb, told[5] * 256, 0))
		return TG_TAP_COUNT;
	head.start = tap->start;
	head.direction = told[1];
	head.verdict = told[2];
	head.reason = told[3];
	head.rule = told[4] == 0xff ? TG_NO_RULE : told[4];
	what = capture_packet(skb, &head, tap->snap);
	count_as(which, what, skb->len);
	return what;
}
