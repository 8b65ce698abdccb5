/* SPDX-License-Identifier: GPL-2.0-only */
/* What xdp_bench.c measures: a case, the tables that it fills for it, and the packet. Included by it alone. */
#ifndef XDP_BENCH_TABLES_H
#define XDP_BENCH_TABLES_H

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "endpoints.h"
#include "flow_hash.h"
#include "maglev.h"
#include "ranges.h"
#include "tidegate_abi.h"

#include "xdp_bench.skel.h"

#define ROUNDS	 11
#define REPEAT	 (1 << 20)
#define BACKENDS 10
#define SERVICE	 1
#define RING	 5

#define VIP4	"198.51.100.10"
#define VIP6	"2001:db8::10"
#define CLIENT4 "10.1.2.3"
#define CLIENT6 "2001:db8:1::a01:203"
#define OTHER4	"198.51.100.99"

enum path { FORWARD, MISS, REPLY };

/* What the flow meets: a slot that rests, with a SYN or without; one that moves; a service that remembers. */
enum state { FLOW, SYN, TRANSITION, STRICT };

struct bench_case {
	const char *name;
	bool v6;
	bool nat;  /* the program knows nat */
	__u8 mode; /* of the service */
	enum state state;
	enum path path;
	double aim; /* hot */
	double aim_random;
};

/* A case in one of its two sizes, loaded. */
struct bench {
	const struct bench_case *of;
	bool random;
	char name[32];
	struct xdp_bench_bpf *object;
	__u64 frame[10];
	__u32 words;
	double ratio[ROUNDS], value[ROUNDS], floor[ROUNDS];
};

static bool is_quic(const struct bench_case *c)
{
	return strstr(c->name, "quic");
}

static void die(const char *what)
{
	fprintf(stderr, "xdp_bench: %s: %s\n", what, strerror(errno));
	exit(3);
}

static void set(struct bpf_map *map, const void *key, const void *value)
{
	if (bpf_map_update_elem(bpf_map__fd(map), key, value, BPF_ANY))
		die(bpf_map__name(map));
}

static void set_at(struct bpf_map *map, __u32 index, const void *value)
{
	set(map, &index, value);
}

/* The backend's address, IPv4 in the first word. */
static void backend_address(bool v6, int i, __be32 addr[4])
{
	char text[INET6_ADDRSTRLEN];

	memset(addr, 0, 16);
	snprintf(text, sizeof(text), v6 ? "2001:db8:2::%x" : "192.0.2.%d", 10 + i);
	inet_pton(v6 ? AF_INET6 : AF_INET, text, addr);
}

/* --- the tables ------------------------------------------------------------------------------ */

static const struct tg_hop hop = { .ifindex = 1, .dmac = "\2\0\0\0\0\1", .smac = "\2\0\0\0\0\2" };

static const __u64 seed[2] = { 0x0123456789abcdef, 0xfedcba9876543210 };

static void publish_endpoints(struct xdp_bench_bpf *object, bool nat)
{
	int maps[] = { bpf_map__fd(object->maps.vips4), bpf_map__fd(object->maps.vips6),
		nat ? bpf_map__fd(object->maps.reverse4) : -1,
		nat ? bpf_map__fd(object->maps.reverse6) : -1 };
	struct tg_endpoints endpoints;

	errno = -tg_endpoints_open(&endpoints, bpf_map__fd(object->maps.clock),
		bpf_map__fd(object->maps.endpoint_lines), bpf_map__fd(object->maps.endpoints));
	if (!errno)
		errno = -tg_endpoints_publish(&endpoints, maps);
	if (errno)
		die("endpoint index");
	tg_endpoints_close(&endpoints);
}

