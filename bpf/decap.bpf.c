// SPDX-License-Identifier: GPL-2.0-only
/*
 * The other end of the modes ipip and gue: on a backend, takes a VIP's packet out of the one that it
 * came in and lets it go on into the stack, as if it had come like that: MACs and VLAN tags kept,
 * EtherType that of the inner packet, ECN combined (RFC 6040, 4.2).
 *
 * What is taken out: ipip (IP protocols 4 and 41) and gue (UDP to `gue_port`; variant 1, or variant 0
 * without optional fields, as Linux sends), if the outer destination is an accepted address of this
 * host and the inner one an accepted VIP. So nobody reaches what they could not reach anyhow, nor
 * sends packets through this host. All else passes untouched; what was in a tunnel is counted.
 *
 * The outer UDP checksum is not looked at: the inner packet has its own, and the stack verifies it.
 * Outer fragments pass: the switch sends none.
 *
 * Apart from the switch's datapath: it shares nothing with it but tidegate_abi.h. Attached and filled
 * by core/decap.c.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>
#include <stdbool.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "decap_abi.h"
#include "tidegate_abi.h"

#define IP_FRAGMENT    0x3fff /* more fragments, or an offset */
#define GUE_VARIANT(b) ((b) >> 6)
#define GUE_CONTROL    0x3f /* of the first byte: a control message, or optional fields follow */
#define ECN_MASK       3
#define ECN_ECT1       1
#define ECN_ECT0       2
#define ECN_CE	       3
#define MAX_HEAD       0x7f /* bytes that come off: options and all */

const volatile __be16 gue_port = bpf_htons(TG_GUE_PORT);

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, TG_DECAP_MAX_ADDRESSES);
	__type(key, struct tg_decap_address);
	__type(value, __u32);
} addresses SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, TG_DECAP_COUNTER_COUNT);
	__type(key, __u32);
	__type(value, struct tg_counter);
} decap_counters SEC(".maps");

char LICENSE[] SEC("license") = "GPL";

struct vlan_tag {
	__be16 tci;
	__be16 ether_type;
};

/* A packet in another, as far as it is read. Offsets and lengths in bytes. */
struct tunnel {
	__u32 outer, inner;	    /* where the IP headers begin */
	__u32 outer_end;	    /* where the outer packet ends */
	__be16 ether_type;	    /* of the outer packet, then of the inner */
	__u8 proto;		    /* of the outer: what follows its header */
	__u8 ecn;		    /* of the outer */
	__u8 counter;		    /* enum tg_decap_counter */
	struct tg_decap_address to; /* the outer destination, then the inner */
};

/* What to do with it so far. */
enum step { GO_ON, LEAVE, LEAVE_COUNTED };

static __always_inline void *start_of(const struct xdp_md *ctx)
{
	return (void *)(long)ctx->data;
}

static __always_inline void *end_of(const struct xdp_md *ctx)
{
	return (void *)(long)ctx->data_end;
}

static __always_inline void count(struct xdp_md *ctx, __u32 counter)
{
	struct tg_counter *value = bpf_map_lookup_elem(&decap_counters, &counter);

	if (!value)
		return;
	value->packets++;
	value->bytes += bpf_xdp_get_buff_len(ctx);
}

static __always_inline int leave(struct xdp_md *ctx, __u32 counter)
{
	count(ctx, counter);
	return XDP_PASS;
}

static __always_inline bool read_ethernet(const struct xdp_md *ctx, struct tunnel *t)
{
	struct ethhdr *eth = start_of(ctx);
	struct vlan_tag *tag = (void *)(eth + 1);

	if ((void *)(tag + 2) > end_of(ctx))
		return false;
	t->ether_type = eth->h_proto;
	t->outer = sizeof(*eth);
#pragma unroll
	for (int i = 0; i < 2; i++) {
		if (t->ether_type != bpf_htons(ETH_P_8021Q) &&
			t->ether_type != bpf_htons(ETH_P_8021AD))
			break;
		t->ether_type = tag[i].ether_type;
		t->outer += sizeof(*tag);
	}
	return true;
}

/* Reads the outer header, as far as to what it carries; `counter` says why not further. */
static __always_inline enum step read_outer4(const struct xdp_md *ctx, struct tunnel *t)
{
	struct iphdr *ip = start_of(ctx) + t->outer;

	if ((void *)(ip + 1) > end_of(ctx) || ip->version != 4 || ip->ihl < 5)
		return LEAVE;
	t->proto = ip->protocol;
	if (ip->frag_off & bpf_htons(IP_FRAGMENT)) {
		t->counter = TG_DECAP_FRAGMENT;
		return t->proto == IPPROTO_IPIP || t->proto == IPPROTO_IPV6 ? LEAVE_COUNTED : LEAVE;
	}
	t->ecn = ip->tos & ECN_MASK;
	t->inner = t->outer + ip->ihl * 4;
	t->outer_end = t->outer + bpf_ntohs(ip->tot_len);
	t->to.addr[0] = ip->daddr;
	return GO_ON;
}

