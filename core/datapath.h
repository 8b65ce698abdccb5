/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The datapath of one instance: its maps, rings, program and links, all pinned below
 * /sys/fs/bpf/tidegate/NAME/, so that they go on without the controller and the next one adopts them:
 *
 *	maps/NAME	the maps of bpf/maps.h
 *	rings/INDEX	the slot tables that `rings` points to
 *	program		the program that is attached
 *	rare		those that it calls: for fragments and ICMP errors
 *	links/DEV	an attachment each
 *	tc_ingress	the TC programs, once there is something for them to do
 *	tc_egress
 *	ingress/DEV	their attachments by TCX; those by clsact are filters (datapath_tc.h)
 *	egress/DEV
 *
 * The program is specialised for the features in use; with other features another one is loaded
 * beside it and every link is updated in place. Functions here block (a link update some 15 ms) and
 * are called by one thread at a time.
 */
#ifndef TG_DATAPATH_H
#define TG_DATAPATH_H

#include "error.h"
#include "instance.h"
#include "tidegate_abi.h"

#include <stdbool.h>
#include <stddef.h>

/* Features of which one suffices for a map to be made. */
#define TG_FOR_ALL  0 /* always */
#define TG_FOR_NAT  TG_FEATURE_NAT
#define TG_FOR_FLOWS (TG_FEATURE_V4 | TG_FEATURE_V6)
#define TG_FOR_RANGES TG_FEATURE_RANGES
#define TG_FOR_TUNNEL TG_FEATURE_TUNNEL
#define TG_FOR_QUIC TG_FEATURE_QUIC
#define TG_FOR_DENY (TG_FEATURE_DENY4 | TG_FEATURE_DENY6)
#define TG_FOR_TC TG_FEATURES_TC
#define TG_FOR_POLICY (TG_FEATURE_POLICY | TG_FEATURE_TAP | TG_FEATURE_TOP)

/*
 * The maps that the controller uses: X(SYMBOL, name, needed for); TG_MAP_SYMBOL for each of bpf/maps.h.
 */
