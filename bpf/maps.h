/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * All state of the datapath. The loader (core/datapath.c) pins every map by its name here and hands
 * the pins to the next program, so nothing lives in .bss. Keys and values are those of
 * tidegate_abi.h. `reverse*` and `routes*` are used by nat alone: without it the loader need not create them.
 */
#ifndef TIDEGATE_MAPS_H
#define TIDEGATE_MAPS_H

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "flow_hash.h"
#include "tidegate_abi.h"

/*
 * Settings, fixed at load: the verifier removes what they switch off. Kernels before 6.8 verify a global
 * function (one that is not static) even if nobody calls it: each begins with its feature, as it would
 * use maps that are not made otherwise.
 */
const volatile __u32 features = TG_FEATURE_ALL;
/* of seed {0, 0}; the loader sets the instance's */
const volatile struct tg_flow_key flow_key = { {
	0xdb948c925269d1f6ull,
	0x78b151da6b4beb12ull,
	0xa40e6007d0c37d96ull,
	0xb3382476d55518adull,
	0x0c3078d98cec7ecbull,
	0x09a4f8c3e03ec3e1ull,
	0xbef60bfad2fe7731ull,
	0x2845c9af231788aeull,
	0x23b5b08d1a9231e5ull,
	0x1860f1b319d8fd97ull,
} };
/* Elements of `lines`. The loader makes them TG_DEFAULT_LINES, or what the instance says. */
#define FEW_LINES 8192
const volatile __u32 line_count = FEW_LINES;
/* Words of rule vectors that the largest policy has (see classify.h). */
const volatile __u32 policy_words = TG_POLICY_WORDS;

