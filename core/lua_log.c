/* SPDX-License-Identifier: GPL-2.0-only */
/* tidegate.core.log: the log of core/log.h for lua/tidegate/log.lua. */
#include "log.h"

#include <lauxlib.h>
#include <lua.h>
#include <stdio.h>

static const char *const levels[] = { "debug", "info", "warn", "error", NULL };

int luaopen_tidegate_core_log(lua_State *L);

/* write(level, text) */
static int l_write(lua_State *L)
{
	tg_log_text(luaL_checkoption(L, 1, NULL, levels), luaL_checkstring(L, 2));
	return 0;
}

/* level(name): from now on nothing below it. */
static int l_level(lua_State *L)
{
	tg_log_set_level(luaL_checkoption(L, 1, NULL, levels));
	return 0;
}

struct batch {
	size_t n;
	struct {
		uint64_t serial;
		enum tg_log_level level;
		char text[TG_LOG_TEXT];
	} message[TG_LOG_RECENT];
};

/* Lua may raise; the log's lock is held here: only copy. */
static void take(void *user, uint64_t serial, enum tg_log_level level, const char *text)
{
	struct batch *batch = user;
	size_t i = batch->n++;

	batch->message[i].serial = serial;
	batch->message[i].level = level;
	snprintf(batch->message[i].text, TG_LOG_TEXT, "%s", text);
}

/* recent([after]): the kept messages, { serial=, level=, text= } each, oldest first. */
static int l_recent(lua_State *L)
{
	lua_Integer after = luaL_optinteger(L, 1, 0);
	struct batch *batch = lua_newuserdatauv(L, sizeof(*batch), 0);

	batch->n = 0;
	tg_log_recent(after, take, batch);
	lua_createtable(L, batch->n, 0);
	for (size_t i = 0; i < batch->n; i++) {
		lua_createtable(L, 0, 3);
		lua_pushinteger(L, batch->message[i].serial);
		lua_setfield(L, -2, "serial");
		lua_pushstring(L, levels[batch->message[i].level]);
		lua_setfield(L, -2, "level");
		lua_pushstring(L, batch->message[i].text);
		lua_setfield(L, -2, "text");
		lua_rawseti(L, -2, i + 1);
	}
	return 1;
}

static const luaL_Reg functions[] = {
	{ "write", l_write },
	{ "level", l_level },
	{ "recent", l_recent },
	{ NULL, NULL },
};

int luaopen_tidegate_core_log(lua_State *L)
{
	luaL_newlib(L, functions);
	return 1;
}
