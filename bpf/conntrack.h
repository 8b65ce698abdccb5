/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * stateful = "conntrack": the flows are those that the kernel tracks, if anything in the network namespace
 * makes it. It is asked for TCP and UDP, before the rules: what answers, or goes on after an answer, passes.
 * What began a connection is for the rules, also if it is sent again; so is ICMP, but for errors that quote a
 * connection. The kernel's own filter may drop what its tracking calls invalid; here nothing more than the
 * addresses and ports is looked at.
 *
 * A packet that leaves has been translated by the kernel's NAT, and one that comes in has not: such is found by
 * its tuple turned round. Connections in zones are not found.
 *
 * The kernel's functions are bound when an object is loaded, which takes its BTF, and that of a module as root
 * alone. So the programs are compiled twice: tc_conntrack.bpf.c has this, tc.bpf.c does without.
 */
#ifndef TIDEGATE_CONNTRACK_H
#define TIDEGATE_CONNTRACK_H

#include "quote.h"
#include "skb.h"

#ifdef TG_CONNTRACK

/* As of the kernel (net/netfilter/nf_conntrack_bpf.c, linux/netfilter/nf_conntrack_common.h). */
struct bpf_ct_opts {
	__s32 netns_id;
	__s32 error;
	__u8 l4proto;
	__u8 dir;
	__u8 reserved[2];
};
struct nf_conn {
	unsigned long status;
} __attribute__((preserve_access_index));
#define CONNTRACK_SEEN_REPLY 2 /* IPS_SEEN_REPLY */
#define CONNTRACK_REPLY	     1 /* IP_CT_DIR_REPLY */

extern struct nf_conn *bpf_skb_ct_lookup(struct __sk_buff *skb_ctx,
	struct bpf_sock_tuple *bpf_tuple, __u32 tuple__sz, struct bpf_ct_opts *opts,
	__u32 opts__sz) __ksym;
extern void bpf_ct_release(struct nf_conn *nfct) __ksym;

/* What the kernel has by a tuple: nothing, or of which direction it is, and whether there was an answer. */
#define CONNTRACK_KNOWN	   1
#define CONNTRACK_ANSWERS  2
#define CONNTRACK_ANSWERED 4

static __always_inline __u32 conntrack_find(
	struct __sk_buff *skb, struct bpf_sock_tuple *tuple, __u8 proto, const bool v6)
{
	struct bpf_ct_opts opts = { .netns_id = BPF_F_CURRENT_NETNS, .l4proto = proto };
	struct nf_conn *connection = bpf_skb_ct_lookup(
		skb, tuple, v6 ? sizeof(tuple->ipv6) : sizeof(tuple->ipv4), &opts, sizeof(opts));
	__u32 found;

	if (!connection)
		return 0;
	found = CONNTRACK_KNOWN |
		(connection->status & CONNTRACK_SEEN_REPLY ? CONNTRACK_ANSWERED : 0) |
		(opts.dir == CONNTRACK_REPLY ? CONNTRACK_ANSWERS : 0);
	bpf_ct_release(connection);
	return found;
}

static __always_inline void conntrack_address(__be32 *to, __u64 hi, __u64 lo, const bool v6)
{
	to[0] = bpf_htonl(hi >> 32);
	if (!v6)
		return;
	to[1] = bpf_htonl(hi);
	to[2] = bpf_htonl(lo >> 32);
	to[3] = bpf_htonl(lo);
}

static __always_inline void conntrack_tuple(struct bpf_sock_tuple *tuple,
	const struct policy_key *key, const bool turned, const bool v6)
{
	__be16 from = bpf_htons(turned ? key->dport : key->sport);
	__be16 to = bpf_htons(turned ? key->sport : key->dport);

	conntrack_address(v6 ? tuple->ipv6.saddr : &tuple->ipv4.saddr,
		turned ? key->dst_hi : key->src_hi, turned ? key->dst_lo : key->src_lo, v6);
	conntrack_address(v6 ? tuple->ipv6.daddr : &tuple->ipv4.daddr,
		turned ? key->src_hi : key->dst_hi, turned ? key->src_lo : key->dst_lo, v6);
	if (v6) {
		tuple->ipv6.sport = from;
		tuple->ipv6.dport = to;
	} else {
		tuple->ipv4.sport = from;
		tuple->ipv4.dport = to;
	}
}

/* CONNTRACK_*, as of the key's own direction. */
static __always_inline __u32 conntrack_of(
	struct __sk_buff *skb, const struct policy_key *key, const bool v6)
{
	__u8 proto = key->kind >> 8;
	struct bpf_sock_tuple tuple = {};
	__u32 found;

	conntrack_tuple(&tuple, key, false, v6);
	found = conntrack_find(skb, &tuple, proto, v6);
	if (found)
		return found;
	conntrack_tuple(&tuple, key, true, v6);
	found = conntrack_find(skb, &tuple, proto, v6);
	return found ? found ^ CONNTRACK_ANSWERS : 0;
}

static __always_inline bool is_tracked_by_kernel(__u8 proto)
{
	return proto == IPPROTO_TCP || proto == IPPROTO_UDP;
}

static __always_inline bool conntrack_related(
	struct __sk_buff *skb, const struct passage *p, const bool v6)
{
	struct quote quote = {};

	return read_quote(skb, p, &quote, v6) && is_tracked_by_kernel(quote.key.kind >> 8) &&
	       conntrack_of(skb, &quote.key, v6);
}

static __always_inline bool conntrack_passes(
	struct __sk_buff *skb, const struct passage *p, const bool v6)
{
	if (is_icmp_error(p, v6))
		return conntrack_related(skb, p, v6);
	return p->key.has_ports &&
	       conntrack_of(skb, &p->key, v6) & (CONNTRACK_ANSWERS | CONNTRACK_ANSWERED);
}

#define CONNTRACK(name, v6)                                                                        \
	__noinline int name(struct __sk_buff *skb, const struct passage *p)                        \
	{                                                                                          \
		if (!(features & TG_FEATURE_CONNTRACK) || !p)                                      \
			return false;                                                              \
		return conntrack_passes(skb, p, v6);                                               \
	}
CONNTRACK(conntrack4, false)
CONNTRACK(conntrack6, true)

/* The policy's acceptance of what belongs to a connection, or UNJUDGED: it is for the rules. */
static __always_inline __u64 judge_connection(
	struct __sk_buff *skb, const struct passage *p, __u32 policy, const bool v6)
{
	const struct tg_policy_head *head = policy_head(policy);
	__u32 flags = head ? head->flags & 0xff : 0;

	if (!(flags & TG_POLICY_CONNTRACK) || !(v6 ? conntrack6(skb, p) : conntrack4(skb, p)))
		return UNJUDGED;
	return (__u64)TG_NO_RULE << 32 | flags << 16 | TG_ACTION_ACCEPT;
}

#else

static __always_inline __u64 judge_connection(
	struct __sk_buff *skb, const struct passage *p, __u32 policy, const bool v6)
{
	return UNJUDGED;
}

#endif

#endif
