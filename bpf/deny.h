/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Deny and allow lists: the longest prefix on any list that covers the source decides. Every packet
 * with an IP header is judged, before anything else is asked of it. Filled by core/deny*.c.
 *
 * IPv4: one load for most packets, of a bit for each /24: "nothing here". Else another such bit, "all of it is
 * on the favourite list", and an exact hash of hosts are read at once, for what is on that list. Else a byte
 * for the /24 says "on no list", "on this one", or "look closer", in the hash (after DIR-24-8, Gupta, Lin,
 * McKeown 1998).
 *
 * IPv6: the same idea carried on. A word for the first 16 bits, and below it an exact hash of prefixes
 * cut up to multiples of four bits ("levels"); guards by 32, 48 and 64 bits say which levels there can
 * be, the longest is asked first. What it costs depends on how many levels meet there, not on how many
 * prefixes there are.
 */
#ifndef TIDEGATE_DENY_H
#define TIDEGATE_DENY_H

#include "count.h"
#include "deny_hash.h"
#include "maps.h"
#include "packet.h"
#include "parse.h"
#include "trace.h"

#define ND_FIRST 133 /* ICMPv6 types: router solicitation … */
#define ND_LAST	 137 /* … redirect */

/* NULL without the feature (see maps.h). */
static __always_inline const struct tg_deny_state *deny_state_get(const __u32 feature)
{
	__u32 index = 0;

	return features & feature ? bpf_map_lookup_elem(&deny_state, &index) : NULL;
}

/* --- IPv4 --- */

/* Is one of the four entries 0? */
static __always_inline bool has_zero(__u64 bucket)
{
	return (bucket - 0x0001000100010001ull) & ~bucket & 0x8000800080008000ull;
}

/* Which kind of entry tells the key, as they differ in this; 0: none does. Of a /28 there is one kind. */
static __always_inline __u32 deny4_kind(__u32 differ, const __u32 level)
{
	if (level == 28)
		return differ ? 0 : TG_DENY4_HOST;
	return differ <= TG_DENY4_COUNTED ? differ : 0;
}

/*
 * What is said of a key by this entry, 0: nothing. The entry may make room for another key in the meantime:
 * then this key is in its second place, or gone.
 */
static __always_inline __u32 deny4_said_by(
	const __u64 *bucket, __u32 index, const __u32 n, __u32 want, const __u32 level)
{
	__u32 zero = 0, kind, class;
	struct tg_deny4_said *said;

	kind = deny4_kind(TG_DENY4_ENTRY(*(volatile __u64 *)bucket, n) ^ want, level);
	if (!kind)
		return 0;
	said = bpf_map_lookup_elem(&deny4_said, &zero);
	if (!said)
		return 0;
	index &= (1 << TG_DENY4_BUCKET_BITS) - 1; /* for the verifier, here */
	class = TG_DENY_CLASS(*(volatile __u8 *)&said->entry[index][n]);
	if (!deny4_kind(TG_DENY4_ENTRY(*(volatile __u64 *)bucket, n) ^ want, level))
		return 0;
	return class | (kind == TG_DENY4_COUNTED ? TG_DENY_COUNTED : 0);
}

/* What the bucket says of it. `full` is set if others may be in their second place because of it. */
static __always_inline __u32 deny4_in(__u32 index, __u32 want, const __u32 level, bool *full)
{
	const __u64 *bucket = bpf_map_lookup_elem(&deny4_buckets, &index);
	__u32 found = 0;

	if (!bucket)
		return 0;
#pragma unroll
	for (int n = 0; n < TG_DENY4_BUCKET; n++)
		if (!found)
			found = deny4_said_by(bucket, index, n, want, level);
	*full = TG_DENY4_ENTRY(*(volatile __u64 *)bucket, TG_DENY4_BUCKET - 1);
	return found;
}

/* What the hash says of an address, or of its first 28 bits; 0: nothing. */
static __always_inline __u32 deny4_probe(
	const struct tg_deny_state *state, __u32 key, const __u32 level)
{
	__u32 hash = tg_deny4_hash(state, key, level), index = tg_deny4_bucket(hash, level);
	__u32 want = tg_deny4_entry(hash, level), found;
	bool full = false;

	found = deny4_in(index, want, level, &full);
	if (found || !full)
		return found;
	return deny4_in(index ^ tg_deny4_move(want), want | TG_DENY4_SECOND, level, &full);
}

