/* SPDX-License-Identifier: GPL-2.0-only */
#include "embed.h"

#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Pushes the chunk, or raises. */
static void load(lua_State *L, const struct tg_embedded *file)
{
	const char *name = lua_pushfstring(L, "@%s", file->file);
	int status;

#ifdef TIDEGATE_DEBUG
	const char *dir = getenv("TIDEGATE_LUA_DIR");

	if (dir)
		status = luaL_loadfilex(L, lua_pushfstring(L, "%s/%s", dir, file->file), "t");
	else
#endif
		status = luaL_loadbufferx(L, file->text, file->end - file->text, name, "t");
	if (status != LUA_OK)
		lua_error(L);
}

/*
 * The loader keeps what the chunk returned: one instance of each module a VM, also when
 * package.loaded is set back, as busted does between spec files (tests/spec/task_spec.lua).
 */
static int l_load_once(lua_State *L)
{
	const struct tg_embedded *file = lua_touserdata(L, lua_upvalueindex(1));

	if (lua_rawgetp(L, LUA_REGISTRYINDEX, file) != LUA_TNIL)
		return 1;
	load(L, file);
	lua_pushstring(L, file->module);
	lua_call(L, 1, 1);
	lua_pushvalue(L, -1);
	lua_rawsetp(L, LUA_REGISTRYINDEX, file);
	return 1;
}

static int l_search(lua_State *L)
{
	const char *name = luaL_checkstring(L, 1);

	for (const struct tg_embedded *file = tg_embedded; file->module; file++) {
		if (strcmp(file->module, name))
			continue;
		lua_pushlightuserdata(L, (void *)file);
		lua_pushcclosure(L, l_load_once, 1);
		lua_pushstring(L, file->file);
		return 2;
	}
	lua_pushfstring(L, "no module '%s' in tidegate", name);
	return 1;
}

void tg_embed_install(lua_State *L)
{
	lua_getglobal(L, "package");
	lua_getfield(L, -1, "searchers");
	for (lua_Integer i = luaL_len(L, -1); i >= 2; i--) {
		lua_rawgeti(L, -1, i);
		lua_rawseti(L, -2, i + 1);
	}
	lua_pushcfunction(L, l_search);
	lua_rawseti(L, -2, 2);		/* behind package.preload */
	lua_pop(L, 2);
}
