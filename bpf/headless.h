/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Packets that come to TC without their Ethernet header. Where XDP is generic, newer kernels (6.18 for one) copy a
 * packet that others hold, too, what a local sender's are, and forget how long its Ethernet header is: so it is not
 * put before what TC sees, and all would be read 14 bytes too late. The header still lies where it was; here it is put
 * back, and its length with it. `clock.generic` says that there is such a port. (tests/net/mirror_test.sh)
 */
#ifndef TIDEGATE_HEADLESS_H
#define TIDEGATE_HEADLESS_H

#include "maps.h"
#include "packet.h"

/* Two words for comparing. */
struct frame_head {
	__u8 byte[16] __attribute__((aligned(8)));
};

static __always_inline bool same_head(const struct frame_head *a, const struct frame_head *b)
{
	const __u64 *x = (const __u64 *)a, *y = (const __u64 *)b;

	return x[0] == y[0] && x[1] == y[1];
}

/* False: it can't be made whole. */
__noinline int make_whole(struct __sk_buff *skb)
{
	struct frame_head mac = {}, here = {};

	if (bpf_skb_load_bytes_relative(skb, 0, &mac, ETH_HLEN, BPF_HDR_START_MAC) ||
		bpf_skb_load_bytes(skb, 0, &here, ETH_HLEN))
		return false;
	if (likely(same_head(&mac, &here)))
		return true;
	return !bpf_skb_change_head(skb, ETH_HLEN, 0) &&
	       !bpf_skb_store_bytes(skb, 0, &mac, ETH_HLEN, 0);
}

static __always_inline bool xdp_is_generic(void)
{
	__u32 zero = 0;
	const struct tg_clock *clock_now = bpf_map_lookup_elem(&clock, &zero);

	return clock_now && clock_now->generic;
}

#endif
