/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * QUIC (see balancer.h, bpf/quic.h): the layout of a service's connection IDs, and whose the server
 * IDs in them are. Both stand in their maps before the VIPs that lead there are marked as QUIC. A
 * server ID is its backend's as long as that is there, whether it lives or not: the datapath sees to that.
 */
#include "balancer_internal.h"

#include <bpf/bpf.h>

/* Does a VIP of that family lead to the backend? */
static bool serves(const struct backend *backend, bool v6)
{
	return tunnels(backend->service) || is_v6(&backend->addr) == v6;
}

static struct tg_quic_server_key key_of(const struct backend *backend, uint32_t id, bool v6)
{
	return (struct tg_quic_server_key){ .service = backend->service->index, .id = id, .v6 = v6 };
}

/* Another backend may have been given the ID since. */
static void drop_entry(struct backend *backend, uint32_t id, bool v6)
{
	int map = backend->service->balancer->dp->maps[TG_MAP_QUIC_SERVERS];
	struct tg_quic_server_key key = key_of(backend, id, v6);
	uint32_t index;

	if (!bpf_map_lookup_elem(map, &key, &index) && index == backend->index)
		bpf_map_delete_elem(map, &key);
}

static void drop_entries(struct backend *backend)
{
	for (int v6 = 0; v6 < 2; v6++)
		if (backend->quic_in[v6])
			drop_entry(backend, backend->quic_entered, v6);
	backend->quic_in[0] = backend->quic_in[1] = false;
}

/* What is new is entered before what was goes. */
static void put_entry(struct backend *backend, bool v6)
{
	struct tg_quic_server_key key = key_of(backend, backend->quic_id, v6);
	bool was = backend->quic_in[v6], same = backend->quic_entered == backend->quic_id;

	backend->quic_in[v6] = serves(backend, v6);
	if (backend->quic_in[v6] && !(was && same))
		tg_datapath_set(backend->service->balancer->dp, TG_MAP_QUIC_SERVERS, &key,
			&backend->index);
	if (was && !(backend->quic_in[v6] && same))
		drop_entry(backend, backend->quic_entered, v6);
}

static void put_entries(struct backend *backend)
{
	put_entry(backend, false);
	put_entry(backend, true);
	backend->quic_entered = backend->quic_id;
}

void tg_quic_put(struct service *service)
{
	struct tg_datapath *dp = service->balancer->dp;

	if (dp->maps[TG_MAP_QUIC] < 0)
		return;
	tg_datapath_set(dp, TG_MAP_QUIC, &service->index, &service->quic);
	tg_list_each(position, &service->backends)
		if (service->quic.length && !has_left(backend_of_list(position)))
			put_entries(backend_of_list(position));
}

void tg_quic_drop(struct service *service)
{
	tg_list_each(position, &service->backends)
		if (!service->quic.length)
			drop_entries(backend_of_list(position));
}

void tg_quic_forget(struct backend *backend)
{
	drop_entries(backend);
}

/* ---- adoption ---- */

static struct backend *backend_of(
	struct tg_balancer *balancer, const struct tg_quic_server_key *key, uint32_t index)
{
	struct service *service =
		key->service < TG_MAX_SERVICES ? balancer->by_index[key->service] : NULL;

	if (!service || !service->quic.length)
		return NULL;
	tg_list_each(position, &service->backends)
		if (backend_of_list(position)->index == index)
			return backend_of_list(position);
	return NULL;
}

/* False: it is of no backend, and goes. */
static bool adopt_entry(
	struct tg_balancer *balancer, const struct tg_quic_server_key *key, uint32_t index)
{
	struct backend *backend = backend_of(balancer, key, index);

	if (!backend || key->v6 > 1 || !serves(backend, key->v6) ||
		(backend->quic_in[!key->v6] && backend->quic_entered != key->id))
		return false;
	backend->quic_id = backend->quic_entered = key->id;
	return backend->quic_in[key->v6] = true;
}

void tg_quic_adopt(struct tg_balancer *balancer)
{
	int layouts = balancer->dp->maps[TG_MAP_QUIC],
	    servers = balancer->dp->maps[TG_MAP_QUIC_SERVERS];
	struct tg_quic_server_key key, next;
	uint32_t index;
	bool more;

	if (layouts < 0 || servers < 0)
		return;
	tg_list_each(position, &balancer->services)
		bpf_map_lookup_elem(layouts, &service_of_list(position)->index,
			&service_of_list(position)->quic);
	more = !bpf_map_get_next_key(servers, NULL, &key);
	for (; more; key = next) {
		more = !bpf_map_get_next_key(servers, &key, &next);
		if (!bpf_map_lookup_elem(servers, &key, &index) &&
			!adopt_entry(balancer, &key, index))
			bpf_map_delete_elem(servers, &key);
	}
}
