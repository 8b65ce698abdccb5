/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The world of transition_test.c: a model that knows backends and flows, and the real thing beside it: a
 * controller's balancer, its tables, and the loaded program, which packets are sent through.
 */
#ifndef TG_TRANSITION_WORLD_H
#define TG_TRANSITION_WORLD_H

#include "balancer_internal.h"
#include "flow_hash.h"
#include "maglev.h"
#include "netns.h"
#include "unit.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <stdbool.h>
#include <sys/mman.h>

#define BACKENDS  7 /* there may be */
#define SLOTS	  61
#define MAX_FLOWS 400
#define STEPS	  160
#define VIP	  "198.51.100.10"
#define PORT	  443
#define MARGIN	  3 /* epochs that a bound may be off by: ticks are not instants */

enum kind { TCP, TCP_STRICT, TCP_SOURCE, UDP_FLOW, KINDS };

/* --- the model -------------------------------------------------------------------------------- */

struct member {
	bool listed, healthy, drains;
	int weight;
	uint32_t index;	  /* of the datapath, as last seen */
};

struct flow {
	bool live;
	__be32 client;
	__be16 port;
	int backend;	/* 0..BACKENDS-1 */
	uint32_t spoke; /* epoch */
};

static struct world {
	enum kind kind;
	struct member member[BACKENDS];
	struct flow flow[MAX_FLOWS];
	size_t flows;
	uint32_t epoch, clients;
	uint64_t rng;
	/* the real thing */
	uv_loop_t loop;
	struct tg_datapath dp;
	struct tg_balancer *balancer;
	uint64_t *slots;
	int cut; /* the backend that goes at once, + 1 */
	unsigned int device;
	char what[256]; /* the last step, for messages */
} w;

static const char *const kind_names[KINDS] = { "TCP", "TCP, strict", "TCP, by source",
	"UDP, flow" };

static uint32_t below(uint32_t limit)
{
	w.rng ^= w.rng << 13;
	w.rng ^= w.rng >> 7;
	w.rng ^= w.rng << 17;
	return (w.rng >> 32) * limit >> 32;
}

static void backend_address(int i, struct tg_addr *addr)
{
	char text[32];

	snprintf(text, sizeof(text), "10.0.1.%d", 11 + i);
	tg_addr_parse(text, addr);
}

static bool takes_flows(const struct member *m)
{
	return m->listed && m->healthy && !m->drains && m->weight > 0;
}

static int taking(void)
{
	int count = 0;

	for (int i = 0; i < BACKENDS; i++)
		count += takes_flows(&w.member[i]);
	return count;
}

static struct backend *real_backend(int i)
{
	struct service *service = tg_service_find(w.balancer, "web");
	struct tg_addr addr;

	backend_address(i, &addr);
	return service ? tg_backend_find(service, &addr, 0) : NULL;
}

/* Which backend of those that take new flows a Maglev ring has at each place. */
static void wanted_ring(int homes[SLOTS])
{
	struct tg_maglev_backend chosen[BACKENDS];
	uint32_t ids[SLOTS];
	size_t count = 0;

	for (int i = 0; i < BACKENDS; i++) {
		if (takes_flows(&w.member[i]))
			chosen[count++] = (struct tg_maglev_backend){ .key = real_backend(i)->key,
				.id = i + 1,
				.weight = w.member[i].weight };
	}
	CHECK_INT(0, tg_maglev_build(chosen, count, ids, SLOTS));
	for (int i = 0; i < SLOTS; i++)
		homes[i] = (int)ids[i] - 1;
}

static uint8_t protocol(void)
{
	return w.kind == UDP_FLOW ? IPPROTO_UDP : IPPROTO_TCP;
}

