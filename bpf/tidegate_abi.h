/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The one definition of every byte that crosses between the datapath (bpf/) and the controller
 * (core/), with lines_abi.h, reasons.h, trace_abi.h and those of TC: ports_abi.h, policy_abi.h, track_abi.h,
 * tap_abi.h, event_abi.h. All fields have fixed widths and no implicit padding;
 * sizes are asserted. Any change to a layout here raises TG_ABI_VERSION: pins of another version are
 * replaced, never adopted.
 *
 * Byte order: addresses and ports are in network order, as packets carry them; all else is the host's.
 */
#ifndef TIDEGATE_ABI_H
#define TIDEGATE_ABI_H

#include <linux/types.h>

#include "event_abi.h"
#include "lines_abi.h"
#include "ports_abi.h"
#include "reasons.h"
#include "tap_abi.h"
#include "top_abi.h"
#include "trace_abi.h"
#include "track_abi.h"

#define TG_ABI_VERSION 5

/*
 * What a program can be specialised for: X(SYMBOL, "name", bit). A map is made when one of the
 * features is in use that core/datapath.h lists with it.
 */
#define TG_FEATURES(X)                                                                             \
	X(V4, "v4", 0)       /* VIPs of IPv4 */                                                    \
	X(V6, "v6", 1)       /* VIPs of IPv6 */                                                    \
	X(NAT, "nat", 2)     /* services in mode nat */                                            \
	X(TUNNEL, "tunnel", 3) /* in mode ipip or gue */                                            \
	X(RANGES, "ranges", 8) /* VIPs of a range of ports, or of all */                           \
	X(QUIC, "quic", 9)     /* UDP services whose packets name their server */                         \
	X(DENY4, "deny4", 16) /* deny and allow lists of IPv4 */                                    \
	X(DENY6, "deny6", 17) /* and of IPv6 */                                                     \
	X(DENY_COUNT, "deny-count", 18) /* some of their addresses have counters of their own */   \
	X(POLICY, "policy", 24)       /* ports with a policy: of TC, and of XDP for VIPs */          \
	X(FLOW, "flow", 25)	      /* stateful ones, with flows of our own */                    \
	X(CONNTRACK, "conntrack", 26) /* or the kernel's */                                         \
	X(TAP, "tap", 27)	      /* mirrors, captures: of TC, and of XDP for what it forwards */ \
	X(RATES, "rates", 28)	      /* ports count kinds of packets */                           \
	X(EVENTS, "events", 29)	      /* XDP tells what deny lists drop */                          \
	X(TOP, "top", 30)	      /* who sends most, or gets most */

enum tg_feature {
#define TG_FEATURE_ENUM(symbol, name, bit) TG_FEATURE_##symbol = 1 << (bit),
	TG_FEATURES(TG_FEATURE_ENUM)
#undef TG_FEATURE_ENUM
#define TG_FEATURE_OR(symbol, name, bit) | TG_FEATURE_##symbol
	TG_FEATURE_ALL = 0 TG_FEATURES(TG_FEATURE_OR)
#undef TG_FEATURE_OR
};

/* Those that ports need the TC programs for, and those that mean something to XDP. */
#define TG_FEATURES_TC                                                                             \
	(TG_FEATURE_POLICY | TG_FEATURE_FLOW | TG_FEATURE_CONNTRACK | TG_FEATURE_TAP |            \
		TG_FEATURE_RATES | TG_FEATURE_TOP)
/* Those by which anything is told by the ring `events`. */
#define TG_FEATURES_EVENT (TG_FEATURE_POLICY | TG_FEATURE_FLOW | TG_FEATURE_EVENTS)
#define TG_FEATURES_XDP (TG_FEATURE_ALL & ~(TG_FEATURE_FLOW | TG_FEATURE_CONNTRACK))

