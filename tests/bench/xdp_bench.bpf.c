// SPDX-License-Identifier: GPL-2.0-only
/*
 * Round about the datapath for xdp_bench.c. A test run does not reset the packet between rounds, so
 * each program here writes it anew, of another flow if so asked. `bench_wrapped` then calls the
 * datapath, the unmodified source as a global subprogram; `bench_empty` calls one that does
 * nothing: the wrapper's own cost. Where the datapath encapsulates, the wrapper first takes the last
 * round's header off, the empty one likewise a header of no bytes, which takes the kernel as long; what
 * the datapath's own bpf_xdp_adjust_head costs stays in. `bench_floor` is what a test run costs.
 */
#include "maps.h"

#pragma push_macro("SEC")
#undef SEC
#define SEC(name) __attribute__((noinline)) /* a subprogram: in no section of its own */
#include "../../bpf/xdp.bpf.c"
#pragma pop_macro("SEC")

#define FRAME_WORDS 10

const volatile __u64 frame[FRAME_WORDS]; /* the packet */
const volatile __u32 words;		 /* its length in words of 8 bytes */
const volatile __u32 flow_mask;		 /* flows - 1, a power of two */
const volatile bool shifted;		 /* the last round put a header before the packet */
const volatile __u32 addr_offset;	 /* where the client's address (its last word) lies */
const volatile __u32 port_offset;	 /* and its port */

__u32 flow; /* of this round, by a full-period generator (Hull, Dobell 1962) */

static __always_inline int write_packet(struct xdp_md *ctx)
{
	void *data, *end;
	__u64 *to;

	if (shifted && bpf_xdp_adjust_head(ctx, (int)bpf_xdp_get_buff_len(ctx) - (int)words * 8))
		return -1;
	data = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	to = data;
	if (data + words * 8 > end)
		return -1;
#pragma unroll
	for (__u32 i = 0; i < FRAME_WORDS; i++)
		if (i < words)
			to[i] = frame[i];
	if (!flow_mask)
		return 0;
	flow = (flow * 1664525 + 1013904223) & flow_mask;
	if (addr_offset > 64 || port_offset > 64 || data + addr_offset + 4 > end ||
		data + port_offset + 2 > end)
		return -1;
	*(__be32 *)(data + addr_offset) = bpf_htonl(0x0a000000 | flow);
	*(__be16 *)(data + port_offset) = bpf_htons(1024 + (flow >> 4 & 0x7fff));
	return 0;
}

__noinline int nothing(struct xdp_md *ctx)
{
	volatile int action = XDP_TX;

	return ctx ? action : XDP_ABORTED;
}

SEC("xdp.frags")
int bench_wrapped(struct xdp_md *ctx)
{
	return write_packet(ctx) ? XDP_ABORTED : tidegate_xdp(ctx);
}

SEC("xdp.frags")
int bench_empty(struct xdp_md *ctx)
{
	return write_packet(ctx) ? XDP_ABORTED : nothing(ctx);
}

SEC("xdp.frags")
int bench_floor(struct xdp_md *ctx)
{
	return XDP_TX;
}
