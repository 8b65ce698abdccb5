/* SPDX-License-Identifier: GPL-2.0-only */
/* Services between Lua tables and the balancer's values (see balancer.h). */
#ifndef TG_SPEC_LUA_H
#define TG_SPEC_LUA_H

#include "balancer.h"

#include <lua.h>

/*
 * Reads a list of services at stack index `index`. The Lua library has validated it: what is wrong
 * here raises. The caller owns the spec; until tg_spec_take it belongs to a userdata, which is pushed.
 */
void tg_push_spec(lua_State *L, int index);
struct tg_spec *tg_spec_take(lua_State *L, int index);

/* Pushes a list of services as tables. */
void tg_push_status(lua_State *L, const struct tg_status *status);
/* Pushes a next hop as a table. */
void tg_push_nexthop(lua_State *L, const struct tg_nexthop *hop);
/* A flow from the table at `index`: { client =, port =, vip =, vip_port =, proto = }. Raises. */
struct tg_flow tg_check_flow(lua_State *L, int index);
/* An address from a string at `index`; raises if it is none. */
struct tg_addr tg_check_addr(lua_State *L, int index);

#endif
