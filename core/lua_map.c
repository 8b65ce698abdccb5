/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * tidegate.core.map (tg.map in scripts): any pinned map of any program, keys and values to and from
 * Lua by its BTF. lua/meta/map.lua is the manual.
 */
#include <errno.h>
#include <lauxlib.h>
#include <linux/bpf.h>
#include <stdlib.h>
#include <string.h>

#include "lua_prog.h"
#include "map.h"
#include "refuse.h"
#include "value_lua.h"

#define MAP	   "tidegate.map"
#define ITERATION  "tidegate.map.iteration"
#define PAIRS_ROOM 256		/* keys a page: for a loop, values should not be old */
#define TABLE_ROOM 4096		/* keys a page: for a table, few system calls */
#define BATCH_ROOM 1024		/* keys that batch_set begins with */

int luaopen_tidegate_core_map(lua_State *L);

struct object {
	struct tg_map map;
	char *key, *value;	/* room for one of each, in the user value */
};

static struct object *check_map(lua_State *L, int index)
{
	struct object *o = luaL_checkudata(L, index, MAP);

	if (o->map.fd < 0)
		luaL_error(L, "the map is closed");
	return o;
}

/* ---- keys and values ---- */

/* The key at `index`, in the kernel's layout; NULL where the map's kind has none. */
static const void *read_key(lua_State *L, int index, struct object *o)
{
	if (!o->map.key) {
		luaL_argcheck(L, lua_isnoneornil(L, index), index, "this kind of map has no keys");
		return NULL;
	}
	luaL_checkany(L, index);
	memset(o->key, 0, o->map.info.key_size);
	tg_lua_read_value(L, index, o->map.key, o->key, "key", 0);
	return o->key;
}

/* A per-CPU value may be given once for all CPUs; a table with a first element is a list. */
static bool is_one_for_all(lua_State *L, int index, const struct tg_map *map)
{
	bool one;

	if (!lua_istable(L, index))
		return true;
	if (map->value->kind != TG_VALUE_RECORD)
		return false;
	one = lua_rawgeti(L, index, 1) == LUA_TNIL;
	lua_pop(L, 1);
	return one;
}

static void read_for_all(lua_State *L, int index, const struct tg_map *map, char *data)
{
	tg_lua_read_value(L, index, map->value, data, "value", 0);
	for (uint32_t cpu = 1; cpu < map->cpus; cpu++)
		memcpy(data + (size_t)cpu * map->value_step, data, map->value_step);
}

static void read_per_cpu(lua_State *L, int index, const struct tg_map *map, char *data)
{
	if (lua_rawlen(L, index) != map->cpus)
		luaL_error(L, "value: a list of %d expected, one for each possible CPU, got %d",
			(int)map->cpus, (int)lua_rawlen(L, index));
	for (uint32_t cpu = 0; cpu < map->cpus; cpu++) {
		lua_rawgeti(L, index, cpu + 1);
		tg_lua_read_value(L, -1, map->value, data + (size_t)cpu * map->value_step, "value",
			cpu + 1);
		lua_pop(L, 1);
	}
}

static void read_object(lua_State *L, int index, char *data)
{
	struct object *inner = luaL_testudata(L, index, MAP);
	int fd = inner ? inner->map.fd : tg_lua_prog_fd(L, index);

	if (fd < 0)
		luaL_error(L, "value: an open map or program expected, got %s",
			luaL_typename(L, index));
	memcpy(data, &fd, sizeof(fd));
}

/* The value at `index` to `data`, value_bytes zeros. */
static void read_values(lua_State *L, int index, const struct tg_map *map, char *data)
{
	index = lua_absindex(L, index);
	if (tg_map_holds_objects(map))
		read_object(L, index, data);
	else if (!map->per_cpu)
		tg_lua_read_value(L, index, map->value, data, "value", 0);
	else if (is_one_for_all(L, index, map))
		read_for_all(L, index, map, data);
	else
		read_per_cpu(L, index, map, data);
}

static void push_values(lua_State *L, const struct tg_map *map, const char *data)
{
	if (!map->per_cpu) {
		tg_lua_push_value(L, map->value, data);
		return;
	}
	lua_createtable(L, map->cpus, 0);
	for (uint32_t cpu = 0; cpu < map->cpus; cpu++) {
		tg_lua_push_value(L, map->value, data + (size_t)cpu * map->value_step);
		lua_rawseti(L, -2, cpu + 1);
	}
}

/* ---- one key ---- */

/* Answers a lookup: nothing more than nil when the key is absent. */
static int absent_or_refuse(lua_State *L, int err, const struct tg_error *error)
{
	if (err != -ENOENT)
		return tg_lua_refuse(L, err, error);
	lua_pushnil(L);
	return 1;
}

