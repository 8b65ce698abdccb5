/* SPDX-License-Identifier: GPL-2.0-only */
#include "lists_lua.h"

#include "cidr.h"
#include "controller.h"

#include <errno.h>
#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const tg_list_verdicts[] = { "deny", "allow", NULL };
static const char *const owners[] = { "file", "source", "task", "operator" };

/* ---- arguments ---- */

struct tg_list_id tg_check_list_id(lua_State *L, int index)
{
	struct tg_list_id id = { .verdict = luaL_checkoption(L, index, NULL, tg_list_verdicts) };

	snprintf(id.name, sizeof(id.name), "%s", luaL_optstring(L, index + 1, ""));
	return id;
}

struct tg_cidr tg_check_prefix(lua_State *L, int index)
{
	struct tg_cidr prefix;
	size_t size;
	const char *text = luaL_checklstring(L, index, &size),
		   *why = tg_cidr_parse(text, size, &prefix);

	if (why)
		luaL_error(L, "\"%s\": %s", text, why);
	return prefix;
}

struct tg_list_terms tg_check_list_terms(lua_State *L, int index)
{
	struct tg_list_terms terms = { 0 };

	luaL_checktype(L, index, LUA_TTABLE);
	lua_getfield(L, index, "ttl");
	terms.ttl = luaL_optnumber(L, -1, 0);
	lua_getfield(L, index, "reason");
	terms.reason = luaL_optstring(L, -1, NULL);
	lua_getfield(L, index, "count");
	terms.count = lua_toboolean(L, -1);
	lua_pop(L, 3);
	return terms;
}

void tg_push_prefix(lua_State *L, const struct tg_cidr *prefix)
{
	char text[TG_CIDR_TEXT];

	lua_pushstring(L, tg_cidr_print(prefix, text));
}

void tg_set_string(lua_State *L, const char *name, const char *value)
{
	if (value)
		lua_pushstring(L, value);
	else
		lua_pushnil(L);
	lua_setfield(L, -2, name);
}

void tg_set_integer(lua_State *L, const char *name, lua_Integer value)
{
	lua_pushinteger(L, value);
	lua_setfield(L, -2, name);
}

/* ---- answers ---- */

void tg_push_list_entry(
	lua_State *L, const struct tg_list_entry *entry, const struct tg_counter *counter)
{
	int64_t now = tg_list_time().now;

	lua_createtable(L, 0, 8);
	tg_push_prefix(L, &entry->prefix);
	lua_setfield(L, -2, "prefix");
	tg_set_string(L, "list", entry->list);
	tg_set_string(L, "owner", owners[entry->layer]);
	tg_set_string(L, "reason", entry->reason);
	tg_set_string(L, "who", entry->who);
	if (entry->expires != INT64_MAX) {
		lua_pushnumber(L, entry->expires > now ? (entry->expires - now) / 1e3 : 0);
		lua_setfield(L, -2, "ttl");
	}
	if (entry->date) {
		lua_pushnumber(L, entry->date / 1e3);
		lua_setfield(L, -2, "since");
	}
	if (counter && entry->prefix.flags & TG_LIST_COUNT) {
		tg_set_integer(L, "packets", counter->packets);
		tg_set_integer(L, "bytes", counter->bytes);
	}
}

/* ---- calls ---- */

static char *copy(const char *text)
{
	return text ? strdup(text) : NULL;
}

static void free_entries(struct tg_lists_call *this)
{
	for (size_t i = 0; this->entries && i < this->count; i++) {
		free((char *)this->entries[i].list);
		free((char *)this->entries[i].reason);
		free((char *)this->entries[i].who);
	}
	free(this->entries);
	free(this->counters);
}

static void free_scripts(char **scripts)
{
	for (char **script = scripts; script && *script; script++)
		free(*script);
	free(scripts);
}

static void release(struct tg_call *call)
{
	struct tg_lists_call *this = (struct tg_lists_call *)call;

	for (int i = 0; i < 2; i++)
		luaL_unref(call->vm->L, LUA_REGISTRYINDEX, this->kept[i]);
	free((char *)this->terms.reason);
	free((char *)this->actor.who);
	free((char *)this->actor.script);
	free_scripts(this->scripts);
	free_entries(this);
	free(this->answer);
}

struct tg_lists_call *tg_new_lists_call(lua_State *L, int callback, void (*work)(struct tg_call *),
	int (*push)(struct tg_call *, lua_State *))
{
	struct tg_lists_call *this = tg_call_new(L, sizeof(*this), callback);

	this->kept[0] = this->kept[1] = LUA_NOREF;
	this->call.work = work;
	this->call.push = push;
	this->call.release = release;
	return this;
}

struct tg_lister *tg_lister_of(const struct tg_call *call)
{
	return ((struct tg_controller *)call->vm->user)->lister;
}

struct tg_lists_call *tg_new_lister_call(lua_State *L, int callback, void (*work)(struct tg_call *),
	int (*push)(struct tg_call *, lua_State *))
{
	struct tg_controller *controller = tg_vm_of(L)->user;

	if (!controller || !controller->lister)
		luaL_error(L, "no daemon runs in this process, so no list is in force");
	return tg_new_lists_call(L, callback, work, push);
}

void tg_call_lister(struct tg_lists_call *this)
{
	struct tg_controller *controller = this->call.vm->user;

	tg_call_in_engine(&this->call, controller->lister->engine, controller->home);
}

void tg_lists_call_keep(lua_State *L, struct tg_lists_call *this, int index)
{
	lua_pushvalue(L, index);
	this->kept[this->kept[0] != LUA_NOREF] = luaL_ref(L, LUA_REGISTRYINDEX);
}

void tg_lists_call_terms(struct tg_lists_call *this, struct tg_list_terms terms)
{
	this->terms = terms;
	this->terms.reason = copy(terms.reason);
}

int tg_lists_call_found(
	struct tg_lists_call *this, const struct tg_list_entry *entries, size_t count)
{
	this->entries = calloc(count + 1, sizeof(*this->entries));
	if (!this->entries)
		return -ENOMEM;
	for (; this->count < count; this->count++) {
		struct tg_list_entry *entry = &this->entries[this->count];

		*entry = entries[this->count];
		entry->list = copy(entry->list);
		entry->reason = copy(entry->reason);
		entry->who = copy(entry->who);
	}
	return 0;
}

int tg_push_call_integer(struct tg_call *call, lua_State *L)
{
	lua_pushinteger(L, ((struct tg_lists_call *)call)->integer);
	return 1;
}
