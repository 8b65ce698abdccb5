/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The one definition of every byte that crosses between the datapath (bpf/) and the controller
 * (core/). All fields have fixed widths and no implicit padding; sizes are asserted. Any change to
 * a layout here raises TG_ABI_VERSION: pins of another version are replaced, never adopted.
 *
 * Byte order: addresses and ports are in network order, as packets carry them; all else is the host's.
 */
#ifndef TIDEGATE_ABI_H
#define TIDEGATE_ABI_H

#include <linux/types.h>

#define TG_ABI_VERSION 1

/* Limits of one instance. */
#define TG_MAX_SERVICES  4096
#define TG_MAX_BACKENDS  32768 /* index 0 is "none"; a line entry keeps 15 bits of it */
#define TG_MAX_VIPS      8192  /* of each family */
#define TG_MAX_REVERSE   65536 /* nat endpoints of each family */
#define TG_MAX_ROUTES    8192  /* next hops towards clients, of each family */
#define TG_MAX_PORTS     256
#define TG_NAME_SIZE     64
#define TG_DEFAULT_SLOTS 65537

enum tg_mode { TG_MODE_L2DSR, TG_MODE_NAT, TG_MODE_IPIP, TG_MODE_GUE };

/* What happens to a VIP's packet when no backend lives. */
enum tg_fail { TG_FAIL_DROP, TG_FAIL_PASS };

/*
 * VIPs: hash maps `vips4`, `vips6`: what is not in them is not touched. The key is compared as
 * bytes, so `pad` is zero.
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
	__u16 pad;
};

/* A service has a ring for each family that it has VIPs of; `rings` is an array of maps, each one mapped array. */
#define TG_MAX_RINGS (2 * TG_MAX_SERVICES)

/*
 * A slot of a ring: {home:32, next:31, T:1}, read and written as one aligned 64-bit word.
 * T = 0: packets go to backend `home`; 0 is "no live backend". (T = 1 is the transition of part 2.)
 */
#define TG_SLOT(home, next, t) ((__u64)(home) | (__u64)(next) << 32 | (__u64)(t) << 63)
#define TG_SLOT_HOME(slot)     ((__u32)(slot))
#define TG_SLOT_NEXT(slot)     ((__u32)((slot) >> 32) & 0x7fffffff)
#define TG_SLOT_T(slot)        ((__u32)((slot) >> 63))

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

#define TG_BACKEND_V6 0x01 /* addr is IPv6 */

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

/*
 * The endpoint index: what the four hash maps above say, compiled by the controller (core/endpoints.c)
 * into what costs a third to look up. A line holds up to 8 entries {fingerprint:40, index:24} without a
 * hole, the index is that of an endpoint with its whole key. While the hash maps change, and with more
 * endpoints than TG_INDEX_ENDPOINTS, `clock.index_lines` is 0 and the hash maps are asked. A line
 * with more than 8 ends in TG_INDEX_MORE: ask as well.
 */
#define TG_INDEX_LINES     4096
#define TG_INDEX_ENDPOINTS 16384
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
	__u8 pad[16];
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

/* Packets and bytes, per CPU. */
struct tg_counter {
	__u64 packets;
	__u64 bytes;
};

/*
 * The line table: flows that need an entry, 8 to a cache line. An entry is one 64-bit word,
 * inserted by compare-and-swap, zero when free. Part 1 keeps nat's exceptions in it (flows that
 * reach a backend directly, not through a VIP); the epoch is ticked by the controller, which also
 * clears what has not been seen for TG_ENTRY_IDLE_EPOCHS.
 *
 * A bit a line in `line_marks` says that it may hold something, so that a look into an empty table
 * stays in the first level cache. Set after an entry's insertion; cleared by the controller, which
 * then looks at the line again.
 */
#define TG_LINE_ENTRIES  8
#define TG_DEFAULT_LINES 65536 /* 4 MiB */
struct tg_line {
	__u64 entry[TG_LINE_ENTRIES];
} __attribute__((aligned(64)));

#define TG_ENTRY(fingerprint, epoch, confirmed, backend)                                           \
	((__u64)(fingerprint) << 24 | (__u64)(__u8)(epoch) << 16 | (__u64)(confirmed) << 15 | (backend))
#define TG_ENTRY_FINGERPRINT(entry) ((entry) >> 24)
#define TG_ENTRY_EPOCH(entry)       ((__u8)((entry) >> 16))
#define TG_ENTRY_CONFIRMED(entry)   ((__u32)((entry) >> 15) & 1)
#define TG_ENTRY_BACKEND(entry)     ((__u32)(entry) & 0x7fff)

#define TG_EPOCH_SECONDS     10
#define TG_ENTRY_IDLE_EPOCHS 30

