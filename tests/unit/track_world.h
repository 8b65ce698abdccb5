/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * For tests of flow tracking: the real TC programs on a port, policies that a test compiles, packets of an
 * inner host (`out`: they leave by the port) and an outer one (`in`: they come in by it), what the tables
 * then have. Two hosts, either family (world.v6), ports and identifiers as the test says.
 */
#ifndef TG_TRACK_WORLD_H
#define TG_TRACK_WORLD_H

#include "flow_hash.h"
#include "policy.h"
#include "tidegate_abi.h"

#include "tc.skel.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "unit.h"

#define PAGES	  1024
#define DEFAULT	  15 /* the counter of every policy's default */
#define FRAME_MAX 2048
#define FLAG_FIN  0x01
#define FLAG_SYN  0x02
#define FLAG_RST  0x04
#define FLAG_PSH  0x08
#define FLAG_ACK  0x10

enum way { IN, OUT }; /* as enum tg_direction */

static struct {
	struct tc_bpf *tc;
	char *pages;
	struct tg_track_settings *settings;
	bool v6;
	struct tg_compiled_policy policies[4]; /* of slots 0 and 1 */
	uint16_t inner, outer;		       /* ports */
	uint32_t host;			       /* the outer host's number */
} world;

/* ---- the programs and their policies ---- */

static int map_of(const char *name)
{
	return bpf_object__find_map_fd_by_name(world.tc->obj, name);
}

static void enter_port(uint32_t slot)
{
	struct tg_port port = { .slot = slot };
	uint32_t loopback = 1;

	bpf_map_update_elem(map_of("ports"), &loopback, &port, BPF_ANY);
}

static void world_open(uint32_t tracked, uint32_t features)
{
	world.tc = tc_bpf__open();
	world.tc->rodata->features = TG_FEATURE_POLICY | features;
	world.tc->rodata->policy_words = 1;
	bpf_map__set_max_entries(world.tc->maps.policy_pages, PAGES);
	bpf_map__set_map_flags(world.tc->maps.policy_pages, BPF_F_MMAPABLE);
	bpf_map__set_max_entries(world.tc->maps.flows, tracked);
	if (tc_bpf__load(world.tc))
		exit((perror("the TC programs"), 1));
	world.pages = mmap(NULL, PAGES * TG_POLICY_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED,
		map_of("policy_pages"), 0);
	world.settings =
		mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, map_of("track_settings"), 0);
	if (world.pages == MAP_FAILED || world.settings == MAP_FAILED)
		exit((perror("maps"), 1));
	enter_port(0);
}

static void lay_out_policies(void)
{
	const struct tg_compiled_policy *all[TG_MAX_POLICIES] = { 0 };
	struct tg_policy_pages pages;
	struct tg_error error;

	for (int i = 0; i < 4; i++)
		all[i] = world.policies[i].pages ? &world.policies[i] : NULL;
	CHECK_INT(0, tg_policy_lay_out(all, &pages, &error));
	CHECK(pages.count <= PAGES);
	memcpy(world.pages, pages.pages, pages.count * TG_POLICY_PAGE);
	tg_policy_pages_free(&pages);
}

/* What a rule of a test matches: TCP or UDP to a port (0: any), or all of a protocol (0: any). */
struct plain_rule {
	uint8_t proto;
	uint16_t dport;
	enum tg_action action;
	uint8_t tcp_mask, tcp_flags;
};

static void set_policy(uint32_t slot, enum way way, uint32_t flags, enum tg_action otherwise,
	const struct plain_rule *plain, size_t count)
{
	struct tg_compiled_policy *policy = &world.policies[TG_POLICY_OF_PORT(slot, way)];
	struct tg_port_range ports[8];
	struct tg_policy_rule does[8];
	struct tg_rule rules[8] = { { 0 } };
	struct tg_policy_spec spec = { .rules = rules,
		.does = does,
		.count = count,
		.flags = flags,
		.otherwise = { otherwise, 0, 0, DEFAULT } };
	struct tg_error error;

	for (size_t i = 0; i < count; i++) {
		ports[i] = (struct tg_port_range){ plain[i].dport, plain[i].dport };
		rules[i].protos = &plain[i].proto;
		rules[i].proto_count = plain[i].proto != 0;
		rules[i].dport = &ports[i];
		rules[i].dport_count = plain[i].dport != 0;
		rules[i].tcp_mask = plain[i].tcp_mask;
		rules[i].tcp_flags = plain[i].tcp_flags;
		does[i] = (struct tg_policy_rule){ plain[i].action, 0, 0, i };
	}
	tg_policy_free(policy);
	CHECK_INT(0, tg_policy_compile(&spec, policy, NULL, &error));
	lay_out_policies();
}

