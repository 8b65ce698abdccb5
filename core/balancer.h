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
 * Flows stay where they are while the rings change (core/slots.h, bpf/slots.h). A backend that takes no new
 * flows (told to drain, of weight 0, a backup that is no longer needed) keeps those that it has; one
 * that is no longer declared likewise: it leaves when it has drained, unless its spec says `cut`. A drain
 * that was told ends when no old flow has spoken for the idle time (TG_IDLE_SECONDS, tg_balancer_tune), or
 * after the service's `drain`: what is left then is cut.
 *
 * Deaths and revivals change the rings once an iteration of the loop, however many backends they
 * are; events follow when the rings are written.
 *
 *	balancer.c	  apply
 *	balancer_service.c services and backends, as objects
 *	balancer_adopt.c  life; adoption of what runs
 *	balancer_status.c questions
 *	balancer_ring.c	  backends to slots
 *	balancer_transition.c slots that move, backends that drain; the epoch and the line table
 *	balancer_vip.c	  VIPs and nat's way back
 *	balancer_range.c  the same where they are ranges of ports
 *	balancer_quic.c	  connection IDs that name a backend
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
	uint16_t port, last; /* host order; the same, or a range's first and last */
	uint8_t proto;
	uint8_t pad[3]; /* zero, so that VIPs compare with memcmp */
};

static inline bool tg_vip_is_range(const struct tg_vip_spec *vip)
{
	return vip->port != vip->last;
}

struct tg_backend_spec {
	struct tg_addr addr;
	uint16_t port; /* 0: the VIP's */
	uint32_t weight;
	enum tg_admin admin;
	bool backup;	       /* serves only when no other backend lives */
	uint32_t quic_id;      /* its server ID, of a service that is QUIC */
	char *check_key;       /* equal keys share one check; NULL: no check, the backend is up */
	struct tg_check check; /* request is owned by the spec */
};

#define TG_DRAIN_FOREVER UINT64_MAX

struct tg_service_spec {
	char name[TG_NAME_SIZE];
	enum tg_mode mode;
	enum tg_fail fail;
	uint32_t slots; /* a prime; 0: by the number of backends */
	struct tg_quic quic; /* length 0: UDP is not QUIC */
	uint16_t flags; /* TG_VIP_STRICT, _FLOW, _SOURCE: which flows stay where they are */
	struct tg_addr cut; /* a backend that shall go at once, not drain first; family 0: none */
	uint16_t cut_port;
	uint64_t drain; /* nanoseconds that old flows of a draining backend may go on; TG_DRAIN_FOREVER */
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
	uint32_t quic_id;
	bool leaves; /* no longer declared: is forgotten when it has drained */
	bool drains; /* takes no new flows, those that it had go on */
	bool drained; /* it was told to drain, and that is over */
	uint32_t flows;	   /* of one that drains: about how many old ones spoke lately */
	int64_t last_flow; /* when the last of them did, seconds since 1970; 0: none has yet */
	struct tg_health_status health;
	struct tg_nexthop hop;
	struct tg_counter forwarded, replies;
};

struct tg_service_status {
	char name[TG_NAME_SIZE];
	enum tg_mode mode;
	enum tg_fail fail;
	uint32_t slots;	      /* as declared */
	uint32_t moving;      /* slots, from one backend to another */
	uint16_t flags;	      /* as in the spec */
	uint32_t ring[2];     /* slots of the IPv4 and the IPv6 ring; 0: none */
	struct tg_quic quic;
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

/* Something happened of itself: a backend began to live, died or has drained, and the rings say so. */
struct tg_event {
	char name[24]; /* "backend.up", "backend.down", "backend.drained" */
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

/* A port was attached natively (struct tg_datapath): not all devices are sent by any more. */
void tg_balancer_publish_hops(struct tg_balancer *balancer);

struct tg_status *tg_balancer_status(struct tg_balancer *balancer);

/* A flow from client:port to a service's first VIP of that family, or the first that is as it says. */
struct tg_flow {
	struct tg_addr client, vip; /* family 0: any */
	uint16_t port, vip_port;    /* 0: any */
	uint8_t proto;		    /* 0: any */
};

/*
 * The backend that a flow goes to, and the one that it would go to if it began now. -ENOENT: no such
 * service, or no such VIP of it; -EINVAL: a range of ports, and none is named; -EHOSTDOWN: no live backend.
 */
struct tg_lookup {
	struct tg_addr addr, fresh_addr;
	uint16_t port, fresh_port;
	bool moves; /* they are not the same */
};
int tg_balancer_lookup(struct tg_balancer *balancer, const char *service,
	const struct tg_flow *flow, struct tg_lookup *found, struct tg_error *error);

/*
 * How long a flow may be silent before it is forgotten (milliseconds; 0: TG_IDLE_SECONDS), and how many
 * flows one client may have entered in a thirtieth of that (0: TG_DEFAULT_NEWCOMERS).
 */
void tg_balancer_tune(struct tg_balancer *balancer, uint64_t idle_ms, uint32_t newcomers);

/* How the kernel would reach `addr`: `done` is called once, soon. */
int tg_balancer_route(struct tg_balancer *balancer, const struct tg_addr *addr,
	void (*done)(void *user, const struct tg_nexthop *hop), void *user);

#endif
