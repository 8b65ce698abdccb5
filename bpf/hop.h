/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The next hop and the way out. `struct egress` is a hop in registers, from a backend's or route's
 * entry, or from the kernel where that is not resolved (97-130 ns: the controller keeps entries
 * resolved). Everything is looked up first and the packet written last, so that what can't be
 * sent is still what it was. Out by the port it came in: XDP_TX; by another: a redirect through
 * `tx_ports`.
 */
#ifndef TIDEGATE_HOP_H
#define TIDEGATE_HOP_H

#include "maps.h"
#include "packet.h"
#include "trace.h"

#define AF_INET	 2
#define AF_INET6 10

struct egress {
	__u32 ifindex;	 /* 0: not resolved */
	__u32 mtu;	 /* 0: not known */
	__u64 macs_head; /* both MACs as they stand in a frame: its first 8 bytes */
	__u32 macs_tail; /* and the next 4 */
};

static __always_inline void egress_take(struct egress *out, const struct tg_hop *hop, __u32 mtu)
{
	out->ifindex = hop->ifindex;
	out->mtu = mtu;
	out->macs_head = *(__u64 *)hop->dmac;
	out->macs_tail = *(__u32 *)(hop->smac + 2);
}

/* Puts a question to the kernel; `fib` then has the neighbour's address as destination. */
static __always_inline long egress_query(
	struct xdp_md *ctx, struct bpf_fib_lookup *fib, struct egress *out, const bool v6)
{
	long answer;

	note(FIB, v6, IP_WORDS(fib->ipv6_dst, v6));
	answer = bpf_fib_lookup(ctx, fib, sizeof(*fib), 0);
	out->mtu = answer == BPF_FIB_LKUP_RET_FRAG_NEEDED ? fib->mtu_result : 0; /* it compared */
	if (answer != BPF_FIB_LKUP_RET_SUCCESS)
		return answer;
	out->ifindex = fib->ifindex;
	__builtin_memcpy(&out->macs_head, fib->dmac, 6);
	__builtin_memcpy((void *)&out->macs_head + 6, fib->smac, 2);
	__builtin_memcpy(&out->macs_tail, fib->smac + 2, 4);
	note_hit(out->ifindex, U64_WORDS(out->macs_head), out->macs_tail);
	return answer;
}

/*
 * Asks the kernel how to reach `dest` (IPv4 in dest[0]): BPF_FIB_LKUP_RET_*, `out` filled on
 * success. `neighbour`: a gateway in between counts as not forwarded.
 */
static __always_inline long egress_ask(struct xdp_md *ctx, const struct packet *pkt,
	const __be32 dest[4], struct egress *out, const bool neighbour, const bool v6)
{
	struct bpf_fib_lookup fib = {
		.family = v6 ? AF_INET6 : AF_INET,
		.l4_protocol = pkt->proto,
		.sport = source_port(pkt),
		.dport = dest_port(pkt),
		.tot_len = pkt->l3_length,
		.ifindex = ctx->ingress_ifindex,
	};
	long answer;

	if (v6) {
		fib.flowinfo = *(__be32 *)pkt->ip6 & bpf_htonl(0x0fffffff);
		__builtin_memcpy(fib.ipv6_src, &pkt->ip6->saddr, 16);
		__builtin_memcpy(fib.ipv6_dst, dest, 16);
	} else {
		fib.tos = pkt->ip4->tos;
		fib.ipv4_src = pkt->ip4->saddr;
		fib.ipv4_dst = dest[0];
	}
	answer = egress_query(ctx, &fib, out, v6);
	if (answer == BPF_FIB_LKUP_RET_SUCCESS && neighbour &&
		!same_address(fib.ipv6_dst, dest, v6))
		return BPF_FIB_LKUP_RET_NOT_FWDED;
	return answer;
}

/* Chooses the action that leaves by `out`; the packet is not written yet. */
static __always_inline enum tg_reason egress_choose(
	struct xdp_md *ctx, struct packet *pkt, const struct egress *out)
{
	pkt->out = out->ifindex;
	if (likely(out->ifindex == ctx->ingress_ifindex)) {
		pkt->action = XDP_TX;
		return TG_REASON_NONE;
	}
	if (out->mtu && pkt->l3_length > out->mtu)
		return TG_REASON_TOO_BIG;
	pkt->action = bpf_redirect_map(&tx_ports, out->ifindex, 0);
	note(PORT, false, out->ifindex);
	if (pkt->action != XDP_REDIRECT)
		return TG_REASON_NO_PORT;
	note_hit();
	return TG_REASON_NONE;
}

static __always_inline void egress_write_macs(struct packet *pkt, const struct egress *out)
{
	*(__u64 *)pkt->eth = out->macs_head;
	*(__u32 *)((void *)pkt->eth + 8) = out->macs_tail;
}

#endif
