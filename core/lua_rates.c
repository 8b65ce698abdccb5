/* SPDX-License-Identifier: GPL-2.0-only */
/* tidegate.core.rates: what ports have counted (bpf/rates.h), for lua/tidegate/rates.lua. */
#include "controller_lua.h"
#include "datapath_ports.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <string.h>

int luaopen_tidegate_core_rates(lua_State *L);

static const char *const names[TG_PORT_COUNT_COUNT] = {
#define COUNT_NAME(symbol, name) [TG_PORT_COUNT_##symbol] = name,
	TG_PORT_COUNTS(COUNT_NAME)
#undef COUNT_NAME
};

static const char *const directions[TG_DIRECTIONS] = { "ingress", "egress" };

struct reading {
	lua_State *L;
	struct tg_datapath *dp;
	struct tg_port_counters *cpus;
};

static void push_counts(const struct reading *this, __u32 index)
{
	int cpus = libbpf_num_possible_cpus();

	if (bpf_map_lookup_elem(this->dp->maps[TG_MAP_PORT_COUNTERS], &index, this->cpus))
		memset(this->cpus, 0, cpus * sizeof(*this->cpus));
	lua_createtable(this->L, 0, TG_PORT_COUNT_COUNT);
	for (int i = 0; i < TG_PORT_COUNT_COUNT; i++) {
		lua_Integer sum = 0;

		for (int cpu = 0; cpu < cpus; cpu++)
			sum += this->cpus[cpu].count[i];
		lua_pushinteger(this->L, sum);
		lua_setfield(this->L, -2, names[i]);
	}
}

static void add_port(void *user, unsigned int ifindex, const struct tg_port *port)
{
	const struct reading *this = user;
	char device[TG_PORT_NAME];

	if (!tg_port_device(this->dp, port->slot, device))
		return;
	lua_createtable(this->L, 0, 3);
	lua_pushinteger(this->L, port->slot);
	lua_setfield(this->L, -2, "slot");
	for (int i = 0; i < TG_DIRECTIONS; i++) {
		push_counts(this, TG_POLICY_OF_PORT(port->slot, i));
		lua_setfield(this->L, -2, directions[i]);
	}
	lua_setfield(this->L, -2, device);
}

/* read() → { [device] = { slot, ingress = { packets, … }, egress = { … } } } | nil: the programs count nothing. */
static int l_read(lua_State *L)
{
	struct reading reading = { L, &tg_controller_opened(L)->datapath, NULL };

	if (reading.dp->maps[TG_MAP_PORT_COUNTERS] < 0)
		return 0;
	reading.cpus = lua_newuserdatauv(L, libbpf_num_possible_cpus() * sizeof(*reading.cpus), 0);
	lua_newtable(L);
	tg_ports_each(reading.dp->maps[TG_MAP_PORTS], add_port, &reading);
	return 1;
}

/* names() → { "packets", … }: what ports count. */
static int l_names(lua_State *L)
{
	lua_createtable(L, TG_PORT_COUNT_COUNT, 0);
	for (int i = 0; i < TG_PORT_COUNT_COUNT; i++) {
		lua_pushstring(L, names[i]);
		lua_rawseti(L, -2, i + 1);
	}
	return 1;
}

static const luaL_Reg functions[] = {
	{ "read", l_read },
	{ "names", l_names },
	{ NULL, NULL },
};

int luaopen_tidegate_core_rates(lua_State *L)
{
	luaL_newlib(L, functions);
	return 1;
}