/* What the controller tells running programs: array `clock`, one mapped element. */
struct tg_clock {
	__u32 epoch;       /* its low 8 bits stand in line entries */
	__u32 index_lines; /* of the endpoint index, 0: not to be used */
};

/*
 * Why a packet got its verdict; index into `reasons` (per CPU). Each list is X(symbol, "name in
 * scripts"). What is forwarded is counted per service and per backend.
 */
#define TG_PASS_REASONS(X)                                                                         \
	X(NOT_IP, "not-ip")                 /* ARP and other EtherTypes */                         \
	X(NOT_VIP, "not-vip")               /* no service here */                                  \
	X(FRAGMENT, "fragment")             /* a fragment: part 1 balances whole packets only */   \
	X(OTHER_PROTOCOL, "other-protocol") /* neither TCP nor UDP */                              \
	X(TRUNCATED, "truncated")           /* shorter than its headers say */                     \
	X(BAD_HEADER, "bad-header")         /* version, ihl or lengths that contradict */          \
	X(EXTENSION, "extension")           /* IPv6 extension headers beyond the bound */          \
	X(TTL_EXPIRED, "ttl-expired")       /* to be answered by the stack */                      \
	X(FAIL_PASS, "no-backend-pass")     /* no live backend, fail = "pass" */                   \
	X(LOCAL_REPLY, "local-reply")       /* a backend answers the switch itself */              \
	X(DIRECT_FLOW, "direct-flow")       /* a backend answers a direct flow */                  \
	X(NAT_STACK, "nat-by-stack")        /* translated; the stack resolves and forwards */      \
	X(TOO_BIG, "too-big")               /* larger than the egress port's MTU: the stack answers */ \
	X(LINES_FULL, "lines-full")         /* a direct flow that found no free entry: see lines.h */
#define TG_DROP_REASONS(X)                                                                         \
	X(FAIL_DROP, "no-backend")      /* no live backend, fail = "drop" */                       \
	X(UNRESOLVED, "unresolved")     /* the backend's next hop is not known */                  \
	X(NO_RING, "no-ring")           /* a VIP without its ring: never in a sound state */       \
	X(NO_PORT, "no-port")           /* the egress port is not in `tx_ports` */

enum tg_reason {
	TG_REASON_NONE, /* go on to the next step */
#define TG_REASON_ENUM(symbol, name) TG_REASON_##symbol,
	TG_PASS_REASONS(TG_REASON_ENUM)
	TG_REASON_PASS_LAST, /* a mark between passes and drops */
	TG_DROP_REASONS(TG_REASON_ENUM)
	TG_REASON_FORWARD, /* rewritten: XDP_TX or a redirect */
	TG_REASON_COUNT
#undef TG_REASON_ENUM
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
};

#define TG_FEATURE_V4  0x01
#define TG_FEATURE_V6  0x02
#define TG_FEATURE_NAT 0x04

struct tg_service_info {
	char name[TG_NAME_SIZE]; /* empty: this index is free */
	__u32 slots;             /* as declared; 0: by the number of backends */
	__u8 mode;
	__u8 fail;
	__u16 pad;
	__u32 ring[2]; /* index + 1 in `rings` for IPv4 and IPv6; 0: none */
};

enum tg_admin { TG_ADMIN_READY, TG_ADMIN_DRAIN, TG_ADMIN_MAINT };

/* By backend index, what the datapath does not need: array `backend_owners`. */
struct tg_backend_owner {
	__u32 service; /* index + 1; 0: this index is free */
	__u32 weight;
	__u8 admin;  /* enum tg_admin */
	__u8 health; /* enum tg_health (core/health.h) as last published */
	__u8 backup; /* serves only when no other backend lives */
	__u8 pad;
	__u32 pad2;
	__s64 since; /* seconds since 1970: when the state began */
};

#ifndef __bpf__
#include <assert.h>
static_assert(sizeof(struct tg_vip4_key) == 8, "abi");
static_assert(sizeof(struct tg_vip6_key) == 20, "abi");
static_assert(sizeof(struct tg_vip) == 16, "abi");
static_assert(sizeof(struct tg_hop) == 16, "abi");
static_assert(sizeof(struct tg_backend) == 64, "abi");
static_assert(sizeof(struct tg_reverse4) == 16, "abi");
static_assert(sizeof(struct tg_reverse6) == 28, "abi");
static_assert(sizeof(struct tg_line) == 64, "abi");
static_assert(sizeof(struct tg_endpoint) == 64, "abi");
static_assert(sizeof(struct tg_route) == 24, "abi");
static_assert(sizeof(struct tg_instance_record) == 112, "abi");
static_assert(sizeof(struct tg_service_info) == 80, "abi");
static_assert(sizeof(struct tg_backend_owner) == 24, "abi");
#endif

#endif