static void fill_ring(struct xdp_bench_bpf *object, const struct bench_case *c)
{
	LIBBPF_OPTS(bpf_map_create_opts, opts, .map_flags = BPF_F_MMAPABLE | BPF_F_INNER_MAP);
	struct tg_maglev_backend backends[BACKENDS];
	static __u32 table[TG_DEFAULT_SLOTS];
	__u32 index = RING;
	int fd;

	for (int i = 0; i < BACKENDS; i++)
		backends[i] = (struct tg_maglev_backend){ tg_maglev_key(&i, sizeof(i)), i + 1, 1 };
	if (tg_maglev_build(backends, BACKENDS, table, TG_DEFAULT_SLOTS))
		die("maglev");
	fd = bpf_map_create(
		BPF_MAP_TYPE_ARRAY, "ring", 4, 8, TG_RING_ELEMENTS(TG_DEFAULT_SLOTS), &opts);
	if (fd < 0)
		die("ring");
	for (__u32 i = 0; i < TG_DEFAULT_SLOTS; i++) {
		__u32 next = c->state == TRANSITION ? table[i] % BACKENDS + 1 : table[i];
		__u64 slot = TG_SLOT(table[i], next, c->state == TRANSITION);

		bpf_map_update_elem(fd, &i, &slot, BPF_ANY);
	}
	set(object->maps.rings, &index, &fd);
}

static void fill_backends(struct xdp_bench_bpf *object, const struct bench_case *c)
{
	for (int i = 0; i < BACKENDS; i++) {
		struct tg_backend backend = { .hop = { hop, hop },
			.mtu = 1500,
			.port = c->mode == TG_MODE_NAT ? htons(8080) : 0 };

		backend_address(c->v6, i, backend.addr);
		backend.flags = c->v6 ? TG_BACKEND_V6 : 0;
		set_at(object->maps.backends, i + 1, &backend);
	}
}

static void fill_tunnel(struct xdp_bench_bpf *object)
{
	struct tg_tunnel tunnel = {
		.vary4 = htonl(0xffff), .vary6 = 0xffffffff, .gue_port = htons(TG_GUE_PORT)
	};

	inet_pton(AF_INET, "172.16.0.0", &tunnel.source4);
	inet_pton(AF_INET6, "100::", tunnel.source6);
	set_at(object->maps.tunnels, 0, &tunnel);
}

static void fill_vip(struct xdp_bench_bpf *object, const struct bench_case *c)
{
	struct tg_vip vip = { RING, TG_DEFAULT_SLOTS, SERVICE, c->mode, 0,
		(c->state == STRICT ? TG_VIP_STRICT : 0) | (is_quic(c) ? TG_VIP_QUIC : 0) };
	struct tg_vip4_key key4 = { .port = htons(80),
		.proto = is_quic(c) ? IPPROTO_UDP : IPPROTO_TCP };
	struct tg_vip6_key key6 = { .port = htons(80), .proto = IPPROTO_TCP };

	inet_pton(AF_INET, VIP4, &key4.addr);
	inet_pton(AF_INET6, VIP6, &key6.addr);
	set(c->v6 ? object->maps.vips6 : object->maps.vips4, c->v6 ? (void *)&key6 : (void *)&key4,
		&vip);
}

/* 1,000 ranges of other ports, and the one with the VIP's; the VIP itself is no single port. */
static void fill_ranges(struct xdp_bench_bpf *object, const struct bench_case *c)
{
	static struct tg_endpoint list[1001], all[2 * TG_MAX_RANGES];
	static struct tg_range_table table;
	struct tg_ranges ranges = { .table = &table, .all = all };

	for (__u32 i = 0; i < 1001; i++) {
		struct tg_endpoint *one = &list[i];

		*one = (struct tg_endpoint){ .proto = IPPROTO_TCP, .kind = TG_ENDPOINT_VIP4 };
		one->vip = (struct tg_vip){ RING, TG_DEFAULT_SLOTS, SERVICE, c->mode, 0, 0 };
		inet_pton(AF_INET, VIP4, one->addr);
		one->ports = (struct tg_ports){ i ? 100 + i * 20 : 80, i ? 100 + i * 20 + 9 : 99 };
	}
	tg_ranges_fill(&ranges, 0, list, 1001);
	for (__u32 i = 0; i < 1001; i++)
		set_at(object->maps.ranges, i, &all[i]);
	set_at(object->maps.range_table, 0, &table);
}

