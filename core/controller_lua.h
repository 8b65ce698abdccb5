/* SPDX-License-Identifier: GPL-2.0-only */
/* What lua_controller.c and lua_balancer.c share: the process's controller, as a binding finds it. */
#ifndef TG_CONTROLLER_LUA_H
#define TG_CONTROLLER_LUA_H

#include "call.h"
#include "controller.h"

#include <lauxlib.h>

/* The process's controller; a Lua error where there is none. */
struct tg_controller *tg_controller_of(lua_State *L);
/* The same, with an instance open. */
struct tg_controller *tg_controller_opened(lua_State *L);
struct tg_controller *tg_controller_of_call(struct tg_call *call);

#endif
