/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * tidegate.core.controller: the instance, its program, its ports and what the program counts, for the library
 * alone. What takes long takes a callback last (see task.await); it gets what is named here, or nil, a
 * text and an errno's name.
 */
#include "controller_lua.h"
#include "ports_lua.h"
#include "refuse.h"
#include "spec_lua.h"

#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int luaopen_tidegate_core_controller(lua_State *L);

struct tg_controller *tg_controller_of(lua_State *L)
{
	struct tg_controller *controller = tg_vm_of(L)->user;

	if (!controller)
		luaL_error(L, "there is no controller in this process");
	return controller;
}

struct tg_controller *tg_controller_opened(lua_State *L)
{
	struct tg_controller *controller = tg_controller_of(L);

	if (!controller->opened)
		luaL_error(L, "no instance is open");
	return controller;
}

struct tg_controller *tg_controller_of_call(struct tg_call *call)
{
	return call->vm->user;
}

/*
 * open(instance, seed, flows) → { adopted, replaced, features, flows } | nil, text, code. `seed`: 16 bytes
 * or nil; `flows`: room for so many in the line table, or nil. One that is there keeps its size.
 */
static int l_open(lua_State *L)
{
	struct tg_controller *controller = tg_controller_of(L);
	const char *instance = luaL_checkstring(L, 1);
	size_t size = 0;
	const char *bytes = luaL_optlstring(L, 2, NULL, &size);
	lua_Integer flows = luaL_optinteger(L, 3, 0);
	struct tg_error error = { "" };
	__u64 seed[2] = { 0, 0 };
	bool replaced;
	int result;

	luaL_argcheck(L, !bytes || size == sizeof(seed), 2, "16 bytes expected");
	luaL_argcheck(L, flows >= 0 && flows <= TG_MAX_FLOWS, 3, "too many flows");
	if (controller->opened)
		return luaL_error(L, "an instance is open already: close it first");
	if (bytes)
		memcpy(seed, bytes, sizeof(seed));
	result = tg_datapath_open(&controller->datapath, instance, seed, &replaced, &error);
	if (result)
		return tg_lua_refuse(L, result, &error);
	controller->opened = true;
	controller->tracer = tg_tracer_new(&controller->datapath);
	tg_datapath_size(&controller->datapath, flows);
	lua_createtable(L, 0, 4);
	lua_pushinteger(L, controller->datapath.line_count * TG_LINE_ENTRIES);
	lua_setfield(L, -2, "flows");
	lua_pushboolean(L, controller->datapath.adopted);
	lua_setfield(L, -2, "adopted");
	lua_pushboolean(L, replaced);
	lua_setfield(L, -2, "replaced");
	lua_pushinteger(L, controller->datapath.info.features);
	lua_setfield(L, -2, "features");
	return 1;
}

/* close(): ends the engine and lets go of the instance, which goes on. Not with calls under way. */
static int l_close(lua_State *L)
{
	if (tg_controller_stop(tg_controller_of(L)))
		return luaL_error(L, "calls are under way");
	return 0;
}

struct specialise_call {
	struct tg_call call;
	__u32 features;
};

static void work_specialise(struct tg_call *call)
{
	struct specialise_call *this = (struct specialise_call *)call;

	call->code = tg_datapath_specialise(
		&tg_controller_of_call(call)->datapath, this->features, &call->error);
}

/* specialise(features, done): makes the program fit. done(true) */
static int l_specialise(lua_State *L)
{
	lua_Integer features = luaL_checkinteger(L, 1);
	struct specialise_call *this;

	tg_controller_opened(L);
	this = tg_call_new(L, sizeof(*this), 2);
	this->features = features;
	this->call.work = work_specialise;
	tg_call_in_pool(&this->call);
	return 0;
}

/* start() → true | nil, text, code: the engine, with the balancer in it. After specialise. */
static int l_start(lua_State *L)
{
	struct tg_controller *controller = tg_controller_opened(L);
	struct tg_error error = { "" };
	int result;

	if (controller->datapath.program < 0)
		return luaL_error(L, "the program is not specialised");
	result = controller->engine ? 0 : tg_controller_start(controller, &error);
	if (result)
		return tg_lua_refuse(L, result, &error);
	lua_pushboolean(L, true);
	return 1;
}

static const char *const xdp_modes[] = { "auto", "native", "generic", NULL };

struct attach_call {
	struct tg_call call;
	char device[IF_NAMESIZE];
	enum tg_xdp_mode mode;
	struct tg_attachment out;
};

