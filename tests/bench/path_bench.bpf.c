// SPDX-License-Identifier: GPL-2.0-only
/*
 * Both ends of a whole path, for path_bench.c: `path_sender` is run on live frames and sends each, of
 * another flow, out of the device in `out`; `path_sink` counts what arrives there and drops it. In
 * between stands a switch, or one of the programs that do nothing but drop, send back or redirect.
 */
#include <linux/bpf.h>
#include <stdbool.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define FRAME_SIZE  64
#define SOURCE	    26 /* where the client's address lies */
#define SOURCE_PORT 34

struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} out SEC(".maps"), other SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 2); /* what sinks have got, what the bare drop has dropped */
	__type(key, __u32);
	__type(value, __u64);
} arrived SEC(".maps");

__u64 frame[FRAME_SIZE / 8];
__u32 flow; /* by a full-period generator (Hull, Dobell 1962) */
__u32 flow_mask;

static __always_inline void count(__u32 what)
{
	__u64 *packets = bpf_map_lookup_elem(&arrived, &what);

	if (packets)
		(*packets)++;
}

SEC("xdp")
int path_sender(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u64 *to = data;

	if (data + FRAME_SIZE > end)
		return XDP_ABORTED;
#pragma unroll
	for (int i = 0; i < FRAME_SIZE / 8; i++)
		to[i] = frame[i];
	flow = (flow * 1664525 + 1013904223) & flow_mask;
	*(__be32 *)(data + SOURCE) = bpf_htonl(0x0a000000 | flow);
	*(__be16 *)(data + SOURCE_PORT) = bpf_htons(1024 + (flow >> 4 & 0x7fff));
	return bpf_redirect_map(&out, 0, 0);
}

SEC("xdp")
int path_sink(struct xdp_md *ctx)
{
	count(0);
	return XDP_DROP;
}

SEC("xdp")
int bare_drop(struct xdp_md *ctx)
{
	count(1);
	return XDP_DROP;
}

SEC("xdp")
int bare_tx(struct xdp_md *ctx)
{
	return XDP_TX;
}

SEC("xdp")
int bare_redirect(struct xdp_md *ctx)
{
	return bpf_redirect_map(&other, 0, 0);
}

char LICENSE[] SEC("license") = "GPL";
