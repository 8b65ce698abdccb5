/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * tidegate.core.feed: feeds (core/feed.h), for the library alone. What takes long takes a callback last (see
 * task.await) and is done in the pool; it gets what is named here, or nil, a text and an errno's name. One call
 * at a time for each feed.
 */
#include "lists_lua.h"

#include <lauxlib.h>
#include <string.h>

int luaopen_tidegate_core_feed(lua_State *L);

#define FEED "tidegate.feed"

/* prefix(text) → its canonical text, whether it is a single address, family | nil, what is wrong */
static int l_prefix(lua_State *L)
{
	struct tg_cidr prefix;
	size_t size;
	const char *text = luaL_checklstring(L, 1, &size),
		   *why = tg_cidr_parse(text, size, &prefix);

	if (why) {
		lua_pushnil(L);
		lua_pushstring(L, why);
		return 2;
	}
	tg_push_prefix(L, &prefix);
	lua_pushboolean(L, prefix.length == tg_cidr_full(&prefix));
	lua_pushinteger(L, prefix.family);
	return 3;
}

struct tg_feed *tg_check_feed(lua_State *L, int index)
{
	return luaL_checkudata(L, index, FEED);
}

/* feed() → an empty feed */
static int l_feed(lua_State *L)
{
	struct tg_feed *feed = lua_newuserdatauv(L, sizeof(*feed), 0);

	memset(feed, 0, sizeof(*feed));
	luaL_setmetatable(L, FEED);
	return 1;
}

static int feed_gc(lua_State *L)
{
	tg_feed_free(tg_check_feed(L, 1));
	return 0;
}

static void work_file(struct tg_call *call)
{
	struct tg_lists_call *this = (struct tg_lists_call *)call;

	call->code = tg_feed_read(this->feed, this->text, &call->error);
}

static void work_text(struct tg_call *call)
{
	struct tg_lists_call *this = (struct tg_lists_call *)call;

	call->code = tg_feed_parse(this->feed, this->text, this->size, &call->error);
}

static int parse(lua_State *L, void (*work)(struct tg_call *))
{
	struct tg_feed *feed = tg_check_feed(L, 1);
	size_t size;
	const char *text = luaL_checklstring(L, 2, &size);
	struct tg_lists_call *this = tg_new_lists_call(L, 3, work, NULL);

	tg_lists_call_keep(L, this, 1);
	tg_lists_call_keep(L, this, 2);
	this->feed = feed;
	this->text = text;
	this->size = size;
	tg_call_in_pool(&this->call);
	return 0;
}

/* feed:file(path, done), feed:text(text, done): appends what is in it. done(true) */
static int feed_file(lua_State *L)
{
	return parse(L, work_file);
}

static int feed_text(lua_State *L)
{
	return parse(L, work_text);
}

/* feed:list(texts, from, to): appends some of a list; the line is its number there. Here, so not too many at once. */
static int feed_list(lua_State *L)
{
	struct tg_feed *feed = tg_check_feed(L, 1);
	lua_Integer from = luaL_checkinteger(L, 3), to = luaL_checkinteger(L, 4);
	struct tg_error error;

	for (lua_Integer i = from; i <= to; i++) {
		size_t size;
		const char *text;

		if (lua_geti(L, 2, i) != LUA_TSTRING)
			return luaL_error(
				L, "[%d]: a string expected, got %s", (int)i, luaL_typename(L, -1));
		text = lua_tolstring(L, -1, &size);
		if (tg_feed_line(feed, text, size, i, &error))
			return luaL_error(L, "%s", error.text);
		lua_pop(L, 1);
	}
	return 0;
}

/* feed:count() → prefixes, broken lines */
static int feed_count(lua_State *L)
{
	struct tg_feed *feed = tg_check_feed(L, 1);

	lua_pushinteger(L, feed->count);
	lua_pushinteger(L, feed->broken);
	return 2;
}

/* feed:errors() → the first broken lines, { { line =, text =, why = }, … } */
static int feed_errors(lua_State *L)
{
	struct tg_feed *feed = tg_check_feed(L, 1);
	size_t count = feed->broken < TG_FEED_ERRORS ? feed->broken : TG_FEED_ERRORS;

	lua_createtable(L, count, 0);
	for (size_t i = 0; i < count; i++) {
		lua_createtable(L, 0, 3);
		tg_set_integer(L, "line", feed->errors[i].line);
		tg_set_string(L, "text", feed->errors[i].text);
		tg_set_string(L, "why", feed->errors[i].why);
		lua_rawseti(L, -2, i + 1);
	}
	return 1;
}

/* feed:needs() → TG_LISTS_NEED_* of its prefixes */
static void work_needs(struct tg_call *call)
{
	struct tg_lists_call *this = (struct tg_lists_call *)call;

	for (size_t i = 0; i < this->feed->count; i++)
		this->integer |=
			this->feed->prefixes[i].family == 4 ? TG_LISTS_NEED_V4 : TG_LISTS_NEED_V6;
}

static int feed_needs(lua_State *L)
{
	struct tg_feed *feed = tg_check_feed(L, 1);
	struct tg_lists_call *this = tg_new_lists_call(L, 2, work_needs, tg_push_call_integer);

	tg_lists_call_keep(L, this, 1);
	this->feed = feed;
	tg_call_in_pool(&this->call);
	return 0;
}

static const luaL_Reg feed_methods[] = {
	{ "file", feed_file },
	{ "text", feed_text },
	{ "list", feed_list },
	{ "count", feed_count },
	{ "errors", feed_errors },
	{ "needs", feed_needs },
	{ NULL, NULL },
};

static const luaL_Reg functions[] = {
	{ "new", l_feed },
	{ "prefix", l_prefix },
	{ NULL, NULL },
};

int luaopen_tidegate_core_feed(lua_State *L)
{
	luaL_newmetatable(L, FEED);
	lua_pushcfunction(L, feed_gc);
	lua_setfield(L, -2, "__gc");
	luaL_newlib(L, feed_methods);
	lua_setfield(L, -2, "__index");
	luaL_newlib(L, functions);
	return 1;
}