static uint32_t slot_of(const struct flow *flow)
{
	__be32 vip = inet_addr(VIP);
	struct tg_flow_key key;

	tg_flow_key(w.dp.info.seed, &key);
	if (w.kind == TCP_SOURCE)
		return tg_slot_of(tg_flow_hash4(&key, flow->client, 0, 0, 0), SLOTS);
	return tg_slot_of(tg_flow_hash4(&key, flow->client, vip, tg_ports(flow->port, htons(PORT)),
				  protocol()),
		SLOTS);
}

/* --- the real thing ---------------------------------------------------------------------------- */

/* A packet of a flow through the program: the backend that it went to, by its MAC; -1: to none. */
static int send_packet(const struct flow *flow, bool begins)
{
	struct {
		struct ethhdr eth;
		struct iphdr ip;
		union {
			struct tcphdr tcp;
			struct udphdr udp;
		};
	} __attribute__((packed)) frame = { .eth.h_proto = htons(ETH_P_IP) }, out;
	struct xdp_md context = { .data_end = sizeof(frame), .ingress_ifindex = w.device };
	LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = &frame, .data_size_in = sizeof(frame),
		.data_out = &out, .data_size_out = sizeof(out), .ctx_in = &context,
		.ctx_size_in = sizeof(context));

	frame.ip = (struct iphdr){ .version = 4,
		.ihl = 5,
		.ttl = 64,
		.protocol = protocol(),
		.tot_len = htons(sizeof(frame) - sizeof(frame.eth)),
		.saddr = flow->client,
		.daddr = inet_addr(VIP) };
	frame.tcp = (struct tcphdr){
		.source = flow->port, .dest = htons(PORT), .doff = 5, .syn = begins, .ack = !begins
	};
	if (protocol() == IPPROTO_UDP)
		frame.udp.len = htons(sizeof(frame.tcp));
	if (bpf_prog_test_run_opts(w.dp.program, &run) || run.retval != XDP_TX)
		return -1;
	return out.eth.h_dest[5] - 11;
}

