/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * tidegate.core.lists: the deny and allow lists in force (core/lists.h), for the library alone
 * (lua/tidegate/lists.lua). Questions and changes are calls into the lister's thread (core/lister.h); each takes
 * a callback last (see task.await), which gets what is named here, or nil, a text and an errno's name.
 *
 * An actor is a table { owner = "task" | "operator", who, script }.
 */
#include "controller.h"
#include "lists_lua.h"

#include <errno.h>
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

int luaopen_tidegate_core_lists(lua_State *L);

/* ---- arguments ---- */

static struct tg_list_actor check_actor(lua_State *L, int index)
{
	static const char *const layers[] = { "task", "operator", NULL };
	struct tg_list_actor actor;

	luaL_checktype(L, index, LUA_TTABLE);
	lua_getfield(L, index, "owner");
	actor.layer = luaL_checkoption(L, -1, NULL, layers) ? TG_LAYER_OPERATOR : TG_LAYER_TASK;
	lua_getfield(L, index, "who");
	actor.who = luaL_optstring(L, -1, NULL);
	lua_getfield(L, index, "script");
	actor.script = luaL_optstring(L, -1, NULL);
	lua_pop(L, 3);
	return actor;
}

static void set_actor(struct tg_lists_call *this, const struct tg_list_actor *actor)
{
	this->actor = *actor;
	this->actor.who = actor->who ? strdup(actor->who) : NULL;
	this->actor.script = actor->script ? strdup(actor->script) : NULL;
}

/* ---- the tables ---- */

static void work_open(struct tg_call *call)
{
	call->code = tg_lister_open(tg_lister_of(call), &call->error);
}

/* open(done): uses the tables that a specialised program has. done(true) */
static int l_open(lua_State *L)
{
	tg_call_lister(tg_new_lister_call(L, 1, work_open, NULL));
	return 0;
}

/* started() → whether there are lists in force in this process. */
static int l_started(lua_State *L)
{
	struct tg_controller *controller = tg_vm_of(L)->user;

	lua_pushboolean(L, controller && controller->lister);
	return 1;
}

static void work_release(struct tg_call *call)
{
	tg_deny_release(tg_lister_of(call)->deny);
}

/* release(done): lets go of tables that no program uses any more. done(true) */
static int l_release(lua_State *L)
{
	tg_call_lister(tg_new_lister_call(L, 1, work_release, NULL));
	return 0;
}

static void work_needs(struct tg_call *call)
{
	((struct tg_lists_call *)call)->integer = tg_lists_needs(tg_lister_of(call)->lists);
}

/* needs(done): done(TG_LISTS_NEED_* of what stays when a generation ends) */
static int l_needs(lua_State *L)
{
	tg_call_lister(tg_new_lister_call(L, 1, work_needs, tg_push_call_integer));
	return 0;
}

/* unload(instance): removes its file of lists. */
static int l_unload(lua_State *L)
{
	tg_lister_unload(luaL_checkstring(L, 1));
	return 0;
}

/* ---- generations ---- */

/* A NULL-terminated copy of a list of strings. */
static char **copy_scripts(lua_State *L, int index)
{
	size_t count = lua_rawlen(L, index);
	char **scripts = calloc(count + 1, sizeof(*scripts));

	for (size_t i = 0; scripts && i < count; i++) {
		lua_rawgeti(L, index, i + 1);
		scripts[i] = strdup(lua_tostring(L, -1) ? lua_tostring(L, -1) : "");
		lua_pop(L, 1);
	}
	return scripts;
}

static struct tg_lists_call *new_draft_call(
	lua_State *L, void (*work)(struct tg_call *), int (*push)(struct tg_call *, lua_State *))
{
	struct tg_draft *draft = tg_check_draft(L, 1);
	struct tg_lists_call *this;

	luaL_checktype(L, 2, LUA_TTABLE);
	this = tg_new_lists_call(L, 3, work, push);
	tg_lists_call_keep(L, this, 1);
	this->draft = draft;
	this->scripts = copy_scripts(L, 2);
	return this;
}

static void work_plan(struct tg_call *call)
{
	struct tg_lists_call *this = (struct tg_lists_call *)call;
	struct tg_controller *controller = call->vm->user;
	bool in_force = controller && controller->lister;
	struct tg_lists *empty = in_force ? NULL : tg_lists_new(&(struct tg_lists_sink){ 0 });
	struct tg_lists *lists = in_force ? controller->lister->lists : empty;

	call->code =
		lists ? tg_lists_plan(lists, this->draft, this->scripts, tg_list_time(),
				(struct tg_list_plan **)&this->answer, &this->count, &call->error)
		      : -ENOMEM;
	tg_lists_free(empty);
}