/* Limits of one instance. */
#define TG_MAX_SERVICES  4096
#define TG_MAX_BACKENDS  32768 /* index 0 is "none"; a line entry keeps 15 bits of it */
#define TG_MAX_VIPS      8192  /* of each family */
#define TG_MAX_REVERSE   65536 /* nat endpoints of each family */
#define TG_MAX_ROUTES    8192  /* next hops towards clients, of each family */
#define TG_MAX_RANGES    16384 /* intervals of ports: of VIPs, and in nat of each of their backends */
#define TG_MAX_FRAGMENTS 16384 /* fragmented packets under way */
#define TG_NAME_SIZE     64
#define TG_DEFAULT_SLOTS 65537

enum tg_mode { TG_MODE_L2DSR, TG_MODE_NAT, TG_MODE_IPIP, TG_MODE_GUE };

/* What happens to a VIP's packet when no backend lives. */
enum tg_fail { TG_FAIL_DROP, TG_FAIL_PASS };

/*
 * VIPs: hash maps `vips4`, `vips6`: what is not in them is not touched. The key is compared as
 * bytes, so `pad` is zero. Each address that has a VIP has an entry with port and proto 0 as well,
 * TG_VIP_ADDRESS, for packets that name no port.
 */
struct tg_vip4_key {
	__be32 addr;
	__be16 port;
	__u8 proto; /* IPPROTO_TCP or IPPROTO_UDP */
	__u8 pad;
};

struct tg_vip6_key {
	__be32 addr[4];
	__be16 port;
	__u8 proto;
	__u8 pad;
};

struct tg_vip {
	__u32 ring;    /* index into `rings` */
	__u32 slots;   /* of that ring, a prime */
	__u32 service; /* index into `service_counters` and `services` */
	__u8 mode;     /* enum tg_mode */
	__u8 fail;     /* enum tg_fail */
	__u16 flags;   /* TG_VIP_* */
};

#define TG_VIP_STRICT 0x01 /* affinity = "strict": an entry in the line table for every flow */
#define TG_VIP_FLOW   0x02 /* affinity = "flow": UDP flows stay where they are, as TCP's do */
#define TG_VIP_SOURCE 0x04 /* affinity = "source": the slot is that of the client's address */
#define TG_VIP_QUIC   0x08 /* UDP is QUIC: packets that name a server go there */
#define TG_VIP_ADDRESS 0x10 /* no VIP: says that its address has some */

/* A service has a ring for each family that it has VIPs of; `rings` is an array of maps, each one mapped array. */
#define TG_MAX_RINGS (2 * TG_MAX_SERVICES)

/*
 * A slot of a ring, one aligned 64-bit word: {home:32, next:15, since:8, late:1, T:1} and zeros.
 *
 *   T = 0	packets go to backend `home`, and `next` is the same; 0 is "no live backend"
 *   T = 1	the slot's backend was changed from `home` to `next`: flows that were there stay, those
 *		that begin go to `next` (bpf/slots.h). `since` are the low bits of the epoch in which that
 *		began, for the controller; `late`: that is so long ago that a flow without a
 *		beginning (TG_VIP_FLOW), if it is not known, is taken for a new one.
 *
 * After a ring's slots comes a byte for each, `seen`: the low bits of the epoch in which a packet of it
 * went elsewhere than to `next`. Element TG_RING_SEEN(slots, slot) of the ring holds the slot's byte.
 */
#define TG_SLOT(home, next, t) ((__u64)(home) | (__u64)(next) << 32 | (__u64)(t) << 63)
#define TG_SLOT_HOME(slot)     ((__u32)(slot))
#define TG_SLOT_NEXT(slot)     ((__u32)((slot) >> 32) & 0x7fff)
#define TG_SLOT_SINCE(slot)    ((__u8)((slot) >> 48))
#define TG_SLOT_LATE(slot)     ((__u32)((slot) >> 62) & 1)
#define TG_SLOT_T(slot)        ((__u32)((slot) >> 63))
/* With T = 1. */
#define TG_SLOT_MOVED(home, next, since, late)                                                     \
	(TG_SLOT(home, next, 1) | (__u64)(__u8)(since) << 48 | (__u64)(late) << 62)

