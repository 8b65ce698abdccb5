/* SPDX-License-Identifier: GPL-2.0-only */
/* tidegate.core.top: who sends most, as the datapath counts it (bpf/top.h); for the library alone. */
#include "addr.h"
#include "controller_lua.h"
#include "datapath_ports.h"
#include "refuse.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BATCH 512

int luaopen_tidegate_core_top(lua_State *L);

static struct tg_datapath *check_datapath(lua_State *L)
{
	struct tg_datapath *dp = &tg_controller_opened(L)->datapath;

	if (dp->maps[TG_MAP_TOP] < 0)
		luaL_error(L, "the programs know no tops");
	return dp;
}

static __u64 coarse_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	return now.tv_sec * 1000000000ull + now.tv_nsec;
}

static int set_top(lua_State *L, const struct tg_datapath *dp, const struct tg_top *top)
{
	const __u32 zero = 0;
	struct tg_error error;
	int result;

	if (!bpf_map_update_elem(dp->maps[TG_MAP_TOP], &zero, top, BPF_ANY))
		return 0;
	result = -errno;
	tg_fail(&error, result, "top: %s", strerror(-result));
	return tg_lua_refuse(L, result, &error);
}

/* start("src" | "dst", device | nil, seconds) → its number | nil, text, code: counts from now on, for so long at most. */
static int l_start(lua_State *L)
{
	static const char *const sides[] = { "src", "dst", NULL };
	struct tg_datapath *dp = check_datapath(L);
	struct tg_top top = { .by = luaL_checkoption(L, 1, NULL, sides), .slot = TG_TOP_ANY_PORT };
	const char *device = luaL_optstring(L, 2, NULL);
	const __u32 zero = 0;
	struct tg_top before = { 0 };
	struct tg_error error;
	int result;

	if (device) {
		result = tg_port_slot(dp, device, &error);
		if (result < 0)
			return tg_lua_refuse(L, result, &error);
		top.slot = result;
	}
	bpf_map_lookup_elem(dp->maps[TG_MAP_TOP], &zero, &before);
	top.run = before.run + 1;
	top.until = coarse_ns() + luaL_checknumber(L, 3) * 1e9;
	result = set_top(L, dp, &top);
	if (result)
		return result;
	lua_pushinteger(L, top.run);
	return 1;
}

/* stop(number): counts no more, if it is that one that counts. */
static int l_stop(lua_State *L)
{
	struct tg_datapath *dp = &tg_controller_opened(L)->datapath;
	const __u32 zero = 0;
	struct tg_top top;

	if (dp->maps[TG_MAP_TOP] < 0 || bpf_map_lookup_elem(dp->maps[TG_MAP_TOP], &zero, &top) ||
		top.run != luaL_checkinteger(L, 1))
		return 0;
	top.until = 0;
	return set_top(L, dp, &top);
}

/* --- reading it ------------------------------------------------------------------------------------------------ */

struct top_entry {
	__be32 addr[4];
	struct tg_top_count count;
};

struct read_call {
	struct tg_call call;
	__u32 run;
	size_t wanted;
	size_t count;
	struct top_entry *entries;
};

static void add_up(struct tg_top_count *to, const struct tg_top_count *cpus, int n)
{
	for (int i = 0; i < n; i++) {
		to->packets += cpus[i].packets;
		to->bytes += cpus[i].bytes;
		to->completed += cpus[i].completed;
		to->unseen += cpus[i].unseen;
	}
}

static void take_batch(struct read_call *this, const struct tg_top_key *keys,
	const struct tg_top_count *counts, __u32 n, int cpus)
{
	for (__u32 i = 0; i < n && this->count < TG_TOP_HOSTS; i++) {
		struct top_entry *entry = &this->entries[this->count];

		if (keys[i].run != this->run)
			continue;
		this->count++;
		memcpy(entry->addr, keys[i].addr, sizeof(entry->addr));
		add_up(&entry->count, &counts[i * cpus], cpus);
	}
}