#define TG_MAP(map_name, map_type, size, key_type, value_type, flags)                              \
	struct {                                                                                   \
		__uint(type, BPF_MAP_TYPE_##map_type);                                             \
		__uint(max_entries, size);                                                         \
		__uint(map_flags, flags);                                                          \
		__type(key, key_type);                                                             \
		__type(value, value_type);                                                         \
	} map_name SEC(".maps")

#define TG_MAPPED BPF_F_MMAPABLE

/* What the controller tells running programs. */
TG_MAP(clock, ARRAY, 1, __u32, struct tg_clock, TG_MAPPED);

/* What is a VIP, and of which service; and their addresses. */
TG_MAP(vips4, HASH, 2 * TG_MAX_VIPS, struct tg_vip4_key, struct tg_vip, BPF_F_NO_PREALLOC);
TG_MAP(vips6, HASH, 2 * TG_MAX_VIPS, struct tg_vip6_key, struct tg_vip, BPF_F_NO_PREALLOC);

/* What they and `reverse*` say, compiled (see endpoint.h). */
TG_MAP(endpoint_lines, ARRAY, TG_INDEX_LINES, __u32, struct tg_line, TG_MAPPED);
TG_MAP(endpoints, ARRAY, TG_INDEX_ENDPOINTS, __u32, struct tg_endpoint, TG_MAPPED);

/* VIPs and ways back that are ranges of ports (see range.h). */
TG_MAP(range_table, ARRAY, 1, __u32, struct tg_range_table, TG_MAPPED);
TG_MAP(ranges, ARRAY, 2 * TG_MAX_RANGES, __u32, struct tg_endpoint, TG_MAPPED);

/* Connection IDs that name a server (see quic.h). */
TG_MAP(quic, ARRAY, TG_MAX_SERVICES, __u32, struct tg_quic, 0);
TG_MAP(quic_servers, HASH, 2 * TG_MAX_BACKENDS, struct tg_quic_server_key, __u32,
	BPF_F_NO_PREALLOC);

/* Deny and allow lists: what all need, IPv4's, IPv6's, what they did. */
TG_MAP(deny_state, ARRAY, 1, __u32, struct tg_deny_state, TG_MAPPED);
TG_MAP(deny4_marks, ARRAY, 1, __u32, struct tg_deny4_marks, TG_MAPPED);
TG_MAP(deny4_blocks, ARRAY, 16, __u32, struct tg_deny4_part, TG_MAPPED);
TG_MAP(deny4_plain, ARRAY, 1, __u32, struct tg_deny4_marks, TG_MAPPED);
TG_MAP(deny4_buckets, ARRAY, 1 << TG_DENY4_BUCKET_BITS, __u32, __u64, TG_MAPPED);
TG_MAP(deny4_said, ARRAY, 1, __u32, struct tg_deny4_said, TG_MAPPED);
TG_MAP(deny6_top, ARRAY, 1, __u32, struct tg_deny6_top, TG_MAPPED);
TG_MAP(deny6_guard32, ARRAY, 1, __u32, struct tg_deny6_guard32, TG_MAPPED);
TG_MAP(deny6_guard48, ARRAY, 1, __u32, struct tg_deny6_guard48, TG_MAPPED);
TG_MAP(deny6_guard64, ARRAY, 1, __u32, struct tg_deny6_guard64, TG_MAPPED);
TG_MAP(deny6_buckets, ARRAY, 1 << TG_DENY_BUCKET_BITS, __u32, struct tg_deny_bucket, TG_MAPPED);
TG_MAP(deny6_records, ARRAY, TG_DENY6_MAX / TG_DENY_RECORDS, __u32, struct tg_deny6_records,
	TG_MAPPED);
TG_MAP(deny_counters, PERCPU_ARRAY, TG_DENY_CLASSES + 1, __u32, struct tg_counter, 0);
TG_MAP(deny_hosts, PERCPU_HASH, TG_MAX_DENY_HOSTS, struct tg_host, struct tg_counter,
	BPF_F_NO_PREALLOC);
TG_MAP(deny_samples, PERCPU_ARRAY, 1 << TG_DENY_SAMPLE_BITS, __u32, struct tg_deny_sample, 0);

/* Which addresses may be VIPs', see bogus.h. */
TG_MAP(vip_marks, ARRAY, 1, __u32, struct tg_vip_marks, TG_MAPPED);

/* Ports, their policies (see ports_abi.h; the loader makes as many pages as they need) and what rules count. */
TG_MAP(ports, HASH, TG_MAX_PORTS, __u32, struct tg_port, BPF_F_NO_PREALLOC);
TG_MAP(near_ports, ARRAY, TG_NEAR_PORTS, __u32, struct tg_port, 0);
TG_MAP(policy_pages, ARRAY, 4, __u32, struct tg_policy_page, TG_MAPPED | BPF_F_RDONLY_PROG);
TG_MAP(port_names, ARRAY, TG_MAX_PORTS, __u32, struct tg_port_name, 0);
TG_MAP(rule_keys, ARRAY, TG_MAX_RULE_COUNTERS, __u32, struct tg_rule_key, 0);
TG_MAP(rule_counters, PERCPU_ARRAY, TG_MAX_RULE_COUNTERS, __u32, struct tg_rule_counter, 0);
TG_MAP(policy_fragments, LRU_HASH, TG_MAX_FRAGMENTS, struct tg_fragment_key, struct tg_policy_fragment,
	0);

/* Flows of stateful policies (see track.h). */
TG_MAP(flows, HASH, TG_DEFAULT_TRACKED, struct tg_track_id, struct tg_track, 0);
TG_MAP(embryos, LRU_HASH, TG_DEFAULT_TRACKED, struct tg_track_id, struct tg_track, 0);
TG_MAP(track_settings, ARRAY, 1, __u32, struct tg_track_settings, TG_MAPPED);
TG_MAP(track_counters, PERCPU_ARRAY, TG_TRACK_COUNT, __u32, __u64, 0);

/* Mirrors and captures (see tap.h), and what the latter took. */
TG_MAP(taps, ARRAY, TG_MAX_TAPS, __u32, struct tg_tap, TG_MAPPED);
TG_MAP(tap_owners, ARRAY, TG_MAX_TAPS, __u32, struct tg_tap_owner, 0);
TG_MAP(tap_counters, PERCPU_ARRAY, TG_MAX_TAPS *TG_TAP_COUNT, __u32, struct tg_counter, 0);

/* Who sends most (see top.h). */
TG_MAP(top, ARRAY, 1, __u32, struct tg_top, 0);
TG_MAP(top_counts, LRU_PERCPU_HASH, TG_TOP_HOSTS, struct tg_top_key, struct tg_top_count, 0);
TG_MAP(top_answers, LRU_HASH, TG_TOP_ANSWERS, struct tg_top_client, struct tg_top_answer, 0);

/* What ports count, what is told of packets (see event.h). */
TG_MAP(port_counters, PERCPU_ARRAY, TG_MAX_PORTS *TG_DIRECTIONS, __u32,
	struct tg_port_counters, 0);
TG_MAP(event_limits, PERCPU_ARRAY, TG_EVENT_COUNT, __u32, struct tg_event_limit, 0);
TG_MAP(event_counters, PERCPU_ARRAY, TG_EVENT_COUNT *TG_EVENT_COUNTS, __u32, __u64, 0);

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, TG_EVENT_RING);
} events SEC(".maps");

