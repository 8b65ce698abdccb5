/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Values of BPF maps to and from Lua, by their struct tg_type; lua/meta/map.lua says what becomes
 * what. Misuse raises an error at the caller's line that begins with the path to the culprit:
 * `value.flows[2].port: 70000 does not fit u16 (0 to 65535)`.
 */
#ifndef TG_VALUE_LUA_H
#define TG_VALUE_LUA_H

#include <lua.h>

#include "value.h"

/* Pushes the value at `data`. */
void tg_lua_push_value(lua_State *L, const struct tg_type *type, const void *data);

/* Pushes the sum over `count` values, `step` bytes apart; what can't be summed is left out (nil). */
void tg_lua_push_sum(lua_State *L, const struct tg_type *type, const void *data, size_t step,
	uint32_t count);

/*
 * Reads the Lua value at `index` to `data`: type->size bytes, zero before. Fields that a table does
 * not have stay zero. `what` ("key", "value") begins an error's path; `element`, if not 0, follows
 * it: "value[3]".
 */
void tg_lua_read_value(lua_State *L, int index, const struct tg_type *type, void *data,
	const char *what, lua_Integer element);

/*
 * The type that the Lua value at `index` describes: "u32", or a list of fields
 * { { "addr", "be32" }, { "ports", "u16", 4 }, packed = true }. Raises an error if it is none.
 */
const struct tg_type *tg_lua_check_type(lua_State *L, int index, struct tg_types *types,
	const char *what);

#endif
