/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef TG_LUA_PROG_H
#define TG_LUA_PROG_H

#include <lua.h>

#define TG_LUA_PROG "tidegate.prog"	/* name of the metatable */

/* The descriptor of the open program at `index`, -1 if there is none. */
int tg_lua_prog_fd(lua_State *L, int index);

#endif