static void describe(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void describe(const char *format, ...)
{
	va_list list;

	va_start(list, format);
	vsnprintf(w.what, sizeof(w.what), format, list);
	va_end(list);
}

static bool hops_are_known(void *unused)
{
	for (int i = 0; i < BACKENDS; i++) {
		const struct tg_backend *entry = &w.dp.backends[w.member[i].index];

		if (w.member[i].listed &&
			(!w.member[i].index || !entry->hop[entry->current].ifindex))
			return false;
	}
	return true;
}

/* Which indexes are named by a slot or by an entry? */
static void note_named(bool named[TG_MAX_BACKENDS])
{
	memset(named, 0, TG_MAX_BACKENDS);
	for (int i = 0; w.slots && i < SLOTS; i++) {
		named[TG_SLOT_HOME(w.slots[i])] = true;
		named[TG_SLOT_NEXT(w.slots[i])] = true;
	}
	for (size_t line = 0; line < w.dp.line_count; line++) {
		if (!(w.dp.line_marks[line / 64] >> line % 64 & 1))
			continue;
		for (int i = 0; i < TG_LINE_ENTRIES; i++)
			named[TG_ENTRY_BACKEND(w.dp.lines[line].entry[i])] = true;
	}
}

static void add_backend(struct tg_service_spec *service, int i)
{
	struct tg_backend_spec *spec = &service->backends[service->backend_count++];
	char key[16];

	*spec = (struct tg_backend_spec){ .weight = w.member[i].weight,
		.admin = w.member[i].drains ? TG_ADMIN_DRAIN : TG_ADMIN_READY };
	backend_address(i, &spec->addr);
	snprintf(key, sizeof(key), "check %d", i);
	spec->check_key = strdup(key);
	spec->check = (struct tg_check){ .type = TG_CHECK_EXTERNAL,
		.addr = spec->addr,
		.interval = 1000000000,
		.timeout = 500000000,
		.rise = 1,
		.fall = 1 };
}

static struct tg_spec *make_spec(void)
{
	struct tg_spec *spec = calloc(1, sizeof(*spec));
	struct tg_service_spec *service = calloc(1, sizeof(*service));

	spec->services = service;
	spec->service_count = 1;
	snprintf(service->name, sizeof(service->name), "web");
	service->mode = TG_MODE_L2DSR;
	service->slots = SLOTS;
	service->drain = TG_DRAIN_FOREVER;
	service->flags = (const uint16_t[]){ 0, TG_VIP_STRICT, TG_VIP_SOURCE, TG_VIP_FLOW }[w.kind];
	if (w.cut)
		backend_address(w.cut - 1, &service->cut);
	service->vips = calloc(1, sizeof(*service->vips));
	service->vip_count = 1;
	tg_addr_parse(VIP, &service->vips[0].addr);
	service->vips[0].port = service->vips[0].last = PORT;
	service->vips[0].proto = protocol();
	service->backends = calloc(BACKENDS, sizeof(*service->backends));
	for (int i = 0; i < BACKENDS; i++)
		if (w.member[i].listed)
			add_backend(service, i);
	return spec;
}

/* Makes the controller want what the model says, and minds who gets which index. */
static void apply(void)
{
	static bool named[TG_MAX_BACKENDS];
	struct tg_error error = { "" };

	note_named(named);
	CHECK_INT(0, tg_balancer_apply(w.balancer, make_spec(), &error));
	for (int i = 0; i < BACKENDS; i++) {
		uint32_t index = w.member[i].listed ? real_backend(i)->index : 0;

		if (index && index != w.member[i].index)
			CHECK(!named[index]); /* I4 */
		if (index)
			w.member[i].index = index;
	}
	CHECK(netns_until(&w.loop, hops_are_known, NULL, 3000));
}

static void turn_loop(void)
{
	for (int i = 0; i < 3; i++)
		uv_run(&w.loop, UV_RUN_NOWAIT);
}

/* A check says that a backend lives, or that it does not. */
static void report_health(int i, bool good)
{
	struct tg_probe_result result = { .ok = good };
	char key[16];

	snprintf(key, sizeof(key), "check %d", i);
	tg_balancer_report(w.balancer, key, &result);
	turn_loop();
	w.member[i].healthy = good;
}

/* Time passes: the epoch ends, and all that the controller does then is done. */
static void tick(void)
{
	struct sweep *sweep = w.balancer->sweep;

	w.epoch++;
	w.balancer->tick.timer_cb(&w.balancer->tick);
	for (int i = 0; i < 10000 && uv_is_active((uv_handle_t *)&sweep->timer); i++) {
		uv_timer_stop(&sweep->timer);
		sweep->timer.timer_cb(&sweep->timer);
	}
	CHECK(!uv_is_active((uv_handle_t *)&sweep->timer));
	turn_loop();
}

static void ignore(void *user, const struct tg_event *event)
{
}

static void start(void)
{
	struct tg_error error = { "" };
	const __u64 no_seed[2] = { 0 };
	char path[192];
	bool replaced;
	int ring;

	snprintf(path, sizeof(path), "property-%d", getpid());
	CHECK_INT(0, tg_datapath_open(&w.dp, path, no_seed, &replaced, &error));
	CHECK_INT(0, tg_datapath_specialise(&w.dp, TG_FEATURE_V4, &error));
	w.balancer = tg_balancer_new(&w.loop, &w.dp, ignore, NULL, &error);
	CHECK(w.balancer);
	tg_balancer_tune(w.balancer, 100000000, 1000000);
	apply();
	if (w.slots)
		return;
	snprintf(path, sizeof(path), "%s/rings/0", w.dp.dir);
	ring = bpf_obj_get(path);
	w.slots = mmap(NULL, TG_RING_ELEMENTS(SLOTS) * 8, PROT_READ, MAP_SHARED, ring, 0);
	CHECK(w.slots != MAP_FAILED);
	close(ring);
}

static void stop(void)
{
	tg_balancer_close(w.balancer);
	uv_run(&w.loop, UV_RUN_DEFAULT);
	tg_datapath_close(&w.dp);
}

#endif
