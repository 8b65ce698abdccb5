/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * ICMP errors (destination unreachable and fragmentation needed, packet too big, time exceeded,
 * parameter problem) are about a flow, the one of the packet that they quote: at least its IP header
 * and 8 bytes more (RFC 792), which is its ports. They go where packets of that flow go, and nat
 * translates the quote, too, back to what it was when its sender saw it (RFC 5508), with every
 * checksum that covers it.
 */
#ifndef TIDEGATE_ICMP_H
#define TIDEGATE_ICMP_H

#include "csum.h"
#include "packet.h"
#include "parse.h"
#include "payload.h"

#define ICMP_ERRORS  (1u << 3 | 1u << 4 | 1u << 11 | 1u << 12) /* types, of IPv4 */
#define ICMP6_ERRORS (1u << 1 | 1u << 2 | 1u << 3 | 1u << 4)
#define QUOTED_BYTES 8 /* behind the IP header */
#define TCP_CHECKED  18 /* bytes up to the end of TCP's checksum */

struct icmp_error {
	__u8 type;
	__u8 code;
	__sum16 check;
	__be32 rest;
};

static __always_inline bool is_error(__u8 type, const bool v6)
{
	return type < 32 && (v6 ? ICMP6_ERRORS : ICMP_ERRORS) >> type & 1;
}

/* The checksum of the quoted packet's transport header, unless it is cut off. */
static __always_inline __sum16 *quoted_check(
	packet_ctx *ctx, const struct packet *about, __u32 left)
{
	struct tcphdr *tcp = (void *)about->l4;

	if (about->proto == IPPROTO_UDP)
		return &((struct udphdr *)tcp)->check;
	if (left < TCP_CHECKED || (void *)tcp + TCP_CHECKED > packet_end(ctx))
		return NULL;
	return &tcp->check;
}

/* Reads what an ICMP error quotes into `about`; `from` is where that starts in `pkt`. */
static __always_inline enum tg_reason parse_quote(
	packet_ctx *ctx, const struct packet *pkt, __u32 from, struct packet *about, const bool v6)
{
	struct payload payload;
	__u32 end;

	about->kind = WHOLE;
	about->l3 = pkt->l3 + from;
	if (payload_of(ctx, about->l3, pkt->l2_length + from, &payload, v6) || payload.place)
		return TG_REASON_ICMP_QUOTE;
	about->proto = payload.proto;
	if (about->proto != IPPROTO_TCP && about->proto != IPPROTO_UDP)
		return TG_REASON_ICMP_QUOTE;
	about->l4 = about->l3 + payload.offset;
	end = from + payload.offset + QUOTED_BYTES;
	if (pkt->l3_length < end || (void *)about->l4 + QUOTED_BYTES > packet_end(ctx))
		return TG_REASON_ICMP_QUOTE;
	about->ports = *(__u32 *)about->l4;
	about->check = quoted_check(ctx, about, pkt->l3_length - end + QUOTED_BYTES);
	about->l3_length = pkt->l3_length - from;
	/* It tells the sender of what it quotes, nobody else. */
	if (!same_address(address_of(about, SOURCE, v6), address_of(pkt, DEST, v6), v6))
		return TG_REASON_ICMP_QUOTE;
	return TG_REASON_NONE;
}

/* An error's header into `pkt`, what it quotes into `about`. `offset`: of the former behind the IP header. */
static __always_inline enum tg_reason parse_error(packet_ctx *ctx, struct packet *pkt,
	__u32 offset, struct packet *about, const bool v6)
{
	struct icmp_error *icmp = pkt->l3 + offset;

	if (pkt->l3_length < offset + sizeof(*icmp))
		return TG_REASON_BAD_HEADER;
	if ((void *)(icmp + 1) > packet_end(ctx))
		return TG_REASON_TRUNCATED;
	if (!is_error(icmp->type, v6))
		return TG_REASON_ICMP;
	pkt->kind = ICMP_ERROR;
	pkt->l4 = (__be16 *)icmp;
	pkt->check = &icmp->check;
	return parse_quote(ctx, pkt, offset + sizeof(*icmp), about, v6);
}

#endif
