/* SPDX-License-Identifier: GPL-2.0-only */
/* tidegate.core.host: what the library needs of the VM and the guard. For the library only. */
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <string.h>

#include "addr.h"
#include "coroutine.h"
#include "quarantine.h"
#include "vm.h"

int luaopen_tidegate_core_host(lua_State *L);

static lua_State *check_thread(lua_State *L, int index)
{
	luaL_checktype(L, index, LUA_TTHREAD);
	return lua_tothread(L, index);
}

/* --- run(co, label, script, budget, ...) --- */

static int push_results(lua_State *L, lua_State *co, int n, const char *state)
{
	luaL_checkstack(L, n + 1, "too many results");
	lua_pushstring(L, state);
	lua_xmove(co, L, n);
	return n + 1;
}

static int push_stopped(lua_State *L, const struct tg_guard *guard, const struct tg_entry *entry)
{
	if (entry->stop == TG_STOP_EXIT)
		return lua_pushliteral(L, "exit"), 1;
	lua_pushliteral(L, "error");
	lua_pushfstring(L, "%s: stopped after %d ms without yielding", guard->place,
		(int)(entry->budget / 1000000));
	lua_pushfstring(L, "%s\n%s", lua_tostring(L, -1), guard->trace);
	return 3;
}

static bool is_memory_error(lua_State *L, int status)
{
	static const char text[] = "not enough memory";
	size_t length;
	const char *message;

	if (lua_type(L, -1) != LUA_TSTRING)
		return false;
	message = lua_tolstring(L, -1, &length);
	return status == LUA_ERRMEM || (length >= sizeof(text) - 1 &&
		!strcmp(message + length - (sizeof(text) - 1), text));
}

static int push_error(lua_State *L, lua_State *co, int status, const struct tg_guard *guard)
{
	const char *text;

	lua_pushliteral(L, "error");
	lua_xmove(co, L, 1);
	if (guard->refusal[0] && is_memory_error(L, status)) {
		lua_pop(L, 1);
		lua_pushstring(L, guard->refusal);
	}
	text = lua_tostring(L, -1);
	luaL_traceback(L, co, text, 0);
	return 3;
}

/*
 * Resumes a task's coroutine under the guard. Returns "wait" (it called host.wait), "yield" (it
 * yielded otherwise), "done" and its results, "error", the message and a traceback, or "exit".
 * `script` may be nil; a budget of 0 (seconds) is none.
 */
static int l_run(lua_State *L)
{
	struct tg_vm *vm = tg_vm_of(L);
	lua_State *co = check_thread(L, 1);
	double budget = luaL_checknumber(L, 4);
	int nargs = lua_gettop(L) - 4, n, status;
	struct tg_entry entry;

	tg_guard_name(vm, luaL_checkstring(L, 2), luaL_optstring(L, 3, ""));
	if (!lua_checkstack(co, nargs))
		return luaL_error(L, "too many arguments");
	lua_xmove(L, co, nargs);
	tg_guard_enter(vm, &entry, co, budget * 1e9);
	status = lua_resume(co, L, nargs, &n);
	if (tg_guard_leave(vm, &entry))
		return push_stopped(L, &vm->guard, &entry);
	if (status == LUA_OK)
		return push_results(L, co, n, "done");
	if (status != LUA_YIELD)
		return push_error(L, co, status, &vm->guard);
	lua_pushstring(L, tg_is_wait(co, n) ? "wait" : "yield");
	lua_pop(co, n);
	return 1;
}

/* close(co): ends a coroutine and those it waits for; <close> variables run. nil, or an error text. */
static int l_close(lua_State *L)
{
	const char *error = tg_guard_close(L, check_thread(L, 1));

	if (!error)
		lua_pushnil(L);
	return 1;
}

/* exit(code): ends the program soon; does not return to a task. */
static int l_exit(lua_State *L)
{
	tg_vm_exit(tg_vm_of(L), luaL_optinteger(L, 1, 0));
	return tg_guard_exit(L);
}

/* memory([cap]) → bytes used, cap in bytes (0: none); sets the cap. */
static int l_memory(lua_State *L)
{
	struct tg_vm *vm = tg_vm_of(L);

	if (!lua_isnoneornil(L, 1)) {
		lua_Integer cap = luaL_checkinteger(L, 1);

		luaL_argcheck(L, cap >= 0, 1, "not negative");
		vm->cap = cap;
	}
	lua_pushinteger(L, vm->used);
	lua_pushinteger(L, vm->cap);
	return 2;
}

/* errors() → how many were caught in callbacks of the loop. */
static int l_errors(lua_State *L)
{
	lua_pushinteger(L, tg_vm_of(L)->errors);
	return 1;
}

/* strerror("ECONNREFUSED") → "connection refused" */
static int l_strerror(lua_State *L)
{
	const char *name = luaL_checkstring(L, 1);

#define TRY(code, text)                            \
	if (!strcmp(name, #code)) {                \
		lua_pushliteral(L, text);          \
		return 1;                          \
	}
	UV_ERRNO_MAP(TRY)
#undef TRY
	lua_pushvalue(L, 1);
	return 1;
}

/* family("10.0.0.1") → 4, 6, or nil for what is not an address */
static int l_family(lua_State *L)
{
	struct tg_addr addr;

	if (tg_addr_parse(luaL_checkstring(L, 1), &addr))
		return 0;
	lua_pushinteger(L, addr.family == AF_INET ? 4 : 6);
	return 1;
}

/* stock() → Lua's own string and table functions, for the spec that compares core/bounded.c to them */
static int l_stock(lua_State *L)
{
	lua_pushliteral(L, "");
	lua_getmetatable(L, -1);	/* luaopen_string gives strings a new one */
	luaopen_string(L);
	lua_insert(L, -3);
	lua_setmetatable(L, -2);
	lua_pop(L, 1);
	luaopen_table(L);
	return 2;
}

/* hang(seconds): blocks in C, for the tests of the watchdog. */
static int l_hang(lua_State *L)
{
	uint64_t until = uv_hrtime() + luaL_checknumber(L, 1) * 1e9;

	while (uv_hrtime() < until)
		uv_sleep(5);
	return 0;
}

/* quarantined(script) → "load" or "task", what hung the daemon, or nil (core/quarantine.h) */
static int l_quarantined(lua_State *L)
{
	const char *script = luaL_checkstring(L, 1), *list = tg_vm_of(L)->quarantine;

	switch (list ? tg_quarantine_of(list, script) : TG_QUARANTINE_NONE) {
	case TG_QUARANTINE_LOAD: lua_pushliteral(L, "load"); break;
	case TG_QUARANTINE_TASK: lua_pushliteral(L, "task"); break;
	default: lua_pushnil(L);
	}
	return 1;
}

static const luaL_Reg functions[] = {
	{ "run", l_run },
	{ "close", l_close },
	{ "wait", tg_wait },
	{ "exit", l_exit },
	{ "memory", l_memory },
	{ "errors", l_errors },
	{ "hang", l_hang },
	{ "quarantined", l_quarantined },
	{ "stock", l_stock },
	{ "strerror", l_strerror },
	{ "family", l_family },
	{ NULL, NULL },
};

int luaopen_tidegate_core_host(lua_State *L)
{
	luaL_newlib(L, functions);
	return 1;
}
