/* SPDX-License-Identifier: GPL-2.0-only */
/* What the balancer's files share (see balancer.h). */
#ifndef TG_BALANCER_INTERNAL_H
#define TG_BALANCER_INTERNAL_H

#include "balancer.h"
#include "endpoints.h"
#include "flow_hash.h"
#include "probe.h"

#include <string.h>

struct service;

/* A check that runs: one prober for all backends that ask for it. */
struct check {
	char *key;
	struct tg_check wanted; /* request owned */
	struct tg_target *target;
	struct tg_balancer *balancer;
	struct backend *users; /* linked by next_user */
};

struct backend {
	struct backend *next; /* of its service */
	struct service *service;
	uint32_t index; /* in `backends` */
	struct tg_addr addr;
	uint16_t port;
	uint32_t weight, slots;
	enum tg_admin admin;
	bool backup, wanted; /* wanted: seen in the spec that is being applied */
	uint64_t key;	     /* for Maglev */
	enum tg_health health;
	int64_t since; /* seconds since 1970 */
	struct check *check;
	struct backend *next_user;
	struct tg_nexthop_watch *watch;
	struct tg_nexthop hop;
};

struct service {
	struct service *next;
	struct tg_balancer *balancer;
	uint32_t index; /* in `services` */
	char name[TG_NAME_SIZE];
	enum tg_mode mode;
	enum tg_fail fail;
	uint32_t slots;
	struct tg_ring ring[2];	  /* slots == NULL: none */
	struct tg_ring staged[2]; /* made, not yet in force */
	struct tg_vip_spec *vips;
	size_t vip_count;
	struct backend *backends;
	void *by_endpoint;	      /* tsearch tree of backends */
	struct tg_service_spec spec;  /* in force; empty after adoption */
	struct tg_service_spec *next_spec; /* while applying */
	bool fresh;		      /* made by the apply that is under way */
	bool named;		      /* by the spec of that apply */
	void *reverse;		      /* tsearch tree of nat's endpoints */
};

/* A freed backend index rests: programs may still hold a slot that names it. */
#define TG_INDEX_REST_NS 1000000000ull

struct resting {
	uint32_t index;
	uint64_t since;
};

struct tg_balancer {
	uv_loop_t *loop;
	uv_timer_t tick;
	uv_timer_t settle; /* VIPs have changed: when the index of endpoints is published again */
	struct tg_endpoints endpoints;
	struct tg_datapath *dp;
	struct tg_prober *prober;
	struct tg_neighbour *neighbour;
	bool following_routes;
	void (*on_event)(void *user, const struct tg_event *event);
	void *user;
	struct service *services;
	void *checks; /* tsearch tree by key */
	struct resting *resting; /* a queue of TG_MAX_BACKENDS free indexes */
	uint32_t resting_first, resting_count;
	bool ring_used[TG_MAX_RINGS], service_used[TG_MAX_SERVICES];
	struct tg_flow_key flow_key;
	int open_parts; /* that a close waits for */
};

/* balancer.c */
struct service *tg_service_new(struct tg_balancer *balancer, uint32_t index, const char *name);
struct service *tg_service_find(struct tg_balancer *balancer, const char *name);
/* Frees what is in memory; `for_good` also what is in the datapath. */
void tg_service_free(struct service *service, bool for_good);
struct backend *tg_backend_new(
	struct service *service, const struct tg_addr *addr, uint16_t port, uint32_t index);
/* Gives an index back; it is used again TG_INDEX_REST_NS after `since` (uv_hrtime; 0: at once). */
void tg_index_rest(struct tg_balancer *balancer, uint32_t index, uint64_t since);

/* balancer_ring.c */
int tg_ring_stage(struct service *service, const struct tg_service_spec *spec, struct tg_error *error);
void tg_ring_unstage(struct service *service);
void tg_ring_publish(struct service *service);
void tg_slots_count(struct service *service);
void tg_rings_drop(struct service *service);

/* balancer_vip.c */
void tg_vips_put(struct service *service);
void tg_vips_drop(struct service *service, const struct tg_vip_spec *vips, size_t count);
int tg_vips_adopt(struct tg_balancer *balancer);
int tg_index_open(struct tg_balancer *balancer);
int tg_reverse_adopt(struct tg_balancer *balancer);
void tg_reverse_sync(struct service *service);
void tg_reverse_drop(struct service *service);

/* balancer_hop.c */
int tg_hop_follow(struct backend *backend);
void tg_hop_unfollow(struct backend *backend);
void tg_routes_follow(struct tg_balancer *balancer);

/* balancer_check.c */
int tg_check_join(struct backend *backend, const struct tg_backend_spec *spec, struct tg_error *error);
void tg_check_leave(struct backend *backend);
void tg_backend_record(const struct backend *backend);

#endif
