/* SPDX-License-Identifier: GPL-2.0-only */
#include "capture_internal.h"
#include "pcapng.h"
#include "trace.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#define MACS	   12  /* bytes of a frame's head before a VLAN tag */
#define STATISTICS 256 /* bytes that the last block takes at most */

/* --- what is said of a packet --- */

static const char *verdict_name(__u8 verdict)
{
	switch (verdict) {
	case TG_ACTION_ACCEPT:
		return "accept";
	case TG_ACTION_DROP:
		return "drop";
	case TG_ACTION_REJECT:
		return "reject";
	case TG_RECORD_FORWARDED:
		return "forward";
	case TG_RECORD_UNJUDGED:
		return "none";
	default:
		return "?";
	}
}

/* ", rule dns (policy.lua:12)", or its number, if nobody has said its name */
static void add_rule(struct tg_captures *captures, __u32 rule, char *text, size_t size)
{
	if (rule == TG_NO_RULE)
		return;
	pthread_mutex_lock(&captures->small_lock);
	if (rule < captures->name_count && captures->names[rule])
		snprintf(text, size, ", rule %s", captures->names[rule]);
	else
		snprintf(text, size, ", rule %u", rule);
	pthread_mutex_unlock(&captures->small_lock);
}

/* Most packets have the comment of the one before. */
static const char *comment_on(struct tg_capture *capture, const struct tg_record *record)
{
	__u64 about = 1ull << 63 | (__u64)record->verdict << 48 | (__u64)record->reason << 32 |
		      record->rule;
	unsigned int names_set = atomic_load(&capture->captures->names_set);
	char *text = capture->comment;
	size_t n;

	if (capture->comment_of == about && capture->comment_names == names_set)
		return text;
	capture->comment_of = about;
	capture->comment_names = names_set;
	n = snprintf(text, sizeof(capture->comment), "verdict %s", verdict_name(record->verdict));
	if (record->reason != TG_REASON_NONE && record->rule == TG_NO_RULE)
		n += snprintf(text + n, sizeof(capture->comment) - n, ", reason %s",
			tg_reason_name(record->reason));
	add_rule(capture->captures, record->rule, text + n, sizeof(capture->comment) - n);
	return text;
}

/* --- a packet's way into the file --- */

static void count(_Atomic __u64 *counter, __u64 more)
{
	atomic_fetch_add_explicit(counter, more, memory_order_relaxed);
}

/* The number of the packet's interface, whose block is written before its first packet; -1: no room for that. */
static int interface_of(struct tg_capture *capture, __u32 ifindex)
{
	struct tg_pcapng_interface interface = { .snap = capture->options.snap,
		.filter = capture->options.filter ? tg_expression_text(capture->options.filter)
						  : NULL };
	char name[IF_NAMESIZE];
	uint8_t *at;
	int i = 0;

	while (i < capture->interface_count && capture->interfaces[i] != ifindex)
		i++;
	if (i < capture->interface_count)
		return i;
	at = i < TG_CAPTURE_INTERFACES ? tg_capture_room(capture, TG_PCAPNG_BLOCK) : NULL;
	if (!at)
		return -1;
	if (!if_indextoname(ifindex, name))
		snprintf(name, sizeof(name), "%u", ifindex);
	interface.name = name;
	tg_capture_filled(capture, at, tg_pcapng_interface(at, &interface));
	capture->interfaces[i] = ifindex;
	capture->interface_count++;
	return i;
}

/* The frame as it was on the wire: its VLAN tag, which the kernel has beside it, is put back. */
static void put_back_tag(
	struct tg_capture *capture, const struct tg_record *record, struct tg_pcapng_packet *packet)
{
	uint8_t *frame = capture->captures->tagged;
	const uint8_t *data = packet->data;
	__be16 tci = htons(record->vlan_tci);

	packet->length += TG_CAPTURE_TAG;
	if (packet->captured < MACS)
		return;
	memcpy(frame, data, MACS);
	memcpy(frame + MACS, &record->vlan_proto, 2);
	memcpy(frame + MACS + 2, &tci, 2);
	memcpy(frame + MACS + TG_CAPTURE_TAG, data + MACS, packet->captured - MACS);
	packet->data = frame;
	packet->captured += TG_CAPTURE_TAG;
	if (packet->captured > capture->options.snap)
		packet->captured = capture->options.snap;
}

static struct tg_pcapng_packet packet_of(struct tg_capture *capture, const struct tg_record *record)
{
	struct tg_pcapng_packet packet = {
		.time = record->time + capture->captures->to_real,
		.length = record->length,
		.captured = record->captured,
		.data = record + 1,
		.direction =
			record->direction == TG_EGRESS ? TG_PCAPNG_OUTBOUND : TG_PCAPNG_INBOUND,
	};

	if (record->vlan_proto)
		put_back_tag(capture, record, &packet);
	return packet;
}

static bool is_wanted(const struct tg_capture *capture, const struct tg_pcapng_packet *packet)
{
	return !capture->options.filter || tg_expression_matches(capture->options.filter,
						   packet->data, packet->length, packet->captured);
}

static bool over_bytes(const struct tg_capture *capture, size_t more)
{
	return capture->options.bytes && capture->size + more + STATISTICS > capture->options.bytes;
}

static void write_packet(
	struct tg_capture *capture, const struct tg_record *record, struct tg_pcapng_packet *packet)
{
	int interface = interface_of(capture, record->ifindex);
	uint8_t *at =
		interface < 0 ? NULL : tg_capture_room(capture, packet->captured + TG_PCAPNG_BLOCK);
	uint8_t *end;

	if (!at) {
		count(&capture->slow, 1);
		return;
	}
	packet->interface = interface;
	packet->comment = comment_on(capture, record);
	end = tg_pcapng_packet(at, packet);
	if (over_bytes(capture, end - at)) {
		tg_capture_end(capture, TG_CAPTURE_BYTES);
		return;
	}
	tg_capture_filled(capture, at, end);
	count(&capture->packets, 1);
	count(&capture->bytes, packet->length);
	if (capture->packets == capture->options.packets)
		tg_capture_end(capture, TG_CAPTURE_PACKETS);
}

/* Does it still take packets? Once it was stopped, or its time was over, those that are in the ring. */
static bool takes(const struct tg_capture *capture)
{
	return capture->stage == TG_CAPTURE_TAKES ||
	       (capture->stage == TG_CAPTURE_DRAINS &&
		       (capture->end == TG_CAPTURE_STOPPED || capture->end == TG_CAPTURE_SECONDS));
}

void tg_capture_take(struct tg_capture *capture, const struct tg_record *record)
{
	struct tg_pcapng_packet packet;

	if (!takes(capture))
		return;
	packet = packet_of(capture, record);
	if (is_wanted(capture, &packet))
		write_packet(capture, record, &packet);
	else
		count(&capture->filtered, 1);
}

/* The statistics, in the name of the first interface. */
uint8_t *tg_capture_last(struct tg_capture *capture, uint8_t *at)
{
	struct tg_pcapng_statistics statistics = {
		.start = capture->started,
		.end = tg_now_of(CLOCK_REALTIME),
		.received =
			capture->packets + capture->filtered + capture->slow + capture->ring_full,
		.dropped = capture->slow + capture->ring_full,
		.accepted = capture->packets + capture->slow,
		.delivered = capture->packets,
	};
	uint8_t *end = tg_pcapng_statistics(at, &statistics);

	count(&capture->size, end - at);
	return end;
}
