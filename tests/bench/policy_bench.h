/* SPDX-License-Identifier: GPL-2.0-only */
/* What policy_bench.c and policy_bench.bpf.c share: packets that lie ready, each written before its turn. */
#include <linux/types.h>

#define POLICY_PACKETS	   65536
#define POLICY_FRAME_WORDS 10 /* of 8 bytes: Ethernet, IPv6, TCP, rounded up */

struct policy_frame {
	__u64 word[POLICY_FRAME_WORDS];
};