static void work_attach(struct tg_call *call)
{
	struct attach_call *this = (struct attach_call *)call;

	struct tg_datapath *dp = &tg_controller_of_call(call)->datapath;

	call->code = tg_datapath_attach(dp, this->device, this->mode, &this->out, &call->error);
	if (!call->code && this->out.mode == TG_XDP_NATIVE)
		__atomic_store_n(&dp->native, true, __ATOMIC_RELAXED);
}

static void publish_hops(void *arg)
{
	struct tg_controller *controller = arg;

	tg_balancer_publish_hops(controller->balancer);
}

static int push_attachment(struct tg_call *call, lua_State *L)
{
	struct attach_call *this = (struct attach_call *)call;
	struct tg_controller *controller = tg_controller_of_call(call);

	if (this->out.mode == TG_XDP_NATIVE && controller->engine)
		tg_engine_post(controller->engine, publish_hops, controller);
	lua_createtable(L, 0, 4);
	lua_pushinteger(L, this->out.ifindex);
	lua_setfield(L, -2, "ifindex");
	lua_pushstring(L, xdp_modes[this->out.mode]);
	lua_setfield(L, -2, "mode");
	lua_pushboolean(L, this->out.adopted);
	lua_setfield(L, -2, "adopted");
	lua_pushstring(L, this->out.why);
	lua_setfield(L, -2, "why");
	return 1;
}

static struct attach_call *new_attach_call(lua_State *L, int callback)
{
	const char *device = luaL_checkstring(L, 1);
	struct attach_call *this;

	tg_controller_opened(L);
	luaL_argcheck(
		L, strlen(device) < IF_NAMESIZE, 1, "a device's name has at most 15 characters");
	this = tg_call_new(L, sizeof(*this), callback);
	strcpy(this->device, device);
	return this;
}

/* attach(device, "auto" | "native" | "generic", done): done { ifindex, mode, adopted, why } */
static int l_attach(lua_State *L)
{
	int mode = luaL_checkoption(L, 2, NULL, xdp_modes);
	struct attach_call *this = new_attach_call(L, 3);

	this->mode = mode;
	this->call.work = work_attach;
	this->call.push = push_attachment;
	tg_call_in_pool(&this->call);
	return 0;
}

static void work_detach(struct tg_call *call)
{
	struct attach_call *this = (struct attach_call *)call;

	call->code =
		tg_datapath_detach(&tg_controller_of_call(call)->datapath, this->device, &call->error);
}

/* detach(device, done): done(true) */
static int l_detach(lua_State *L)
{
	struct attach_call *this = new_attach_call(L, 2);

	this->call.work = work_detach;
	tg_call_in_pool(&this->call);
	return 0;
}

static void add_link(void *user, const char *device, unsigned int ifindex)
{
	lua_State *L = user;

	lua_pushinteger(L, ifindex);
	lua_setfield(L, -2, device);
}

/* links() → { [device] = ifindex }: what is attached; 0 when the device is gone. */
static int l_links(lua_State *L)
{
	lua_newtable(L);
	tg_datapath_links(&tg_controller_opened(L)->datapath, add_link, L);
	return 1;
}

/* ifindex(device) → integer | nil */
static int l_ifindex(lua_State *L)
{
	unsigned int ifindex = if_nametoindex(luaL_checkstring(L, 1));

	if (!ifindex)
		return 0;
	lua_pushinteger(L, ifindex);
	return 1;
}