#define TG_RING_SEEN(slots, slot) ((slots) + (slot) / 8)
/* Elements of a ring's map, and the slots of a map with so many elements. */
#define TG_RING_ELEMENTS(slots)	  ((slots) + ((slots) + 7) / 8)
#define TG_RING_SLOTS(elements)	  ((__u32)((__u64)(elements) * 8 / 9))

/* How to reach something on the wire. ifindex 0: not resolved. */
struct tg_hop {
	__u32 ifindex;
	__u8 dmac[6];
	__u8 smac[6];
};

/*
 * A backend: array `backends`, mapped into the controller. One cache line. The hop is changed
 * without a lock: the controller fills hop[!current], then stores `current`.
 */
struct tg_backend {
	__u32 current; /* which hop is in force: 0 or 1 */
	struct tg_hop hop[2];
	__be32 addr[4]; /* IPv4 in addr[0] */
	__be16 port;    /* 0: the VIP's own */
	__u8 flags;     /* TG_BACKEND_* */
	__u8 pad;
	__u16 mtu;      /* of the port that the hop leaves by, 0: unknown */
	__u8 pad2[6];
};

#define TG_BACKEND_V6	 0x01 /* addr is IPv6 */
#define TG_BACKEND_DRAINS 0x02 /* takes no new flows, those that it has go on */
#define TG_BACKEND_DEAD	 0x04 /* and neither these: entries that name it don't count */

/*
 * The outer header of ipip and gue: array `tunnels`, one mapped element. A source is the prefix's
 * address or'ed with the flow's bits that `vary`, which has the prefix's host part set.
 */
#define TG_GUE_PORT 6080 /* by default */

struct tg_tunnel {
	__be32 source6[4];
	__be32 source4;
	__be32 vary4;
	__be32 vary6; /* of the last word */
	__be16 gue_port;
	__u16 pad;
};

/* ICMP errors that the datapath answers with, of each CPU. */
#define TG_ANSWERS_PER_SECOND 1000
#define TG_ANSWERS_BURST      100

/* nat's way back: hash maps `reverse4`, `reverse6`: a backend's endpoint (a VIP key) to the VIP it answers for. */
struct tg_reverse4 {
	__be32 addr;
	__be16 port;
	__u16 pad;
	__u32 service;
	__u32 backend;
};

struct tg_reverse6 {
	__be32 addr[4];
	__be16 port;
	__u16 pad;
	__u32 service;
	__u32 backend;
};

/* Ports from first to last, in the host's order. */
struct tg_ports {
	__u16 first;
	__u16 last;
};

/*
 * The endpoint index: what the four hash maps above say, compiled by the controller (core/endpoints.c)
 * into what costs a third to look up. A line holds up to 8 entries {fingerprint:40, index:24} without a
 * hole, the index is that of an endpoint with its whole key. While the hash maps change, and with more
 * endpoints than TG_INDEX_ENDPOINTS, `clock.index_lines` is 0 and the hash maps are asked. A line
 * with more than 8 ends in TG_INDEX_MORE: ask as well.
 */
#define TG_INDEX_LINES     4096
#define TG_INDEX_ENDPOINTS 16384 /* addresses of VIPs included */
#define TG_INDEX_MORE      (~0ull)
#define TG_INDEX_OF(entry) ((__u32)(entry) & 0xffffff)

enum tg_endpoint_kind {
	TG_ENDPOINT_VIP4 = 1,
	TG_ENDPOINT_VIP6,
	TG_ENDPOINT_REVERSE4,
	TG_ENDPOINT_REVERSE6,
};

struct tg_endpoint {
	__be32 addr[4]; /* IPv4 in addr[0], the rest 0 */
	__be16 port;
	__u8 proto;
	__u8 kind; /* enum tg_endpoint_kind */
	union {
		struct tg_vip vip;
		struct tg_reverse6 reverse; /* of IPv4, too: as in `addr` */
	};
	struct tg_ports ports;    /* of an element of `ranges`, its `port` is 0 */
	struct tg_ports declared; /* likewise: of the VIP that the interval is a part of */
	__u8 pad[8];
};

