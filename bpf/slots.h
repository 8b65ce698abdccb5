/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * From a flow to its backend: the slot of the service's ring, and what to do while the slot moves.
 *
 * T = 0, the steady state: `home`. No flow is looked up, none is stored: a flood has nothing to fill,
 * and any node with the same ring and key answers alike.
 *
 * T = 1: the controller changed the slot from `home` to `next`. Flows without an entry in the line
 * table are on home, those that begin now go to next and are entered:
 *   - an entry with a live backend is followed; but a flow that begins anew on a confirmed entry
 *     whose backend drains goes to next, and its entry with it (not confirmed: it is the SYN again);
 *   - no entry, and the flow begins, and home is not next: it is entered, without ever evicting
 *     another, and goes to next; if there is no room, or its client has too many, to home;
 *   - all else goes to home.
 * What goes elsewhere than to next leaves the epoch in the slot's `seen`: the controller settles the
 * slot (home := next, T := 0) when nothing has for as long as a flow may be silent.
 *
 * What begins: TCP by a SYN, QUIC by an Initial. Other UDP has no beginning. It goes to next at once,
 * unless its service has affinity "flow": then what is not known is entered, for home
 * until the slot is `late`, for next from then on. With affinity "strict" every flow is entered,
 * T = 0 included.
 *
 * Two entries of one flow can come to be (two CPUs at once); both say the same. An entry that names
 * a backend that is dead counts as none: what begins takes it over.
 */
#ifndef TIDEGATE_SLOTS_H
#define TIDEGATE_SLOTS_H

#include "count.h"
#include "limit.h"
#include "lines.h"
#include "maps.h"
#include "packet.h"
#include "trace.h"

/* A flow, as one of its packets shows it. */
struct flow {
	__u64 hash;	      /* of all of it, from the client to the VIP */
	const __be32 *client; /* its address */
	bool begins;	      /* this packet begins it: a SYN, a QUIC Initial */
	bool has_beginning;   /* of TCP and QUIC; others are known only by having been seen */
	bool only_asks;	      /* not a packet of the flow, but one about it: leave no trace */
};