/* features() → { [name] = bit }: what a program can be specialised for. */
static int l_features(lua_State *L)
{
	lua_newtable(L);
#define FEATURE_FIELD(symbol, name, bit)                                                           \
	lua_pushinteger(L, TG_FEATURE_##symbol);                                                   \
	lua_setfield(L, -2, name);
	TG_FEATURES(FEATURE_FIELD)
#undef FEATURE_FIELD
	return 1;
}

/* What varies of a source whose prefix leaves so many bits of a word of 32, in network order. */
static __be32 host_mask(lua_Integer bits)
{
	return htonl(bits >= 32 ? UINT32_MAX : (1u << bits) - 1);
}

/*
 * tunnel(source4, length4, source6, length6, gue_port): the outer header of ipip and gue, from now on.
 * The sources are prefixes, of IPv6 at most the last 32 bits vary. After specialise for one of them.
 */
static int l_tunnel(lua_State *L)
{
	struct tg_datapath *dp = &tg_controller_opened(L)->datapath;
	struct tg_addr source4 = tg_check_addr(L, 1), source6 = tg_check_addr(L, 3);
	lua_Integer length4 = luaL_checkinteger(L, 2), length6 = luaL_checkinteger(L, 4);
	struct tg_tunnel tunnel = { .source4 = source4.word[0],
		.gue_port = htons(luaL_checkinteger(L, 5)) };

	luaL_argcheck(L, length4 >= 0 && length4 <= 32, 2, "0 to 32 expected");
	luaL_argcheck(L, length6 >= 0 && length6 <= 128, 4, "0 to 128 expected");
	if (!dp->tunnel)
		return luaL_error(L, "the program knows neither ipip nor gue");
	tunnel.vary4 = host_mask(32 - length4);
	tunnel.vary6 = host_mask(128 - length6);
	memcpy(tunnel.source6, source6.word, sizeof(tunnel.source6));
	*dp->tunnel = tunnel;
	return 0;
}

/* reasons() → { [name] = packets }: why packets were passed or dropped. */
static int l_reasons(lua_State *L)
{
	static const char *const names[TG_REASON_COUNT] = {
#define REASON_NAME(symbol, name) [TG_REASON_##symbol] = name,
		TG_PASS_REASONS(REASON_NAME) TG_DROP_REASONS(REASON_NAME)
#undef REASON_NAME
	};
	struct tg_datapath *dp = &tg_controller_opened(L)->datapath;

	lua_createtable(L, 0, TG_REASON_COUNT);
	for (int i = 0; i < TG_REASON_COUNT; i++) {
		if (!names[i])
			continue;
		lua_pushinteger(L, tg_datapath_reason(dp, i));
		lua_setfield(L, -2, names[i]);
	}
	return 1;
}

/* flows() → { [name] = packets }: what became of flows that were to be entered in the line table. */
static int l_flows(lua_State *L)
{
	static const char *const names[TG_FLOWS_COUNT] = {
#define FLOW_NAME(symbol, name) [TG_FLOWS_##symbol] = name,
		TG_FLOW_COUNTS(FLOW_NAME)
#undef FLOW_NAME
	};
	struct tg_datapath *dp = &tg_controller_opened(L)->datapath;

	lua_createtable(L, 0, TG_FLOWS_COUNT);
	for (int i = 0; i < TG_FLOWS_COUNT; i++) {
		lua_pushinteger(L, tg_datapath_flows(dp, i));
		lua_setfield(L, -2, names[i]);
	}
	return 1;
}
static void push_table(void *user, const char *table, __u64 bytes)
{
	lua_State *L = user;

	lua_pushinteger(L, bytes);
	lua_setfield(L, -2, table);
}

/* tables() → { [name] = bytes }: the kernel memory that each table takes. */
static int l_tables(lua_State *L)
{
	lua_createtable(L, 0, TG_MAP_COUNT);
	tg_datapath_memory(&tg_controller_opened(L)->datapath, push_table, L);
	return 1;
}

/* unload(instance) → true | nil, text, code: removes every pin. */
static int l_unload(lua_State *L)
{
	struct tg_error error = { "" };
	int result = tg_datapath_unload(luaL_checkstring(L, 1), &error);

	if (result)
		return tg_lua_refuse(L, result, &error);
	lua_pushboolean(L, true);
	return 1;
}

/* on_event(fn): fn { name, service, backend, reason } for what happens of itself. */
static int l_on_event(lua_State *L)
{
	struct tg_controller *controller = tg_controller_of(L);

	luaL_checktype(L, 1, LUA_TFUNCTION);
	luaL_unref(L, LUA_REGISTRYINDEX, controller->on_event);
	lua_settop(L, 1);
	controller->on_event = luaL_ref(L, LUA_REGISTRYINDEX);
	return 0;
}

static const luaL_Reg functions[] = {
	{ "open", l_open },
	{ "close", l_close },
	{ "specialise", l_specialise },
	{ "start", l_start },
	{ "attach", l_attach },
	{ "detach", l_detach },
	{ "links", l_links },
	{ "ifindex", l_ifindex },
	{ "features", l_features },
	{ "tunnel", l_tunnel },
	{ "reasons", l_reasons },
	{ "flows", l_flows },
	{ "tables", l_tables },
	{ "unload", l_unload },
	{ "on_event", l_on_event },
	{ NULL, NULL },
};

int luaopen_tidegate_core_controller(lua_State *L)
{
	luaL_newlib(L, functions);
	luaL_setfuncs(L, tg_ports_functions, 0);
	return 1;
}
