/* SPDX-License-Identifier: GPL-2.0-only */
#include "spec_lua.h"

#include "probe_http.h"

#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SPEC "tidegate.spec"

static const char *const modes[] = { "l2dsr", "nat", "ipip", "gue", NULL };
static const char *const fails[] = { "drop", "pass", NULL };
static const char *const admins[] = { "ready", "drain", "maint", NULL };
static const char *const affinities[] = { "none", "flow", "strict", "source", NULL };
static const uint16_t affinity_flags[] = { 0, TG_VIP_FLOW, TG_VIP_STRICT, TG_VIP_SOURCE };
static const char *const protocols[] = { "tcp", "udp", NULL };
static const char *const check_types[] = { "tcp", "http", "external", NULL };

/* ---- from Lua ---- */

struct tg_addr tg_check_addr(lua_State *L, int index)
{
	const char *text = luaL_checkstring(L, index);
	struct tg_addr addr;

	if (tg_addr_parse(text, &addr))
		luaL_error(L, "\"%s\": not an IP address", text);
	return addr;
}

static struct tg_addr addr_field(lua_State *L, const char *name)
{
	struct tg_addr addr;

	lua_getfield(L, -1, name);
	addr = tg_check_addr(L, -1);
	lua_pop(L, 1);
	return addr;
}

static lua_Integer integer_field(
	lua_State *L, const char *name, lua_Integer fallback, lua_Integer max)
{
	lua_Integer value;

	lua_getfield(L, -1, name);
	value = luaL_optinteger(L, -1, fallback);
	if (value < 0 || value > max)
		luaL_error(L, "%s: %I given, 0 to %I allowed", name, value, max);
	lua_pop(L, 1);
	return value;
}

static uint64_t seconds_field(lua_State *L, const char *name)
{
	double value;

	lua_getfield(L, -1, name);
	value = luaL_checknumber(L, -1);
	lua_pop(L, 1);
	return value * 1e9;
}

static bool bool_field(lua_State *L, const char *name)
{
	bool value;

	lua_getfield(L, -1, name);
	value = lua_toboolean(L, -1);
	lua_pop(L, 1);
	return value;
}

static int option_field(
	lua_State *L, const char *name, const char *fallback, const char *const list[])
{
	int value;

	lua_getfield(L, -1, name);
	value = luaL_checkoption(L, -1, fallback, list);
	lua_pop(L, 1);
	return value;
}

/* A copy of a string field, or NULL. */
static char *string_field(lua_State *L, const char *name)
{
	char *copy = NULL;

	lua_getfield(L, -1, name);
	if (!lua_isnil(L, -1))
		copy = strdup(luaL_checkstring(L, -1));
	lua_pop(L, 1);
	return copy;
}

static void read_request(lua_State *L, struct tg_check *check)
{
	char *path = string_field(L, "path"), *host = string_field(L, "host"),
	     *method = string_field(L, "method");
	struct tg_error error = { "" };

	check->request = tg_http_request(method ? method : "GET", path ? path : "/", host, &error);
	free(path);
	free(host);
	free(method);
	if (!check->request)
		luaL_error(L, "check: %s", error.text);
}

static void read_check(lua_State *L, struct tg_backend_spec *backend)
{
	struct tg_check *check = &backend->check;

	lua_getfield(L, -1, "check");
	if (lua_istable(L, -1)) {
		backend->check_key = string_field(L, "key");
		check->type = option_field(L, "type", NULL, check_types);
		check->addr = backend->addr;
		check->port = integer_field(L, "port", 0, UINT16_MAX);
		check->interval = seconds_field(L, "interval");
		check->timeout = seconds_field(L, "timeout");
		check->rise = integer_field(L, "rise", 2, TG_CHECK_COUNT_MAX);
		check->fall = integer_field(L, "fall", 3, TG_CHECK_COUNT_MAX);
		check->status_min = integer_field(L, "status_min", 0, 599);
		check->status_max = integer_field(L, "status_max", 0, 599);
		if (check->type == TG_CHECK_HTTP)
			read_request(L, check);
	}
	lua_pop(L, 1);
}

