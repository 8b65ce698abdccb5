/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Captures: a packet's first bytes, and what is to be told of it, into the ring `captures`, which
 * core/capture.c reads. Called by tap.h, which has chosen the packet.
 *
 * The verifier wants to know at load how large a record is; so it has room for as many bytes as a class
 * says, the smallest one that suffices. The reader is woken when some more lies there for it, not for
 * each packet: it looks of itself, now and then.
 */
#ifndef TIDEGATE_CAPTURE_H
#define TIDEGATE_CAPTURE_H

#include "maps.h"
#include "packet.h"

#define CAPTURE_WAKES (256 << 10) /* bytes */

/* Whether with the record of `size` bytes, its head included, what lies in the ring passes a multiple of CAPTURE_WAKES. */
static __always_inline __u64 wake_up(__u32 size)
{
	__u64 unread = bpf_ringbuf_query(&captures, BPF_RB_AVAIL_DATA);

	return unread % CAPTURE_WAKES < size ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP;
}

static __always_inline enum tg_tap_count record_packet(
	struct __sk_buff *skb, const struct tg_record *head, const __u32 room)
{
	struct tg_record *record = bpf_ringbuf_reserve(&captures, sizeof(*record) + room, 0);
	__u32 last = head->captured - 1; /* its number: so one comparison tells that there is a byte, and room */

	if (!record)
		return TG_TAPPED_RING_FULL;
	*record = *head;
	asm volatile("" : "+r"(last)); /* what is compared is what is used */
	if (last >= room || bpf_skb_load_bytes(skb, 0, record + 1, last + 1)) {
		bpf_ringbuf_discard(record, BPF_RB_NO_WAKEUP);
		return TG_TAPPED_FAILED;
	}
	bpf_ringbuf_submit(record, wake_up(BPF_RINGBUF_HDR_SZ + sizeof(*record) + room));
	return TG_TAPPED_COPIED;
}

static __always_inline enum tg_tap_count record_in_class(
	struct __sk_buff *skb, const struct tg_record *head)
{
	if (head->captured <= 64)
		return record_packet(skb, head, 64);
	if (head->captured <= 128)
		return record_packet(skb, head, 128);
	if (head->captured <= 256)
		return record_packet(skb, head, 256);
	if (head->captured <= 512)
		return record_packet(skb, head, 512);
	if (head->captured <= 1536)
		return record_packet(skb, head, 1536);
	if (head->captured <= 4096)
		return record_packet(skb, head, 4096);
	if (head->captured <= 16384)
		return record_packet(skb, head, 16384);
	return record_packet(skb, head, TG_RECORD_BYTES);
}

/*
 * Records a packet. `head` says which tap's it is and what became of the packet; the rest is filled in
 * here. What there is to count: enum tg_tap_count.
 */
__attribute__((noinline)) int capture_packet(
	struct __sk_buff *skb, struct tg_record *head, __u32 snap)
{
	if (!(features & TG_FEATURE_TAP) || !head)
		return TG_TAPPED_FAILED;
	if (!snap || snap > TG_RECORD_BYTES)
		snap = TG_RECORD_BYTES;
	head->time = bpf_ktime_get_ns();
	head->length = skb->len;
	head->captured = skb->len < snap ? skb->len : snap;
	head->vlan_proto = skb->vlan_present ? skb->vlan_proto : 0;
	head->vlan_tci = skb->vlan_present ? skb->vlan_tci : 0;
	return record_in_class(skb, head);
}

#endif