/* The whole search, for what is not told at once. */
__noinline __u32 deny4_closer(__u32 addr)
{
	const struct tg_deny_state *state = deny_state_get(TG_FEATURE_DENY4);
	__u32 part = addr >> 28, found, block;
	struct tg_deny4_part *blocks;

	if (!state)
		return 0;
	blocks = bpf_map_lookup_elem(&deny4_blocks, &part);
	if (!blocks)
		return 0;
	block = *(volatile __u8 *)&blocks->block[addr >> 8 & (TG_DENY4_PART - 1)];
	found = deny4_probe(state, addr, 32);
	if (!found && block & TG_DENY4_CLOSER28)
		found = deny4_probe(state, addr >> 4, 28);
	return found ? found : TG_DENY_CLASS(block);
}

/*
 * What the tables say of a marked address. Both loads are far from any cache, if the list is long: neither
 * waits for the other, and none for a guess at a branch.
 */
static __always_inline __u32 deny4_find(const struct tg_deny_state *state, __u32 addr)
{
	__u32 hash = tg_deny4_hash(state, addr, 32), index = tg_deny4_bucket(hash, 32), zero = 0;
	__u64 want = tg_deny4_entry(hash, 32) | TG_DENY4_FAVOURITE, plain;
	const __u64 *bucket = bpf_map_lookup_elem(&deny4_buckets, &index);
	struct tg_deny4_marks *marks = bpf_map_lookup_elem(&deny4_plain, &zero);

	if (!bucket || !marks)
		return 0;
	plain = *(volatile __u64 *)&marks->word[addr >> 14] & TG_DENY4_MARK(addr >> 8);
	if (likely(plain | has_zero(*(volatile __u64 *)bucket ^ want * 0x0001000100010001ull)))
		return state->favourite;
	return deny4_closer(addr);
}

/* May the address be on a list? */
static __always_inline bool deny4_is_marked(__u32 addr)
{
	__u32 index = 0;
	struct tg_deny4_marks *marks = bpf_map_lookup_elem(&deny4_marks, &index);

	return marks && marks->word[addr >> 14] & TG_DENY4_MARK(addr >> 8);
}

/* --- IPv6 --- */

/* Does the record hold a prefix that, cut up to this level, gave this key? If so, what it says. */
static __always_inline __u32 deny6_verify(__u32 record, __u64 high, __u64 low, __u32 level)
{
	__u32 index = (record & TG_DENY6_RECORD) / TG_DENY_RECORDS, what;
	struct tg_deny6_records *records = bpf_map_lookup_elem(&deny6_records, &index);
	__u64 *addr;

	if (!records)
		return 0;
	addr = records->addr[record % TG_DENY_RECORDS];
	what = records->what[record % TG_DENY_RECORDS];
	/* The entry told the last three bits. */
	high ^= addr[0];
	low ^= addr[1];
	if (level <= 64)
		high &= ~(7ull << (64 - level));
	else
		low &= ~(7ull << (128 - level));
	if (high | low || (TG_DENY_WHAT_LENGTH(what) + 3) / 4 != level / 4)
		return 0;
	return TG_DENY_CLASS(what) | (TG_DENY_WHAT_COUNTED(what) ? TG_DENY_COUNTED : 0);
}

/* What the hash says of an address, cut to one level; 0: nothing. */
__noinline __u32 deny6_probe(__u64 high, __u64 low, __u32 level)
{
	const struct tg_deny_state *state = deny_state_get(TG_FEATURE_DENY6);
	__u32 shift = (level <= 64 ? 64 - level : 128 - level) & 63, want, index, found;
	struct tg_deny_bucket *bucket;
	__u64 hash;

	if (!state)
		return 0;
	high = level <= 64 ? high >> shift << shift : high;
	low = level <= 64 ? 0 : low >> shift << shift;
	hash = tg_deny6_hash(state, high, low, level);
	want = TG_DENY6_ENTRY(tg_deny6_tag(hash), (level <= 64 ? high : low) >> shift & 7);
	index = tg_deny6_bucket(hash);
	for (int place = 0; place < 2; place++) {
		bucket = bpf_map_lookup_elem(&deny6_buckets, &index);
		if (!bucket)
			return 0;
		for (int i = 0; i < TG_DENY_BUCKET; i++) {
			__u32 record = *(volatile __u32 *)&bucket->entry[i] ^ want;

			if (record > TG_DENY6_RECORD)
				continue;
			found = deny6_verify(record, high, low, level);
			if (found)
				return found;
		}
		if (!bucket->entry[TG_DENY_BUCKET - 1])
			return 0;
		index ^= tg_deny6_move(hash);
	}
	return 0;
}