#define TG_MAPS(X) \
	X(INSTANCE, instance, TG_FOR_ALL) \
	X(SERVICES, services, TG_FOR_ALL) \
	X(BACKENDS, backends, TG_FOR_ALL) \
	X(BACKEND_OWNERS, backend_owners, TG_FOR_ALL) \
	X(VIPS4, vips4, TG_FOR_ALL) \
	X(VIPS6, vips6, TG_FOR_ALL) \
	X(RINGS, rings, TG_FOR_ALL) \
	X(SERVICE_COUNTERS, service_counters, TG_FOR_ALL) \
	X(BACKEND_COUNTERS, backend_counters, TG_FOR_ALL) \
	X(REASONS, reasons, TG_FOR_ALL) \
	X(CLOCK, clock, TG_FOR_ALL) \
	X(ENDPOINT_LINES, endpoint_lines, TG_FOR_ALL) \
	X(ENDPOINTS, endpoints, TG_FOR_ALL) \
	X(TX_PORTS, tx_ports, TG_FOR_ALL) \
	X(TUNNELS, tunnels, TG_FOR_TUNNEL) \
	X(ANSWERS_UNTIL, answers_until, TG_FOR_TUNNEL | TG_FEATURE_POLICY) \
	X(FRAGMENTS, fragments, TG_FOR_ALL) \
	X(REPLY_COUNTERS, reply_counters, TG_FOR_NAT) \
	X(REVERSE4, reverse4, TG_FOR_NAT) \
	X(REVERSE6, reverse6, TG_FOR_NAT) \
	X(ROUTES4, routes4, TG_FOR_NAT) \
	X(ROUTES6, routes6, TG_FOR_NAT) \
	X(LINE_MARKS, line_marks, TG_FOR_FLOWS) \
	X(LINES, lines, TG_FOR_FLOWS) \
	X(CLIENTS, clients, TG_FOR_FLOWS) \
	X(FLOW_COUNTERS, flow_counters, TG_FOR_FLOWS) \
	X(RANGE_TABLE, range_table, TG_FOR_RANGES) \
	X(RANGES, ranges, TG_FOR_RANGES) \
	X(QUIC, quic, TG_FOR_QUIC) \
	X(QUIC_SERVERS, quic_servers, TG_FOR_QUIC) \
	X(DENY_STATE, deny_state, TG_FOR_DENY) \
	X(DENY_CLASSES, deny_classes, TG_FOR_DENY) \
	X(DENY_COUNTERS, deny_counters, TG_FOR_DENY) \
	X(DENY_SAMPLES, deny_samples, TG_FOR_DENY) \
	X(DENY_HOSTS, deny_hosts, TG_FEATURE_DENY_COUNT) \
	X(DENY4_MARKS, deny4_marks, TG_FEATURE_DENY4) \
	X(DENY4_BLOCKS, deny4_blocks, TG_FEATURE_DENY4) \
	X(DENY4_PLAIN, deny4_plain, TG_FEATURE_DENY4) \
	X(DENY4_BUCKETS, deny4_buckets, TG_FEATURE_DENY4) \
	X(DENY4_SAID, deny4_said, TG_FEATURE_DENY4) \
	X(DENY4_RECORDS, deny4_records, TG_FEATURE_DENY4) \
	X(DENY6_TOP, deny6_top, TG_FEATURE_DENY6) \
	X(DENY6_GUARD32, deny6_guard32, TG_FEATURE_DENY6) \
	X(DENY6_GUARD48, deny6_guard48, TG_FEATURE_DENY6) \
	X(DENY6_GUARD64, deny6_guard64, TG_FEATURE_DENY6) \
	X(DENY6_BUCKETS, deny6_buckets, TG_FEATURE_DENY6) \
	X(DENY6_RECORDS, deny6_records, TG_FEATURE_DENY6) \
	X(VIP_MARKS, vip_marks, TG_FOR_FLOWS) \
	X(PORTS, ports, TG_FOR_TC) \
	X(NEAR_PORTS, near_ports, TG_FOR_TC) \
	X(PORT_NAMES, port_names, TG_FOR_TC) \
	X(RULE_KEYS, rule_keys, TG_FOR_POLICY) \
	X(RULE_COUNTERS, rule_counters, TG_FOR_POLICY) \
	X(POLICY_FRAGMENTS, policy_fragments, TG_FOR_POLICY) \
	X(FLOWS, flows, TG_FEATURE_FLOW) \
	X(EMBRYOS, embryos, TG_FEATURE_FLOW) \
	X(TRACK_SETTINGS, track_settings, TG_FEATURE_FLOW) \
	X(TRACK_COUNTERS, track_counters, TG_FEATURE_FLOW) \
	X(TAPS, taps, TG_FEATURE_TAP) \
	X(TAP_OWNERS, tap_owners, TG_FEATURE_TAP) \
	X(TAP_COUNTERS, tap_counters, TG_FEATURE_TAP) \
	X(CAPTURES, captures, TG_FEATURE_TAP) \
	X(TOP, top, TG_FEATURE_TOP) \
	X(TOP_COUNTS, top_counts, TG_FEATURE_TOP) \
	X(TOP_ANSWERS, top_answers, TG_FEATURE_TOP) \
	X(PORT_COUNTERS, port_counters, TG_FEATURE_RATES) \
	X(EVENT_COUNTERS, event_counters, TG_FEATURES_EVENT) \
	X(EVENT_LIMITS, event_limits, TG_FEATURES_EVENT) \
	X(EVENTS, events, TG_FEATURES_EVENT)

enum tg_map {
#define TG_MAP_ENUM(symbol, name, needed_for) TG_MAP_##symbol,
	TG_MAPS(TG_MAP_ENUM)
#undef TG_MAP_ENUM
	TG_MAP_COUNT
};

