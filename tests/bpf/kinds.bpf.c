// SPDX-License-Identifier: GPL-2.0-only
/* A map of every kind of value, and programs with known answers, for tests/spec/map_spec.lua and prog_spec.lua. */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>

#define MAP(name, kind, k, v, n)                                                                   \
	struct {                                                                                   \
		__uint(type, BPF_MAP_TYPE_##kind);                                                 \
		__uint(max_entries, n);                                                            \
		__type(key, k);                                                                    \
		__type(value, v);                                                                  \
	} name SEC(".maps")

/* ---- numbers ---- */

MAP(u8s, HASH, __u8, __u8, 8);
MAP(u16s, HASH, __u16, __u16, 8);
MAP(u32s, HASH, __u32, __u32, 8);
MAP(u64s, HASH, __u64, __u64, 8);
MAP(i8s, HASH, __s8, __s8, 8);
MAP(i16s, HASH, __s16, __s16, 8);
MAP(i32s, HASH, __s32, __s32, 8);
MAP(i64s, HASH, __s64, __s64, 8);
MAP(i128s, HASH, __u32, __int128, 8);
MAP(bools, HASH, bool, bool, 8);

typedef const volatile __u16 port_t;
struct numbers {
	float single;
	double number;
	port_t port;
	__be16 be_port;
	__be32 be_address;
	__be64 be_cookie;
};
MAP(numbers, HASH, __u32, struct numbers, 8);

/* ---- enums ---- */

enum state { STATE_NEW, STATE_OPEN, STATE_CLOSED = 7, STATE_LAST = STATE_CLOSED };
enum signed_state { BELOW = -2, ABOVE = 3 };
struct states {
	enum state state;
	enum signed_state level;
	enum state narrow : 3;
};
MAP(states, HASH, enum state, struct states, 8);

/* ---- arrays and text ---- */

struct point {
	__s32 x, y;
};
struct lists {
	char name[8];
	unsigned char mac[6];
	__u16 ports[3];
	__u32 grid[2][3];
	struct point points[2];
	bool flags[2];
};
MAP(lists, HASH, __u32, struct lists, 8);
typedef char label_t[16];
MAP(labels, HASH, label_t, __u32, 8);

/* ---- records ---- */

struct flow {
	__be32 saddr, daddr;
	__u16 sport, dport;
	__u8 proto;
	/* three bytes of padding, which must be zero in a key */
};
struct session {
	struct flow forward, back;
	struct {
		__u32 packets;
		struct {
			__u32 bytes;
		};
	};
	union {
		__u32 whole;
		struct {
			__u16 low, high;
		};
	};
	union {
		__u64 wide;
		__u8 bytes8[8];
	} named;
};
MAP(sessions, HASH, struct flow, struct session, 16);

struct bits {
	__u32 a : 3, b : 7;
	__s32 c : 5;
	__s32 : 4;
	__u32 last : 13;
	__u64 wide : 60;
	__s64 sign : 1;
	bool flag : 1;
};
MAP(bits, HASH, __u32, struct bits, 8);

/* ---- kinds of map ---- */

struct counter {
	__u64 packets, bytes;
	char name[8];
};
MAP(cpu_counters, PERCPU_ARRAY, __u32, struct counter, 4);
MAP(cpu_u32s, PERCPU_HASH, __u32, __u32, 8);
MAP(array, ARRAY, __u32, __u64, 8);
MAP(lru, LRU_HASH, __u32, __u64, 128);
MAP(large, HASH, __u32, __u64, 100000);

struct prefix {
	__u32 length;
	__u8 address[4];
};
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 1024);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct prefix);
	__type(value, __u32);
} prefixes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, 4);
	__uint(key_size, 0);
	__type(value, __u32);
} queue SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 4);
	__uint(key_size, 4);
	__uint(value_size, 4);
} programs SEC(".maps");

struct inner {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 8);
	__type(key, __u32);
	__type(value, __u64);
};
struct {
	__uint(type, BPF_MAP_TYPE_HASH_OF_MAPS);
	__uint(max_entries, 4);
	__type(key, __u32);
	__array(values, struct inner);
} outer SEC(".maps");

/* ---- what can't be carried ---- */

struct locked {
	__u32 before;
	struct bpf_spin_lock lock;
};
MAP(locked, HASH, __u32, struct locked, 8);
struct pointing {
	__u32 before;
	struct {
		void *address;
	} inside;
};
MAP(pointing, HASH, __u32, struct pointing, 8);

/* ---- variables: the sections .bss and .data ---- */

__u64 runs;
struct point origin = { 3, -4 };

/* ---- programs ---- */

SEC("xdp")
int pass(struct xdp_md *ctx)
{
	__sync_fetch_and_add(&runs, 1 + origin.x - 3);
	return XDP_PASS;
}

/* Swaps the first two bytes, and reports where the packet came from in the next ones. */
SEC("xdp")
int answer(struct xdp_md *ctx)
{
	__u8 *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end, first;

	if (data + 14 > end)
		return XDP_ABORTED;
	first = data[0];
	data[0] = data[1];
	data[1] = first;
	data[2] = ctx->ingress_ifindex;
	data[3] = ctx->rx_queue_index;
	data[4] = bpf_get_smp_processor_id();
	return XDP_TX;
}

SEC("xdp")
int grow(struct xdp_md *ctx)
{
	return bpf_xdp_adjust_head(ctx, -20) ? XDP_ABORTED : XDP_DROP;
}

SEC("tc")
int shot(struct __sk_buff *skb)
{
	return skb->mark == 7 ? TC_ACT_SHOT : TC_ACT_OK;
}

char _license[] SEC("license") = "GPL";
