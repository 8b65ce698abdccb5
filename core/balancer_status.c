/* SPDX-License-Identifier: GPL-2.0-only */
/* Questions to the balancer: status, lookup, route (see balancer.h). */
#include "balancer_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static struct tg_backend_status backend_status(
	struct tg_balancer *balancer, const struct backend *b)
{
	struct tg_backend_status status = {
		.addr = b->addr,
		.port = b->port,
		.weight = b->weight,
		.slots = b->slots,
		.admin = b->admin,
		.backup = b->backup,
		.checked = b->check != NULL,
		.lives = tg_backend_lives(b),
		.quic_id = b->quic_id,
		.leaves = b->leaves,
		.drains = !b->takes && tg_backend_serves(b),
		.drained = b->drained,
		.flows = b->flows,
		.last_flow = b->last_flow,
		.hop = b->hop,
		.forwarded = tg_datapath_counter(balancer->dp, TG_MAP_BACKEND_COUNTERS, b->index),
		.replies = tg_datapath_counter(balancer->dp, TG_MAP_REPLY_COUNTERS, b->index),
	};

	if (b->check)
		status.health = *tg_target_status(b->check->target);
	status.health.state = b->health;
	status.health.since = (uint64_t)b->since * 1000000000u;
	return status;
}

static int fill_service(struct tg_service_status *status, struct service *service)
{
	size_t count = 0;

	snprintf(status->name, sizeof(status->name), "%s", service->name);
	status->mode = service->mode;
	status->fail = service->fail;
	status->slots = service->slots;
	status->quic = service->quic;
	status->moving = service->moving;
	status->flags = service->flags;
	for (int v6 = 0; v6 < 2; v6++)
		status->ring[v6] = service->ring[v6].slots ? service->ring[v6].size : 0;
	status->forwarded =
		tg_datapath_counter(service->balancer->dp, TG_MAP_SERVICE_COUNTERS, service->index);
	tg_list_each(position, &service->backends)
		count++;
	status->backends = calloc(count + 1, sizeof(*status->backends));
	status->vips = calloc(service->vip_count + 1, sizeof(*status->vips));
	if (!status->backends || !status->vips)
		return -ENOMEM;
	tg_list_each(position, &service->backends)
		status->backends[status->backend_count++] =
			backend_status(service->balancer, backend_of_list(position));
	status->vip_count = service->vip_count;
	if (service->vip_count)
		memcpy(status->vips, service->vips, service->vip_count * sizeof(*status->vips));
	return 0;
}

struct tg_status *tg_balancer_status(struct tg_balancer *balancer)
{
	struct tg_status *status = calloc(1, sizeof(*status));
	size_t count = 0;

	if (!status)
		return NULL;
	tg_changes_publish(balancer);
	tg_list_each(position, &balancer->services)
		count++;
	status->services = calloc(count + 1, sizeof(*status->services));
	if (!status->services) {
		free(status);
		return NULL;
	}
	tg_list_each(position, &balancer->services)
		if (fill_service(&status->services[status->service_count++],
			    service_of_list(position))) {
			tg_status_free(status);
			return NULL;
		}
	return status;
}

void tg_status_free(struct tg_status *status)
{
	for (size_t i = 0; i < status->service_count; i++) {
		free(status->services[i].vips);
		free(status->services[i].backends);
	}
	free(status->services);
	free(status);
}

static bool is_for(const struct tg_flow *flow, const struct tg_vip_spec *vip)
{
	return vip->addr.family == flow->client.family &&
	       (!flow->proto || vip->proto == flow->proto) &&
	       (!flow->vip.family || tg_addr_equal(&vip->addr, &flow->vip)) &&
	       (!flow->vip_port || (flow->vip_port >= vip->port && flow->vip_port <= vip->last));
}

/* The service's VIP that the flow is for, as one port. */
static int vip_of(struct service *service, const struct tg_flow *flow, struct tg_vip_spec *vip,
	struct tg_error *error)
{
	struct service *owner;
	size_t i = 0;

	while (i < service->vip_count && !is_for(flow, &service->vips[i]))
		i++;
	if (i == service->vip_count)
		return tg_fail(error, -ENOENT, "service \"%s\" has no VIP for such a flow",
			service->name);
	*vip = service->vips[i];
	if (tg_vip_is_range(vip) && !flow->vip_port)
		return tg_fail(error, -EINVAL,
			"service \"%s\" has a VIP of ports %u to %u: which port is the flow for?",
			service->name, vip->port, vip->last);
	if (flow->vip_port)
		vip->port = vip->last = flow->vip_port;
	owner = tg_vip_owner(service->balancer, vip);
	if (owner && owner != service)
		return tg_fail(error, -ENOENT, "port %u belongs to service \"%s\", whose VIP is narrower",
			vip->port, owner->name);
	return 0;
}