/* The same of IPv6; one header of destination options may be there: Linux' limit of nesting (RFC 2473). */
static __always_inline enum step read_outer6(const struct xdp_md *ctx, struct tunnel *t)
{
	struct ipv6hdr *ip = start_of(ctx) + t->outer;
	__u8 *options = (void *)(ip + 1);

	if ((void *)(options + 2) > end_of(ctx) || ip->version != 6)
		return LEAVE;
	t->proto = ip->nexthdr;
	t->ecn = *((__u8 *)ip + 1) >> 4 & ECN_MASK;
	t->inner = t->outer + sizeof(*ip);
	t->outer_end = t->inner + bpf_ntohs(ip->payload_len);
	t->to.v6 = 1;
	__builtin_memcpy(t->to.addr, &ip->daddr, sizeof(t->to.addr));
	if (t->proto == IPPROTO_DSTOPTS && options[1] == 0) {
		t->proto = options[0];
		t->inner += 8;
	}
	return GO_ON;
}

/* Over UDP and GUE: leaves `proto` as what GUE carries. */
static __always_inline enum step read_gue(const struct xdp_md *ctx, struct tunnel *t)
{
	struct udphdr *udp = start_of(ctx) + t->inner;
	__u8 *gue = (void *)(udp + 1);

	if ((void *)(gue + 4) > end_of(ctx) || udp->dest != gue_port)
		return LEAVE;
	t->counter = TG_DECAP_GUE;
	t->inner += sizeof(*udp);
	if (GUE_VARIANT(gue[0]) == 1) { /* its four bits are the IP version */
		t->proto = gue[0] >> 4 == 6 ? IPPROTO_IPV6 : IPPROTO_IPIP;
		return GO_ON;
	}
	t->proto = gue[1];
	t->inner += 4;
	if (!GUE_VARIANT(gue[0]) && !(gue[0] & GUE_CONTROL) && !gue[2] && !gue[3])
		return GO_ON;
	t->counter = TG_DECAP_MALFORMED;
	return LEAVE_COUNTED;
}

/* Does the frame, its fragments included, hold what the outer header speaks of? */
static __always_inline bool is_whole(struct xdp_md *ctx, const struct tunnel *t)
{
	return bpf_xdp_get_buff_len(ctx) >= t->outer_end;
}

static __always_inline bool accepted(const struct tunnel *t)
{
	return bpf_map_lookup_elem(&addresses, &t->to);
}

/* From the outer header to the inner packet's, if that is what the tunnel is for. */
static __always_inline enum step open_tunnel(struct xdp_md *ctx, struct tunnel *t)
{
	enum step step = LEAVE;

	if (t->ether_type == bpf_htons(ETH_P_IP))
		step = read_outer4(ctx, t);
	else if (t->ether_type == bpf_htons(ETH_P_IPV6))
		step = read_outer6(ctx, t);
	if (step != GO_ON)
		return step;
	t->counter = TG_DECAP_IPIP;
	if (t->proto == IPPROTO_UDP) {
		step = read_gue(ctx, t);
		if (step != GO_ON)
			return step;
	}
	if (t->proto != IPPROTO_IPIP && t->proto != IPPROTO_IPV6)
		return LEAVE;
	if (!is_whole(ctx, t)) {
		t->counter = TG_DECAP_MALFORMED;
		return LEAVE_COUNTED;
	}
	if (accepted(t))
		return GO_ON;
	t->counter = TG_DECAP_NOT_HERE;
	return LEAVE_COUNTED;
}

/*
 * ECN of the outer header joins that of the inner one, whose byte of service is given and returned; a
 * mark that the packet's ends could not see drops it: -1.
 */
static __always_inline int join_ecn(__u8 inner, __u8 outer)
{
	__u8 ecn = inner & ECN_MASK;

	if (outer == ECN_CE)
		return ecn ? inner | ECN_CE : -1;
	return outer == ECN_ECT1 && ecn == ECN_ECT0 ? (inner & ~ECN_MASK) | ECN_ECT1 : inner;
}