static __always_inline struct flow flow_in(
	const struct packet *pkt, const enum side client, const bool v6)
{
	return (struct flow){
		.hash = flow_of(pkt, client, v6),
		.client = address_of(pkt, client, v6),
		.begins = (pkt->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN,
		.has_beginning = pkt->proto == IPPROTO_TCP,
	};
}

/* What decides where a flow goes if its slot alone does not. */
struct crossing {
	__u64 key;    /* of its entry */
	__u64 slot;   /* what the slot says */
	__u64 client; /* for the limit */
	__u32 ring, slots, index;
	__u8 flags; /* TG_VIP_* */
	bool begins, has_beginning, only_asks;
	__u32 epoch;
};

static __always_inline void count_flow(__u32 what)
{
	__u64 *flows;

	if (tracing)
		return;
	flows = bpf_map_lookup_elem(&flow_counters, &what);
	if (flows)
		(*flows)++;
}

/* A packet of the slot went elsewhere than to `next`. */
static __always_inline void mark_seen(const struct crossing *c)
{
	__u32 ring_index = c->ring, at = TG_RING_SEEN(c->slots, c->index);
	void *ring = bpf_map_lookup_elem(&rings, &ring_index);
	__u8 *seen = ring ? bpf_map_lookup_elem(ring, &at) : NULL;

	if (!seen)
		return;
	seen += c->index & 7;
	if (*(volatile __u8 *)seen != (__u8)c->epoch)
		state_store(seen, (__u8)c->epoch);
}

/* Is the backend that an entry names the one to go to? */
static __always_inline bool is_followed(const struct crossing *c, __u64 entry)
{
	__u32 index = TG_ENTRY_BACKEND(entry);
	struct tg_backend *backend = bpf_map_lookup_elem(&backends, &index);
	__u8 flags = backend ? *(volatile __u8 *)&backend->flags : TG_BACKEND_DEAD;

	if (flags & TG_BACKEND_DEAD)
		return false;
	return !(c->begins && flags & TG_BACKEND_DRAINS && TG_ENTRY_CONFIRMED(entry));
}

/* Enters the flow for `backend`; false if it can't be. */
static __always_inline bool enter(const struct crossing *c, __u32 backend)
{
	__u32 index = 0;
	struct tg_clock *now = bpf_map_lookup_elem(&clock, &index);

	note(ENTER, false, tg_slot_of(c->key, line_count), U64_WORDS(c->key));
	if (!now || !client_may(c->client, c->epoch, now->newcomers)) {
		count_flow(TG_FLOWS_LIMITED);
		return false;
	}
	/* What has no beginning has been seen now, and may be silent from now on. */
	if (!line_insert(c->key, c->epoch, !c->has_beginning, backend)) {
		count_flow(TG_FLOWS_FULL);
		return false;
	}
	note_hit(backend);
	count_flow(TG_FLOWS_ENTERED);
	return true;
}

/* The backend of a flow that has no entry to follow; `entry` is one that counts as none, or NULL. */
static __always_inline __u32 by_slot(const struct crossing *c, __u64 *entry, __u64 old)
{
	__u32 home = TG_SLOT_HOME(c->slot), next = TG_SLOT_NEXT(c->slot);
	bool news = c->begins || !c->has_beginning, strict = c->flags & TG_VIP_STRICT;
	bool forward = c->begins || (!c->has_beginning && TG_SLOT_LATE(c->slot));
	__u32 backend = forward ? next : home;

	if (c->only_asks || !backend)
		return backend;
	if (entry && (news || strict)) {
		__u64 fresh = TG_ENTRY(
			TG_LINE_FINGERPRINT(c->key), c->epoch, !c->has_beginning, backend);

		return state_swap(entry, old, fresh) == old ? backend : home;
	}
	if (!entry && (strict || (news && home != next)))
		return enter(c, backend) ? backend : home;
	return backend;
}

static __always_inline __u32 backend_of(const struct crossing *c)
{
	__u64 old = 0, *entry;
	__u32 backend;

	if (!c->has_beginning && !(c->flags & (TG_VIP_FLOW | TG_VIP_STRICT)))
		return TG_SLOT_NEXT(c->slot);
	entry = line_look(c->key, &old);
	if (entry && is_followed(c, old)) {
		backend = TG_ENTRY_BACKEND(old);
		if (!c->only_asks)
			entry_touch(entry, old, c->epoch, !c->begins);
	} else {
		backend = by_slot(c, entry, old);
	}
	if (TG_SLOT_T(c->slot) && backend != TG_SLOT_NEXT(c->slot) && !c->only_asks)
		mark_seen(c);
	return backend;
}

/* What a packet is to its flow, with the flags of the VIP (8 bits), and the slot: an argument of cross(). */
#define CROSS_BEGINS	    0x100
#define CROSS_HAS_BEGINNING 0x200
#define CROSS_ONLY_ASKS	    0x400
#define CROSS_HOW(vip, flow)                                                                       \
	((__u8)(vip)->flags | ((flow)->begins ? CROSS_BEGINS : 0) |                                \
		((flow)->has_beginning ? CROSS_HAS_BEGINNING : 0) |                                \
		((flow)->only_asks ? CROSS_ONLY_ASKS : 0))

/*
 * The backend of a flow whose slot moves (T = 1), or whose service remembers all flows; 0: none. The verifier
 * looks at it once, whoever calls. `ring`: with its slots in the upper half; `how`: with the slot's index.
 */
__noinline __u32 cross(__u64 key, __u64 slot, __u64 client, __u64 ring, __u64 how)
{
	struct crossing c = {
		.key = key,
		.slot = slot,
		.client = client,
		.ring = ring,
		.slots = ring >> 32,
		.index = how >> 32,
		.flags = how,
		.begins = how & CROSS_BEGINS,
		.has_beginning = how & CROSS_HAS_BEGINNING,
		.only_asks = how & CROSS_ONLY_ASKS,
	};
	__u32 index = 0;
	struct tg_clock *now;

	if (!(features & (TG_FEATURE_V4 | TG_FEATURE_V6)))
		return 0;
	now = bpf_map_lookup_elem(&clock, &index);
	c.epoch = now ? now->epoch : 0;
	return backend_of(&c);
}

/* Which of a flow's hashes says its slot. */
static __always_inline __u64 place_of(
	const struct tg_vip *vip, const struct flow *flow, const bool v6)
{
	static const __be32 nobody[4];

	if (likely(!(vip->flags & TG_VIP_SOURCE)))
		return flow->hash;
	return v6 ? tg_flow_hash6(&flow_key, flow->client, nobody, 0, 0) :
		    tg_flow_hash4(&flow_key, *flow->client, 0, 0, 0);
}

/* The flow's backend: NONE, or why there is none. */
static __always_inline enum tg_reason choose(
	const struct tg_vip *vip, const struct flow *flow, __u32 *chosen, const bool v6)
{
	__u32 ring_index = vip->ring, index = tg_slot_of(place_of(vip, flow, v6), vip->slots);
	void *ring = bpf_map_lookup_elem(&rings, &ring_index);
	__u64 *at = ring ? bpf_map_lookup_elem(ring, &index) : NULL, slot;

	note(RING, false, vip->ring, index);
	if (!at)
		return TG_REASON_NO_RING;
	slot = *(volatile __u64 *)at;
	note_hit(TG_SLOT_HOME(slot), TG_SLOT_NEXT(slot), TG_SLOT_T(slot));
	*chosen = TG_SLOT_HOME(slot);
	if (unlikely((slot >> 63 | vip->flags) & 1)) /* T, or TG_VIP_STRICT */
		*chosen = cross(TG_LINE_KEY(flow->hash), slot, client_of(flow->client, v6),
			(__u64)vip->slots << 32 | vip->ring,
			(__u64)index << 32 | CROSS_HOW(vip, flow));
	if (*chosen)
		return TG_REASON_NONE;
	return vip->fail == TG_FAIL_PASS ? TG_REASON_FAIL_PASS : TG_REASON_FAIL_DROP;
}

_Static_assert(TG_VIP_STRICT == 1, "tested along with T");

#endif