static uint64_t flow_hash(const struct tg_balancer *balancer, const struct tg_addr *client,
	uint16_t port, const struct tg_vip_spec *vip)
{
	uint32_t ports = tg_ports(htons(port), htons(vip->port));

	if (client->family == AF_INET)
		return tg_flow_hash4(
			&balancer->flow_key, client->word[0], vip->addr.word[0], ports, vip->proto);
	return tg_flow_hash6(&balancer->flow_key, client->word, vip->addr.word, ports, vip->proto);
}

static uint64_t source_hash(const struct tg_balancer *balancer, const struct tg_addr *client)
{
	static const uint32_t nobody[4];

	if (client->family == AF_INET)
		return tg_flow_hash4(&balancer->flow_key, client->word[0], 0, 0, 0);
	return tg_flow_hash6(&balancer->flow_key, client->word, nobody, 0, 0);
}

/* The flow's entry in the line table, 0 if there is none that counts. */
static uint64_t entry_of(const struct tg_balancer *balancer, uint64_t flow)
{
	struct tg_lines lines = tg_lines_of(balancer);
	uint64_t entry = tg_lines_find(&lines, flow);

	if (balancer->dp->backends[TG_ENTRY_BACKEND(entry)].flags & TG_BACKEND_DEAD)
		return 0;
	return entry;
}

/* Would a packet that begins the flow anew follow the entry? */
static bool keeps(const struct tg_balancer *balancer, uint64_t entry)
{
	return entry && !(TG_ENTRY_CONFIRMED(entry) &&
				balancer->dp->backends[TG_ENTRY_BACKEND(entry)].flags &
					TG_BACKEND_DRAINS);
}

/*
 * Where the flow goes, and where it would if it began now; as bpf/slots.h has it, line by line
 * (tests/spec/lookup_spec.lua).
 */
static void find_backend(const struct service *service, const struct tg_vip_spec *vip,
	const struct tg_flow *flow, uint32_t *there, uint32_t *fresh)
{
	const struct tg_ring *ring = &service->ring[is_v6(&flow->client)];
	uint64_t hash = flow_hash(service->balancer, &flow->client, flow->port, vip);
	uint64_t place = service->flags & TG_VIP_SOURCE
				 ? source_hash(service->balancer, &flow->client)
				 : hash;
	uint64_t slot = ring->slots[tg_slot_of(place, ring->size)], entry = 0;
	bool has_beginning = vip->proto == IPPROTO_TCP || service->quic.length;

	*there = *fresh = TG_SLOT_NEXT(slot);
	if (!has_beginning && !(service->flags & (TG_VIP_FLOW | TG_VIP_STRICT)))
		return;
	if (has_beginning || !TG_SLOT_LATE(slot))
		*there = TG_SLOT_HOME(slot);
	if (TG_SLOT_T(slot) || service->flags & TG_VIP_STRICT)
		entry = entry_of(service->balancer, hash);
	if (entry)
		*there = TG_ENTRY_BACKEND(entry);
	if (!has_beginning || keeps(service->balancer, entry))
		*fresh = *there;
}

static void take_endpoint(const struct tg_balancer *balancer, uint32_t index, struct tg_addr *addr,
	uint16_t *port)
{
	const struct tg_backend *entry = &balancer->dp->backends[index];

	*addr = tg_addr_from_bytes(
		entry->flags & TG_BACKEND_V6 ? AF_INET6 : AF_INET, entry->addr);
	*port = ntohs(entry->port);
}

int tg_balancer_lookup(struct tg_balancer *balancer, const char *name, const struct tg_flow *flow,
	struct tg_lookup *found, struct tg_error *error)
{
	struct service *service = tg_service_find(balancer, name);
	struct tg_vip_spec vip;
	uint32_t there, fresh;
	int result;

	if (!service)
		return tg_fail(error, -ENOENT, "there is no service \"%s\"", name);
	result = vip_of(service, flow, &vip, error);
	if (result)
		return result;
	if (!service->ring[is_v6(&flow->client)].slots)
		return tg_fail(error, -ENOENT, "service \"%s\" has no ring yet", name);
	find_backend(service, &vip, flow, &there, &fresh);
	if (!there)
		return tg_fail(error, -EHOSTDOWN, "service \"%s\" has no live backend", name);
	take_endpoint(balancer, there, &found->addr, &found->port);
	found->moves = fresh && fresh != there;
	if (found->moves)
		take_endpoint(balancer, fresh, &found->fresh_addr, &found->fresh_port);
	return 0;
}

int tg_balancer_route(struct tg_balancer *balancer, const struct tg_addr *addr,
	void (*done)(void *user, const struct tg_nexthop *hop), void *user)
{
	return tg_nexthop_ask(balancer->neighbour, addr, done, user);
}