static void no_policy(uint32_t slot, enum way way)
{
	tg_policy_free(&world.policies[TG_POLICY_OF_PORT(slot, way)]);
	lay_out_policies();
}

#define POLICY(slot, way, flags, otherwise, ...)                                                   \
	set_policy(slot, way, flags, otherwise, (struct plain_rule[]){ __VA_ARGS__ },              \
		sizeof((struct plain_rule[]){ __VA_ARGS__ }) / sizeof(struct plain_rule))

/* ---- packets ---- */

struct frame {
	uint8_t pad[2]; /* the IP header, behind Ethernet's 14 bytes, is aligned */
	uint8_t bytes[FRAME_MAX];
	size_t size;
} __attribute__((aligned(8)));

static size_t ip_size(void)
{
	return world.v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr);
}

static void put_address(void *at, bool inner)
{
	uint8_t address[16] = { 0x20, 0x01, 0x0d, 0xb8, [7] = inner };
	uint32_t host = htonl(inner ? 1 : world.host + 1);

	memcpy(address + 12, &host, 4);
	host = htonl((inner ? 0xc6336400 : 0x0a000000) + ntohl(host)); /* 198.51.100.1, 10.x.x.x */
	memcpy(at, world.v6 ? address : (uint8_t *)&host, world.v6 ? 16 : 4);
}

static void put_ip(uint8_t *at, enum way way, uint8_t proto, size_t payload)
{
	struct iphdr *ip4 = (void *)at;
	struct ipv6hdr *ip6 = (void *)at;

	memset(at, 0, ip_size());
	if (world.v6) {
		at[0] = 0x60;
		ip6->payload_len = htons(payload);
		ip6->nexthdr = proto;
		ip6->hop_limit = 64;
	} else {
		at[0] = 0x45;
		ip4->tot_len = htons(sizeof(*ip4) + payload);
		ip4->ttl = 64;
		ip4->protocol = proto;
	}
	put_address(world.v6 ? (void *)&ip6->saddr : (void *)&ip4->saddr, way == OUT);
	put_address(world.v6 ? (void *)&ip6->daddr : (void *)&ip4->daddr, way == IN);
}

/* A frame with that much behind the IP header. */
static uint8_t *begin_frame(struct frame *f, enum way way, uint8_t proto, size_t payload)
{
	memset(f->bytes, 0, sizeof(f->bytes));
	f->bytes[12] = world.v6 ? 0x86 : 0x08;
	f->bytes[13] = world.v6 ? 0xdd : 0x00;
	put_ip(f->bytes + ETH_HLEN, way, proto, payload);
	f->size = ETH_HLEN + ip_size() + payload;
	return f->bytes + ETH_HLEN + ip_size();
}

static bool passes(const struct frame *f, enum way way)
{
	struct __sk_buff context = { .ifindex = 1 };
	LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = f->bytes, .data_size_in = f->size,
		.ctx_in = &context, .ctx_size_in = sizeof(context), .repeat = 1);
	int program = bpf_program__fd(
		way == OUT ? world.tc->progs.tidegate_egress : world.tc->progs.tidegate_ingress);
	int result = bpf_prog_test_run_opts(program, &run);

	CHECK_INT(0, result);
	return run.retval == (uint32_t)-1;
}

/* A segment, with what a SYN says of window scaling. */
static void put_tcp(
	uint8_t *at, enum way way, uint8_t flags, uint32_t seq, uint32_t ack, bool scale)
{
	struct tcphdr *tcp = (void *)at;
	uint8_t options[] = { 2, 4, 5, 0xb4, 1, 3, 3, 7 };

	tcp->source = htons(way == OUT ? world.inner : world.outer);
	tcp->dest = htons(way == OUT ? world.outer : world.inner);
	tcp->seq = htonl(seq);
	tcp->ack_seq = htonl(ack);
	tcp->window = htons(1000);
	tcp->doff = flags & FLAG_SYN && scale ? 7 : 5;
	at[13] = flags;
	if (flags & FLAG_SYN && scale)
		memcpy(tcp + 1, options, sizeof(options));
}