/*
 * QUIC: where a service's server IDs stand in connection IDs (array `quic`, by service), and whose
 * they are (hash map `quic_servers`, to a backend's index). A VIP of each family has its own backends.
 */
#define TG_QUIC_ID_MAX 4

struct tg_quic {
	__u8 offset; /* of the server ID in the connection ID, in bytes */
	__u8 length; /* up to TG_QUIC_ID_MAX, big endian; 0: the service is not QUIC */
	__u8 mask;   /* of the first byte: IDs name a server only if what the mask leaves is `value` */
	__u8 value;
};

struct tg_quic_server_key {
	__u32 service;
	__u32 id;
	__u32 v6; /* of the VIP: 0 or 1 */
};

/*
 * Port ranges: array `ranges` holds intervals as endpoints, array `range_table` (one mapped element)
 * how to find one: keys {hash of address, protocol and kind:47, first port:16}, sorted, so that the
 * last one that is not above the packet's is its interval, or there is none. A window says where the
 * keys with the same 12 first bits are. Intervals of one address are disjoint: the controller
 * (core/balancer_range.c) has decided which VIP is the most specific. There are two halves. It fills
 * the one that is not in force, then stores `current`.
 */
#define TG_RANGE_WINDOWS 4096

struct tg_range_window {
	__u16 first; /* its first key */
	__u16 count;
	__u16 step; /* the largest power of two that is not above count; 0: none */
	__u16 pad;
};

struct tg_range_half {
	__u32 count;
	__u32 salt; /* in the hash's place for a port: no two addresses share 47 bits */
};

struct tg_range_table {
	__u32 current; /* 0 or 1 */
	__u32 pad;
	struct tg_range_half half[2];
	struct tg_range_window window[2 * TG_RANGE_WINDOWS];
	__u64 key[2 * TG_MAX_RANGES];
};

#define TG_RANGE_KEY(hash, port) (((hash) >> 1 & ~0xffffull) | (port))
#define TG_RANGE_WINDOW(key)	 ((key) >> 51)

/*
 * Deny and allow lists (bpf/deny.h, core/deny.h). A class is a list with its verdict; each prefix is in
 * one or more classes, and the tables hold the class that decides. Class 0 is "on no list".
 */
#define TG_DENY_CLASSES 63

/* What all lookups need: array `deny_state`, one mapped element. */
struct tg_deny_state {
	__u64 allow;  /* bit 1 << class: it allows */
	__u64 key[4]; /* of the hashes: odd, drawn once an instance; 0: not drawn yet */
	__u32 favourite; /* the class that IPv4's tables tell at once; 0: none */
	__u32 pad;
};

/* A bucket of IPv6's hash: 2^18 of them. Filled from the front; see TG_DENY_GONE. */
#define TG_DENY_BUCKET	    8
#define TG_DENY_BUCKET_BITS 18
struct tg_deny_bucket {
	__u32 entry[TG_DENY_BUCKET];
} __attribute__((aligned(32)));

#define TG_DENY_VALID 0x80000000u /* of an entry; 0: never used */
#define TG_DENY_GONE  1	     /* removed: a bucket that was once full goes on in its second place */

/* What a lookup finds: the class, and whether the address has counters of its own. */
#define TG_DENY_CLASS(found) ((found) & 63)
#define TG_DENY_COUNTED	     0x100

/*
 * IPv4: array `deny4_marks`, a bit a /24: its byte is not 0. Small enough for a processor's own cache, as
 * `deny4_blocks` is not: a byte a /24 in 16 parts of 1 MiB: the class of the longest prefix up to
 * /24, and whether there are longer ones, which are in `deny4_buckets`, cut up into /28s and /32s. An
 * entry there {second place:1, tag:13, kind:2} holds what is left of a key when its bucket is known
 * (bpf/deny_hash.h), so it is exact; a byte in `deny4_said`, for each entry, has {length:2, class:6}.
 *
 * What a long list denies should be known by reading little, as little of it is in a cache. So one class,
 * the favourite, that of most prefixes, is told without those bytes: by an entry's kind, and for whole /24s
 * by `deny4_plain`, a bit a /24: its byte is the favourite, and nothing else.
 */