/* The controller makes it as large as captures ask for. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, TG_CAPTURE_RING);
} captures SEC(".maps");

/* A ring of slots for each service and family, each of its own size. */
struct ring {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, TG_RING_ELEMENTS(TG_DEFAULT_SLOTS));
	__uint(map_flags, BPF_F_MMAPABLE | BPF_F_INNER_MAP);
	__type(key, __u32);
	__type(value, __u64);
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, TG_MAX_SERVICES * 2);
	__type(key, __u32);
	__array(values, struct ring);
} rings SEC(".maps");

TG_MAP(backends, ARRAY, TG_MAX_BACKENDS, __u32, struct tg_backend, TG_MAPPED);

/* Where frames may be redirected to: ports by interface index. */
TG_MAP(tx_ports, DEVMAP_HASH, TG_MAX_PORTS, __u32, __u32, 0);

/* ipip's and gue's outer header; until when this CPU's answers are spoken for (see too_big.h). */
TG_MAP(tunnels, ARRAY, 1, __u32, struct tg_tunnel, TG_MAPPED);
TG_MAP(answers_until, PERCPU_ARRAY, 1, __u32, __u64, 0);

/* nat's way back. */
TG_MAP(reverse4, HASH, TG_MAX_REVERSE, struct tg_vip4_key, struct tg_reverse4, BPF_F_NO_PREALLOC);
TG_MAP(reverse6, HASH, TG_MAX_REVERSE, struct tg_vip6_key, struct tg_reverse6, BPF_F_NO_PREALLOC);
TG_MAP(routes4, LPM_TRIE, TG_MAX_ROUTES, struct tg_route4_key, struct tg_route, BPF_F_NO_PREALLOC);
TG_MAP(routes6, LPM_TRIE, TG_MAX_ROUTES, struct tg_route6_key, struct tg_route, BPF_F_NO_PREALLOC);

/* Flows that have an entry (see lines.h), and how many of a client were entered lately (limit.h). */
TG_MAP(lines, ARRAY, FEW_LINES, __u32, struct tg_line, TG_MAPPED);
TG_MAP(line_marks, ARRAY, FEW_LINES / 64, __u32, __u64, TG_MAPPED);
TG_MAP(clients, ARRAY, TG_CLIENT_ROWS *TG_CLIENT_CELLS, __u32, __u64, 0);
TG_MAP(flow_counters, PERCPU_ARRAY, TG_FLOWS_COUNT, __u32, __u64, 0);

/* What became of first fragments. */
TG_MAP(fragments, LRU_HASH, TG_MAX_FRAGMENTS, struct tg_fragment_key, struct tg_fragment, 0);

/* The programs of rare packets, IPv4 and IPv6 (see xdp.bpf.c): each main program has its own. */
TG_MAP(rare_programs, PROG_ARRAY, 2, __u32, __u32, 0);

/* Counters: what was forwarded to, what came back from (nat), and why all else got its verdict. */
TG_MAP(service_counters, PERCPU_ARRAY, TG_MAX_SERVICES, __u32, struct tg_counter, 0);
TG_MAP(backend_counters, PERCPU_ARRAY, TG_MAX_BACKENDS, __u32, struct tg_counter, 0);
TG_MAP(reply_counters, PERCPU_ARRAY, TG_MAX_BACKENDS, __u32, struct tg_counter, 0);
TG_MAP(reasons, PERCPU_ARRAY, TG_REASON_COUNT, __u32, __u64, 0);

/* The controller's own, kept beside the rest for the next one: the programs never read them. */
TG_MAP(instance, ARRAY, 1, __u32, struct tg_instance_record, 0);
TG_MAP(services, ARRAY, TG_MAX_SERVICES, __u32, struct tg_service_info, 0);
TG_MAP(backend_owners, ARRAY, TG_MAX_BACKENDS, __u32, struct tg_backend_owner, 0);
TG_MAP(deny_classes, ARRAY, TG_DENY_CLASSES + 1, __u32, struct tg_deny_class, TG_MAPPED);
TG_MAP(deny4_records, ARRAY, TG_DENY4_MAX / TG_DENY_RECORDS, __u32, struct tg_deny4_records,
	TG_MAPPED);

/* Not a map, though also what makes an object loadable. */
char LICENSE[] SEC("license") = "GPL";

#endif
