// SPDX-License-Identifier: GPL-2.0-only
/*
 * Round about the datapath for deny_bench.c: `bench_wrapped` gives the packet the next of the sources in
 * `bench_sources` (the lists change nothing else in a packet) and calls the datapath, the unmodified source
 * in a global subprogram; `bench_empty` calls one that does nothing: the wrapper's own cost. `bench_direct`
 * is the datapath itself, nothing around it. `bench_floor` is what a test run costs.
 */
#include "maps.h"

#pragma push_macro("SEC")
#undef SEC
#define SEC(name) static __always_inline /* in no section of its own */
#include "../../bpf/xdp.bpf.c"
#pragma pop_macro("SEC")

#include "deny_bench.h"

TG_MAP(bench_sources, ARRAY, BENCH_SOURCES * 4 / BENCH_WORDS, __u32, struct bench_line, TG_MAPPED);

const volatile bool v6;

__u32 from, mask; /* which of the sources: a power of two of them - 1 */
__u32 at;

static __always_inline int write_source(struct xdp_md *ctx)
{
	__u32 word = (from + (at++ & mask)) * (v6 ? 4 : 1), index = word / BENCH_WORDS;
	struct bench_line *line = bpf_map_lookup_elem(&bench_sources, &index);
	__be32 *to = (void *)(long)ctx->data + (v6 ? 22 : 26);

	if (!line || (void *)(to + 4) > (void *)(long)ctx->data_end)
		return -1;
	word &= v6 ? 12 : 15;
	to[0] = line->word[word];
	if (v6) {
		to[1] = line->word[word + 1];
		to[2] = line->word[word + 2];
		to[3] = line->word[word + 3];
	}
	return 0;
}

__noinline int datapath(struct xdp_md *ctx)
{
	return ctx ? tidegate_xdp(ctx) : XDP_ABORTED;
}

__noinline int nothing(struct xdp_md *ctx)
{
	volatile int action = XDP_DROP;

	return ctx ? action : XDP_ABORTED;
}

SEC("xdp.frags")
int bench_wrapped(struct xdp_md *ctx)
{
	return write_source(ctx) ? XDP_ABORTED : datapath(ctx);
}

SEC("xdp.frags")
int bench_empty(struct xdp_md *ctx)
{
	return write_source(ctx) ? XDP_ABORTED : nothing(ctx);
}

SEC("xdp.frags")
int bench_direct(struct xdp_md *ctx)
{
	return tidegate_xdp(ctx);
}

SEC("xdp.frags")
int bench_floor(struct xdp_md *ctx)
{
	return XDP_DROP;
}