static __always_inline enum step read_inner4(struct xdp_md *ctx, struct tunnel *t)
{
	struct iphdr *ip = start_of(ctx) + (t->inner & 0xff);
	__u32 check;
	int tos;

	t->to = (struct tg_decap_address){ .inner = 1 };
	if ((void *)(ip + 1) > end_of(ctx) || ip->version != 4 || ip->ihl < 5 ||
		t->inner + bpf_ntohs(ip->tot_len) > t->outer_end)
		return LEAVE_COUNTED;
	t->to.addr[0] = ip->daddr;
	t->ether_type = bpf_htons(ETH_P_IP);
	t->counter = TG_DECAP_NOT_ACCEPTED;
	if (!accepted(t))
		return LEAVE_COUNTED;
	tos = join_ecn(ip->tos, t->ecn);
	t->counter = TG_DECAP_CONGESTED;
	if (tos < 0)
		return LEAVE_COUNTED;
	/* HC' = ~(~HC + ~m + m') (RFC 1624); the word's other byte cancels out */
	check = (__u16)~ip->check + (__u16)~bpf_htons(ip->tos) + bpf_htons(tos);
	check = (check & 0xffff) + (check >> 16);
	check = (check & 0xffff) + (check >> 16);
	if (tos != ip->tos) {
		ip->check = ~check;
		ip->tos = tos;
	}
	return GO_ON;
}

static __always_inline enum step read_inner6(struct xdp_md *ctx, struct tunnel *t)
{
	struct ipv6hdr *ip = start_of(ctx) + (t->inner & 0xff);
	__be16 *first = (void *)ip;
	int tclass;

	t->to = (struct tg_decap_address){ .inner = 1, .v6 = 1 };
	if ((void *)(ip + 1) > end_of(ctx) || ip->version != 6 ||
		t->inner + sizeof(*ip) + bpf_ntohs(ip->payload_len) > t->outer_end)
		return LEAVE_COUNTED;
	__builtin_memcpy(t->to.addr, &ip->daddr, sizeof(t->to.addr));
	t->ether_type = bpf_htons(ETH_P_IPV6);
	t->counter = TG_DECAP_NOT_ACCEPTED;
	if (!accepted(t))
		return LEAVE_COUNTED;
	tclass = join_ecn(bpf_ntohs(*first) >> 4 & 0xff, t->ecn);
	t->counter = TG_DECAP_CONGESTED;
	if (tclass < 0)
		return LEAVE_COUNTED;
	*first = bpf_htons((bpf_ntohs(*first) & 0xf00f) | tclass << 4);
	return GO_ON;
}

/* Moves the Ethernet header and its tags in front of the inner packet. */
static __always_inline bool take_out(struct xdp_md *ctx, const struct tunnel *t)
{
	__u32 head = (t->inner - t->outer) & MAX_HEAD;
	void *data = start_of(ctx);
	__u64 first, second;
	__be16 *type;

	if (data + 20 > end_of(ctx))
		return false;
	first = *(__u64 *)data;
	second = *(__u64 *)(data + 8);
	__u32 third = *(__u32 *)(data + 16);

	if (bpf_xdp_adjust_head(ctx, head))
		return false;
	data = start_of(ctx);
	type = data + ((t->outer - sizeof(*type)) & 0x1f);
	if (data + 20 > end_of(ctx) || (void *)(type + 1) > end_of(ctx))
		return false;
	*(__u64 *)data = first;
	*(__u32 *)(data + 8) = second;
	if (t->outer > sizeof(struct ethhdr))
		*(__u32 *)(data + 12) = second >> 32;
	if (t->outer > sizeof(struct ethhdr) + sizeof(struct vlan_tag))
		*(__u32 *)(data + 16) = third;
	*type = t->ether_type;
	return true;
}

SEC("xdp.frags")
int tidegate_decap(struct xdp_md *ctx)
{
	struct tunnel t = {};
	enum step step;
	__u8 taken;

	if (!read_ethernet(ctx, &t))
		return XDP_PASS;
	step = open_tunnel(ctx, &t);
	if (step != GO_ON)
		return step == LEAVE ? XDP_PASS : leave(ctx, t.counter);
	taken = t.counter;
	t.counter = TG_DECAP_MALFORMED;
	step = t.proto == IPPROTO_IPV6 ? read_inner6(ctx, &t) : read_inner4(ctx, &t);
	if (step != GO_ON) {
		count(ctx, t.counter);
		return t.counter == TG_DECAP_CONGESTED ? XDP_DROP : XDP_PASS;
	}
	if (!take_out(ctx, &t))
		return leave(ctx, TG_DECAP_MALFORMED);
	count(ctx, taken);
	return XDP_PASS;
}