struct tg_datapath {
	char dir[128];
	struct tg_instance_record info;
	int maps[TG_MAP_COUNT];	     /* descriptors; -1: not made, its feature is not in use */
	int program;		     /* descriptor; -1 before tg_datapath_specialise */
	int tc[TG_DIRECTIONS];	     /* the TC programs'; -1: they are not loaded */
	int policy_pages;	     /* of the policies in force; -1: there were none yet */
	struct tg_rule_counters *counters;
	struct tg_port_slots *slots;
	__u32 programs;		     /* how many were put in force since it was opened */
	bool adopted;		     /* this instance was running already */
	bool native;		     /* a port was attached to its driver; of any thread */
	struct tg_backend *backends; /* mapped */
	struct tg_clock *clock;	     /* mapped */
	struct tg_tunnel *tunnel;    /* mapped; NULL without ipip and gue */
	struct tg_line *lines;	     /* mapped; NULL until there is a service */
	__u64 *line_marks;	     /* likewise */
	size_t tracked;		     /* entries of flow tables that are to be made; 0: TG_DEFAULT_TRACKED */
	size_t line_count;	     /* of those pinned, or to be made */
	struct tg_endpoint *ranges;	    /* mapped; NULL without ranges */
	struct tg_range_table *range_table; /* likewise */
	struct tg_vip_marks *vip_marks;	    /* mapped; NULL until there is a service */
	bool lines_pinned;
};

enum tg_xdp_mode { TG_XDP_AUTO, TG_XDP_NATIVE, TG_XDP_GENERIC };

struct tg_attachment {
	unsigned int ifindex;
	enum tg_xdp_mode mode;	/* native or generic, as it is now */
	bool adopted;		/* the link was there already */
	char why[128];		/* why not native, or empty */
};

/*
 * Opens the instance: adopts its pins or, with none, prepares for making them. `seed` keys the flow
 * hash; 0,0 keeps the adopted one or draws one. Pins of another ABI version are removed, and *replaced
 * tells so. Errors: -EPERM (privilege), -ENOENT (no bpffs), -EEXIST (a directory that is not ours).
 */
int tg_datapath_open(struct tg_datapath *dp, const char *instance, const __u64 seed[2],
	bool *replaced, struct tg_error *error);

/*
 * Gives the line table room for so many flows, rounded up (0: TG_DEFAULT_LINES), before it is made; one that
 * is pinned keeps its size, and the flows in it.
 */
void tg_datapath_size(struct tg_datapath *dp, size_t flows);

/* What matters to each hook of these features: a program is replaced when that changes. */
static inline __u32 tg_features_of_xdp(__u32 features)
{
	__u32 asks = features & (TG_FEATURE_V4 | TG_FEATURE_V6) ? TG_FOR_POLICY : 0; /* of VIPs' packets */

	return features & ((TG_FEATURES_XDP & ~TG_FOR_POLICY) | asks);
}

static inline __u32 tg_features_of_tc(__u32 features)
{
	return features & TG_FEATURES_TC;
}

/*
 * Makes the programs fit `features` (TG_FEATURE_*): nothing happens if those in force do already.
 * Maps that a new feature needs are made; those of one no longer used stay until unload. The TC programs are
 * loaded when a feature needs them (TG_FEATURES_TC).
 */
int tg_datapath_specialise(struct tg_datapath *dp, __u32 features, struct tg_error *error);

/*
 * The same, and puts just these policies in force, by TG_POLICY_OF_PORT and TG_POLICY_OF_TAP (NULL: none): each
 * program is replaced by one that has them. Equal ones replace nothing. On failure all is as it was.
 */
struct tg_compiled_policy;
int tg_datapath_commit(struct tg_datapath *dp, __u32 features,
	const struct tg_compiled_policy *const policies[TG_MAX_POLICIES], struct tg_error *error);

/*
 * Loads an object made from the datapath's sources (trace.c: bpf/trace.bpf.c) as the program with these
 * features would be: the same settings in its read-only data, the instance's maps.
 */
struct bpf_object_skeleton;
int tg_datapath_load(const struct tg_datapath *dp, struct bpf_object_skeleton *skeleton, void *settings,
	__u32 features, struct tg_error *error);

/* Attaches the program to a device, or takes over the link that is there. */
int tg_datapath_attach(struct tg_datapath *dp, const char *device, enum tg_xdp_mode mode,
	struct tg_attachment *out, struct tg_error *error);