static int l_get(lua_State *L)
{
	struct object *o = check_map(L, 1);
	struct tg_error error;
	int err = tg_map_get(&o->map, read_key(L, 2, o), o->value, &error);

	if (err)
		return absent_or_refuse(L, err, &error);
	push_values(L, &o->map, o->value);
	return 1;
}

static int l_pop(lua_State *L)
{
	struct object *o = check_map(L, 1);
	struct tg_error error;
	int err = tg_map_pop(&o->map, read_key(L, 2, o), o->value, &error);

	if (err)
		return absent_or_refuse(L, err, &error);
	push_values(L, &o->map, o->value);
	return 1;
}

static int l_sum(lua_State *L)
{
	struct object *o = check_map(L, 1);
	struct tg_error error;
	int err = tg_map_get(&o->map, read_key(L, 2, o), o->value, &error);

	if (err)
		return absent_or_refuse(L, err, &error);
	tg_lua_push_sum(L, o->map.value, o->value, o->map.value_step, o->map.cpus);
	return 1;
}

static int l_set(lua_State *L)
{
	static const char *const names[] = { "any", "new", "exist", NULL };
	static const uint64_t flags[] = { BPF_ANY, BPF_NOEXIST, BPF_EXIST };
	struct object *o = check_map(L, 1);
	const void *key = read_key(L, 2, o);
	int flag = luaL_checkoption(L, 4, "any", names);
	struct tg_error error;
	int err;

	memset(o->value, 0, o->map.value_bytes);
	read_values(L, 3, &o->map, o->value);
	err = tg_map_set(&o->map, key, o->value, flags[flag], &error);
	if (err)
		return tg_lua_refuse(L, err, &error);
	lua_pushboolean(L, true);
	return 1;
}

static int l_delete(lua_State *L)
{
	struct object *o = check_map(L, 1);
	struct tg_error error;
	int err = tg_map_delete(&o->map, read_key(L, 2, o), &error);

	if (err && err != -ENOENT)
		return tg_lua_refuse(L, err, &error);
	lua_pushboolean(L, !err);
	return 1;
}

/* ---- many keys: writing ---- */

enum { SELF = 1, TABLE, KEYS, VALUES, KEY, ITEM };	/* the stack of batch_set */

struct batch {
	const struct tg_map *map;
	char *keys, *values;
	size_t count, room;
};

/* A larger userdata in the stack's place `slot`, with what was in it, and zeros behind. */
static char *grow_slot(lua_State *L, int slot, const char *old, size_t used, size_t size)
{
	char *data = lua_newuserdatauv(L, size, 0);

	if (used)
		memcpy(data, old, used);
	memset(data + used, 0, size - used);
	lua_replace(L, slot);
	return data;
}

static void batch_grow(lua_State *L, struct batch *b, size_t room)
{
	size_t key_size = b->map->info.key_size, value_bytes = b->map->value_bytes;

	b->keys = grow_slot(L, KEYS, b->keys, b->count * key_size, room * key_size);
	b->values = grow_slot(L, VALUES, b->values, b->count * value_bytes, room * value_bytes);
	b->room = room;
}

/* Takes the pair at the stack's places KEY and ITEM. */
static void batch_add(lua_State *L, struct batch *b)
{
	if (b->count == b->room)
		batch_grow(L, b, b->room * 2);
	tg_lua_read_value(L, KEY, b->map->key, b->keys + b->count * b->map->info.key_size, "key", 0);
	read_values(L, ITEM, b->map, b->values + b->count * b->map->value_bytes);
	b->count++;
}

/* { [key] = value, … } */
static void batch_from_table(lua_State *L, struct batch *b)
{
	lua_pushnil(L);
	while (lua_next(L, TABLE)) {
		batch_add(L, b);
		lua_pop(L, 1);
	}
}

/* { { key, value }, … } */
static void batch_from_list(lua_State *L, struct batch *b)
{
	lua_Integer n = lua_rawlen(L, TABLE);

	lua_pushnil(L);
	if (!n && lua_next(L, TABLE))
		luaL_error(L, "a list of { key, value } expected, since the key is no plain value");
	for (lua_Integer i = 1; i <= n; i++) {
		lua_settop(L, VALUES);
		if (lua_rawgeti(L, TABLE, i) != LUA_TTABLE)
			luaL_error(L, "[%I]: { key, value } expected, got %s", i,
				luaL_typename(L, -1));
		lua_rawgeti(L, -1, 1);
		lua_rawgeti(L, -2, 2);
		lua_remove(L, KEY);
		batch_add(L, b);
	}
}

