/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The addresses that have VIPs. Some packets name no port (later fragments) or come for any (ICMP
 * errors), so `vips4` and `vips6` hold for each address an entry of its own, port and protocol 0,
 * flag TG_VIP_ADDRESS. It is there as long as one VIP of that address holds it, and before that VIP.
 * `vip_marks` says of most other addresses that they have none (bpf/bogus.h): a bit for all that meet there.
 */
#include "balancer_internal.h"

#include "deny_hash.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdlib.h>

struct address {
	struct tg_table_node node; /* by key */
	struct tg_list all;
	bool v6;
	bool written; /* it stands in its map */
	union endpoint_key key;
	uint32_t holders;
};

static const struct tg_vip entry_value = { .service = TG_MAX_SERVICES, .flags = TG_VIP_ADDRESS };

static enum tg_map map_of(const struct address *address)
{
	return address->v6 ? TG_MAP_VIPS6 : TG_MAP_VIPS4;
}

static union endpoint_key key_of(bool v6, const union endpoint_key *vip)
{
	union endpoint_key key = { 0 };

	if (v6)
		memcpy(key.v6.addr, vip->v6.addr, sizeof(key.v6.addr));
	else
		key.v4.addr = vip->v4.addr;
	return key;
}

static uint32_t hash_of(bool v6, const union endpoint_key *key)
{
	return tg_hash(key, sizeof(*key)) ^ v6 * 0x9e3779b9u;
}

static struct address *find(struct tg_balancer *balancer, bool v6, const union endpoint_key *key)
{
	struct tg_table_node *node = tg_table_first(&balancer->addresses, hash_of(v6, key));

	for (; node; node = tg_table_next(node)) {
		struct address *address = tg_container(node, struct address, node);

		if (address->v6 == v6 && !memcmp(&address->key, key, sizeof(*key)))
			return address;
	}
	return NULL;
}

/* ---- marks ---- */

static uint32_t mark_of(const struct address *address)
{
	return tg_address_hash(
		address->v6 ? address->key.v6.addr : &address->key.v4.addr, address->v6, TG_VIP_MARK_BITS);
}

/* Says of a mark whether an address is there. */
static void write_mark(struct tg_balancer *balancer, uint32_t mark)
{
	struct tg_vip_marks *marks = __atomic_load_n(&balancer->dp->vip_marks, __ATOMIC_ACQUIRE);
	__u64 bit = 1ull << (mark & 63);

	if (!marks)
		return;
	if (balancer->marked[mark])
		__atomic_or_fetch(&marks->word[mark / 64], bit, __ATOMIC_RELAXED);
	else
		__atomic_and_fetch(&marks->word[mark / 64], ~bit, __ATOMIC_RELAXED);
}

static void mark(struct tg_balancer *balancer, const struct address *address)
{
	balancer->marked[mark_of(address)]++;
	write_mark(balancer, mark_of(address));
}

static void unmark(struct tg_balancer *balancer, const struct address *address)
{
	balancer->marked[mark_of(address)]--;
	write_mark(balancer, mark_of(address));
}

/* ---- entries ---- */

static void write_entry(struct tg_balancer *balancer, struct address *address)
{
	tg_index_changing(balancer);
	address->written =
		!tg_datapath_set(balancer->dp, map_of(address), &address->key, &entry_value);
}

int tg_address_hold(struct tg_balancer *balancer, bool v6, const union endpoint_key *vip)
{
	union endpoint_key key = key_of(v6, vip);
	struct address *address = find(balancer, v6, &key);

	if (!address) {
		address = calloc(1, sizeof(*address));
		if (!address ||
			tg_table_insert(&balancer->addresses, &address->node, hash_of(v6, &key))) {
			free(address);
			return -ENOMEM;
		}
		address->v6 = v6;
		address->key = key;
		tg_list_add(&balancer->all_addresses, &address->all);
		mark(balancer, address);
	}
	address->holders++;
	if (!address->written && !balancer->adopting)
		write_entry(balancer, address);
	return 0;
}

void tg_address_release(
	struct tg_balancer *balancer, bool v6, const union endpoint_key *vip, bool for_good)
{
	union endpoint_key key = key_of(v6, vip);
	struct address *address = find(balancer, v6, &key);

	if (!address || --address->holders)
		return;
	if (for_good)
		unmark(balancer, address);
	if (for_good && address->written) {
		tg_index_changing(balancer);
		bpf_map_delete_elem(balancer->dp->maps[map_of(address)], &key);
	}
	tg_list_remove(&address->all);
	tg_table_remove(&balancer->addresses, &address->node);
	free(address);
}

bool tg_is_address(const struct tg_vip *value)
{
	return value->flags & TG_VIP_ADDRESS;
}

/* Marks what stands in the map as written; what no VIP holds goes. */
static void adopt_map(struct tg_balancer *balancer, bool v6)
{
	int map = balancer->dp->maps[v6 ? TG_MAP_VIPS6 : TG_MAP_VIPS4];
	union endpoint_key key = { 0 }, next = { 0 };
	bool more = !bpf_map_get_next_key(map, NULL, &key);
	struct tg_vip value;

	for (; more; key = next) {
		more = !bpf_map_get_next_key(map, &key, &next);
		if (bpf_map_lookup_elem(map, &key, &value) || !tg_is_address(&value))
			continue;
		struct address *address = find(balancer, v6, &key);

		if (address) {
			address->written = !memcmp(&value, &entry_value, sizeof(value));
		} else {
			tg_index_changing(balancer);
			bpf_map_delete_elem(map, &key);
		}
	}
}

void tg_addresses_adopt(struct tg_balancer *balancer)
{
	adopt_map(balancer, false);
	adopt_map(balancer, true);
	tg_list_each(position, &balancer->all_addresses) {
		struct address *address = tg_container(position, struct address, all);

		if (!address->written)
			write_entry(balancer, address);
	}
	for (uint32_t i = 0; i < TG_VIP_MARKS; i++)
		write_mark(balancer, i); /* a daemon may have died in between */
}