/* A bucket that is larger than what a batch has room for says ENOSPC: then the batch grows. */
static int read_all(struct read_call *this, int map)
{
	int cpus = libbpf_num_possible_cpus(), result = 0;
	struct tg_top_key *keys = calloc(TG_TOP_HOSTS, sizeof(*keys));
	struct tg_top_count *counts = calloc((size_t)TG_TOP_HOSTS * cpus, sizeof(*counts));
	__u32 position[2], *from = NULL, n, room = BATCH;

	if (!keys || !counts)
		result = -ENOMEM;
	while (!result) {
		n = room;
		if (bpf_map_lookup_batch(map, from, position, keys, counts, &n, NULL))
			result = -errno;
		if (result == -ENOSPC && room < TG_TOP_HOSTS) {
			room *= 2;
			result = 0;
			continue;
		}
		if (!result || result == -ENOENT)
			take_batch(this, keys, counts, n, cpus);
		from = position;
	}
	free(counts);
	free(keys);
	return result == -ENOENT ? 0 : result;
}

static int by_packets(const void *a, const void *b)
{
	const struct top_entry *x = a, *y = b;

	if (x->count.packets != y->count.packets)
		return x->count.packets < y->count.packets ? 1 : -1;
	return memcmp(x->addr, y->addr, sizeof(x->addr));
}

static void work_read(struct tg_call *call)
{
	struct read_call *this = (struct read_call *)call;

	this->entries = calloc(TG_TOP_HOSTS, sizeof(*this->entries));
	call->code =
		this->entries
			? read_all(this,
				  tg_controller_of_call(call)->datapath.maps[TG_MAP_TOP_COUNTS])
			: -ENOMEM;
	if (call->code)
		tg_fail(&call->error, call->code, "top: %s", strerror(-call->code));
	else
		qsort(this->entries, this->count, sizeof(*this->entries), by_packets);
}

static void push_host(lua_State *L, const __be32 addr[4])
{
	char text[INET6_ADDRSTRLEN];
	bool v4 = !addr[0] && !addr[1] && addr[2] == htonl(0xffff);

	inet_ntop(v4 ? AF_INET : AF_INET6, v4 ? &addr[3] : addr, text, sizeof(text));
	lua_pushstring(L, text);
}

static void push_entry(lua_State *L, const struct top_entry *entry)
{
	lua_createtable(L, 0, 4);
	push_host(L, entry->addr);
	lua_setfield(L, -2, "addr");
	lua_pushinteger(L, entry->count.packets);
	lua_setfield(L, -2, "packets");
	lua_pushinteger(L, entry->count.bytes);
	lua_setfield(L, -2, "bytes");
	if (entry->count.unseen)
		return;
	lua_pushinteger(L, entry->count.completed);
	lua_setfield(L, -2, "completed");
}

static int push_top(struct tg_call *call, lua_State *L)
{
	struct read_call *this = (struct read_call *)call;
	size_t n = this->count < this->wanted ? this->count : this->wanted;

	lua_createtable(L, n, 0);
	for (size_t i = 0; i < n; i++) {
		push_entry(L, &this->entries[i]);
		lua_rawseti(L, -2, i + 1);
	}
	lua_pushinteger(L, this->count);
	return 2;
}

static void release_read(struct tg_call *call)
{
	free(((struct read_call *)call)->entries);
}

/*
 * read(number, n, done): done({ { addr, packets, bytes, completed = integer | nil }, … }, hosts), those with most
 * packets first, at most n of so many hosts. `completed` is nil of those whose answers are not seen here.
 */
static int l_read(lua_State *L)
{
	lua_Integer run = luaL_checkinteger(L, 1), wanted = luaL_checkinteger(L, 2);
	struct read_call *this;

	check_datapath(L);
	luaL_argcheck(L, wanted >= 0, 2, "not negative");
	this = tg_call_new(L, sizeof(*this), 3);
	this->run = run;
	this->wanted = wanted;
	this->call.work = work_read;
	this->call.push = push_top;
	this->call.release = release_read;
	tg_call_in_pool(&this->call);
	return 0;
}

/* place(): of what is counted, among the policies. */
static int l_place(lua_State *L)
{
	lua_pushinteger(L, TG_POLICY_OF_TOP);
	return 1;
}

static const luaL_Reg functions[] = {
	{ "place", l_place },
	{ "start", l_start },
	{ "stop", l_stop },
	{ "read", l_read },
	{ NULL, NULL },
};

int luaopen_tidegate_core_top(lua_State *L)
{
	luaL_newlib(L, functions);
	return 1;
}
