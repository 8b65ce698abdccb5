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

static const struct tg_vip_spec *first_vip(const struct service *service, int family, uint8_t proto)
{
	for (size_t i = 0; i < service->vip_count; i++)
		if (service->vips[i].addr.family == family &&
			(!proto || service->vips[i].proto == proto))
			return &service->vips[i];
	return NULL;
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

int tg_balancer_lookup(struct tg_balancer *balancer, const char *name, const struct tg_addr *client,
	uint16_t port, uint8_t proto, struct tg_addr *addr, uint16_t *backend_port,
	struct tg_error *error)
{
	struct service *service = tg_service_find(balancer, name);
	const struct tg_vip_spec *vip = service ? first_vip(service, client->family, proto) : NULL;
	const struct tg_ring *ring;
	const struct tg_backend *entry;
	uint32_t home;

	if (!vip)
		return tg_fail(error, -ENOENT, "service \"%s\" has no VIP for such a flow", name);
	ring = &service->ring[client->family == AF_INET6];
	if (!ring->slots)
		return tg_fail(error, -ENOENT, "service \"%s\" has no ring yet", name);
	home = TG_SLOT_HOME(
		ring->slots[tg_slot_of(flow_hash(balancer, client, port, vip), ring->size)]);
	if (!home)
		return tg_fail(error, -EHOSTDOWN, "service \"%s\" has no live backend", name);
	entry = &balancer->dp->backends[home];
	*addr = tg_addr_from_bytes(client->family, entry->addr);
	*backend_port = ntohs(entry->port);
	return 0;
}

int tg_balancer_route(struct tg_balancer *balancer, const struct tg_addr *addr,
	void (*done)(void *user, const struct tg_nexthop *hop), void *user)
{
	return tg_nexthop_ask(balancer->neighbour, addr, done, user);
}