/* Every packet names the third backend. */
static void fill_quic(struct xdp_bench_bpf *object)
{
	struct tg_quic layout = { .offset = 1, .length = 2, .mask = 0xe0 };
	struct tg_quic_server_key key = { .service = SERVICE, .id = 3 };
	__u32 backend = 3;

	set_at(object->maps.quic, SERVICE, &layout);
	set(object->maps.quic_servers, &key, &backend);
}

static void fill_reverse(struct xdp_bench_bpf *object, bool v6)
{
	for (int i = 0; i < BACKENDS; i++) {
		struct tg_vip6_key key6 = { .port = htons(8080), .proto = IPPROTO_TCP };
		struct tg_vip4_key key4 = { .port = htons(8080), .proto = IPPROTO_TCP };
		struct tg_reverse4 to4 = {
			.port = htons(80), .service = SERVICE, .backend = i + 1
		};
		struct tg_reverse6 to6 = {
			.port = htons(80), .service = SERVICE, .backend = i + 1
		};

		backend_address(v6, i, key6.addr);
		key4.addr = key6.addr[0];
		inet_pton(AF_INET, VIP4, &to4.addr);
		inet_pton(AF_INET6, VIP6, to6.addr);
		if (v6)
			set(object->maps.reverse6, &key6, &to6);
		else
			set(object->maps.reverse4, &key4, &to4);
	}
}

static void add_route(
	struct xdp_bench_bpf *object, bool v6, const char *prefix, __u32 length, bool local)
{
	struct {
		__u32 length;
		__be32 addr[4];
	} key = { .length = length };
	struct tg_route route = { .hop = local ? (struct tg_hop){} : hop,
		.flags = local ? TG_ROUTE_LOCAL : 0,
		.mtu = 1500 };

	inet_pton(v6 ? AF_INET6 : AF_INET, prefix, key.addr);
	set(v6 ? object->maps.routes6 : object->maps.routes4, &key, &route);
}

/* Those of a switch with two ports: its addresses, their networks, a neighbour, a default. */
static void fill_routes(struct xdp_bench_bpf *object, bool v6)
{
	add_route(object, v6, v6 ? "::" : "0.0.0.0", 0, false);
	add_route(object, v6, v6 ? "2001:db8:2::" : "192.0.2.0", v6 ? 64 : 24, false);
	add_route(object, v6, v6 ? "2001:db8:2::1" : "192.0.2.1", v6 ? 128 : 32, true);
	add_route(object, v6, v6 ? "2001:db8:3::" : "203.0.113.0", v6 ? 64 : 24, false);
	add_route(object, v6, v6 ? "2001:db8:3::1" : "203.0.113.1", v6 ? 128 : 32, true);
	add_route(object, v6, v6 ? "2001:db8:3::9" : "203.0.113.9", v6 ? 128 : 32, false);
	add_route(object, v6, v6 ? "::1" : "127.0.0.1", v6 ? 128 : 32, true);
}

/* --- the packet ------------------------------------------------------------------------------ */

static void fill_tcp(struct tcphdr *tcp, const struct bench_case *c)
{
	tcp->source = htons(c->path == REPLY ? 8080 : 40000);
	tcp->dest = htons(c->path == REPLY ? 40000 : 80);
	tcp->doff = 5;
	tcp->ack = c->state != SYN;
	tcp->syn = c->state == SYN;
	tcp->check = 0x1234;
}

/* A short header, and an ID of server 3. */
static void fill_udp(struct udphdr *udp, __u32 length)
{
	udp->source = htons(40000);
	udp->dest = htons(80);
	udp->len = htons(length);
	memcpy(udp + 1, "\x40\0\0\3", 4);
}

