/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Lua's string and table functions whose time or memory a script could drive without bound inside
 * one C call, where no hook fires: string.rep find match gmatch gsub (over core/pattern.h) and
 * table.insert remove move concat unpack sort. They behave as Lua's own, but look at the guard's
 * clock as they go, and are installed in place of Lua's for the whole VM.
 */
#ifndef TG_BOUNDED_H
#define TG_BOUNDED_H

#include <lua.h>

void tg_bounded_install(lua_State *L);

#endif