/* What the guards say of a part of the address; a table that isn't there says nothing. */
#define DENY6_GUARD(name, bits, high, level)                                                       \
	({                                                                                         \
		__u32 index_ = 0;                                                                  \
		struct tg_##name *table_ = bpf_map_lookup_elem(&name, &index_);                    \
		table_ ? table_->cell[tg_deny6_guard(tg_deny6_hash(state, high, 0, level), bits)]  \
		       : 0;                                                                        \
	})

/* The levels that can hold the address, a bit each: bit n for level 4 n + 4. `cell`: of `deny6_top`. */
static __always_inline __u32 deny6_levels(const struct tg_deny_state *state, __u64 high, __u32 cell)
{
	__u32 levels = (cell >> 6 & 15) << 4, guard;

	if (!(cell & TG_DENY6_MORE(36)))
		return levels;
	guard = DENY6_GUARD(deny6_guard32, TG_DENY6_GUARD32_BITS, high >> 32 << 32, 32);
	levels |= (guard & 15) << 8;
	if (!(guard & 16))
		return levels;
	guard = DENY6_GUARD(deny6_guard48, TG_DENY6_GUARD48_BITS, high >> 16 << 16, 48);
	levels |= (guard & 15) << 12;
	if (!(guard & 16))
		return levels;
	guard = DENY6_GUARD(deny6_guard64, TG_DENY6_GUARD64_BITS, high, 64);
	return levels | guard << 16;
}

/* The place of the highest bit that is set, without a branch: the verifier would walk each side. */
static __always_inline __u32 highest_bit(__u32 bits)
{
	__u64 x = bits, at = 0, less;

#pragma unroll
	for (int size = 16; size; size /= 2) {
		less = (1ull << size) - 1 - x; /* below 0 if there is a bit in the upper half */
		barrier_var(less);
		less = (less >> 63) * size;
		at += less;
		x >>= less;
	}
	return at & 31;
}

__noinline __u32 deny6_closer(__u64 high, __u64 low, __u32 cell)
{
	const struct tg_deny_state *state = deny_state_get(TG_FEATURE_DENY6);
	__u32 levels, level, found;

	if (!state)
		return 0;
	levels = deny6_levels(state, high, cell);
	for (int i = 0; i < 28 && levels; i++) {
		level = highest_bit(levels);
		levels ^= 1u << level;
		found = deny6_probe(high, low, 4 * level + 4);
		if (found)
			return found;
	}
	return TG_DENY_CLASS(cell);
}

static __always_inline __u32 deny6_find(const __be32 source[4])
{
	__u64 high = (__u64)bpf_ntohl(source[0]) << 32 | bpf_ntohl(source[1]), low;
	struct tg_deny6_top *top;
	__u32 index = 0, cell;

	top = bpf_map_lookup_elem(&deny6_top, &index);
	if (!top)
		return 0;
	cell = *(volatile __u16 *)&top->cell[high >> 48];
	if (cell <= TG_DENY_CLASSES)
		return cell;
	low = (__u64)bpf_ntohl(source[2]) << 32 | bpf_ntohl(source[3]);
	return deny6_closer(high, low, cell);
}

/* --- what becomes of it --- */

/* Neighbour discovery goes on even from a denied source, or it couldn't be a neighbour (nor ask for one). */
static __always_inline bool is_discovery(const struct xdp_md *ctx, const struct packet *pkt)
{
	__u8 *type = (__u8 *)(pkt->ip6 + 1);

	if (pkt->ip6->nexthdr != IPPROTO_ICMPV6 || (void *)(type + 1) > packet_end(ctx))
		return false;
	return *type >= ND_FIRST && *type <= ND_LAST;
}

static __always_inline void count_host(const __be32 *source, __u32 bytes, const bool v6)
{
	struct tg_host host = host_of(source, v6);
	struct tg_counter *counter;

	counter = bpf_map_lookup_elem(&deny_hosts, &host);
	if (!counter)
		return;
	counter->packets++;
	counter->bytes += bytes;
}

/* One sample stands for TG_DENY_SAMPLE packets. */
static __always_inline void sample(const __be32 *source, __u32 class, __u32 bytes, const bool v6)
{
	__u32 index = tg_address_hash(source, v6, TG_DENY_SAMPLE_BITS);
	struct tg_deny_sample *at = bpf_map_lookup_elem(&deny_samples, &index);
	bool same;

	if (!at)
		return;
	same = at->v6 == v6 && same_address(at->addr, source, v6);
	if (!same && at->votes) {
		at->votes--;
		return;
	}
	if (!same) {
		at->addr[0] = source[0];
		at->addr[1] = v6 ? source[1] : 0;
		at->addr[2] = v6 ? source[2] : 0;
		at->addr[3] = v6 ? source[3] : 0;
		at->v6 = v6;
		at->packets = at->bytes = 0;
	}
	at->votes++;
	at->class = class;
	at->packets += TG_DENY_SAMPLE;
	at->bytes += (__u64)bytes * TG_DENY_SAMPLE;
}

