// SPDX-License-Identifier: GPL-2.0-only
/*
 * For policy_bench.c: bpf/classify.h alone, on keys that lie ready. `bench_empty` reads a key as well and
 * asks nothing; `bench_floor` is what a test run costs.
 */
#include <linux/bpf.h>
#include <stdbool.h>

#include <bpf/bpf_helpers.h>

#include "policy_abi.h"
#include "policy_bench.h"

char LICENSE[] SEC("license") = "GPL";

struct tg_policy policy;
const volatile __u32 words;
const volatile bool v6;
const volatile __u32 key_mask; /* keys - 1 */
__u32 turn;
__u64 found; /* the sum of all rules' numbers */

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, __u8[TG_POLICY_PAGE]);
	__uint(max_entries, 1);
} policy_pages SEC(".maps");

static __always_inline const void *policy_page(__u32 number)
{
	number--;
	return bpf_map_lookup_elem(&policy_pages, &number);
}

#include "classify.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct policy_key);
	__uint(max_entries, POLICY_KEYS);
} keys SEC(".maps");

static __always_inline const struct policy_key *next_key(void)
{
	__u32 index = turn++ & key_mask;

	return bpf_map_lookup_elem(&keys, &index);
}

SEC("tc")
int bench_classify(struct __sk_buff *skb)
{
	const struct policy_key *key = next_key();

	if (!key)
		return 2;
	found += classify(&policy, key, v6, words);
	return 0;
}

SEC("tc")
int bench_empty(struct __sk_buff *skb)
{
	const struct policy_key *key = next_key();

	if (!key)
		return 2;
	found += key->src_hi + key->dst_hi + key->kind;
	return 0;
}

SEC("tc")
int bench_floor(struct __sk_buff *skb)
{
	return 0;
}
