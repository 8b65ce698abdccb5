/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Fragments. The first one of a packet has the ports and is balanced; what became of it is
 * remembered by {source, destination, identification, protocol}, and the later ones follow it. The
 * table is an LRU hash: under a flood the oldest go, which are done with.
 */
#ifndef TIDEGATE_FRAGMENT_H
#define TIDEGATE_FRAGMENT_H

#include "maps.h"
#include "packet.h"
#include "payload.h"
#include "trace.h"

#define FRAGMENT_NS (TG_FRAGMENT_SECONDS * 1000000000ull)

static __always_inline void fragment_key(const struct packet *pkt, const struct payload *payload,
	struct tg_fragment_key *key, const bool v6)
{
	__builtin_memset(key, 0, sizeof(*key));
	__builtin_memcpy(key->source, address_of(pkt, SOURCE, v6), v6 ? 16 : 4);
	__builtin_memcpy(key->dest, address_of(pkt, DEST, v6), v6 ? 16 : 4);
	key->id = payload->id;
	key->proto = v6 ? 0 : payload->proto;
	key->v6 = v6;
}

/* What became of this packet's first fragment, if that has come. */
static __always_inline bool fragment_recall(
	const struct tg_fragment_key *key, struct tg_fragment *out, const bool v6)
{
	struct tg_fragment *found;

	note(FRAGMENT, v6, IP_WORDS(key->source, v6), IP_WORDS(key->dest, v6), key->id, key->proto);
	found = bpf_map_lookup_elem(&fragments, key);
	if (!found || bpf_ktime_get_coarse_ns() - found->since > FRAGMENT_NS)
		return false;
	note_hit(found->backend, found->fate);
	*out = *found;
	return true;
}

/*
 * Of a copy: to Linux 6.1, memory that a global function was passed is no value for a map. Not inlined: so
 * the copy's stack and that of cross() (slots.h) don't add up.
 */
static __noinline void fragment_remember(
	const struct tg_fragment_key *key, const struct tg_fragment *fragment)
{
	struct tg_fragment copy = *fragment;

	copy.since = bpf_ktime_get_coarse_ns();
	state_update(&fragments, key, &copy, BPF_ANY);
}

/*
 * Is this fragment of TCP or UDP smaller than any sender's, to get past a filter? The first one must
 * have the whole header, and none may start within (RFC 1858, RFC 3128, RFC 7112).
 */
static __always_inline bool is_tiny(const struct packet *pkt, const struct payload *payload)
{
	__u32 header = payload->proto == IPPROTO_TCP ? sizeof(struct tcphdr) : sizeof(struct udphdr);

	if (payload->cut)
		return true;
	if (!payload->place)
		return pkt->l3_length < payload->offset + header;
	return payload->proto == IPPROTO_TCP && payload->place * 8 < header;
}

#endif