static void read_backend(lua_State *L, struct tg_backend_spec *backend)
{
	backend->addr = addr_field(L, "addr");
	backend->port = integer_field(L, "port", 0, UINT16_MAX);
	backend->weight = integer_field(L, "weight", 1, TG_WEIGHT_MAX);
	backend->admin = option_field(L, "admin", "ready", admins);
	backend->backup = bool_field(L, "backup");
	backend->quic_id = integer_field(L, "quic_id", 0, UINT32_MAX);
	read_check(L, backend);
}

static void read_vip(lua_State *L, struct tg_vip_spec *vip)
{
	vip->addr = addr_field(L, "addr");
	vip->port = integer_field(L, "port", 0, UINT16_MAX);
	vip->last = integer_field(L, "last", vip->port, UINT16_MAX);
	if (!vip->port || vip->last < vip->port)
		luaL_error(L, "ports %d to %d: 1 to 65535 allowed, in order", vip->port, vip->last);
	vip->proto = option_field(L, "proto", NULL, protocols) == 0 ? IPPROTO_TCP : IPPROTO_UDP;
}

/* How long a drain may take: nothing, but where it is said. Negative: for ever. */
static uint64_t drain_field(lua_State *L)
{
	double seconds;

	lua_getfield(L, -1, "drain");
	seconds = luaL_optnumber(L, -1, 0);
	lua_pop(L, 1);
	return seconds < 0 ? TG_DRAIN_FOREVER : seconds * 1e9;
}

/* A backend that goes at once, named by `cut`. */
static void read_cut(lua_State *L, struct tg_service_spec *service)
{
	lua_getfield(L, -1, "cut");
	if (lua_istable(L, -1)) {
		service->cut = addr_field(L, "addr");
		service->cut_port = integer_field(L, "port", 0, UINT16_MAX);
	}
	lua_pop(L, 1);
}

/* Room for as many elements as the list on the top has. */
static void *room_for(lua_State *L, size_t size)
{
	void *room = calloc(lua_rawlen(L, -1) + 1, size);

	if (!room)
		luaL_error(L, "out of memory");
	return room;
}

static void read_quic(lua_State *L, struct tg_quic *quic)
{
	lua_Integer config;

	if (lua_getfield(L, -1, "quic") == LUA_TTABLE) {
		quic->offset = integer_field(L, "offset", 0, 19);
		quic->length = integer_field(L, "length", 0, TG_QUIC_ID_MAX);
		config = integer_field(L, "config", 7, 7); /* 7: whatever they are */
		quic->mask = config < 7 ? 0xe0 : 0;
		quic->value = config < 7 ? config << 5 : 0;
	}
	lua_pop(L, 1);
}

static void read_service(lua_State *L, struct tg_service_spec *service)
{
	const char *name;
	size_t length;

	lua_getfield(L, -1, "name");
	name = luaL_checklstring(L, -1, &length);
	if (!length || length >= TG_NAME_SIZE)
		luaL_error(L, "service \"%s\": a name has 1 to %d bytes", name, TG_NAME_SIZE - 1);
	memcpy(service->name, name, length);
	lua_pop(L, 1);
	service->mode = option_field(L, "mode", NULL, modes);
	service->fail = option_field(L, "fail", "drop", fails);
	service->slots = integer_field(L, "slots", 0, UINT32_MAX);
	read_quic(L, &service->quic);
	service->flags = affinity_flags[option_field(L, "affinity", "none", affinities)];
	service->drain = drain_field(L);
	read_cut(L, service);
	lua_getfield(L, -1, "vips");
	service->vips = room_for(L, sizeof(*service->vips));
	for (int i = 1; lua_rawgeti(L, -1, i) == LUA_TTABLE; i++) {
		read_vip(L, &service->vips[service->vip_count++]);
		lua_pop(L, 1);
	}
	lua_pop(L, 2);
	lua_getfield(L, -1, "backends");
	service->backends = room_for(L, sizeof(*service->backends));
	for (int i = 1; lua_rawgeti(L, -1, i) == LUA_TTABLE; i++) {
		read_backend(L, &service->backends[service->backend_count++]);
		lua_pop(L, 1);
	}
	lua_pop(L, 2);
}