static void fill_frame4(struct bench *b)
{
	struct ethhdr *eth = (void *)b->frame;
	struct iphdr *ip = (void *)(eth + 1);
	__be32 backend[4];

	b->words = 8;
	eth->h_proto = htons(ETH_P_IP);
	ip->version = 4;
	ip->ihl = 5;
	ip->ttl = 64;
	ip->protocol = IPPROTO_TCP;
	ip->tot_len = htons(b->words * 8 - sizeof(*eth));
	ip->check = 0x4321;
	backend_address(false, 3, backend);
	inet_pton(AF_INET, CLIENT4, b->of->path == REPLY ? &ip->daddr : &ip->saddr);
	if (b->of->path == REPLY)
		ip->saddr = backend[0];
	else
		inet_pton(AF_INET, b->of->path == MISS ? OTHER4 : VIP4, &ip->daddr);
	fill_tcp((void *)(ip + 1), b->of);
	if (!is_quic(b->of))
		return;
	ip->protocol = IPPROTO_UDP;
	memset(ip + 1, 0, b->words * 8 - sizeof(*eth) - sizeof(*ip));
	fill_udp((void *)(ip + 1), b->words * 8 - sizeof(*eth) - sizeof(*ip));
}

static void fill_frame6(struct bench *b)
{
	struct ethhdr *eth = (void *)b->frame;
	struct ipv6hdr *ip = (void *)(eth + 1);

	b->words = 10;
	eth->h_proto = htons(ETH_P_IPV6);
	ip->version = 6;
	ip->nexthdr = IPPROTO_TCP;
	ip->hop_limit = 64;
	ip->payload_len = htons(b->words * 8 - sizeof(*eth) - sizeof(*ip));
	inet_pton(AF_INET6, CLIENT6, b->of->path == REPLY ? &ip->daddr : &ip->saddr);
	if (b->of->path == REPLY)
		backend_address(true, 3, ip->saddr.s6_addr32);
	else
		inet_pton(AF_INET6, VIP6, &ip->daddr);
	fill_tcp((void *)(ip + 1), b->of);
}

/* --- flows that are entered ------------------------------------------------------------------- */

/* The hash of the flow that xdp_bench.bpf.c writes as number `flow`. */
static __u64 hash_of(const struct bench *b, __u32 flow)
{
	const struct tg_flow_key *key = (void *)&b->object->rodata->flow_key;
	__be32 client = htonl(0x0a000000 | flow), source[4], vip[4];
	__u32 ports = tg_ports(htons(1024 + (flow >> 4 & 0x7fff)), htons(80));

	if (!b->random) {
		inet_pton(AF_INET, CLIENT4, &client);
		ports = tg_ports(htons(40000), htons(80));
	}
	inet_pton(b->of->v6 ? AF_INET6 : AF_INET, b->of->v6 ? VIP6 : VIP4, vip);
	if (!b->of->v6)
		return tg_flow_hash4(key, client, vip[0], ports, IPPROTO_TCP);
	inet_pton(AF_INET6, CLIENT6, source);
	source[3] = b->random ? client : source[3];
	return tg_flow_hash6(key, source, vip, ports, IPPROTO_TCP);
}

static void enter(struct tg_line *lines, __u64 hash)
{
	__u64 key = TG_LINE_KEY(hash);
	struct tg_line *line = &lines[tg_slot_of(key, TG_DEFAULT_LINES)];

	for (int i = 0; i < TG_LINE_ENTRIES; i++) {
		if (line->entry[i])
			continue;
		line->entry[i] = TG_ENTRY(TG_LINE_FINGERPRINT(key), 0, 1, hash % BACKENDS + 1);
		return;
	}
}

/* Enters all flows of the case, in the order of their numbers and not of the packets. */
static void fill_lines(struct bench *b)
{
	size_t size = TG_DEFAULT_LINES * sizeof(struct tg_line);
	struct tg_line *lines = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED,
		bpf_map__fd(b->object->maps.lines), 0);
	__u64 all = ~0ull;

	if (lines == MAP_FAILED)
		die("lines");
	for (__u32 flow = 0; flow < (b->random ? REPEAT : 1); flow++)
		enter(lines, hash_of(b, flow));
	munmap(lines, size);
	for (__u32 i = 0; i < TG_DEFAULT_LINES / 64; i++)
		set_at(b->object->maps.line_marks, i, &all);
}

static bool enters(const struct bench_case *c)
{
	return c->state == TRANSITION || c->state == STRICT;
}

#endif