static int push_plan(struct tg_call *call, lua_State *L)
{
	struct tg_lists_call *this = (struct tg_lists_call *)call;
	const struct tg_list_plan *plans = this->answer;

	lua_createtable(L, this->count, 0);
	for (size_t i = 0; i < this->count; i++) {
		lua_createtable(L, 0, 9);
		tg_set_string(L, "name", plans[i].id.name);
		tg_set_string(L, "verdict", tg_list_verdicts[plans[i].id.verdict]);
		tg_set_integer(L, "before", plans[i].before);
		tg_set_integer(L, "after", plans[i].after);
		tg_set_integer(L, "added", plans[i].added);
		tg_set_integer(L, "removed", plans[i].removed);
		tg_set_integer(L, "changed", plans[i].changed);
		tg_set_integer(L, "absorbed", plans[i].absorbed);
		lua_pushboolean(L, plans[i].declared_anew);
		lua_setfield(L, -2, "declared_anew");
		lua_rawseti(L, -2, i + 1);
	}
	return 1;
}

/* plan(draft, scripts, done): done { { name, verdict, before, after, added, removed, changed, absorbed, declared_anew }, … }
 * Without a daemon, against no lists. */
static int l_plan(lua_State *L)
{
	struct tg_lists_call *this = new_draft_call(L, work_plan, push_plan);
	struct tg_controller *controller = this->call.vm->user;

	if (controller && controller->lister)
		tg_call_lister(this);
	else
		tg_call_in_pool(&this->call);
	return 0;
}

static void work_commit(struct tg_call *call)
{
	struct tg_lists_call *this = (struct tg_lists_call *)call;

	call->code = tg_lists_commit(tg_lister_of(call)->lists, this->draft, this->scripts,
		tg_list_time(), &call->error);
}

/* commit(draft, scripts, done): puts it in force, until keep or undo. done(true) */
static int l_commit(lua_State *L)
{
	struct tg_controller *controller = tg_vm_of(L)->user;

	if (!controller || !controller->lister)
		return luaL_error(L, "no daemon runs in this process, so no list can be in force");
	tg_call_lister(new_draft_call(L, work_commit, NULL));
	return 0;
}

static void work_undo(struct tg_call *call)
{
	call->code = tg_lists_undo(tg_lister_of(call)->lists, &call->error);
	tg_lister_changed(tg_lister_of(call));
}

static int l_undo(lua_State *L)
{
	tg_call_lister(tg_new_lister_call(L, 1, work_undo, NULL));
	return 0;
}

static void work_keep(struct tg_call *call)
{
	tg_lists_keep(tg_lister_of(call)->lists);
	tg_lister_changed(tg_lister_of(call));
}

static int l_keep(lua_State *L)
{
	tg_call_lister(tg_new_lister_call(L, 1, work_keep, NULL));
	return 0;
}

/* ---- changes ---- */

static void work_add(struct tg_call *call)
{
	struct tg_lists_call *this = (struct tg_lists_call *)call;
	struct tg_cidr *prefixes = this->feed ? this->feed->prefixes : &this->prefix;
	size_t count = this->feed ? this->feed->count : 1, added;

	call->code = tg_lists_add(tg_lister_of(call)->lists, &this->id, prefixes, count,
		&this->terms, &this->actor, tg_list_time(), &added, &call->error);
	this->integer = added;
	tg_lister_changed(tg_lister_of(call));
}

/* add(verdict, list, prefix or feed, terms, actor, done): done(how many are new). The feed is used up. */
static int l_add(lua_State *L)
{
	struct tg_list_id id = tg_check_list_id(L, 1);
	bool one = lua_type(L, 3) == LUA_TSTRING;
	struct tg_cidr prefix = one ? tg_check_prefix(L, 3) : (struct tg_cidr){ 0 };
	struct tg_feed *feed = one ? NULL : tg_check_feed(L, 3);
	struct tg_list_terms terms = tg_check_list_terms(L, 4);
	struct tg_list_actor actor = check_actor(L, 5);
	struct tg_lists_call *this = tg_new_lister_call(L, 6, work_add, tg_push_call_integer);

	tg_lists_call_keep(L, this, 3);
	this->id = id;
	this->prefix = prefix;
	this->feed = feed;
	tg_lists_call_terms(this, terms);
	set_actor(this, &actor);
	tg_call_lister(this);
	return 0;
}

static void work_remove(struct tg_call *call)
{
	struct tg_lists_call *this = (struct tg_lists_call *)call;

	call->code = tg_lists_remove(tg_lister_of(call)->lists, &this->id, &this->prefix,
		&this->actor, tg_list_time(), &this->found, &call->error);
}

static int push_found(struct tg_call *call, lua_State *L)
{
	lua_pushboolean(L, ((struct tg_lists_call *)call)->found);
	return 1;
}

/* remove(verdict, list, prefix, actor, done): done(whether it was there) */
static int l_remove(lua_State *L)
{
	struct tg_list_id id = tg_check_list_id(L, 1);
	struct tg_cidr prefix = tg_check_prefix(L, 3);
	struct tg_list_actor actor = check_actor(L, 4);
	struct tg_lists_call *this = tg_new_lister_call(L, 5, work_remove, push_found);

	this->id = id;
	this->prefix = prefix;
	set_actor(this, &actor);
	tg_call_lister(this);
	return 0;
}

static void work_replace(struct tg_call *call)
{
	struct tg_lists_call *this = (struct tg_lists_call *)call;

	call->code = tg_lists_replace(tg_lister_of(call)->lists, &this->id, this->feed->prefixes,
		this->feed->count, this->min, &this->terms, &this->actor, tg_list_time(),
		&this->change, &call->error);
	tg_lister_changed(tg_lister_of(call));
}

