/* SPDX-License-Identifier: GPL-2.0-only */
#include "datapath_ports.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

struct port_slot {
	struct tg_port_name device;
	__u32 taps[TG_DIRECTIONS];
};

struct tg_port_slots {
	uv_mutex_t lock;
	struct port_slot all[TG_MAX_PORTS];
};

struct tg_port_slots *tg_port_slots_new(void)
{
	struct tg_port_slots *slots = calloc(1, sizeof(*slots));

	if (slots)
		uv_mutex_init(&slots->lock);
	return slots;
}

void tg_port_slots_free(struct tg_port_slots *slots)
{
	if (!slots)
		return;
	uv_mutex_destroy(&slots->lock);
	free(slots);
}

static void adopt_taps(void *user, unsigned int ifindex, const struct tg_port *port)
{
	struct tg_port_slots *slots = user;

	if (port->slot < TG_MAX_PORTS)
		memcpy(slots->all[port->slot].taps, port->taps, sizeof(port->taps));
}

void tg_port_slots_adopt(struct tg_port_slots *slots, int names, int ports)
{
	for (__u32 i = 0; i < TG_MAX_PORTS; i++) {
		struct tg_port_name *device = &slots->all[i].device;

		if (bpf_map_lookup_elem(names, &i, device))
			memset(device, 0, sizeof(*device));
		device->name[TG_PORT_NAME - 1] = 0;
	}
	tg_ports_each(ports, adopt_taps, slots);
}

static void record(const struct tg_datapath *dp, __u32 slot)
{
	if (dp->maps[TG_MAP_PORT_NAMES] >= 0)
		bpf_map_update_elem(
			dp->maps[TG_MAP_PORT_NAMES], &slot, &dp->slots->all[slot].device, BPF_ANY);
}

void tg_port_slots_record(struct tg_datapath *dp)
{
	uv_mutex_lock(&dp->slots->lock);
	for (__u32 i = 0; i < TG_MAX_PORTS; i++)
		record(dp, i);
	uv_mutex_unlock(&dp->slots->lock);
}

/* --- slots ------------------------------------------------------------------------------------------------- */

/* The slot with that name, or, named "", the first that is free. */
static int find(const struct tg_port_slots *slots, const char *device)
{
	for (int i = 0; i < TG_MAX_PORTS; i++)
		if (!strncmp(slots->all[i].device.name, device, TG_PORT_NAME))
			return i;
	return -ENOSPC;
}

static int find_or_give(const struct tg_datapath *dp, const char *device)
{
	struct tg_port_slots *slots = dp->slots;
	int slot = find(slots, device);

	if (slot >= 0)
		return slot;
	slot = find(slots, "");
	if (slot < 0)
		return slot;
	slots->all[slot] = (struct port_slot){ 0 };
	snprintf(slots->all[slot].device.name, TG_PORT_NAME, "%s", device);
	record(dp, slot);
	return slot;
}

int tg_port_slot(struct tg_datapath *dp, const char *device, struct tg_error *error)
{
	int slot;

	uv_mutex_lock(&dp->slots->lock);
	slot = find_or_give(dp, device);
	uv_mutex_unlock(&dp->slots->lock);
	return slot < 0 ? tg_fail(error, slot, "port %s: an instance has at most %d ports", device,
				  TG_MAX_PORTS)
			: slot;
}

bool tg_port_device(const struct tg_datapath *dp, __u32 slot, char device[TG_PORT_NAME])
{
	uv_mutex_lock(&dp->slots->lock);
	snprintf(device, TG_PORT_NAME, "%s",
		slot < TG_MAX_PORTS ? dp->slots->all[slot].device.name : "");
	uv_mutex_unlock(&dp->slots->lock);
	return device[0];
}

static void mark_entered(void *user, unsigned int ifindex, const struct tg_port *port)
{
	bool *entered = user;

	if (port->slot < TG_MAX_PORTS)
		entered[port->slot] = true;
}

static bool is_among(const char *device, const char *const *devices, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (!strcmp(device, devices[i]))
			return true;
	return false;
}

void tg_port_keep(struct tg_datapath *dp, const char *const *devices, size_t count)
{
	bool entered[TG_MAX_PORTS] = { 0 };
	struct tg_port_slots *slots = dp->slots;

	tg_ports_each(dp->maps[TG_MAP_PORTS], mark_entered, entered);
	uv_mutex_lock(&slots->lock);
	for (int i = 0; i < TG_MAX_PORTS; i++) {
		const char *device = slots->all[i].device.name;

		if (!device[0] || entered[i] || is_among(device, devices, count))
			continue;
		slots->all[i] = (struct port_slot){ 0 };
		record(dp, i);
	}
	uv_mutex_unlock(&slots->lock);
}