static bool segment(enum way way, uint8_t flags, uint32_t seq, uint32_t ack, size_t data)
{
	struct frame f;
	size_t header = flags & FLAG_SYN ? 28 : 20;

	put_tcp(begin_frame(&f, way, IPPROTO_TCP, header + data), way, flags, seq, ack, true);
	return passes(&f, way);
}

static bool datagram(enum way way)
{
	struct frame f;
	struct udphdr *udp = (void *)begin_frame(&f, way, IPPROTO_UDP, 20);

	udp->source = htons(way == OUT ? world.inner : world.outer);
	udp->dest = htons(way == OUT ? world.outer : world.inner);
	udp->len = htons(20);
	return passes(&f, way);
}

static uint8_t icmp_proto(void)
{
	return world.v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP;
}

static bool echo(enum way way, bool request, uint16_t id)
{
	struct frame f;
	uint8_t *icmp = begin_frame(&f, way, icmp_proto(), 16);

	icmp[0] = world.v6 ? (request ? 128 : 129) : (request ? 8 : 0);
	icmp[4] = id >> 8;
	icmp[5] = id;
	return passes(&f, way);
}

static bool other_protocol(enum way way, uint8_t proto)
{
	struct frame f;

	begin_frame(&f, way, proto, 16);
	return passes(&f, way);
}

/* "Too big" about a packet that went the other way, of which it quotes 8 bytes. */
static bool error_about(enum way way, uint8_t proto, const uint8_t quoted[8])
{
	struct frame f;
	uint8_t *icmp = begin_frame(&f, way, icmp_proto(), 8 + ip_size() + 8);

	icmp[0] = world.v6 ? 2 : 3;
	icmp[1] = world.v6 ? 0 : 4;
	put_ip(icmp + 8, way == IN ? OUT : IN, proto, 1000);
	memcpy(icmp + 8 + ip_size(), quoted, 8);
	return passes(&f, way);
}

/* ---- what the tables have ---- */

static void put_key_address(__be32 to[4], bool inner)
{
	memset(to, 0, 16);
	to[2] = world.v6 ? 0 : htonl(0xffff);
	put_address(world.v6 ? to : to + 3, inner);
}

static struct tg_track_id id_of(uint8_t proto, uint16_t inner, uint16_t outer)
{
	__be32 address[2][4];
	struct tg_track_id id = { .proto = proto };
	int low;

	put_key_address(address[0], true);
	put_key_address(address[1], false);
	low = memcmp(address[0], address[1], 16) > 0;
	memcpy(id.addr[0], address[low], 16);
	memcpy(id.addr[1], address[!low], 16);
	id.port[low] = htons(inner);
	id.port[!low] = htons(outer);
	return id;
}

static struct tg_track_id id_now(uint8_t proto)
{
	return id_of(proto, world.inner, world.outer);
}

/* Reads a flow from a table; false: it is not there. */
static bool read_track(const char *table, uint8_t proto, struct tg_track *track)
{
	struct tg_track_id id = id_now(proto);

	return !bpf_map_lookup_elem(map_of(table), &id, track);
}

static int state_in(const char *table, uint8_t proto)
{
	struct tg_track track;

	return read_track(table, proto, &track) ? track.state : -1;
}

/* Makes a flow so much older, wherever it is. */
static void age(uint8_t proto, unsigned int seconds)
{
	struct tg_track_id id = id_now(proto);
	struct tg_track track;

	for (int i = 0; i < 2; i++) {
		int map = map_of(i ? "embryos" : "flows");

		if (bpf_map_lookup_elem(map, &id, &track))
			continue;
		track.seen -= seconds * 1000000000ull;
		bpf_map_update_elem(map, &id, &track, BPF_EXIST);
	}
}

static __u64 counted(enum tg_track_count what)
{
	__u64 values[256] = { 0 }, sum = 0;
	__u32 key = what;

	bpf_map_lookup_elem(map_of("track_counters"), &key, values);
	for (int i = 0; i < libbpf_num_possible_cpus(); i++)
		sum += values[i];
	return sum;
}

static __u64 rule_counted(__u32 rule)
{
	struct tg_rule_counter values[256] = { 0 };
	__u64 sum = 0;

	bpf_map_lookup_elem(map_of("rule_counters"), &rule, values);
	for (int i = 0; i < libbpf_num_possible_cpus(); i++)
		sum += values[i].packets;
	return sum;
}

/* Hosts and ports that no flow had before. */
static void fresh_flow(void)
{
	static uint16_t port = 10000;

	world.inner = port++;
	world.outer = 80;
	world.host = port;
}

#endif
