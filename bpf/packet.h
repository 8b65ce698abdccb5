/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A packet under way through the datapath: what parse.h found, and the action that a forwarding
 * step chose. It lives in registers: pass it to inlined functions only, never to a helper.
 *
 * IPv4 and IPv6 share their code: functions take a constant `v6`, so that the compiler makes one
 * copy for each family without a test in it.
 */
#ifndef TIDEGATE_PACKET_H
#define TIDEGATE_PACKET_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <stdbool.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "maps.h"
#include "tidegate_abi.h"

/* What a program gets: parse.h, payload.h and icmp.h serve both XDP and TC (which says TG_TC first). */
#ifdef TG_TC
typedef struct __sk_buff packet_ctx;
#else
typedef struct xdp_md packet_ctx;
#endif

#define likely(x)   __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

enum kind {
	WHOLE, /* and all other kinds only in rare.h: elsewhere, the compiler knows */
	FIRST_FRAGMENT,
	LATER_FRAGMENT, /* without ports */
	ICMP_ERROR,
};

struct packet {
	struct ethhdr *eth;
	union {
		struct iphdr *ip4;
		struct ipv6hdr *ip6;
		void *l3;
	};
	__be16 *l4;	/* TCP's or UDP's header: it starts with the ports */
	__sum16 *check; /* its checksum */
	__be16 ether_type;
	__u32 l2_length;   /* of the Ethernet header and VLAN tags */
	__u32 l3_length;   /* as the IP header says, checked against the buffer */
	__u32 ports;	   /* source and destination as they lie in the packet */
	__u32 index_lines; /* of the endpoint index, see endpoint.h */
	__u8 proto;	   /* IPPROTO_TCP or IPPROTO_UDP */
	__u8 tcp_flags;	   /* 0 of UDP */
	enum kind kind;
	struct packet *about; /* of an ICMP error: the packet that it quotes, its check NULL if cut off */
	int action;	   /* of TG_REASON_FORWARD: XDP_TX or XDP_REDIRECT */
	__u32 out;	   /* likewise, the interface that it leaves by */
	__u32 taps;	   /* likewise: those that it matched as it came in (vip_tap.h) */
};

static __always_inline __be16 source_port(const struct packet *pkt)
{
	return pkt->ports & 0xffff;
}

static __always_inline __be16 dest_port(const struct packet *pkt)
{
	return pkt->ports >> 16;
}

enum side { SOURCE, DEST };

static __always_inline enum side other(const enum side side)
{
	return side == SOURCE ? DEST : SOURCE;
}

static __always_inline __be32 *address_of(
	const struct packet *pkt, const enum side side, const bool v6)
{
	if (v6)
		return side == SOURCE ? pkt->ip6->saddr.s6_addr32 : pkt->ip6->daddr.s6_addr32;
	return side == SOURCE ? &pkt->ip4->saddr : &pkt->ip4->daddr;
}

static __always_inline bool same_address(const __be32 a[4], const __be32 b[4], const bool v6)
{
	return a[0] == b[0] && (!v6 || (a[1] == b[1] && a[2] == b[2] && a[3] == b[3]));
}

/* An address of either family as a map's key. */
static __always_inline struct tg_host host_of(const __be32 *addr, const bool v6)
{
	if (v6)
		return (struct tg_host){ { addr[0], addr[1], addr[2], addr[3] } };
	return (struct tg_host){ { 0, 0, bpf_htonl(0xffff), addr[0] } };
}

/* One side's port and protocol as the last word of a VIP key: smaller stores stall its reader. */
static __always_inline __u32 endpoint_word(const struct packet *pkt, const enum side side)
{
	return (side == SOURCE ? source_port(pkt) : dest_port(pkt)) | (__u32)pkt->proto << 16;
}

/* The hash of the packet's flow, from the `client` side to the other. */
static __always_inline __u64 flow_of(
	const struct packet *pkt, const enum side client, const bool v6)
{
	const __be32 *from = address_of(pkt, client, v6);
	const __be32 *to = address_of(pkt, other(client), v6);
	__u32 ports = client == SOURCE ? pkt->ports : pkt->ports >> 16 | pkt->ports << 16;

	return v6 ? tg_flow_hash6(&flow_key, from, to, ports, pkt->proto) :
		    tg_flow_hash4(&flow_key, *from, *to, ports, pkt->proto);
}

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
	"words of keys are put together as little endian");

#endif
