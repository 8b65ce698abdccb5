/* SPDX-License-Identifier: GPL-2.0-only */
/* tidegate.core.maglev: slot tables for Lua (see maglev.h). */
#include "maglev.h"

#include <lauxlib.h>
#include <lua.h>

int luaopen_tidegate_core_maglev(lua_State *L);

static int wrong_type(lua_State *L, int i, const char *name, const char *expected)
{
	return luaL_error(L, "backends[%d].%s: %s expected, got %s", i, name, expected,
		lua_type(L, -1) == LUA_TNUMBER ? "a fraction" : luaL_typename(L, -1));
}

static uint64_t key_of(lua_State *L, uint32_t id, int i)
{
	uint64_t key = tg_maglev_key(&id, sizeof(id));
	const char *text;
	size_t size;

	if (lua_getfield(L, -1, "key") == LUA_TSTRING) {
		text = lua_tolstring(L, -1, &size);
		key = tg_maglev_key(text, size);
	} else if (!lua_isnil(L, -1)) {
		wrong_type(L, i, "key", "a string");
	}
	lua_pop(L, 1);
	return key;
}

static lua_Integer field(
	lua_State *L, const char *name, lua_Integer fallback, lua_Integer max, int i)
{
	lua_Integer value = fallback;
	int whole = 1;

	if (lua_getfield(L, -1, name) != LUA_TNIL)
		value = lua_tointegerx(L, -1, &whole);
	else if (fallback < 0)
		luaL_error(L, "backends[%d].%s is missing", i, name);
	if (!whole)
		wrong_type(L, i, name, "an integer");
	if (value < 0 || value > max)
		luaL_error(L, "backends[%d].%s: %I given, 0 to %I allowed", i, name, value, max);
	lua_pop(L, 1);
	return value;
}

/* The list at stack index 1, in a userdata that is left on the stack. */
static struct tg_maglev_backend *check_backends(lua_State *L, size_t *count)
{
	struct tg_maglev_backend *backends;

	luaL_checktype(L, 1, LUA_TTABLE);
	*count = lua_rawlen(L, 1);
	backends = lua_newuserdatauv(L, (*count + 1) * sizeof(*backends), 0);
	for (size_t i = 0; i < *count; i++) {
		if (lua_rawgeti(L, 1, i + 1) != LUA_TTABLE)
			luaL_error(L, "backends[%d]: a table { id =, weight = } expected, got %s",
				(int)i + 1, luaL_typename(L, -1));
		backends[i].id = field(L, "id", -1, UINT32_MAX, i + 1);
		backends[i].weight = field(L, "weight", 1, 65535, i + 1);
		backends[i].key = key_of(L, backends[i].id, i + 1);
		lua_pop(L, 1);
	}
	return backends;
}

/*
 * build(backends, size): a list of ids, 1..size, by the builder that the datapath uses. `backends`
 * is a list of { id = integer, weight = 0..65535 (1), key = string }: the key is what the permutation is
 * made from, by default the id. `size` is a prime below 2^24, by default 65,537.
 */
static int l_build(lua_State *L)
{
	lua_Integer size = luaL_optinteger(L, 2, 65537);
	struct tg_maglev_backend *backends;
	uint32_t *slots;
	size_t count;

	if (size < 2 || size >= TG_MAGLEV_MAX_SLOTS || !tg_is_prime(size))
		return luaL_error(L, "size: %I given, a prime below 2^24 expected", size);
	lua_settop(L, 2);
	backends = check_backends(L, &count);
	slots = lua_newuserdatauv(L, size * sizeof(*slots), 0);
	if (tg_maglev_build(backends, count, slots, size))
		return luaL_error(L, "out of memory");
	lua_createtable(L, size, 0);
	for (lua_Integer i = 0; i < size; i++) {
		lua_pushinteger(L, slots[i]);
		lua_rawseti(L, -2, i + 1);
	}
	return 1;
}

/* is_prime(n) → boolean */
static int l_is_prime(lua_State *L)
{
	lua_Integer n = luaL_checkinteger(L, 1);

	lua_pushboolean(L, n > 0 && tg_is_prime(n));
	return 1;
}

/* key(text) → 8 bytes: a hash of it. */
static int l_key(lua_State *L)
{
	size_t size;
	const char *text = luaL_checklstring(L, 1, &size);
	uint64_t key = tg_maglev_key(text, size);

	lua_pushlstring(L, (const char *)&key, sizeof(key));
	return 1;
}

static const luaL_Reg functions[] = {
	{ "build", l_build },
	{ "is_prime", l_is_prime },
	{ "key", l_key },
	{ NULL, NULL },
};

int luaopen_tidegate_core_maglev(lua_State *L)
{
	luaL_newlib(L, functions);
	return 1;
}