/* Detaches; a device without a link is no error. */
int tg_datapath_detach(struct tg_datapath *dp, const char *device, struct tg_error *error);
/* Calls fn for each pinned link. `ifindex` is 0 when its device is gone. */
int tg_datapath_links(const struct tg_datapath *dp,
	void (*fn)(void *user, const char *device, unsigned int ifindex), void *user);

/* A ring's map: created, mapped, pinned as rings/INDEX and not yet in `rings`. */
struct tg_ring {
	int fd;
	__u32 index, size;
	__u64 *slots;
};
int tg_ring_create(struct tg_datapath *dp, __u32 index, __u32 size, struct tg_ring *ring,
	struct tg_error *error);
/* Adopts the pinned ring INDEX; -ENOENT if there is none. */
int tg_ring_adopt(struct tg_datapath *dp, __u32 index, struct tg_ring *ring, struct tg_error *error);
/* Puts rings into `rings`, all in one batch: each entry alone would wait for an RCU grace period. */
int tg_ring_install(struct tg_datapath *dp, const struct tg_ring *rings, size_t count,
	struct tg_error *error);
/* A byte a slot: when it was seen to lead elsewhere (TG_RING_SEEN). */
static inline __u8 *tg_ring_seen(const struct tg_ring *ring)
{
	return (__u8 *)(ring->slots + ring->size);
}
/*
 * New flows of slot i shall go to backend targets[i]: one aligned store for each slot that changes, none for
 * others. `keeps`: flows that are there stay (core/slots.h), else all move at once. Which backends live
 * is what their entries say. Returns how many slots are moving.
 */
__u32 tg_ring_retarget(struct tg_ring *ring, const __u32 *targets,
	const struct tg_backend *backends, bool keeps, __u32 epoch);
/* Unmaps; with `dp` also unpins it. It stays in `rings` until tg_ring_clear. */
void tg_ring_release(struct tg_datapath *dp, struct tg_ring *ring);
/* Calls fn for each pinned ring; it may unpin that one. */
void tg_ring_each(
	struct tg_datapath *dp, void (*fn)(void *user, struct tg_datapath *dp, __u32 index), void *user);
void tg_ring_unpin(struct tg_datapath *dp, __u32 index);
/* Takes rings out of `rings`, all in one batch. */
int tg_ring_clear(struct tg_datapath *dp, const __u32 *indexes, size_t count, struct tg_error *error);

/*
 * Sets an element of a map. What can be foreseen (a full map) is checked before; what can't is logged
 * here, once a second at most, and returned.
 */
int tg_datapath_set(const struct tg_datapath *dp, enum tg_map map, const void *key, const void *value);

/* All elements of an array map, read at once: `count` values in malloc's memory, or NULL. */
void *tg_datapath_read(const struct tg_datapath *dp, enum tg_map map, size_t value_size, __u32 count);

/* Sums a per-CPU struct tg_counter. */
struct tg_counter tg_datapath_counter(const struct tg_datapath *dp, enum tg_map map, __u32 index);
/* How many packets had this reason. */
__u64 tg_datapath_reason(const struct tg_datapath *dp, enum tg_reason reason);
/* How many packets of flows that were to be entered in the line table met this. */
__u64 tg_datapath_flows(const struct tg_datapath *dp, enum tg_flow_count what);
/* Sets a per-CPU counter to zero. */
void tg_datapath_reset_counter(const struct tg_datapath *dp, enum tg_map map, __u32 index);

/* Removes a map that the program in force has not been given; a later specialisation makes a new one. */
void tg_datapath_remove_map(struct tg_datapath *dp, enum tg_map map);

/*
 * Calls fn for each table that is made, with the bytes of kernel memory that it takes; those of `rings`
 * include every ring.
 */
void tg_datapath_memory(struct tg_datapath *dp,
	void (*fn)(void *user, const char *table, __u64 bytes), void *user);

/* Closes descriptors and mappings. What is pinned goes on. */
void tg_datapath_close(struct tg_datapath *dp);

/*
 * Detaches and removes everything that the instance pinned or made, also what a dead daemon left. -ENOENT: there
 * was nothing; -EEXIST: the directory is not ours.
 */
int tg_datapath_unload(const char *instance, struct tg_error *error);

#endif
