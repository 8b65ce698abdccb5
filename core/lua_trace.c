// SPDX-License-Identifier: GPL-2.0-only
/*
 * tidegate.core.trace: what would become of a packet (core/trace.h), for lua/tidegate/trace.lua, which
 * knows how the words of each step are shown.
 */
#include "call.h"
#include "controller.h"
#include "deny.h"
#include "trace.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <lauxlib.h>
#include <net/if.h>
#include <string.h>

int luaopen_tidegate_core_trace(lua_State *L);

static const struct {
	const char *table, *key, *value;
} steps[] = {
#define STEP_ROW(symbol, table, key, value) [TG_STEP_##symbol] = { table, key, value },
	TG_STEPS(STEP_ROW)
#undef STEP_ROW
};

struct trace_call {
	struct tg_call call;
	unsigned int ifindex;
	struct tg_trace trace;
	size_t size;
	unsigned char frame[];
};

static struct tg_controller *controller_of(lua_State *L)
{
	struct tg_controller *controller = tg_vm_of(L)->user;

	return controller && controller->tracer ? controller : NULL;
}

static void work_trace(struct tg_call *call)
{
	struct trace_call *this = (struct trace_call *)call;
	struct tg_controller *controller = call->vm->user;

	call->code = tg_tracer_run(controller->tracer, this->ifindex, this->frame, this->size,
		&this->trace, &call->error);
}

static void set_text(lua_State *L, const char *name, const char *text)
{
	lua_pushstring(L, text);
	lua_setfield(L, -2, name);
}

static void set_words(lua_State *L, const char *name, const __u32 *words, unsigned int count)
{
	lua_pushlstring(L, (const char *)words, count * sizeof(*words));
	lua_setfield(L, -2, name);
}

static void push_step(lua_State *L, const struct tg_trace_step *step)
{
	lua_createtable(L, 0, 7);
	set_text(L, "table", steps[step->kind].table);
	set_text(L, "key_format", steps[step->kind].key);
	set_text(L, "value_format", steps[step->kind].value);
	set_words(L, "key", step->key, step->key_words);
	set_words(L, "value", step->value, step->value_words);
	lua_pushboolean(L, step->hit);
	lua_setfield(L, -2, "hit");
	lua_pushboolean(L, step->v6);
	lua_setfield(L, -2, "v6");
}

/* Of more steps than the log holds, the last ones. */
static void push_steps(lua_State *L, const struct tg_trace_log *log)
{
	__u32 first = log->count > TG_TRACE_STEPS ? log->count - TG_TRACE_STEPS : 0;

	lua_createtable(L, log->count - first, 0);
	for (__u32 i = first; i < log->count; i++) {
		push_step(L, &log->step[i % TG_TRACE_STEPS]);
		lua_rawseti(L, -2, i - first + 1);
	}
}

static int push_trace(struct tg_call *call, lua_State *L)
{
	const struct tg_trace *trace = &((struct trace_call *)call)->trace;

	lua_createtable(L, 0, 4);
	set_text(L, "verdict", tg_verdict_name(trace->verdict));
	set_text(L, "reason", tg_reason_name(trace->log.reason));
	lua_pushlstring(L, (const char *)trace->frame, trace->size);
	lua_setfield(L, -2, "frame");
	push_steps(L, &trace->log);
	lua_setfield(L, -2, "steps");
	return 1;
}

/*
 * run(ifindex, frame, done): done { verdict, reason, frame, steps }, a step { table, key, value: words as a
 * string, key_format, value_format, hit, v6 }
 */
static int l_run(lua_State *L)
{
	lua_Integer ifindex = luaL_checkinteger(L, 1);
	size_t size;
	const char *frame = luaL_checklstring(L, 2, &size);
	struct trace_call *this;

	if (!controller_of(L))
		return luaL_error(L, "no instance is open");
	luaL_argcheck(L, size <= TG_FRAME_ROOM, 2, "too long for a frame");
	this = tg_call_new(L, sizeof(*this) + size, 3);
	this->ifindex = ifindex;
	this->size = size;
	memcpy(this->frame, frame, size);
	this->call.work = work_trace;
	this->call.push = push_trace;
	tg_call_in_pool(&this->call);
	return 0;
}

/* opened() → boolean: is there an instance whose packets can be traced? */
static int l_opened(lua_State *L)
{
	struct tg_controller *controller = controller_of(L);

	lua_pushboolean(L, controller && controller->datapath.programs);
	return 1;
}

/* An index into a map of the instance, and the value; false if there is none. */
static bool read_value(lua_State *L, enum tg_map map, void *value)
{
	struct tg_controller *controller = controller_of(L);
	__u32 index = luaL_checkinteger(L, 1);

	return controller && controller->datapath.maps[map] >= 0 &&
	       !bpf_map_lookup_elem(controller->datapath.maps[map], &index, value);
}

/* service(index) → its name | nil */
static int l_service(lua_State *L)
{
	struct tg_service_info info;

	if (!read_value(L, TG_MAP_SERVICES, &info) || !info.name[0])
		return 0;
	lua_pushlstring(L, info.name, strnlen(info.name, sizeof(info.name)));
	return 1;
}

/* backend(index) → address, port, "up" | "down" | "drain" | "maint" | nil */
static int l_backend(lua_State *L)
{
	static const char *const admins[] = {
		[TG_ADMIN_DRAIN] = "drain", [TG_ADMIN_MAINT] = "maint"
	};
	struct tg_backend_owner owner;
	struct tg_backend backend;
	char text[INET6_ADDRSTRLEN];

	if (!read_value(L, TG_MAP_BACKENDS, &backend) ||
		!read_value(L, TG_MAP_BACKEND_OWNERS, &owner) || !owner.service)
		return 0;
	lua_pushstring(L, inet_ntop(backend.flags & TG_BACKEND_V6 ? AF_INET6 : AF_INET,
				  backend.addr, text, sizeof(text)));
	lua_pushinteger(L, ntohs(backend.port));
	if (owner.admin == TG_ADMIN_DRAIN || owner.admin == TG_ADMIN_MAINT)
		lua_pushstring(L, admins[owner.admin]);
	else
		lua_pushstring(L, owner.health == TG_HEALTH_DOWN ? "down" : "up");
	return 3;
}

/* list(class) → its name, "deny" | "allow" | nil */
static int l_list(lua_State *L)
{
	struct tg_deny_class class;

	if (!read_value(L, TG_MAP_DENY_CLASSES, &class) || !class.name[0])
		return 0;
	lua_pushlstring(L, class.name, strnlen(class.name, sizeof(class.name)));
	lua_pushstring(L, class.verdict == TG_DENY_ALLOW ? "allow" : "deny");
	return 2;
}

/* device(ifindex) → its name in this network namespace | nil */
static int l_device(lua_State *L)
{
	char name[IF_NAMESIZE];

	lua_pushstring(L, if_indextoname(luaL_checkinteger(L, 1), name)); /* NULL: nil */
	return 1;
}

static const luaL_Reg functions[] = {
	{ "device", l_device },
	{ "run", l_run },
	{ "opened", l_opened },
	{ "service", l_service },
	{ "backend", l_backend },
	{ "list", l_list },
	{ NULL, NULL },
};

int luaopen_tidegate_core_trace(lua_State *L)
{
	luaL_newlib(L, functions);
	return 1;
}
