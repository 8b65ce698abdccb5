/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The balancer: which services there are, which of their backends live, and what the datapath's
 * tables therefore say. It owns the prober, the next hops and the rings; a backend that fails its
 * checks leaves the rings without anybody being asked.
 *
 * It lives in the engine's thread: every function here is called there. Desired state comes in as
 * values (struct tg_spec), whole; what changes of itself goes out as events.
 *
 * Health: without a check a backend lives. With one, the first result decides what it is, and `rise`
 * and `fall` from then on. Until the first result, a backend of a service that is new counts as alive
 * (or a whole service would be dead until its first probes), one that is *added* to a running
 * service as dead (what has never answered gets no client while others can serve). A backend that a
 * daemon adopts, or whose check is replaced, keeps the state it had. A shared check has one state.
 *
 * Deaths and revivals change the rings once an iteration of the loop, however many backends they
 * are; events follow when the rings are written.
 *
 *	balancer.c	  apply
 *	balancer_service.c services and backends, as objects
 *	balancer_adopt.c  life; adoption of what runs
 *	balancer_status.c questions
 *	balancer_ring.c	  backends to slots
 *	balancer_vip.c	  VIPs and nat's way back
 *	balancer_hop.c	  next hops of backends, routes to clients
 *	balancer_check.c  health checks, shared by all backends that ask the same of the same endpoint
 */
#ifndef TG_BALANCER_H
#define TG_BALANCER_H

#include "addr.h"
#include "datapath.h"
#include "error.h"
#include "health.h"
#include "neighbour.h"

#include <uv.h>

#define TG_WEIGHT_MAX 65535

struct tg_vip_spec {
	struct tg_addr addr;
	uint16_t port; /* host order */
	uint8_t proto;
};

struct tg_backend_spec {
	struct tg_addr addr;
	uint16_t port; /* 0: the VIP's */
	uint32_t weight;
	enum tg_admin admin;
	bool backup;	       /* serves only when no other backend lives */
	char *check_key;       /* equal keys share one check; NULL: no check, the backend is up */
	struct tg_check check; /* request is owned by the spec */
};

struct tg_service_spec {
	char name[TG_NAME_SIZE];
	enum tg_mode mode;
	enum tg_fail fail;
	uint32_t slots; /* a prime; 0: by the number of backends */
	struct tg_vip_spec *vips;
	size_t vip_count;
	struct tg_backend_spec *backends;
	size_t backend_count;
};

/* All services that there shall be; `partial`: and those that are not named stay as they are. */
struct tg_spec {
	struct tg_service_spec *services;
	size_t service_count;
	bool partial;
};

void tg_spec_free(struct tg_spec *spec);

struct tg_backend_status {
	struct tg_addr addr;
	uint16_t port;
	uint32_t weight, slots;
	enum tg_admin admin;
	bool backup, checked;
	bool lives; /* takes flows, as far as its health goes */
	struct tg_health_status health;
	struct tg_nexthop hop;
	struct tg_counter forwarded, replies;
};

struct tg_service_status {
	char name[TG_NAME_SIZE];
	enum tg_mode mode;
	enum tg_fail fail;
	uint32_t slots;	      /* as declared */
	uint32_t ring[2];     /* slots of the IPv4 and the IPv6 ring; 0: none */
	struct tg_counter forwarded;
	struct tg_vip_spec *vips;
	size_t vip_count;
	struct tg_backend_status *backends;
	size_t backend_count;
};

/* A copy of what is; freed with tg_status_free. */
struct tg_status {
	struct tg_service_status *services;
	size_t service_count;
};

void tg_status_free(struct tg_status *status);

/* Something happened of itself: a backend began to live or died, and the rings say so. */
struct tg_event {
	char name[24]; /* "backend.up", "backend.down" */
	char service[TG_NAME_SIZE];
	char backend[TG_ENDPOINT_TEXT];
	char reason[TG_REASON_TEXT];
};

struct tg_balancer;

/* Adopts what the datapath holds. `on_event` is called in the engine's thread. */
struct tg_balancer *tg_balancer_new(uv_loop_t *loop, struct tg_datapath *dp,
	void (*on_event)(void *user, const struct tg_event *event), void *user, struct tg_error *error);
/* Ends probing and following; tables stay as they are. Memory is freed when the loop has turned. */
void tg_balancer_close(struct tg_balancer *balancer);

/*
 * Makes the services those of `spec`, which is taken over (and freed, also on failure). What can fail is
 * done first; on failure nothing that packets see has changed. A service whose spec is the one in
 * force is not touched.
 */
int tg_balancer_apply(struct tg_balancer *balancer, struct tg_spec *spec, struct tg_error *error);

/* The result of a check that somebody else ran (TG_CHECK_EXTERNAL), by its key. */
void tg_balancer_report(struct tg_balancer *balancer, const char *check_key,
	const struct tg_probe_result *result);

struct tg_status *tg_balancer_status(struct tg_balancer *balancer);

/*
 * The backend that a flow from client:port to the service's first VIP of that family (and `proto`,
 * 0: any) goes to. -ENOENT: no such service or VIP; -EHOSTDOWN: no live backend.
 */
int tg_balancer_lookup(struct tg_balancer *balancer, const char *service,
	const struct tg_addr *client, uint16_t port, uint8_t proto, struct tg_addr *backend,
	uint16_t *backend_port, struct tg_error *error);

/* How the kernel would reach `addr`: `done` is called once, soon. */
int tg_balancer_route(struct tg_balancer *balancer, const struct tg_addr *addr,
	void (*done)(void *user, const struct tg_nexthop *hop), void *user);

#endif
