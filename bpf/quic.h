/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * QUIC: a client may change its address and port in mid-connection, and only the connection ID tells
 * that it is the same (RFC 9000, 9). Servers give out IDs that name them; where they stand in an ID is
 * a service's layout (struct tg_quic), for one that draft-ietf-quic-load-balancers calls plaintext:
 * an octet whose three top bits are the configuration, the server ID, then whatever the server likes.
 *
 * Of a packet that the client sent, its destination connection ID is looked at:
 *   - if it names a backend that lives (one that drains included), that one has the packet, whatever
 *     the slot of its flow says;
 *   - else the flow's hash decides. The client chose the first ID itself: packets that carry one
 *     (Initial and 0-RTT of versions 1 and 2, each long header of a version that is not known here)
 *     begin a flow, as a SYN does. Version Negotiation, which no client sends, begins none.
 *
 * The fixed bit is not looked at (RFC 9287 lets an endpoint clear it). Of datagrams with several
 * packets the first counts: all have the same ID (RFC 9000, 12.2). What is too short names nobody. An
 * ICMP error goes by the flow's hash: the packet that it quotes has the client's ID, not the server's.
 */
#ifndef TIDEGATE_QUIC_H
#define TIDEGATE_QUIC_H

#include "maps.h"
#include "packet.h"
#include "trace.h"

#define QUIC_LONG_HEADER 0x80
#define QUIC_VERSION_1	 0x00000001
#define QUIC_VERSION_2	 0x6b3343cf /* RFC 9369: other numbers for the same types */
#define QUIC_CID_MAX	 20
#define QUIC_BEGINS	 (1ull << 32)

struct quic_long {
	__u8 first;
	__be32 version;
	__u8 cid_length;
} __attribute__((packed));

/* `size` bytes at an offset into the frame, or NULL where it, or the IP packet in it, ends before. */
static __always_inline void *quic_bytes(
	struct xdp_md *ctx, __u32 at, const __u32 size, __u32 packet_end)
{
	void *from = (void *)(long)ctx->data + (at & 0x3fff);

	if (at > 0x3fff || at + size > packet_end || from + size > (void *)(long)ctx->data_end)
		return NULL;
	return from;
}

static __always_inline bool quic_begins(__u32 version, __u8 first)
{
	__u32 type = first >> 4 & 3;

	switch (version) {
	case 0: /* Version Negotiation */
		return false;
	case QUIC_VERSION_1:
		return type == 0 || type == 1;
	case QUIC_VERSION_2:
		return type == 1 || type == 2;
	default:
		return true;
	}
}

/* The backend that a connection ID of `length` bytes at `cid` names; 0: none. */
static __always_inline __u32 quic_named(struct xdp_md *ctx, __u32 cid, __u32 length,
	__u32 packet_end, __u32 service, __u32 v6)
{
	struct tg_quic *layout = bpf_map_lookup_elem(&quic, &service);
	struct tg_quic_server_key key = { .service = service, .v6 = v6 };
	struct tg_backend *backend;
	__u32 *index;
	__u8 *byte;

	if (!layout || !layout->length || layout->offset + layout->length > length)
		return 0;
	byte = quic_bytes(ctx, cid, 1, packet_end);
	if (!byte || (*byte & layout->mask) != layout->value)
		return 0;
	for (__u32 i = 0; i < TG_QUIC_ID_MAX; i++) {
		if (i == layout->length)
			break;
		byte = quic_bytes(ctx, cid + layout->offset + i, 1, packet_end);
		if (!byte)
			return 0;
		key.id = key.id << 8 | *byte;
	}
	note(QUIC, v6, service, key.id);
	index = bpf_map_lookup_elem(&quic_servers, &key);
	backend = index ? bpf_map_lookup_elem(&backends, index) : NULL;
	if (!backend || *(volatile __u8 *)&backend->flags & TG_BACKEND_DEAD)
		return 0;
	note_hit(*index);
	return *index;
}

/*
 * Looks at the UDP payload at an offset into the frame: the backend that it names, or QUIC_BEGINS, or
 * 0. The verifier looks at this once, whoever calls.
 */
__noinline __u64 quic_look(
	struct xdp_md *ctx, __u32 payload, __u32 packet_end, __u32 service, __u32 v6)
{
	struct quic_long *header;
	__u8 *first;
	__u32 named;

	if (!(features & TG_FEATURE_QUIC))
		return 0;
	first = quic_bytes(ctx, payload, 1, packet_end);
	if (!first)
		return 0;
	if (!(*first & QUIC_LONG_HEADER))
		return quic_named(ctx, payload + 1, QUIC_CID_MAX, packet_end, service, v6);
	header = quic_bytes(ctx, payload, sizeof(*header), packet_end);
	if (!header)
		return 0;
	named = quic_named(
		ctx, payload + sizeof(*header), header->cid_length, packet_end, service, v6);
	if (named)
		return named;
	return quic_begins(bpf_ntohl(header->version), header->first) ? QUIC_BEGINS : 0;
}

#endif
