/* SPDX-License-Identifier: GPL-2.0-only */
/* What the balancer's files share (see balancer.h). */
#ifndef TG_BALANCER_INTERNAL_H
#define TG_BALANCER_INTERNAL_H

#include "balancer.h"
#include "endpoints.h"
#include "flow_hash.h"
#include "list.h"
#include "probe.h"
#include "table.h"

#include <string.h>

/* A check that runs: one prober for all backends that ask for it. */
struct check {
	struct tg_table_node node; /* by key */
	char *key;
	enum tg_check_type type;
	struct tg_target *target;
	struct tg_balancer *balancer;
	struct tg_list users; /* struct backend.of_check */
};

struct backend {
	struct tg_table_node node; /* by service, address and port */
	struct tg_list of_service, of_check;
	struct tg_list changed; /* on balancer->changed: lives or died, and the rings don't say so yet */
	struct service *service;
	uint32_t index; /* in `backends` */
	struct tg_addr addr;
	uint16_t port;
	uint32_t weight, slots;
	enum tg_admin admin;
	bool backup, wanted; /* wanted: by the spec that is being applied */
	uint64_t key;	     /* for Maglev */
	enum tg_health health;
	bool presumed; /* to live, while its health is not known */
	int64_t since; /* seconds since 1970 */
	struct check *check;
	struct tg_nexthop_watch *watch;
	struct tg_nexthop hop;
	struct tg_backend_owner recorded; /* as it stands in `backend_owners` */
};

/* A VIP, or nat's way back from a backend's endpoint, as it stands in its hash map. */
union endpoint_key { /* the largest first: { 0 } clears all */
	struct tg_vip6_key v6;
	struct tg_vip4_key v4;
};

union endpoint_value {
	struct tg_reverse6 reverse6;
	struct tg_reverse4 reverse4;
	struct tg_vip vip;
};

struct endpoint {
	struct tg_table_node node; /* by kind and key */
	struct tg_list of_service;
	enum tg_endpoint_kind kind;
	bool wanted; /* by the spec that is being applied */
	union endpoint_key key;
	union endpoint_value value;
};

struct service {
	struct tg_table_node node; /* by name */
	struct tg_list all;
	struct tg_balancer *balancer;
	uint32_t index; /* in `services` */
	char name[TG_NAME_SIZE];
	enum tg_mode mode;
	enum tg_fail fail;
	uint32_t slots;
	struct tg_ring ring[2];	  /* IPv4, IPv6; slots == NULL: none */
	struct tg_ring staged[2]; /* made, not yet in force */
	struct tg_ring old[2];	  /* no longer in force, not yet released */
	struct tg_vip_spec *vips;
	size_t vip_count;
	struct tg_list backends, endpoints;
	struct tg_service_info recorded;
	struct tg_service_spec spec;	   /* in force, but for its VIPs; empty after adoption */
	struct tg_service_spec *next_spec; /* while applying; NULL: nothing changes */
	bool fresh;	/* made by the apply that is under way */
	bool named;	/* by the spec of that apply */
	bool changed;	/* by that apply */
	bool dirty;	/* a backend lives or died: the rings don't say so yet */
};

/* A freed backend index rests: programs may still hold a slot that names it. */
#define TG_INDEX_REST_NS 1000000000ull

struct resting {
	uint32_t index;
	uint64_t since;
};

/* An index into `rings`. LEAVING: its ring is gone, the entry is to be cleared. */
enum ring_state { RING_FREE, RING_USED, RING_LEAVING };

struct tg_balancer {
	uv_loop_t *loop;
	uv_timer_t tick;
	uv_timer_t settle; /* VIPs have changed: when the index of endpoints is published again */
	uv_prepare_t after_timers;
	uv_check_t after_poll;
	struct tg_endpoints index;
	struct tg_datapath *dp;
	struct tg_prober *prober;
	struct tg_neighbour *neighbour;
	bool following_routes, routes_full[2];
	void (*on_event)(void *user, const struct tg_event *event);
	void *user;
	struct tg_list services, changed;
	struct tg_table by_name, backends, checks, endpoints;
	uint32_t endpoint_count[TG_ENDPOINT_REVERSE6 + 1]; /* by kind */
	struct service *by_index[TG_MAX_SERVICES];
	uint8_t ring_state[TG_MAX_RINGS];
	uint32_t slot_count[TG_MAX_BACKENDS]; /* all 0 between two counts */
	struct resting *resting; /* a queue of free indexes, those that rested longest first */
	uint32_t resting_first, resting_count;
	struct tg_flow_key flow_key;
	int open_parts; /* that a close waits for */
};

