/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Taps: mirrors and captures of a port (tap_abi.h). Which of those at work in the packet's direction want it?
 * One whose match it fits (a policy that accepts it; with none, each packet), that has not ended, by its
 * sampling and its limit. Then a mirror sends a copy out by its device, and a capture (capture.h)
 * puts it into the ring.
 *
 * Of what comes in, also what is dropped is copied; of what is to leave, a mirror copies what was let
 * through, and a capture records all. A copy is the packet as it is here: VLAN tags as the device has taken
 * them out, and a super-packet (GSO) as one, which the device that it leaves by cuts, if need be.
 *
 * A copy is marked (TG_MARK_COPY), and so is what is made of it (a tunnel's packet): no tap copies it.
 * A wire keeps no marks: what comes back by one is another packet.
 */
#ifndef TIDEGATE_TAP_H
#define TIDEGATE_TAP_H

#include <linux/errno.h>

#include "capture.h"
#include "follow.h"
#include "maps.h"
#include "policy.h"
#include "skb.h"
#include "tap_count.h"
#include "trace.h"

/* What bpf_clone_redirect says: a negative errno, or the device's own word (NET_XMIT_*). */
#define SENT	      0
#define SENT_CONGESTED 2

/*
 * At most `rate` a second, and a tenth of it at once: until when they are spoken for, in one word. Where another
 * CPU was faster, twice, this packet is beyond the limit.
 */
static __always_inline bool tap_rate_allows(struct tg_tap *tap, __u64 now)
{
	const __u32 rate = tap->rate;
	const __u64 each = rate ? 1000000000ull / rate : 0;

	if (!rate)
		return true;
	for (int i = 0; i < 2; i++) {
		__u64 until = *(volatile __u64 *)&tap->allowed;
		__u64 from = until < now ? now : until;

		if (from - now > 100000000ull)
			return false;
		if (state_swap(&tap->allowed, until, from + each) == until)
			return true;
	}
	return false;
}

/* COPIED: a packet that it matches is to be copied. COUNT: nothing is to be told of it, the tap has ended. */
static __always_inline enum tg_tap_count tap_allows(struct tg_tap *tap)
{
	__u64 now = bpf_ktime_get_coarse_ns();

	if (tap->until && now >= tap->until)
		return TG_TAP_COUNT;
	if (tap->packets && *(volatile __u64 *)&tap->taken >= tap->packets)
		return TG_TAP_COUNT;
	if (tap->sample > 1 && bpf_get_prandom_u32() % tap->sample)
		return TG_TAPPED_SKIPPED;
	if (!tap_rate_allows(tap, now))
		return TG_TAPPED_LIMITED;
	if (!tracing && __sync_fetch_and_add(&tap->taken, 1) >= tap->packets && tap->packets)
		return TG_TAP_COUNT;
	return TG_TAPPED_COPIED;
}

/* Sends a copy. Pointers into the packet are void afterwards. */
static __always_inline enum tg_tap_count mirror_packet(struct __sk_buff *skb, const struct tg_tap *tap)
{
	const __u32 mark = skb->tc_index, down = tap->down;
	long sent;

	skb->tc_index = TG_MARK_COPY;
	sent = bpf_clone_redirect(skb, tap->ifindex, 0);
	skb->tc_index = mark;
	switch (sent) {
	case SENT:
		return TG_TAPPED_COPIED;
	case -EINVAL: /* there is none */
		return TG_TAPPED_DEVICE_GONE;
	case -ENETDOWN:
		return TG_TAPPED_DEVICE_DOWN;
	case SENT_CONGESTED: /* a device that is down says so, too */
		return down ? TG_TAPPED_DEVICE_DOWN : TG_TAPPED_DEVICE_FULL;
	default:
		return sent > 0 ? TG_TAPPED_DEVICE_FULL : TG_TAPPED_FAILED;
	}
}

static __always_inline enum tg_tap_count tap_take(
	struct __sk_buff *skb, struct tg_tap *tap, struct tg_record *what)
{
	switch (tap->kind) {
	case TG_TAP_MIRROR:
		return mirror_packet(skb, tap);
	case TG_TAP_CAPTURE:
		return capture_packet(skb, what, tap->snap);
	default:
		return TG_TAP_COUNT;
	}
}

/* Does the tap's match fit? Of what can't be told what it is, only "everything" does. */
static __always_inline bool tap_matches(const struct passage *p, __u32 tap, const bool v6)
{
	const __u32 policy = TG_POLICY_OF_TAP(tap);
	__u64 judged = p->known ? judge(&p->key, policy, v6) : judge_default(policy);

	if (judged != UNJUDGED && p->known)
		judged = follow(p, judged, policy, v6);
	return JUDGED_ACTION(judged) == TG_ACTION_ACCEPT;
}

/* What a mirror has nothing to do with: it was to leave, and does not. */
static __always_inline bool is_held_back(const struct tg_tap *tap, const struct tg_record *what)
{
	return tap->kind == TG_TAP_MIRROR && what->direction == TG_EGRESS &&
	       (what->verdict == TG_ACTION_DROP || what->verdict == TG_ACTION_REJECT);
}

static __always_inline void show_tap(struct __sk_buff *skb, const struct passage *p,
	struct tg_record *what, __u32 number, bool matched, const bool v6)
{
	struct tg_tap *tap = bpf_map_lookup_elem(&taps, &number);
	const __u32 bytes = skb->len;
	enum tg_tap_count count;

	if (!tap || is_held_back(tap, what) || !(matched || tap_matches(p, number, v6)))
		return;
	note(TAP, v6, number);
	count = tap_allows(tap);
	if (count == TG_TAPPED_COPIED)
		note_hit(count);
	if (count == TG_TAPPED_COPIED && !tracing) {
		what->tap = number;
		what->start = tap->start;
		count = tap_take(skb, tap, what);
	}
	if (count != TG_TAP_COUNT)
		count_tap(number, count, bytes);
}

/*
 * Shows the packet to the taps whose bits are set. `what` says what is known of it, and is written to;
 * `matched`: it fits all of their matches.
 */
#define SHOW(name, v6)                                                                             \
	__noinline int name(struct __sk_buff *skb, const struct passage *p, struct tg_record *what,\
		__u32 wanted, __u32 matched)                                                       \
	{                                                                                          \
		if (!(features & TG_FEATURE_TAP) || !p || !what)                                   \
			return 0;                                                                  \
		for (int i = 0; i < TG_MAX_TAPS && wanted; i++) {                                  \
			show_tap(skb, p, what, policy_lowest(wanted), matched, v6);                \
			wanted &= wanted - 1;                                                      \
		}                                                                                  \
		return 0;                                                                          \
	}
SHOW(show4, false)
SHOW(show6, true)

/* Shows a packet that the port's policy has judged to the port's taps. */
static __always_inline void show(struct __sk_buff *skb, const struct passage *p, __u64 judged,
	const enum tg_direction direction, const bool v6)
{
	struct tg_record what = { .ifindex = skb->ifindex, .direction = direction,
		.rule = TG_NO_RULE, .verdict = TG_RECORD_UNJUDGED };

	if (!(features & TG_FEATURE_TAP) || likely(!p->taps))
		return;
	if (judged != UNJUDGED) {
		what.rule = JUDGED_RULE(judged);
		what.verdict = JUDGED_ACTION(judged);
	}
	if (what.verdict == TG_ACTION_DROP)
		what.reason = TG_REASON_POLICY_DROP;
	if (what.verdict == TG_ACTION_REJECT)
		what.reason = TG_REASON_POLICY_REJECT;
	if (v6)
		show6(skb, p, &what, p->taps, false);
	else
		show4(skb, p, &what, p->taps, false);
}

/* The port's taps that may want a packet. Copies are no tap's. */
static __always_inline __u32 taps_for(
	const struct __sk_buff *skb, const struct tg_port *port, const enum tg_direction direction)
{
	__u32 taps = port->taps[direction];

	if (!(features & TG_FEATURE_TAP) || likely(!taps))
		return 0;
	if (skb->tc_index != TG_MARK_COPY && skb->tc_index != TG_MARK_SEEN)
		return taps;
	count_taps(taps, TG_TAPPED_LOOPED, skb->len);
	return 0;
}

#endif