struct tg_flow tg_check_flow(lua_State *L, int index)
{
	static const char *const names[] = { "any", "tcp", "udp", NULL };
	static const uint8_t numbers[] = { 0, IPPROTO_TCP, IPPROTO_UDP };
	struct tg_flow flow = { 0 };

	luaL_checktype(L, index, LUA_TTABLE);
	lua_pushvalue(L, index);
	flow.client = addr_field(L, "client");
	flow.port = integer_field(L, "port", 0, UINT16_MAX);
	if (lua_getfield(L, -1, "vip") != LUA_TNIL)
		flow.vip = tg_check_addr(L, -1);
	lua_pop(L, 1);
	flow.vip_port = integer_field(L, "vip_port", 0, UINT16_MAX);
	flow.proto = numbers[option_field(L, "proto", "any", names)];
	lua_pop(L, 1);
	return flow;
}

static int free_spec(lua_State *L)
{
	struct tg_spec **box = luaL_checkudata(L, 1, SPEC);

	if (*box)
		tg_spec_free(*box);
	*box = NULL;
	return 0;
}

void tg_push_spec(lua_State *L, int index)
{
	struct tg_spec **box = lua_newuserdatauv(L, sizeof(*box), 0);
	struct tg_spec *spec;

	luaL_checktype(L, index, LUA_TTABLE);
	*box = NULL;
	if (luaL_newmetatable(L, SPEC)) {
		lua_pushcfunction(L, free_spec);
		lua_setfield(L, -2, "__gc");
	}
	lua_setmetatable(L, -2);
	*box = spec = calloc(1, sizeof(*spec));
	if (!spec)
		luaL_error(L, "out of memory");
	lua_pushvalue(L, index);
	spec->services = room_for(L, sizeof(*spec->services));
	for (int i = 1; lua_rawgeti(L, -1, i) == LUA_TTABLE; i++) {
		read_service(L, &spec->services[spec->service_count++]);
		lua_pop(L, 1);
	}
	lua_pop(L, 2);
}

struct tg_spec *tg_spec_take(lua_State *L, int index)
{
	struct tg_spec **box = luaL_checkudata(L, index, SPEC), *spec = *box;

	*box = NULL;
	return spec;
}

/* ---- to Lua ---- */

static void set_integer(lua_State *L, const char *name, lua_Integer value)
{
	lua_pushinteger(L, value);
	lua_setfield(L, -2, name);
}

static void set_bool(lua_State *L, const char *name, bool value)
{
	lua_pushboolean(L, value);
	lua_setfield(L, -2, name);
}

static void set_number(lua_State *L, const char *name, double value)
{
	lua_pushnumber(L, value);
	lua_setfield(L, -2, name);
}

static void set_string(lua_State *L, const char *name, const char *value)
{
	lua_pushstring(L, value);
	lua_setfield(L, -2, name);
}

static void set_addr(lua_State *L, const char *name, const struct tg_addr *addr)
{
	char text[TG_ADDR_TEXT];

	set_string(L, name, tg_addr_print(addr, text));
}

static void set_counter(
	lua_State *L, const char *packets, const char *bytes, struct tg_counter counter)
{
	set_integer(L, packets, counter.packets);
	set_integer(L, bytes, counter.bytes);
}

void tg_push_nexthop(lua_State *L, const struct tg_nexthop *hop)
{
	char mac[18];

	lua_createtable(L, 0, 8);
	set_string(L, "state", tg_nexthop_state_name(hop->state));
	set_integer(L, "ifindex", hop->ifindex);
	set_integer(L, "device", hop->device);
	set_integer(L, "mtu", hop->mtu);
	set_string(L, "kind", hop->kind);
	lua_pushboolean(L, tg_nexthop_is_sent(hop));
	lua_setfield(L, -2, "native");
	if (hop->routed)
		set_addr(L, "gateway", &hop->gateway);
	if (hop->ifindex) {
		snprintf(mac, sizeof(mac), "%02x:%02x:%02x:%02x:%02x:%02x", hop->dmac[0],
			hop->dmac[1], hop->dmac[2], hop->dmac[3], hop->dmac[4], hop->dmac[5]);
		set_string(L, "mac", mac);
	}
}

