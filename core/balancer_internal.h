/* SPDX-License-Identifier: GPL-2.0-only */
/* What the balancer's files share (see balancer.h). */
#ifndef TG_BALANCER_INTERNAL_H
#define TG_BALANCER_INTERNAL_H

#include "balancer.h"
#include "endpoints.h"
#include "flow_hash.h"
#include "lines.h"
#include "list.h"
#include "probe.h"
#include "ranges.h"
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
	uint32_t weight, slots; /* slots that new flows go to it by */
	uint32_t held;		/* slots that it is `home` of, */
	uint32_t held_most;	/* at most since it takes no new flows */
	enum tg_admin admin;
	bool backup, wanted; /* wanted: by the spec that is being applied */
	bool takes;	     /* new flows, as the rings in force say */
	bool leaves;	     /* no spec wants it: it drains */
	bool cut;	     /* takes no packet any more, though it may live */
	bool drained;
	int64_t drains;	       /* ms since 1970: since when it was told to; 0: it was not */
	uint64_t drains_sweep; /* sweeps of the line table that had begun then */
	uint32_t flows;	       /* see tg_backend_status */
	int64_t last_flow;
	uint64_t key;	     /* for Maglev */
	uint32_t quic_id, quic_entered; /* server ID, as it shall be and in `quic_servers` */
	bool quic_in[2];		/* it is entered there for VIPs of IPv4, of IPv6 */
	enum tg_health health;
	bool presumed; /* to live, while its health is not known */
	int64_t since; /* seconds since 1970 */
	struct check *check;
	struct tg_nexthop_watch *watch;
	struct tg_nexthop hop;
	bool refused; /* and XDP can't send by its device */
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
	struct tg_quic quic;
	uint16_t flags; /* TG_VIP_* */
	uint64_t drain; /* nanoseconds, see tg_service_spec */
	uint32_t moving; /* slots with T = 1 */
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

/*
 * A freed backend index rests: programs may still hold a slot that names it, and the line table an
 * entry, which the next sweep clears.
 */
#define TG_INDEX_REST_NS 1000000000ull

struct resting {
	uint32_t index;
	uint64_t since;
	uint64_t sweep; /* begun before that */
};

/* Slots that move away from a backend, by its index. */
struct moving {
	uint32_t active; /* of which flows spoke lately */
	uint8_t age;	 /* epochs since the latest did */
};

/* The sweep of the line table that is under way, and what it and the one before found. */
struct sweep {
	uv_timer_t timer;
	uint64_t begun, done; /* how many */
	size_t line;	      /* where it is: in the table, */
	uint32_t service;     /* then at a service's rings */
	uint32_t epoch;	      /* at its beginning */
	bool under_way, again;
	bool settles, settle_next; /* slots, too: after a tick */
	struct tg_census census;
	struct moving moving[TG_MAX_BACKENDS];
};

/* An index into `rings`. LEAVING: its ring is gone, the entry is to be cleared. */
enum ring_state { RING_FREE, RING_USED, RING_LEAVING };