/* A key that can be a table's key. */
static bool is_plain(const struct tg_type *type)
{
	return type->kind != TG_VALUE_ARRAY && type->kind != TG_VALUE_RECORD;
}

static int l_batch_set(lua_State *L)
{
	struct object *o = check_map(L, SELF);
	struct batch b = { .map = &o->map };
	struct tg_error error;
	size_t guess;
	uint32_t done;
	int err;

	luaL_checktype(L, TABLE, LUA_TTABLE);
	luaL_argcheck(L, o->map.key, SELF, "this kind of map has no keys");
	lua_settop(L, VALUES);
	guess = lua_rawlen(L, TABLE);
	batch_grow(L, &b, guess > BATCH_ROOM ? guess : BATCH_ROOM);
	if (is_plain(o->map.key))
		batch_from_table(L, &b);
	else
		batch_from_list(L, &b);
	luaL_argcheck(L, b.count <= UINT32_MAX, TABLE, "too many keys");
	err = tg_map_set_all(&o->map, b.keys, b.values, b.count, &done, &error);
	if (err) {
		tg_lua_refuse(L, err, &error);
		lua_pushfstring(L, "%s; %d of %d keys are set", error.text, (int)done,
			(int)b.count);
		lua_replace(L, -3);
		return 3;
	}
	lua_pushinteger(L, done);
	return 1;
}

/* ---- many keys: reading ---- */

struct iteration {
	struct tg_map_cursor cursor;
	struct tg_map_page *page;
	uint32_t at;		/* next pair of the page */
};

static int iteration_gc(lua_State *L)
{
	struct iteration *it = luaL_checkudata(L, 1, ITERATION);

	tg_map_cursor_close(&it->cursor);
	return 0;
}

static struct iteration *new_iteration(lua_State *L, struct object *o, uint32_t room)
{
	struct iteration *it = lua_newuserdatauv(L, sizeof(*it), 0);
	struct tg_error error;

	memset(it, 0, sizeof(*it));
	luaL_setmetatable(L, ITERATION);
	if (tg_map_cursor_open(&it->cursor, &o->map, room, &error))
		luaL_error(L, "%s", error.text);
	return it;
}

/* Pushes the next key and its value; false at the end. A failed read raises an error. */
static bool push_pair(lua_State *L, struct iteration *it)
{
	const struct tg_map *map = it->cursor.map;
	struct tg_error error;

	if (!it->page || it->at == it->page->count) {
		it->at = 0;
		if (tg_map_cursor_next(&it->cursor, &it->page, &error))
			luaL_error(L, "%s", error.text);
		if (!it->page->count)
			return false;
	}
	tg_lua_push_value(L, map->key, (char *)it->page->keys + it->at * map->info.key_size);
	push_values(L, map, (char *)it->page->values + (size_t)it->at * map->value_bytes);
	it->at++;
	return true;
}

static int next_pair(lua_State *L)
{
	struct iteration *it = lua_touserdata(L, lua_upvalueindex(1));

	check_map(L, lua_upvalueindex(2));
	return push_pair(L, it) ? 2 : 0;
}

static int l_pairs(lua_State *L)
{
	struct object *o = check_map(L, 1);

	new_iteration(L, o, PAIRS_ROOM);
	lua_pushvalue(L, 1);
	lua_pushcclosure(L, next_pair, 2);
	return 1;
}

static int l_to_table(lua_State *L)
{
	struct object *o = check_map(L, 1);
	struct iteration *it = new_iteration(L, o, TABLE_ROOM);
	int result;

	lua_newtable(L);
	result = lua_gettop(L);
	for (lua_Integer i = 1; push_pair(L, it); i++) {
		if (is_plain(o->map.key)) {
			lua_rawset(L, result);
			continue;
		}
		lua_createtable(L, 2, 0);
		lua_insert(L, -3);
		lua_rawseti(L, -3, 2);
		lua_rawseti(L, -2, 1);
		lua_rawseti(L, result, i);
	}
	return 1;
}

/* ---- the map itself ---- */

static void set_description(lua_State *L, const char *field, const struct tg_type *type)
{
	char *text = type ? tg_type_describe(type) : NULL;

	if (!text)
		return;
	lua_pushstring(L, text);	/* may leak `text` when memory is out: the VM is lost then */
	free(text);
	lua_setfield(L, -2, field);
}

static void set_integer(lua_State *L, const char *field, lua_Integer value)
{
	lua_pushinteger(L, value);
	lua_setfield(L, -2, field);
}

