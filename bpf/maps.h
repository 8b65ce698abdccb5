/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * All state of the datapath. The loader (core/datapath.c) pins every map by its name here and hands
 * the pins to the next program, so nothing lives in .bss. Keys and values are those of
 * tidegate_abi.h. `reverse*`, `routes*`, `lines` and `line_marks` are used by nat alone: without it the loader
 * need not create them.
 */
#ifndef TIDEGATE_MAPS_H
#define TIDEGATE_MAPS_H

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "flow_hash.h"
#include "tidegate_abi.h"

/* Settings, fixed at load: the verifier removes what they switch off. */
const volatile __u32 features = TG_FEATURE_V4 | TG_FEATURE_V6 | TG_FEATURE_NAT;
/* of seed {0, 0}; the loader sets the instance's */
const volatile struct tg_flow_key flow_key = { {
	0xdb948c925269d1f6ull, 0x78b151da6b4beb12ull,
	0xa40e6007d0c37d96ull, 0xb3382476d55518adull,
	0x0c3078d98cec7ecbull, 0x09a4f8c3e03ec3e1ull,
	0xbef60bfad2fe7731ull, 0x2845c9af231788aeull,
	0x23b5b08d1a9231e5ull, 0x1860f1b319d8fd97ull,
} };
const volatile __u32 line_count = TG_DEFAULT_LINES; /* elements of `lines` */

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

/* What is a VIP, and of which service. */
TG_MAP(vips4, HASH, TG_MAX_VIPS, struct tg_vip4_key, struct tg_vip, 0);
TG_MAP(vips6, HASH, TG_MAX_VIPS, struct tg_vip6_key, struct tg_vip, 0);

/* What they and `reverse*` say, compiled (see endpoint.h). */
TG_MAP(endpoint_lines, ARRAY, TG_INDEX_LINES, __u32, struct tg_line, TG_MAPPED);
TG_MAP(endpoints, ARRAY, TG_INDEX_ENDPOINTS, __u32, struct tg_endpoint, TG_MAPPED);

/* A ring of slots for each service and family, each of its own size. */
struct ring {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, TG_DEFAULT_SLOTS);
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

/* nat's way back. */
TG_MAP(reverse4, HASH, TG_MAX_REVERSE, struct tg_vip4_key, struct tg_reverse4, BPF_F_NO_PREALLOC);
TG_MAP(reverse6, HASH, TG_MAX_REVERSE, struct tg_vip6_key, struct tg_reverse6, BPF_F_NO_PREALLOC);
TG_MAP(routes4, LPM_TRIE, TG_MAX_ROUTES, struct tg_route4_key, struct tg_route, BPF_F_NO_PREALLOC);
TG_MAP(routes6, LPM_TRIE, TG_MAX_ROUTES, struct tg_route6_key, struct tg_route, BPF_F_NO_PREALLOC);
TG_MAP(lines, ARRAY, TG_DEFAULT_LINES, __u32, struct tg_line, TG_MAPPED);
TG_MAP(line_marks, ARRAY, TG_DEFAULT_LINES / 64, __u32, __u64, TG_MAPPED);

/* Counters: what was forwarded to, what came back from (nat), and why all else got its verdict. */
TG_MAP(service_counters, PERCPU_ARRAY, TG_MAX_SERVICES, __u32, struct tg_counter, 0);
TG_MAP(backend_counters, PERCPU_ARRAY, TG_MAX_BACKENDS, __u32, struct tg_counter, 0);
TG_MAP(reply_counters, PERCPU_ARRAY, TG_MAX_BACKENDS, __u32, struct tg_counter, 0);
TG_MAP(reasons, PERCPU_ARRAY, TG_REASON_COUNT, __u32, __u64, 0);

/* The controller's own, kept beside the rest for the next one: the programs never read them. */
TG_MAP(instance, ARRAY, 1, __u32, struct tg_instance_record, 0);
TG_MAP(services, ARRAY, TG_MAX_SERVICES, __u32, struct tg_service_info, 0);
TG_MAP(backend_owners, ARRAY, TG_MAX_BACKENDS, __u32, struct tg_backend_owner, 0);

/* Not a map, though also what makes an object loadable. */
char LICENSE[] SEC("license") = "GPL";

#endif