struct tg_balancer {
	uv_loop_t *loop;
	uv_timer_t tick;
	uv_timer_t deadline; /* of the drain that ends first */
	struct sweep *sweep;
	uint64_t epoch_ms;
	bool gone[TG_MAX_BACKENDS]; /* indexes that no backend has: no entry of the line table counts */
	uv_timer_t settle; /* VIPs have changed: when the index of endpoints is published again */
	uv_prepare_t after_timers;
	uv_check_t after_poll;
	struct tg_endpoints index;
	struct tg_ranges ranges; /* table == NULL: without that feature */
	struct tg_addr *range_addresses; /* held by the ranges in force, each once for each range */
	size_t range_address_count;
	struct tg_datapath *dp;
	struct tg_prober *prober;
	struct tg_neighbour *neighbour;
	bool following_routes, routes_full[2];
	void (*on_event)(void *user, const struct tg_event *event);
	void *user;
	struct tg_list services, changed;
	struct tg_table by_name, backends, checks, endpoints, addresses;
	struct tg_list all_addresses; /* struct address of balancer_address.c */
	uint16_t marked[TG_VIP_MARKS]; /* how many of them have this mark */
	bool adopting;
	uint32_t endpoint_count[TG_ENDPOINT_REVERSE6 + 1]; /* by kind */
	struct service *by_index[TG_MAX_SERVICES];
	uint8_t ring_state[TG_MAX_RINGS];
	struct slot_count {
		uint32_t home, next;
	} slot_count[TG_MAX_BACKENDS]; /* all 0 between two counts */
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

/* Whose packets go in others: a backend then serves VIPs of either family. */
static inline bool tunnels(const struct service *service)
{
	return service->mode == TG_MODE_IPIP || service->mode == TG_MODE_GUE;
}

/* It is gone as soon as all that names it is. */
static inline bool has_left(const struct backend *backend)
{
	return backend->leaves && backend->cut;
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
/* Does it get packets of the flows that it has? */
bool tg_backend_serves(const struct backend *backend);
/*
 * Gives an index back; it is used again TG_INDEX_REST_NS after `since` (uv_hrtime; 0: at once), when
 * the line table has been swept.
 */
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

/* balancer_transition.c */
void tg_transitions_open(struct tg_balancer *balancer);
/* Ends it; `closed` is called for each of its three handles. */
void tg_transitions_close(struct tg_balancer *balancer, uv_close_cb closed);
/* After adoption: timers begin anew, entries that name nobody are cleared. */
void tg_transitions_adopt(struct tg_balancer *balancer);
/* Before the rings are written: who was told to drain, and for how long yet. */
void tg_drains_update(struct service *service);
/* Has the line table swept soon, and again if that is under way. */
void tg_sweep_soon(struct tg_balancer *balancer);
/* The line table; empty before there is one. */
struct tg_lines tg_lines_of(const struct tg_balancer *balancer);
/* May flows of the service be anywhere but where the slots say? */
bool tg_service_keeps_flows(const struct service *service);

/* balancer_vip.c */
/* Is there room for what the specs that are being applied need? */
int tg_vips_check(struct tg_balancer *balancer, struct tg_error *error);
void tg_vips_put(struct service *service);
void tg_vips_drop(struct service *service);
/* A range in force may have taken ports of backends that leave other services: those forget them. */
void tg_vips_yield(struct tg_balancer *balancer);
int tg_vips_adopt(struct tg_balancer *balancer);
void tg_vips_forget(struct service *service);
int tg_index_open(struct tg_balancer *balancer);
/* A VIP, its address or a way back is about to change: until that has settled, the hash maps are asked. */
void tg_index_changing(struct tg_balancer *balancer);

/* balancer_address.c */
/* A VIP of this address (the rest of its key doesn't matter) is about to be put in place. 0 or -ENOMEM. */
int tg_address_hold(struct tg_balancer *balancer, bool v6, const union endpoint_key *vip);
/* It is gone; `for_good`: the last one takes the address out of the datapath with it. */
void tg_address_release(
	struct tg_balancer *balancer, bool v6, const union endpoint_key *vip, bool for_good);
bool tg_is_address(const struct tg_vip *value);
/* Once all VIPs are adopted: what the maps say of addresses becomes what is held. */
void tg_addresses_adopt(struct tg_balancer *balancer);
/* What packets for a VIP of that family and protocol are told. */
union endpoint_value tg_vip_value(const struct service *service, bool v6, uint8_t proto);
/* The service that has this address, port and protocol as a VIP of its own, range or not; or NULL. */
struct service *tg_vip_owner(struct tg_balancer *balancer, const struct tg_vip_spec *vip);
/* Adds to the VIPs that are known of a service that is adopted. */
int tg_service_add_vip(struct service *service, const struct tg_vip_spec *vip);

/* balancer_range.c */
/* Are the ranges of all services sound, and is there room? Not `partial`: of the services named. */
int tg_ranges_check(struct tg_balancer *balancer, bool partial, struct tg_error *error);
void tg_ranges_put(struct tg_balancer *balancer, bool partial);
int tg_ranges_adopt(struct tg_balancer *balancer);
/* Frees what is in memory. */
void tg_ranges_forget(struct tg_balancer *balancer);
/* How many VIPs of a service are ranges, of each family. */
void tg_ranges_count(const struct service *service, uint32_t count[2]);
/* Does a range of another service lead back from this port of a backend? */
bool tg_range_has_way(struct tg_balancer *balancer, const struct service *except,
	const struct tg_addr *backend, uint16_t port, uint8_t proto);
struct service *tg_range_owner(struct tg_balancer *balancer, const struct tg_vip_spec *vip);

/* balancer_quic.c */
/* Enters the layout and the server IDs of the service; tg_quic_drop takes those out that it has no more. */
void tg_quic_put(struct service *service);
void tg_quic_drop(struct service *service);
/* The backend goes for good. */
void tg_quic_forget(struct backend *backend);
void tg_quic_adopt(struct tg_balancer *balancer);

/* balancer_hop.c */
int tg_hop_follow(struct backend *backend);
void tg_hop_unfollow(struct backend *backend);
/* Writes the backend's next hop as its service's mode wants it. */
void tg_hop_publish(struct backend *backend);
void tg_routes_follow(struct tg_balancer *balancer);

/* balancer_check.c */
void tg_check_join(struct backend *backend, const struct tg_backend_spec *spec);
void tg_check_leave(struct backend *backend);
/* Tells the owner what became of the backend: "up", "down", "drained". */
void tg_backend_tell(const struct backend *backend, const char *what, const char *reason);
/* The same of its health. */
void tg_backend_tell_health(const struct backend *backend);

#endif