/* --- as the programs know them ------------------------------------------------------------------------------- */

void tg_ports_each(int map,
	void (*fn)(void *user, unsigned int ifindex, const struct tg_port *port), void *user)
{
	__u32 keys[TG_MAX_PORTS], position = 0, count = TG_MAX_PORTS;
	struct tg_port ports[TG_MAX_PORTS];

	if (map < 0 || (bpf_map_lookup_batch(map, NULL, &position, keys, ports, &count, NULL) &&
			       errno != ENOENT)) /* which says that these were all */
		return;
	for (__u32 i = 0; i < count; i++)
		fn(user, keys[i], &ports[i]);
}

bool tg_port_entered(const struct tg_datapath *dp, unsigned int ifindex, struct tg_port *port)
{
	return dp->maps[TG_MAP_PORTS] >= 0 &&
	       !bpf_map_lookup_elem(dp->maps[TG_MAP_PORTS], &ifindex, port);
}

/* What programs know of the port with that index; NULL: nothing any more. */
static int write_entry(
	const struct tg_datapath *dp, unsigned int ifindex, const struct tg_port *port, __u64 flags)
{
	struct tg_port near = { 0 };
	int result = 0;

	if (port) {
		near = *port;
		near.flags |= TG_PORT_NEAR;
		result = bpf_map_update_elem(dp->maps[TG_MAP_PORTS], &ifindex, port, flags);
	}
	if (!result && ifindex < TG_NEAR_PORTS)
		result = bpf_map_update_elem(
			dp->maps[TG_MAP_NEAR_PORTS], &ifindex, &near, BPF_ANY);
	if (!port)
		bpf_map_delete_elem(dp->maps[TG_MAP_PORTS], &ifindex);
	return result ? -errno : 0;
}

struct stale {
	const struct tg_datapath *dp;
	__u32 slot;
	unsigned int but;
};

static void remove_stale(void *user, unsigned int ifindex, const struct tg_port *port)
{
	struct stale *stale = user;

	if (port->slot == stale->slot && ifindex != stale->but)
		write_entry(stale->dp, ifindex, NULL, 0);
}

/* By other indexes than `but`. */
static void remove_others(const struct tg_datapath *dp, __u32 slot, unsigned int but)
{
	struct stale stale = { dp, slot, but };

	tg_ports_each(dp->maps[TG_MAP_PORTS], remove_stale, &stale);
}

int tg_port_enter(struct tg_datapath *dp, unsigned int ifindex, const char *device, __u32 flags,
	struct tg_error *error)
{
	int slot = tg_port_slot(dp, device, error), result = 0;
	struct tg_port port = { .slot = slot, .flags = flags };

	if (slot < 0)
		return slot;
	remove_others(dp, slot, ifindex);
	uv_mutex_lock(&dp->slots->lock);
	memcpy(port.taps, dp->slots->all[slot].taps, sizeof(port.taps));
	result = write_entry(dp, ifindex, &port, BPF_ANY);
	uv_mutex_unlock(&dp->slots->lock);
	return result ? tg_fail(error, result, "port %s: can't be entered: %s", device,
				strerror(-result))
		      : 0;
}

void tg_port_leave(struct tg_datapath *dp, const char *device)
{
	int slot;

	uv_mutex_lock(&dp->slots->lock);
	slot = find(dp->slots, device);
	uv_mutex_unlock(&dp->slots->lock);
	if (slot >= 0)
		remove_others(dp, slot, 0);
}

struct taps_change {
	const struct tg_datapath *dp;
	__u32 slot;
	const __u32 *taps;
	int result;
};

static void change_taps(void *user, unsigned int ifindex, const struct tg_port *was)
{
	struct taps_change *change = user;
	struct tg_port port = *was;
	int result;

	if (port.slot != change->slot)
		return;
	memcpy(port.taps, change->taps, sizeof(port.taps));
	result = write_entry(change->dp, ifindex, &port, BPF_EXIST);
	if (result && result != -ENOENT)
		change->result = result;
}

int tg_port_taps(struct tg_datapath *dp, const char *device, enum tg_direction direction,
	__u32 taps, struct tg_error *error)
{
	int slot = tg_port_slot(dp, device, error);
	struct taps_change change = { .dp = dp, .slot = slot };

	if (slot < 0)
		return slot;
	uv_mutex_lock(&dp->slots->lock);
	dp->slots->all[slot].taps[direction] = taps;
	change.taps = dp->slots->all[slot].taps;
	tg_ports_each(dp->maps[TG_MAP_PORTS], change_taps, &change);
	uv_mutex_unlock(&dp->slots->lock);
	return change.result ? tg_fail(error, change.result, "port %s: taps can't be set: %s",
				       device, strerror(-change.result))
			     : 0;
}
