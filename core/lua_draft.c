/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * tidegate.core.draft: drafts (core/draft.h), for the library alone. As for feeds (core/lua_feed.c): what takes
 * long takes a callback last; one call at a time for each draft.
 */
#include "lists_lua.h"

#include "refuse.h"

#include <lauxlib.h>
#include <string.h>

int luaopen_tidegate_core_draft(lua_State *L);

#define DRAFT "tidegate.draft"

struct tg_draft *tg_check_draft(lua_State *L, int index)
{
	return *(struct tg_draft **)luaL_checkudata(L, index, DRAFT);
}

/* draft() → an empty draft */
static int l_draft(lua_State *L)
{
	struct tg_draft **draft = lua_newuserdatauv(L, sizeof(*draft), 0);

	*draft = NULL;
	luaL_setmetatable(L, DRAFT);
	*draft = tg_draft_new();
	return *draft ? 1 : luaL_error(L, "out of memory");
}

static int draft_gc(lua_State *L)
{
	struct tg_draft **draft = luaL_checkudata(L, 1, DRAFT);

	tg_draft_free(*draft);
	*draft = NULL;
	return 0;
}

/* draft:list(verdict, name) → number | nil, text, code */
static int draft_list(lua_State *L)
{
	struct tg_draft *draft = tg_check_draft(L, 1);
	struct tg_list_id id = tg_check_list_id(L, 2);
	struct tg_error error;
	int number = tg_draft_list(draft, &id, &error);

	if (number < 0)
		return tg_lua_refuse(L, number, &error);
	lua_pushinteger(L, number);
	return 1;
}

static int check_number(lua_State *L, int index)
{
	return luaL_checkinteger(L, index);
}

/* draft:add(list, prefix, terms, who) → true | nil, text, code */
static int draft_add(lua_State *L)
{
	struct tg_draft *draft = tg_check_draft(L, 1);
	struct tg_cidr prefix = tg_check_prefix(L, 3);
	struct tg_list_terms terms = tg_check_list_terms(L, 4);
	struct tg_error error;
	int result = tg_draft_add(
		draft, check_number(L, 2), &prefix, 1, &terms, luaL_optstring(L, 5, NULL), &error);

	if (result)
		return tg_lua_refuse(L, result, &error);
	lua_pushboolean(L, true);
	return 1;
}

/* draft:remove(list, prefix) */
static int draft_remove(lua_State *L)
{
	struct tg_draft *draft = tg_check_draft(L, 1);
	struct tg_cidr prefix = tg_check_prefix(L, 3);

	if (tg_draft_remove(draft, check_number(L, 2), &prefix))
		return luaL_error(L, "out of memory");
	return 0;
}

/* draft:clear(list) */
static int draft_clear(lua_State *L)
{
	tg_draft_clear(tg_check_draft(L, 1), check_number(L, 2));
	return 0;
}

static void work_load(struct tg_call *call)
{
	struct tg_lists_call *this = (struct tg_lists_call *)call;

	call->code = tg_draft_add(this->draft, this->number, this->feed->prefixes,
		this->feed->count, &this->terms, this->actor.who, &call->error);
}

/* draft:load(list, feed, terms, who, done): done(true) */
static int draft_load(lua_State *L)
{
	struct tg_draft *draft = tg_check_draft(L, 1);
	int number = check_number(L, 2);
	struct tg_feed *feed = tg_check_feed(L, 3);
	struct tg_list_terms terms = tg_check_list_terms(L, 4);
	const char *who = luaL_optstring(L, 5, NULL);
	struct tg_lists_call *this = tg_new_lists_call(L, 6, work_load, NULL);

	tg_lists_call_keep(L, this, 1);
	tg_lists_call_keep(L, this, 3);
	this->draft = draft;
	this->number = number;
	this->feed = feed;
	tg_lists_call_terms(this, terms);
	this->actor.who = who ? strdup(who) : NULL;
	tg_call_in_pool(&this->call);
	return 0;
}