#define TG_DENY4_CLOSER28 0x80 /* 25 … 28 bits */
#define TG_DENY4_CLOSER32 0x40 /* 29 … 32 bits */
#define TG_DENY4_PART	  (1 << 20)
#define TG_DENY4_MARK(block) (1ull << ((block) & 63)) /* in word[block / 64] */
struct tg_deny4_marks {
	__u64 word[1 << 18];
};
struct tg_deny4_part {
	__u8 block[TG_DENY4_PART];
};

/* A bucket: entry n in the n-th 16 bits. Filled from the front, as IPv6's. */
#define TG_DENY4_BUCKET	     4
#define TG_DENY4_BUCKET_BITS 19
#define TG_DENY4_ENTRY(bucket, n) ((bucket) >> 16 * (n) & 0xffff)

#define TG_DENY4_GONE	 (1u << 2)  /* removed; 0: never used */
#define TG_DENY4_TAG28	 (1u << 14) /* of a /28, whose tag has 9 bits and whose kind is 0 */
#define TG_DENY4_SECOND	 (1u << 15) /* the bucket is the key's second place */
#define TG_DENY4_TAG(tag) ((tag) << 2)
enum tg_deny4_kind { TG_DENY4_28, TG_DENY4_FAVOURITE, TG_DENY4_HOST, TG_DENY4_COUNTED };

#define TG_DENY4_LENGTH(length) (((length) & 3) << 6) /* what is said of an entry, beside TG_DENY_CLASS */
struct tg_deny4_said {
	__u8 entry[1 << TG_DENY4_BUCKET_BITS][TG_DENY4_BUCKET];
};

/*
 * IPv6: array `deny6_top`, a word for the first 16 bits: the class of the longest prefix up to /16, and
 * which longer ones there are. Those are in `deny6_buckets`, cut up to the next multiple of 4 bits: a
 * level. Which levels to look at say the guards, arrays by the hash of the first 32, 48 and 64 bits:
 * they may say too much, never too little. An entry {valid, hash:8, last bits:3, record:20} is verified
 * by the whole prefix in `deny6_records`.
 */
#define TG_DENY6_MORE(level)	 (1 << (6 + ((level) - 20) / 4)) /* in `deny6_top`: 20, 24, 28, 32, 36 and more */
#define TG_DENY6_GUARD32_BITS	 18 /* bytes: levels 36, 40, 44, 48, 52 and more */
#define TG_DENY6_GUARD48_BITS	 21 /* bytes: levels 52, 56, 60, 64, 68 and more */
#define TG_DENY6_GUARD64_BITS	 20 /* words: levels 68 … 128 */
#define TG_DENY6_ENTRY(tag, bits) (TG_DENY_VALID | (tag) << 23 | (bits) << 20)
#define TG_DENY6_RECORD		 0xfffff /* mask of an entry's record */

struct tg_deny6_top {
	__u16 cell[1 << 16];
};
struct tg_deny6_guard32 {
	__u8 cell[1 << TG_DENY6_GUARD32_BITS];
};
struct tg_deny6_guard48 {
	__u8 cell[1 << TG_DENY6_GUARD48_BITS];
};
struct tg_deny6_guard64 {
	__u16 cell[1 << TG_DENY6_GUARD64_BITS];
};

/*
 * The prefixes, each with one of its classes, four to a value; `deny4_records` is the controller's own.
 * Addresses are in host order. `what` = {removed:1, length:8, counted: 1, class:6}; 0: free.
 */