static const char *backend_state(const struct tg_backend_status *b)
{
	if (b->admin != TG_ADMIN_READY)
		return admins[b->admin];
	if (b->leaves)
		return admins[TG_ADMIN_DRAIN];
	return b->lives ? "up" : "down";
}

static const char *reason_of(const struct tg_backend_status *b)
{
	if (!b->lives && b->health.state == TG_HEALTH_UNKNOWN)
		return "added, and not checked yet";
	return b->health.last.reason;
}

static void push_backend(
	lua_State *L, const struct tg_service_status *s, const struct tg_backend_status *b)
{
	lua_createtable(L, 0, 24);
	set_addr(L, "addr", &b->addr);
	set_bool(L, "leaves", b->leaves);
	set_bool(L, "drained", b->drained);
	if (b->drains)
		set_integer(L, "flows", b->flows);
	if (b->drains && b->last_flow)
		set_integer(L, "last_flow", b->last_flow);
	if (b->port)
		set_integer(L, "port", b->port);
	set_integer(L, "weight", b->weight);
	if (s->quic.length)
		set_integer(L, "quic_id", b->quic_id);
	set_string(L, "state", backend_state(b));
	set_string(L, "admin", admins[b->admin]);
	set_string(L, "health", b->checked ? tg_health_name(b->health.state) : "unchecked");
	set_string(L, "reason", reason_of(b));
	set_number(L, "since", b->health.since / 1e9);
	set_number(L, "latency", b->health.last.latency_ns / 1e9);
	set_number(L, "last_check", b->health.checked / 1e9);
	set_integer(L, "checks_ok", b->health.ok);
	set_integer(L, "checks_failed", b->health.failed);
	set_integer(L, "slots", b->slots);
	set_bool(L, "backup", b->backup);
	set_counter(L, "packets", "bytes", b->forwarded);
	set_counter(L, "reply_packets", "reply_bytes", b->replies);
	tg_push_nexthop(L, &b->hop);
	lua_setfield(L, -2, "next_hop");
}

static void push_vip(lua_State *L, const struct tg_vip_spec *vip)
{
	lua_createtable(L, 0, 4);
	set_addr(L, "addr", &vip->addr);
	set_integer(L, "port", vip->port);
	if (tg_vip_is_range(vip))
		set_integer(L, "last", vip->last);
	set_string(L, "proto", vip->proto == IPPROTO_TCP ? "tcp" : "udp");
}

static void push_quic(lua_State *L, const struct tg_quic *quic)
{
	lua_createtable(L, 0, 3);
	set_integer(L, "offset", quic->offset);
	set_integer(L, "length", quic->length);
	if (quic->mask)
		set_integer(L, "config", quic->value >> 5);
}

static void push_service(lua_State *L, const struct tg_service_status *s)
{
	lua_createtable(L, 0, 10);
	set_string(L, "name", s->name);
	set_string(L, "mode", modes[s->mode]);
	set_string(L, "fail", fails[s->fail]);
	set_integer(L, "slots", s->slots);
	if (s->quic.length) {
		push_quic(L, &s->quic);
		lua_setfield(L, -2, "quic");
	}
	set_integer(L, "moving", s->moving);
	for (int i = 0; affinities[i]; i++)
		if (affinity_flags[i] == s->flags)
			set_string(L, "affinity", affinities[i]);
	set_integer(L, "ring4", s->ring[0]);
	set_integer(L, "ring6", s->ring[1]);
	set_counter(L, "packets", "bytes", s->forwarded);
	lua_createtable(L, s->vip_count, 0);
	for (size_t i = 0; i < s->vip_count; i++) {
		push_vip(L, &s->vips[i]);
		lua_rawseti(L, -2, i + 1);
	}
	lua_setfield(L, -2, "vips");
	lua_createtable(L, s->backend_count, 0);
	for (size_t i = 0; i < s->backend_count; i++) {
		push_backend(L, s, &s->backends[i]);
		lua_rawseti(L, -2, i + 1);
	}
	lua_setfield(L, -2, "backends");
}

void tg_push_status(lua_State *L, const struct tg_status *status)
{
	lua_createtable(L, status->service_count, 0);
	for (size_t i = 0; i < status->service_count; i++) {
		push_service(L, &status->services[i]);
		lua_rawseti(L, -2, i + 1);
	}
}
