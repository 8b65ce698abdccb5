// SPDX-License-Identifier: GPL-2.0-only
/* For events_bench.c: the datapath's own event_packet(), as often as the ring `events` has room. */
#define TG_TC
#include "maps.h"

#include "event.h"

#define BURST 64

__u32 sources;
__u64 told;

static __always_inline bool has_room(void)
{
	return bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA) < TG_EVENT_RING / 4 * 3;
}

SEC("tc")
int bench_events(struct __sk_buff *skb)
{
	struct policy_key key = { .dst_hi = 0xc000020100000000ull,
		.sport = 40000,
		.dport = 23,
		.has_ports = true,
		.kind = TG_POLICY_KIND_OF(IPPROTO_TCP, TCP_SYN) };

	if (!has_room())
		return 0;
	for (int i = 0; i < BURST; i++) {
		key.src_hi = (__u64)(0x0a000000 | (sources++ & 0xffff)) << 32;
		event_packet(&key, TG_ACTION_DROP | TG_RULE_EVENT << 8, 1, 60,
			EVENT_WHAT(TG_EVENT_RULE, TG_INGRESS, false, true) |
				EVENT_REASON(TG_REASON_POLICY_DROP));
	}
	told += BURST;
	return 0;
}