#define TG_DENY_RECORDS 4
#define TG_DENY4_MAX	(256 << 12) /* records */
#define TG_DENY6_MAX	(256 << 12)
struct tg_deny4_records {
	__u32 addr[TG_DENY_RECORDS];
	__u16 what[TG_DENY_RECORDS];
};
struct tg_deny6_records {
	__u64 addr[TG_DENY_RECORDS][2];
	__u16 what[TG_DENY_RECORDS];
};
#define TG_DENY_WHAT(class, counted, length) ((class) | (counted) << 6 | (length) << 7)
#define TG_DENY_WHAT_GONE		     0x8000 /* the program takes no notice: see deny_records.h */
#define TG_DENY_WHAT_COUNTED(what)	     ((what) >> 6 & 1)
#define TG_DENY_WHAT_LENGTH(what)	     ((what) >> 7 & 0xff)

/* A list: array `deny_classes`, by class; the controller's own. */
struct tg_deny_class {
	char name[TG_NAME_SIZE]; /* empty: this class is free */
	__u8 verdict;		 /* enum tg_deny_verdict (core/deny.h) */
	__u8 pad[7];
};

/* An address of either family as a key, IPv4 as ::ffff:a.b.c.d; with counters: hash `deny_hosts`. */
#define TG_MAX_DENY_HOSTS 65536
struct tg_host {
	__be32 addr[4];
};

/*
 * The heaviest denied sources: per-CPU array `deny_samples`, a place for each hash of an address. One
 * denied packet in TG_DENY_SAMPLE is looked at: it votes for its source there, or against another's,
 * which goes at no votes (after Boyer and Moore): who sends the most of all that meet there stays.
 */
#define TG_DENY_SAMPLE	    16
#define TG_DENY_SAMPLE_BITS 10
struct tg_deny_sample {
	__be32 addr[4]; /* IPv4 in addr[0] */
	__u32 votes;
	__u16 v6, class;
	__u64 packets, bytes; /* since it stands here, as samples tell */
};

/*
 * A bit for each address that has VIPs, by tg_address_hash: array `vip_marks`, one mapped element. It
 * may say too much: the address itself stands in `vips4`, `vips6` (TG_VIP_ADDRESS).
 */
#define TG_VIP_MARK_BITS 15
#define TG_VIP_MARKS	 (1 << TG_VIP_MARK_BITS)
struct tg_vip_marks {
	__u64 word[TG_VIP_MARKS / 64];
};

/*
 * How to reach clients, for nat's replies: LPM tries `routes4`, `routes6`, a mirror of the kernel's
 * main table and neighbours. An entry without an ifindex, or none: ask the kernel (bpf_fib_lookup).
 */
struct tg_route4_key {
	__u32 prefix_len;
	__be32 addr;
};

struct tg_route6_key {
	__u32 prefix_len;
	__be32 addr[4];
};

struct tg_route {
	struct tg_hop hop;
	__u32 flags; /* TG_ROUTE_* */
	__u32 mtu;   /* of the egress port, 0: unknown */
};

#define TG_ROUTE_LOCAL 0x01 /* an address of the switch itself: never translated */

/*
 * Fragments: an LRU hash `fragments` remembers what became of a packet's first fragment, which alone
 * says ports, so that later ones follow it. IPv6 leaves the protocol out (RFC 8200: that of the first
 * fragment counts).
 */
#define TG_FRAGMENT_SECONDS 30 /* after which the same identification is another packet */

struct tg_fragment_key {
	__be32 source[4]; /* IPv4 in the first, the rest 0 */
	__be32 dest[4];
	__be32 id;
	__u8 proto;
	__u8 v6;
	__u16 pad;
};

enum tg_fate {
	TG_FATE_PASS,    /* to the stack */
	TG_FATE_FORWARD, /* to a backend */
	TG_FATE_REPLY,   /* nat: from a backend, the source becomes the VIP's */
};

struct tg_fragment {
	__u64 since; /* ns of the coarse clock */
	__u64 flow;  /* hash */
	__u32 backend;
	__u8 fate;   /* enum tg_fate */
	__u8 reason; /* enum tg_reason, of TG_FATE_PASS */
	__be16 port; /* of TG_FATE_REPLY: the VIP's */
	__be32 origin[4];  /* likewise, its address */
	struct tg_vip vip; /* of TG_FATE_FORWARD */
};