#define service_of_list(position)  tg_container(position, struct service, all)
#define backend_of_list(position)  tg_container(position, struct backend, of_service)
#define endpoint_of_list(position) tg_container(position, struct endpoint, of_service)

static inline bool is_v6(const struct tg_addr *addr)
{
	return addr->family == AF_INET6;
}

/* balancer_service.c */
/* -ENOSPC, -ENOMEM: NULL, with `error`. */
struct service *tg_service_make(struct tg_balancer *balancer, const char *name, struct tg_error *error);
struct service *tg_service_new(struct tg_balancer *balancer, uint32_t index, const char *name);
struct service *tg_service_find(struct tg_balancer *balancer, const char *name);
void tg_service_record(struct service *service);
/* Frees what is in memory; `for_good` also what is in the datapath. */
void tg_service_free(struct service *service, bool for_good);
struct backend *tg_backend_new(struct service *service, const struct tg_addr *addr, uint16_t port,
	uint32_t index);
struct backend *tg_backend_find(struct service *service, const struct tg_addr *addr, uint16_t port);
/* A new one, index, entry in the datapath and all; NULL (logged) if it can't be had. */
struct backend *tg_backend_make(struct service *service, const struct tg_addr *addr, uint16_t port);
void tg_backend_free(struct backend *backend, bool for_good);
void tg_backend_record(struct backend *backend);
bool tg_backend_lives(const struct backend *backend);
/* Gives an index back; it is used again TG_INDEX_REST_NS after `since` (uv_hrtime; 0: at once). */
void tg_index_rest(struct tg_balancer *balancer, uint32_t index, uint64_t since);
/* How many indexes have rested. */
uint32_t tg_index_free(const struct tg_balancer *balancer);
void tg_spec_clear(struct tg_service_spec *spec);

/* balancer_ring.c */
int tg_ring_stage(struct service *service, struct tg_error *error);
/* Staged rings take the place of those in force, which become `old`. */
void tg_ring_swap(struct service *service);
/* Gives back the rings that are not in force (`old`, `staged`), or for families that have no VIP. */
void tg_ring_drop_old(struct service *service);
void tg_ring_drop_all(struct service *service);
/* Gives back the rings that no adopted service has. */
void tg_rings_sweep(struct tg_balancer *balancer);
/* Clears the entries of rings that were given back: one batch for all. */
void tg_rings_clear(struct tg_balancer *balancer);
void tg_ring_publish(struct service *service);
void tg_slots_count(struct service *service);
/* Once an iteration of the loop: rings of services with dead or revived backends, then events. */
void tg_changes_publish(struct tg_balancer *balancer);

/* balancer_vip.c */
/* Is there room for what the specs that are being applied need? */
int tg_vips_check(struct tg_balancer *balancer, struct tg_error *error);
void tg_vips_put(struct service *service);
void tg_vips_drop(struct service *service);
int tg_vips_adopt(struct tg_balancer *balancer);
void tg_vips_forget(struct service *service);
int tg_index_open(struct tg_balancer *balancer);

/* balancer_hop.c */
int tg_hop_follow(struct backend *backend);
void tg_hop_unfollow(struct backend *backend);
/* Writes the backend's next hop as its service's mode wants it. */
void tg_hop_publish(struct backend *backend);
void tg_routes_follow(struct tg_balancer *balancer);

/* balancer_check.c */
void tg_check_join(struct backend *backend, const struct tg_backend_spec *spec);
void tg_check_leave(struct backend *backend);
/* Tells the owner what became of the backend. */
void tg_backend_tell(const struct backend *backend);

#endif
