/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * tidegate.core.lists_status: what the lists in force hold and did. As core/lua_lists.c: calls into the lister's
 * thread, a callback last.
 */
#include "lists_lua.h"

#include <errno.h>
#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int luaopen_tidegate_core_lists_status(lua_State *L);

#define TOP 256 /* sources at most */

struct status {
	struct tg_deny_memory memory;
	size_t count;
	struct row {
		struct tg_list_status of;
		struct tg_counter counter;
		char replaced_by[256];
	} rows[];
};

static void fill_row(struct tg_deny *deny, const struct tg_list_status *of, struct row *row)
{
	struct tg_deny_class_info info;
	int class = tg_deny_class_find(deny, of->id.name);

	row->of = *of;
	snprintf(row->replaced_by, sizeof(row->replaced_by), "%s", of->replaced_by);
	if (class > 0 && tg_deny_class_info(deny, class, &info))
		row->counter = info.counter;
}

static void work_status(struct tg_call *call)
{
	struct tg_lists_call *this = (struct tg_lists_call *)call;
	struct tg_lister *lister = tg_lister_of(call);
	size_t count;
	struct tg_list_status *all = tg_lists_status(lister->lists, &count);
	struct status *status =
		all ? calloc(1, sizeof(*status) + count * sizeof(*status->rows)) : NULL;

	if (status) {
		status->memory = tg_deny_memory(lister->deny);
		status->count = count;
		for (size_t i = 0; i < count; i++)
			fill_row(lister->deny, &all[i], &status->rows[i]);
	}
	this->answer = status;
	call->code = status ? 0 : -ENOMEM;
	free(all);
}

static void push_row(lua_State *L, const struct row *row)
{
	lua_createtable(L, 0, 14);
	tg_set_string(L, "name", row->of.id.name);
	tg_set_string(L, "verdict", tg_list_verdicts[row->of.id.verdict]);
	tg_set_integer(L, "entries", row->of.entries);
	tg_set_integer(L, "timed", row->of.timed);
	tg_set_integer(L, "of_files", row->of.of_layer[TG_LAYER_FILE]);
	tg_set_integer(L, "of_source", row->of.of_layer[TG_LAYER_REPLACED]);
	tg_set_integer(L, "of_tasks", row->of.of_layer[TG_LAYER_TASK]);
	tg_set_integer(L, "of_operator", row->of.of_layer[TG_LAYER_OPERATOR]);
	tg_set_integer(L, "suppressed", row->of.suppressed);
	tg_set_integer(L, "packets", row->counter.packets);
	tg_set_integer(L, "bytes", row->counter.bytes);
	tg_set_integer(L, "memory", row->of.memory);
	if (!row->of.replaced)
		return;
	tg_set_string(L, "replaced_by", row->replaced_by[0] ? row->replaced_by : "operator");
	lua_pushnumber(L, row->of.replaced_date / 1e3);
	lua_setfield(L, -2, "replaced_at");
}

static int push_status(struct tg_call *call, lua_State *L)
{
	const struct status *status = ((struct tg_lists_call *)call)->answer;

	lua_createtable(L, status->count, 0);
	for (size_t i = 0; i < status->count; i++) {
		push_row(L, &status->rows[i]);
		lua_rawseti(L, -2, i + 1);
	}
	lua_createtable(L, 0, 3);
	tg_set_integer(L, "tables4", status->memory.tables[0]);
	tg_set_integer(L, "tables6", status->memory.tables[1]);
	tg_set_integer(L, "controller", status->memory.controller);
	return 2;
}

/* status(done): done({ { name, verdict, entries, … }, … }, { tables4, tables6, controller }), by name */
static int l_status(lua_State *L)
{
	tg_call_lister(tg_new_lister_call(L, 1, work_status, push_status));
	return 0;
}

struct top {
	struct tg_deny_source source[TOP];
	char list[TOP][TG_LIST_NAME];
};

static void work_top(struct tg_call *call)
{
	struct tg_lists_call *this = (struct tg_lists_call *)call;
	struct tg_deny *deny = tg_lister_of(call)->deny;
	struct tg_deny_class_info info;
	struct top *top = calloc(1, sizeof(*top));

	this->answer = top;
	call->code = top ? 0 : -ENOMEM;
	this->count = top ? tg_deny_top(deny, top->source, TOP) : 0;
	for (size_t i = 0; i < this->count; i++)
		if (tg_deny_class_info(deny, top->source[i].class, &info))
			memcpy(top->list[i], info.name, sizeof(top->list[i]));
	if (this->found)
		tg_deny_top_reset(deny);
}

static int push_top(struct tg_call *call, lua_State *L)
{
	struct tg_lists_call *this = (struct tg_lists_call *)call;
	const struct top *top = this->answer;

	lua_createtable(L, this->count, 0);
	for (size_t i = 0; i < this->count; i++) {
		const struct tg_deny_source *source = &top->source[i];
		struct tg_addr addr =
			tg_addr_from_bytes(source->v6 ? AF_INET6 : AF_INET, source->addr);
		char text[TG_ADDR_TEXT];

		lua_createtable(L, 0, 4);
		tg_set_string(L, "src", tg_addr_print(&addr, text));
		tg_set_string(L, "list", top->list[i][0] ? top->list[i] : NULL);
		tg_set_integer(L, "packets", source->packets);
		tg_set_integer(L, "bytes", source->bytes);
		lua_rawseti(L, -2, i + 1);
	}
	return 1;
}

/* top(reset, done): done { { src, list, packets, bytes }, … }, the heaviest first; then counts anew if told so */
static int l_top(lua_State *L)
{
	bool reset = lua_toboolean(L, 1);
	struct tg_lists_call *this = tg_new_lister_call(L, 2, work_top, push_top);

	this->found = reset;
	tg_call_lister(this);
	return 0;
}

static const luaL_Reg functions[] = {
	{ "status", l_status },
	{ "top", l_top },
	{ NULL, NULL },
};

int luaopen_tidegate_core_lists_status(lua_State *L)
{
	luaL_newlib(L, functions);
	return 1;
}
