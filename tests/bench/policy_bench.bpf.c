// SPDX-License-Identifier: GPL-2.0-only
/*
 * Round about the TC program for policy_bench.c. A test run does not reset the packet between rounds, so
 * each program here writes it anew. `bench_wrapped` then calls the datapath, the unmodified source as
 * a global subprogram; `bench_empty` calls one that does nothing: the wrapper's own cost. `bench_floor` is
 * what a test run costs.
 */
#define TG_TC
#include "maps.h"

#pragma push_macro("SEC")
#undef SEC
#define SEC(name) __attribute__((noinline)) /* a subprogram: in no section of its own */
#include "../../bpf/tc.bpf.c"
#pragma pop_macro("SEC")

#include "policy_bench.h"

const volatile __u32 packet_mask; /* packets - 1, a power of two */
const volatile bool renew;	  /* each from another IPv4 source: track_bench.c */
__u32 turn;
__u64 accepted; /* packets that went on */

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct policy_frame);
	__uint(max_entries, POLICY_PACKETS);
} frames SEC(".maps");

static __always_inline int write_packet(struct __sk_buff *skb)
{
	__u32 index = turn++ & packet_mask;
	const struct policy_frame *frame = bpf_map_lookup_elem(&frames, &index);
	__u64 *to = (void *)(long)skb->data;

	if (!frame || (void *)(to + POLICY_FRAME_WORDS) > (void *)(long)skb->data_end)
		return -1;
#pragma unroll
	for (int i = 0; i < POLICY_FRAME_WORDS; i++)
		to[i] = frame->word[i];
	if (renew)
		to[3] ^= (__u64)turn << 16; /* where the source lies */
	return 0;
}

__noinline int nothing(struct __sk_buff *skb)
{
	volatile int verdict = GO_ON;

	return skb ? verdict : STOP;
}

SEC("tc")
int bench_wrapped(struct __sk_buff *skb)
{
	if (write_packet(skb))
		return 1;
	accepted += tidegate_ingress(skb) == GO_ON;
	return 0;
}

SEC("tc")
int bench_empty(struct __sk_buff *skb)
{
	if (write_packet(skb))
		return 1;
	accepted += nothing(skb) == GO_ON;
	return 0;
}

SEC("tc")
int bench_floor(struct __sk_buff *skb)
{
	return 0;
}