/* Packets and bytes, per CPU. */
struct tg_counter {
	__u64 packets;
	__u64 bytes;
};

/*
 * What a later daemon needs to adopt this instance: array `instance` (one element), and an element
 * a service in array `services`, by service index.
 */
struct tg_instance_record {
	__u32 abi;      /* TG_ABI_VERSION */
	__u32 features; /* TG_FEATURE_* that the attached program was specialised for */
	__u64 seed[2];  /* key of the flow hash */
	__u64 netns;    /* inode of the network namespace that the ports live in */
	char name[TG_NAME_SIZE];
	char program_tag[16]; /* of the attached program: 8 bytes in hex, no final 0 */
	char tc_tag[16];      /* of the TC programs */
	__u64 policy_hash;    /* of what `policy_pages` holds */
	__u32 policy_words;   /* of rule vectors that the largest policy there has */
	__u32 pad;
};

struct tg_service_info {
	char name[TG_NAME_SIZE]; /* empty: this index is free */
	__u32 slots;             /* as declared; 0: by the number of backends */
	__u8 mode;
	__u8 fail;
	__u16 flags;   /* TG_VIP_* of its VIPs */
	__u32 ring[2]; /* index + 1 in `rings` for IPv4 and IPv6; 0: none */
};

enum tg_admin { TG_ADMIN_READY, TG_ADMIN_DRAIN, TG_ADMIN_MAINT };

/* By backend index, what the datapath does not need: array `backend_owners`. */
#define TG_OWNER_LEAVES 0x01 /* no longer declared: forgotten when it has drained */
#define TG_OWNER_CUT	0x02 /* its drain is over, with flows that were left */
#define TG_OWNER_EMPTY	0x04 /* its drain is over, said and done */

struct tg_backend_owner {
	__u32 service; /* index + 1; 0: this index is free */
	__u32 weight;
	__u8 admin;  /* enum tg_admin */
	__u8 health; /* enum tg_health (core/health.h) as last published */
	__u8 backup; /* serves only when no other backend lives */
	__u8 flags;  /* TG_OWNER_* */
	__u32 drains; /* seconds since 1970: when it was told to drain; 0: it was not */
	__s64 since;  /* the same of its state */
};

#ifndef __bpf__
#include <assert.h>
static_assert(sizeof(struct tg_vip4_key) == 8, "abi");
static_assert(sizeof(struct tg_vip6_key) == 20, "abi");
static_assert(sizeof(struct tg_vip) == 16, "abi");
static_assert(sizeof(struct tg_hop) == 16, "abi");
static_assert(sizeof(struct tg_backend) == 64, "abi");
static_assert(sizeof(struct tg_tunnel) == 32, "abi");
static_assert(sizeof(struct tg_reverse4) == 16, "abi");
static_assert(sizeof(struct tg_reverse6) == 28, "abi");
static_assert(sizeof(struct tg_endpoint) == 64, "abi");
static_assert(sizeof(struct tg_quic_server_key) == 12, "abi");
static_assert(sizeof(struct tg_range_table) ==
		      24 + 2 * 8 * (TG_RANGE_WINDOWS + TG_MAX_RANGES), "abi");
static_assert(sizeof(struct tg_deny_state) == 48, "abi");
static_assert(sizeof(struct tg_deny_bucket) == 32, "abi");
static_assert(sizeof(struct tg_deny4_records) == 24, "abi");
static_assert(sizeof(struct tg_deny6_records) == 72, "abi");
static_assert(sizeof(struct tg_deny_class) == 72, "abi");
static_assert(sizeof(struct tg_deny_sample) == 40, "abi");
static_assert(sizeof(struct tg_route) == 24, "abi");
static_assert(sizeof(struct tg_fragment_key) == 40, "abi");
static_assert(sizeof(struct tg_fragment) == 56, "abi");
static_assert(sizeof(struct tg_instance_record) == 144, "abi");
static_assert(sizeof(struct tg_service_info) == 80, "abi");
static_assert(sizeof(struct tg_backend_owner) == 24, "abi");
#endif

#endif