static int l_info(lua_State *L)
{
	struct object *o = check_map(L, 1);
	const struct bpf_map_info *info = &o->map.info;

	lua_createtable(L, 0, 10);
	if (tg_map_kind(&o->map))
		lua_pushstring(L, tg_map_kind(&o->map));
	else
		lua_pushinteger(L, info->type);
	lua_setfield(L, -2, "type");
	lua_pushstring(L, info->name);
	lua_setfield(L, -2, "name");
	set_integer(L, "id", info->id);
	set_integer(L, "key_size", info->key_size);
	set_integer(L, "value_size", info->value_size);
	set_integer(L, "max_entries", info->max_entries);
	set_integer(L, "flags", info->map_flags);
	if (o->map.per_cpu)
		set_integer(L, "cpus", o->map.cpus);
	set_description(L, "key", o->map.key);
	set_description(L, "value", o->map.value);
	return 1;
}

static int l_close(lua_State *L)
{
	struct object *o = luaL_checkudata(L, 1, MAP);

	tg_map_close(&o->map);
	return 0;
}

static int l_tostring(lua_State *L)
{
	struct object *o = luaL_checkudata(L, 1, MAP);

	lua_pushfstring(L, "map \"%s\" (%s)", o->map.info.name,
		o->map.fd < 0 ? "closed" : tg_map_kind(&o->map) ? tg_map_kind(&o->map) : "unknown");
	return 1;
}

/* ---- opening ---- */

static void check_options(lua_State *L, int index)
{
	lua_pushnil(L);
	while (lua_next(L, index)) {
		const char *name = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "";

		if (strcmp(name, "key") && strcmp(name, "value"))
			luaL_error(L, "unknown option \"%s\" (options: key, value)",
				luaL_tolstring(L, -2, NULL));
		lua_pop(L, 1);
	}
}

static const struct tg_type *option_type(lua_State *L, int index, const char *name,
	struct tg_types *types)
{
	const struct tg_type *type = NULL;

	if (lua_getfield(L, index, name) != LUA_TNIL)
		type = tg_lua_check_type(L, -1, types, name);
	lua_pop(L, 1);
	return type;
}

static void make_room(lua_State *L, struct object *o)
{
	size_t key_room = (o->map.info.key_size + 15) & ~15u;

	o->key = lua_newuserdatauv(L, key_room + o->map.value_bytes, 0);
	o->value = o->key + key_room;
	lua_setiuservalue(L, -2, 1);
}

/* tg.map.open(path[, { key = type, value = type }]) */
static int l_open(lua_State *L)
{
	const char *path = luaL_checkstring(L, 1);
	bool typed = !lua_isnoneornil(L, 2);
	struct tg_error error;
	struct object *o;
	int err;

	if (typed) {
		luaL_checktype(L, 2, LUA_TTABLE);
		check_options(L, 2);
	}
	o = lua_newuserdatauv(L, sizeof(*o), 1);
	memset(o, 0, sizeof(*o));
	o->map.fd = -1;
	luaL_setmetatable(L, MAP);	/* from here on it closes itself */
	err = tg_map_open(&o->map, path, &error);
	if (!err && typed) {
		o->map.key = option_type(L, 2, "key", &o->map.types);
		o->map.value = option_type(L, 2, "value", &o->map.types);
	}
	if (!err)
		err = tg_map_types(&o->map, &error);
	if (err)
		return tg_lua_refuse(L, err, &error);
	make_room(L, o);
	return 1;
}

static const luaL_Reg methods[] = {
	{ "get", l_get },
	{ "set", l_set },
	{ "delete", l_delete },
	{ "pop", l_pop },
	{ "sum", l_sum },
	{ "pairs", l_pairs },
	{ "batch_set", l_batch_set },
	{ "to_table", l_to_table },
	{ "info", l_info },
	{ "close", l_close },
	{ NULL, NULL },
};

static const luaL_Reg metamethods[] = {
	{ "__gc", l_close },
	{ "__close", l_close },
	{ "__pairs", l_pairs },
	{ "__tostring", l_tostring },
	{ NULL, NULL },
};

static const luaL_Reg functions[] = {
	{ "open", l_open },
	{ NULL, NULL },
};

int luaopen_tidegate_core_map(lua_State *L)
{
	luaL_newmetatable(L, ITERATION);
	lua_pushcfunction(L, iteration_gc);
	lua_setfield(L, -2, "__gc");
	luaL_newmetatable(L, MAP);
	luaL_setfuncs(L, metamethods, 0);
	luaL_newlib(L, methods);
	lua_setfield(L, -2, "__index");
	luaL_newlib(L, functions);
	return 1;
}
