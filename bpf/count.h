/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Counters, per CPU: of a service, a backend and a backend's replies {packets, bytes}, of reasons
 * packets. Bytes are those of the Ethernet header, VLAN tags and the IP packet, without padding or
 * checksum: the length as parsed, which costs nothing more.
 */
#ifndef TIDEGATE_COUNT_H
#define TIDEGATE_COUNT_H

#include "maps.h"
#include "packet.h"
#include "trace.h"

static __always_inline void count(void *counters, __u32 index, const struct packet *pkt)
{
	struct tg_counter *counter;

	if (tracing)
		return;
	counter = bpf_map_lookup_elem(counters, &index);
	if (!counter)
		return;
	counter->packets++;
	counter->bytes += pkt->l2_length + pkt->l3_length;
}

static __always_inline void count_reason(__u32 reason)
{
	__u64 *packets;

	if (tracing)
		return;
	packets = bpf_map_lookup_elem(&reasons, &reason);
	if (packets)
		(*packets)++;
}

/* Why a packet goes no further here: for who traces it, and for the statistics. */
static __always_inline void tell_reason(__u32 reason)
{
	note_reason(reason);
	count_reason(reason);
}

#endif
