/* SPDX-License-Identifier: GPL-2.0-only */
#include "ports_lua.h"

#include "controller_lua.h"
#include "datapath_ports.h"
#include "datapath_tc.h"
#include "refuse.h"

#include <net/if.h>
#include <string.h>

static const char *const hows[] = { "auto", "tcx", "clsact", NULL };

struct tc_call {
	struct tg_call call;
	char device[IF_NAMESIZE];
	enum tg_tc_how how;
	struct tg_tc_attachment out;
};

static const char *check_device(lua_State *L, int index)
{
	const char *device = luaL_checkstring(L, index);

	luaL_argcheck(L, *device && strlen(device) < IF_NAMESIZE, index,
		"a device's name has 1 to 15 characters");
	return device;
}

static struct tc_call *new_call(lua_State *L, int callback)
{
	const char *device = check_device(L, 1);
	struct tc_call *this;

	tg_controller_opened(L);
	this = tg_call_new(L, sizeof(*this), callback);
	strcpy(this->device, device);
	return this;
}

static void work_attach(struct tg_call *call)
{
	struct tc_call *this = (struct tc_call *)call;

	call->code = tg_tc_attach(&tg_controller_of_call(call)->datapath, this->device, this->how,
		&this->out, &call->error);
}

static int push_attachment(struct tg_call *call, lua_State *L)
{
	struct tc_call *this = (struct tc_call *)call;

	lua_createtable(L, 0, 4);
	lua_pushinteger(L, this->out.ifindex);
	lua_setfield(L, -2, "ifindex");
	lua_pushstring(L, hows[this->out.how]);
	lua_setfield(L, -2, "how");
	lua_pushboolean(L, this->out.adopted);
	lua_setfield(L, -2, "adopted");
	lua_pushstring(L, this->out.why);
	lua_setfield(L, -2, "why");
	return 1;
}

/* attach_tc(device, "auto" | "tcx" | "clsact", done): done { ifindex, how = "tcx" | "clsact", adopted, why } */
static int l_attach_tc(lua_State *L)
{
	int how = luaL_checkoption(L, 2, NULL, hows);
	struct tc_call *this = new_call(L, 3);

	this->how = how;
	this->call.work = work_attach;
	this->call.push = push_attachment;
	tg_call_in_pool(&this->call);
	return 0;
}

static void work_detach(struct tg_call *call)
{
	struct tc_call *this = (struct tc_call *)call;

	call->code =
		tg_tc_detach(&tg_controller_of_call(call)->datapath, this->device, &call->error);
}

/* detach_tc(device, done): done(true) */
static int l_detach_tc(lua_State *L)
{
	struct tc_call *this = new_call(L, 2);

	this->call.work = work_detach;
	tg_call_in_pool(&this->call);
	return 0;
}

static void add_attached(void *user, const char *device, unsigned int ifindex, enum tg_tc_how how)
{
	lua_State *L = user;

	lua_createtable(L, 0, 2);
	lua_pushinteger(L, ifindex);
	lua_setfield(L, -2, "ifindex");
	lua_pushstring(L, hows[how]);
	lua_setfield(L, -2, "how");
	lua_setfield(L, -2, device);
}

/* tc_links() → { [device] = { ifindex, how } }: where the TC programs are; ifindex 0 when the device is gone. */
static int l_tc_links(lua_State *L)
{
	lua_newtable(L);
	tg_tc_each(&tg_controller_opened(L)->datapath, add_attached, L);
	return 1;
}

/* port_slot(device) → its slot (see datapath_ports.h) | nil, text, code */
static int l_port_slot(lua_State *L)
{
	const char *device = check_device(L, 1);
	struct tg_error error = { "" };
	int slot = tg_port_slot(&tg_controller_opened(L)->datapath, device, &error);

	if (slot < 0)
		return tg_lua_refuse(L, slot, &error);
	lua_pushinteger(L, slot);
	return 1;
}

/* slot_port(slot) → the device | nil */
static int l_slot_port(lua_State *L)
{
	char device[TG_PORT_NAME];

	if (!tg_port_device(&tg_controller_opened(L)->datapath, luaL_checkinteger(L, 1), device))
		return 0;
	lua_pushstring(L, device);
	return 1;
}

/* keep_slots { device, … }: frees the slots of other devices, unless they are attached. */
static int l_keep_slots(lua_State *L)
{
	struct tg_datapath *dp = &tg_controller_opened(L)->datapath;
	const char *devices[TG_MAX_PORTS];
	size_t count;

	luaL_checktype(L, 1, LUA_TTABLE);
	count = lua_rawlen(L, 1);
	luaL_argcheck(L, count <= TG_MAX_PORTS, 1, "too many ports");
	luaL_checkstack(L, count, NULL);
	for (size_t i = 0; i < count; i++) {
		lua_rawgeti(L, 1, i + 1);
		devices[i] = luaL_checkstring(L, -1); /* which stays on the stack */
	}
	tg_port_keep(dp, devices, count);
	return 0;
}

const luaL_Reg tg_ports_functions[] = {
	{ "attach_tc", l_attach_tc },
	{ "detach_tc", l_detach_tc },
	{ "tc_links", l_tc_links },
	{ "port_slot", l_port_slot },
	{ "slot_port", l_slot_port },
	{ "keep_slots", l_keep_slots },
	{ NULL, NULL },
};
