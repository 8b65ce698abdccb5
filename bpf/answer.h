/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What all answers of the datapath to a packet's sender share: ICMP errors (too_big.h, reject.h) and resets
 * (reject.h), made of the packet itself and sent back with the VLAN tags that it had.
 * TG_ANSWERS_PER_SECOND a CPU, TG_ANSWERS_BURST at once.
 */
#ifndef TIDEGATE_ANSWER_H
#define TIDEGATE_ANSWER_H

#include "csum.h"
#include "maps.h"
#include "packet.h"
#include "trace.h"

/* <linux/icmp.h> takes a C library along. */
#define ICMP_DEST_UNREACH 3
#define ICMP_FRAG_NEEDED  4

struct icmp_frag_needed {
	__u8 type, code;
	__sum16 checksum;
	__be16 unused, mtu;
};

#define IPV4_ERROR_MAX 576 /* bytes of a whole answer */
#define IPV6_ERROR_MAX 1280
#define IPV4_MIN_MTU   68
#define IPV6_MIN_MTU   1280
#define ICMP_HEADER    8
#define TOS_CONTROL    0xc0 /* internetwork control (RFC 1812, 4.3.2.5) */
#define ANSWER_TTL     64
#define NSEC_PER_SEC   1000000000ull
#define ANSWER_NS      (NSEC_PER_SEC / TG_ANSWERS_PER_SECOND)

/* A token bucket in one word: until when answers are spoken for. */
static __always_inline bool answer_allowed(void)
{
	__u32 zero = 0;
	__u64 *until = bpf_map_lookup_elem(&answers_until, &zero), now, from;

	if (!until)
		return false;
	now = bpf_ktime_get_coarse_ns();
	from = *until < now ? now : *until;
	if (from - now > (TG_ANSWERS_BURST - 1) * ANSWER_NS)
		return false;
	state_store(until, from + ANSWER_NS);
	return true;
}

/* Is the source a host? */
static __always_inline bool may_answer4(const struct iphdr *ip)
{
	__u32 source = bpf_ntohl(ip->saddr);

	return source >> 24 != 0 && source >> 24 != 127 && source >> 28 < 14;
}

static __always_inline bool may_answer6(const struct ipv6hdr *ip)
{
	const __be32 *source = ip->saddr.s6_addr32;

	if (ip->saddr.s6_addr[0] == 0xff)
		return false;
	return source[0] || source[1] || source[2] || bpf_ntohl(source[3]) > 1;
}

/* All words from `at` to the end of the packet. */
static __always_inline __u64 csum_rest(const __u32 *at, const void *end, const int most)
{
	__u64 sum = 0;

	for (int i = 0; i < most / 4; i++) {
		if ((void *)(at + i + 1) > end)
			break;
		sum += at[i];
	}
	return sum;
}

/* The frame goes back to who sent it, with the tags that it had. */
struct way_back {
	__u8 mac[2 * ETH_ALEN];
	__u64 tags; /* what follows the MACs */
};

static __always_inline void way_back_read(struct way_back *back, const void *data)
{
	__builtin_memcpy(back->mac, data + ETH_ALEN, ETH_ALEN);
	__builtin_memcpy(back->mac + ETH_ALEN, data, ETH_ALEN);
	back->tags = *(__u64 *)(data + 2 * ETH_ALEN);
}

static __always_inline bool way_back_write(const struct way_back *back, void *data, const void *end,
	__u32 l2_length, __be16 ether_type)
{
	__be16 *type = data + ((l2_length - sizeof(ether_type)) & 0x1f);

	if (data + sizeof(*back) > end || (void *)(type + 1) > end)
		return false;
	__builtin_memcpy(data, back->mac, sizeof(back->mac));
	*(__u64 *)(data + sizeof(back->mac)) = back->tags;
	*type = ether_type;
	return true;
}

#endif