static void work_settle(struct tg_call *call)
{
	struct tg_lists_call *this = (struct tg_lists_call *)call;

	call->code = tg_draft_settle(this->draft, this->number);
	this->integer = tg_draft_count(this->draft, this->number);
}

/* draft:settle(list, done): sorts it, before the questions. done(how many prefixes are declared) */
static int draft_settle(lua_State *L)
{
	struct tg_draft *draft = tg_check_draft(L, 1);
	int number = check_number(L, 2);
	struct tg_lists_call *this = tg_new_lists_call(L, 3, work_settle, tg_push_call_integer);

	tg_lists_call_keep(L, this, 1);
	this->draft = draft;
	this->number = number;
	tg_call_in_pool(&this->call);
	return 0;
}

/* draft:needs() → TG_LISTS_NEED_* */
static int draft_needs(lua_State *L)
{
	lua_pushinteger(L, tg_draft_needs(tg_check_draft(L, 1)));
	return 1;
}

/* draft:find(verdict, name or nil, prefix) → the entry that covers it | nil. After settle. */
static int draft_find(lua_State *L)
{
	struct tg_draft *draft = tg_check_draft(L, 1);
	struct tg_list_id id = tg_check_list_id(L, 2);
	struct tg_cidr prefix = tg_check_prefix(L, 4);
	struct tg_list_entry entry;

	if (!tg_draft_find(draft, &id, &prefix, &entry))
		return 0;
	tg_push_list_entry(L, &entry, NULL);
	return 1;
}

/* draft:page(verdict, name, after or nil) → a list of entries */
static int draft_page(lua_State *L)
{
	struct tg_draft *draft = tg_check_draft(L, 1);
	struct tg_list_id id = tg_check_list_id(L, 2);
	bool from_start = lua_isnoneornil(L, 4);
	struct tg_cidr after = from_start ? (struct tg_cidr){ 0 } : tg_check_prefix(L, 4);
	struct tg_list_entry *entries = lua_newuserdatauv(L, TG_LIST_PAGE * sizeof(*entries), 0);
	size_t count = tg_draft_page(draft, &id, from_start ? NULL : &after, entries, TG_LIST_PAGE);

	lua_createtable(L, count, 0);
	for (size_t i = 0; i < count; i++) {
		tg_push_list_entry(L, &entries[i], NULL);
		lua_rawseti(L, -2, i + 1);
	}
	return 1;
}

/* draft:names(verdict) → the names of its lists, in the order of their first call */
static int draft_names(lua_State *L)
{
	struct tg_draft *draft = tg_check_draft(L, 1);
	enum tg_list_verdict verdict = luaL_checkoption(L, 2, NULL, tg_list_verdicts);
	struct tg_list_id id;
	lua_Integer n = 0;

	lua_newtable(L);
	for (int i = 0; tg_draft_id(draft, i, &id); i++) {
		if (id.verdict != verdict)
			continue;
		lua_pushstring(L, id.name);
		lua_rawseti(L, -2, ++n);
	}
	return 1;
}

static const luaL_Reg draft_methods[] = {
	{ "list", draft_list },
	{ "add", draft_add },
	{ "remove", draft_remove },
	{ "clear", draft_clear },
	{ "load", draft_load },
	{ "settle", draft_settle },
	{ "needs", draft_needs },
	{ "find", draft_find },
	{ "page", draft_page },
	{ "names", draft_names },
	{ NULL, NULL },
};

static const luaL_Reg functions[] = {
	{ "new", l_draft },
	{ NULL, NULL },
};

int luaopen_tidegate_core_draft(lua_State *L)
{
	luaL_newmetatable(L, DRAFT);
	lua_pushcfunction(L, draft_gc);
	lua_setfield(L, -2, "__gc");
	luaL_newlib(L, draft_methods);
	lua_setfield(L, -2, "__index");
	luaL_newlib(L, functions);
	return 1;
}
