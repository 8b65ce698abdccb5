/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * tidegate.core.vxlan: devices that mirrors send by (core/vxlan.h), for the library alone. What takes long takes a
 * callback last (see task.await).
 */
#include "call.h"
#include "spec_lua.h"
#include "vxlan.h"

#include <lauxlib.h>
#include <stdio.h>

int luaopen_tidegate_core_vxlan(lua_State *L);

struct vxlan_call {
	struct tg_call call;
	struct tg_vxlan vxlan;
	char device[IF_NAMESIZE];
};

static void work_make(struct tg_call *call)
{
	struct vxlan_call *this = (struct vxlan_call *)call;

	call->code = tg_vxlan_make(&this->vxlan, this->device, &call->error);
}

static int push_device(struct tg_call *call, lua_State *L)
{
	lua_pushstring(L, ((struct vxlan_call *)call)->device);
	return 1;
}

static void work_remove(struct tg_call *call)
{
	call->code = tg_vxlan_remove(&((struct vxlan_call *)call)->vxlan, &call->error);
}

/* (instance, address, vni, port, done) */
static struct vxlan_call *new_call(lua_State *L)
{
	const char *instance = luaL_checkstring(L, 1);
	struct tg_addr to = tg_check_addr(L, 2);
	lua_Integer vni = luaL_checkinteger(L, 3), port = luaL_checkinteger(L, 4);
	struct vxlan_call *this;

	luaL_argcheck(L, vni >= 0 && vni < 1 << 24, 3, "24 bits expected");
	luaL_argcheck(L, port > 0 && port < 1 << 16, 4, "a port expected");
	this = tg_call_new(L, sizeof(*this), 5);
	this->vxlan = (struct tg_vxlan){ .to = to, .vni = vni, .port = port };
	tg_vxlan_owner(instance, this->vxlan.owner);
	return this;
}

/* make(instance, address, vni, port, done): done(device), one that was there already or a new one. */
static int l_make(lua_State *L)
{
	struct vxlan_call *this = new_call(L);

	this->call.work = work_make;
	this->call.push = push_device;
	tg_call_in_pool(&this->call);
	return 0;
}

/* remove(instance, address, vni, port, done): done(true) */
static int l_remove(lua_State *L)
{
	struct vxlan_call *this = new_call(L);

	this->call.work = work_remove;
	tg_call_in_pool(&this->call);
	return 0;
}

static const luaL_Reg functions[] = {
	{ "make", l_make },
	{ "remove", l_remove },
	{ NULL, NULL },
};

int luaopen_tidegate_core_vxlan(lua_State *L)
{
	luaL_newlib(L, functions);
	return 1;
}