static int push_change(struct tg_call *call, lua_State *L)
{
	const struct tg_list_change *change = &((struct tg_lists_call *)call)->change;

	lua_pushinteger(L, change->count);
	lua_pushinteger(L, change->added);
	lua_pushinteger(L, change->removed);
	return 3;
}

/* replace(verdict, list, feed, min, terms, actor, done): done(count, added, removed). The feed is used up. */
static int l_replace(lua_State *L)
{
	struct tg_list_id id = tg_check_list_id(L, 1);
	struct tg_feed *feed = tg_check_feed(L, 3);
	lua_Integer min = luaL_checkinteger(L, 4);
	struct tg_list_terms terms = tg_check_list_terms(L, 5);
	struct tg_list_actor actor = check_actor(L, 6);
	struct tg_lists_call *this = tg_new_lister_call(L, 7, work_replace, push_change);

	tg_lists_call_keep(L, this, 3);
	this->id = id;
	this->feed = feed;
	this->min = min;
	tg_lists_call_terms(this, terms);
	set_actor(this, &actor);
	tg_call_lister(this);
	return 0;
}

/* ---- questions ---- */

/* Copies what was found, with the counters of those that have some. */
static int answer(struct tg_lists_call *this, const struct tg_list_entry *entries, size_t count)
{
	this->counters = calloc(count + 1, sizeof(*this->counters));
	if (!this->counters)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		struct tg_deny_prefix host = tg_deny_prefix_of(&entries[i].prefix);

		if (host.count)
			tg_deny_host_counter(
				tg_lister_of(&this->call)->deny, &host, &this->counters[i]);
	}
	return tg_lists_call_found(this, entries, count);
}

static void work_find(struct tg_call *call)
{
	struct tg_lists_call *this = (struct tg_lists_call *)call;
	struct tg_list_entry entry;

	this->found = tg_lists_find(tg_lister_of(call)->lists, &this->id, &this->prefix, &entry);
	call->code = this->found ? answer(this, &entry, 1) : 0;
}

static int push_entry(struct tg_call *call, lua_State *L)
{
	struct tg_lists_call *this = (struct tg_lists_call *)call;

	if (this->found)
		tg_push_list_entry(L, &this->entries[0], &this->counters[0]);
	else
		lua_pushboolean(L, false);
	return 1;
}

/* find(verdict, list or nil, prefix, done): done(the entry that covers it, or false) */
static int l_find(lua_State *L)
{
	struct tg_list_id id = tg_check_list_id(L, 1);
	struct tg_cidr prefix = tg_check_prefix(L, 3);
	struct tg_lists_call *this = tg_new_lister_call(L, 4, work_find, push_entry);

	this->id = id;
	this->prefix = prefix;
	tg_call_lister(this);
	return 0;
}

static void work_page(struct tg_call *call)
{
	struct tg_lists_call *this = (struct tg_lists_call *)call;
	struct tg_list_entry *entries = malloc(TG_LIST_PAGE * sizeof(*entries));
	size_t count =
		entries ? tg_lists_page(tg_lister_of(call)->lists, &this->id,
				  this->has_prefix ? &this->prefix : NULL, entries, TG_LIST_PAGE)
			: 0;

	call->code = entries ? answer(this, entries, count) : -ENOMEM;
	free(entries);
}

static int push_page(struct tg_call *call, lua_State *L)
{
	struct tg_lists_call *this = (struct tg_lists_call *)call;

	lua_createtable(L, this->count, 0);
	for (size_t i = 0; i < this->count; i++) {
		tg_push_list_entry(L, &this->entries[i], &this->counters[i]);
		lua_rawseti(L, -2, i + 1);
	}
	return 1;
}

/* page(verdict, list, after or nil, done): done(entries in order, those after a prefix; none at the end) */
static int l_page(lua_State *L)
{
	struct tg_list_id id = tg_check_list_id(L, 1);
	bool has_prefix = !lua_isnoneornil(L, 3);
	struct tg_cidr prefix = has_prefix ? tg_check_prefix(L, 3) : (struct tg_cidr){ 0 };
	struct tg_lists_call *this = tg_new_lister_call(L, 4, work_page, push_page);

	this->id = id;
	this->has_prefix = has_prefix;
	this->prefix = prefix;
	tg_call_lister(this);
	return 0;
}

static const luaL_Reg functions[] = {
	{ "open", l_open },
	{ "started", l_started },
	{ "release", l_release },
	{ "needs", l_needs },
	{ "unload", l_unload },
	{ "plan", l_plan },
	{ "commit", l_commit },
	{ "undo", l_undo },
	{ "keep", l_keep },
	{ "add", l_add },
	{ "remove", l_remove },
	{ "replace", l_replace },
	{ "find", l_find },
	{ "page", l_page },
	{ NULL, NULL },
};

int luaopen_tidegate_core_lists(lua_State *L)
{
	luaL_newlib(L, functions);
	return 1;
}