static __noinline void sample4(__be32 source, __u32 class, __u32 bytes)
{
	sample(&source, class, bytes, false);
}

static __noinline void sample6(const __be32 *source, __u32 class, __u32 bytes)
{
	sample(source, class, bytes, true);
}

/* What event.h tells, of some of the packets. */
static __always_inline void note_class(__u32 class)
{
	__u32 kind = TG_EVENT_DENY_HIT;
	struct tg_event_limit *limit;

	if (!(features & TG_FEATURE_EVENTS) || tracing)
		return;
	limit = bpf_map_lookup_elem(&event_limits, &kind);
	if (limit)
		limit->class = class;
}

/* A list has the source: counts it, and says what the list does. */
static __always_inline enum tg_reason decide(const struct tg_deny_state *state,
	const __be32 *source, __u32 found, __u32 bytes, const bool v6)
{
	__u32 class = TG_DENY_CLASS(found);
	struct tg_counter *counter = bpf_map_lookup_elem(&deny_counters, &class);
	__u64 packets;

	note_hit(class, found / TG_DENY_COUNTED);
	if (!counter)
		return TG_REASON_NONE;
	packets = counter->packets + 1;
	if (!tracing) {
		counter->packets = packets;
		counter->bytes += bytes;
		if (features & TG_FEATURE_DENY_COUNT && found & TG_DENY_COUNTED)
			count_host(source, bytes, v6);
	}
	if (state->allow >> class & 1)
		return TG_REASON_NONE;
	/* The golden ratio's multiples are spread evenly, whatever order sources come in. */
	if (!tracing && unlikely(!(packets * 0x9e3779b97f4a7c15ull >> 60))) {
		if (v6)
			sample6(source, class, bytes);
		else
			sample4(*source, class, bytes);
	}
	note_class(class);
	return TG_REASON_DENIED;
}

static __always_inline enum tg_reason deny4_judge(__be32 source, __u32 bytes)
{
	const struct tg_deny_state *state = deny_state_get(TG_FEATURE_DENY4);
	__u32 found = state ? deny4_find(state, bpf_ntohl(source)) : 0;

	return found ? decide(state, &source, found, bytes, false) : TG_REASON_NONE;
}

/* Not inlined: what comes after would be walked by the verifier once for each way through. */
__noinline int deny6_judge(struct xdp_md *ctx, __u32 l2_length, __u32 found)
{
	struct packet pkt = { .l2_length = l2_length, .l3 = l3_at(ctx, l2_length) };
	const struct tg_deny_state *state = deny_state_get(TG_FEATURE_DENY6);
	__u32 bytes;

	if (!state || !has_ip_header(ctx, &pkt, true) || is_discovery(ctx, &pkt))
		return TG_REASON_NONE;
	bytes = l2_length + sizeof(struct ipv6hdr) + bpf_ntohs(pkt.ip6->payload_len);
	return decide(state, pkt.ip6->saddr.s6_addr32, found, bytes, true);
}

static __always_inline enum tg_reason deny4(const struct packet *pkt)
{
	__be32 source = pkt->ip4->saddr;

	if (likely(!deny4_is_marked(bpf_ntohl(source))))
		return TG_REASON_NONE;
	return deny4_judge(source, pkt->l2_length + bpf_ntohs(pkt->ip4->tot_len));
}

static __always_inline enum tg_reason deny6(struct xdp_md *ctx, const struct packet *pkt)
{
	__u32 found = deny6_find(pkt->ip6->saddr.s6_addr32);

	return found ? deny6_judge(ctx, pkt->l2_length, found) : TG_REASON_NONE;
}

/* NONE, or DENIED. */
static __always_inline enum tg_reason deny(
	struct xdp_md *ctx, const struct packet *pkt, const bool v6)
{
	if (!(features & (v6 ? TG_FEATURE_DENY6 : TG_FEATURE_DENY4)))
		return TG_REASON_NONE;
	note(DENY, v6, IP_WORDS(address_of(pkt, SOURCE, v6), v6));
	return v6 ? deny6(ctx, pkt) : deny4(pkt);
}

#endif
