/* SPDX-License-Identifier: GPL-2.0-only */
#include "coroutine.h"

#include <lauxlib.h>

#include "guard.h"
#include "vm.h"

enum style { RESUME, WRAP };

static char wait_mark;

int tg_wait(lua_State *L)
{
	if (!lua_isyieldable(L))
		return luaL_error(L, "can't wait here: not in a task, or inside a call that can't yield");
	lua_pushlightuserdata(L, &wait_mark);
	return lua_yield(L, 1);
}

bool tg_is_wait(lua_State *co, int n)
{
	return n == 1 && lua_islightuserdata(co, -1) && lua_touserdata(co, -1) == &wait_mark;
}

static int step(lua_State *L, lua_State *co, int nargs, enum style style);

static lua_State *target(lua_State *L, enum style style)
{
	lua_State *co = lua_tothread(L, style == RESUME ? 1 : lua_upvalueindex(1));

	luaL_argexpected(L, co, 1, "thread");
	return co;
}

static int continue_step(lua_State *L, int status, lua_KContext style)
{
	lua_State *co = target(L, style);

	tg_guard_set_child(L, L, NULL);
	return step(L, co, lua_gettop(L) - (style == RESUME), style);
}

/* A failure of the resume itself or in the coroutine: its value is on top of L. */
static int fail(lua_State *L, lua_State *co, enum style style)
{
	int status = lua_status(co);

	if (style == RESUME) {
		lua_pushboolean(L, 0);
		lua_insert(L, -2);
		return 2;
	}
	if (status != LUA_OK && status != LUA_YIELD) {
		status = lua_resetthread(co);	/* runs its <close> variables */
		lua_xmove(co, L, 1);		/* theirs, or the same error */
	}
	if (status != LUA_ERRMEM && lua_type(L, -1) == LUA_TSTRING) {
		luaL_where(L, 1);
		lua_insert(L, -2);
		lua_concat(L, 2);
	}
	return lua_error(L);
}

static int pass_wait(lua_State *L, lua_State *co, enum style style)
{
	lua_pop(co, 1);
	if (!lua_isyieldable(L)) {
		tg_guard_close(L, co);
		lua_pushliteral(L, "can't wait here: inside a call that can't yield");
		return fail(L, co, style);
	}
	tg_guard_set_child(L, L, co);
	lua_pushlightuserdata(L, &wait_mark);
	return lua_yieldk(L, 1, style, continue_step);
}

static int pass_stop(lua_State *L, lua_State *co)
{
	if (lua_status(co) == LUA_YIELD)
		tg_guard_set_child(L, L, co);
	return tg_guard_stop(L);
}

static int give(lua_State *L, lua_State *co, int n, enum style style)
{
	if (!lua_checkstack(L, n + 1)) {
		lua_pop(co, n);
		lua_pushliteral(L, "too many results to resume");
		return fail(L, co, style);
	}
	if (style == RESUME)
		lua_pushboolean(L, 1);
	lua_xmove(co, L, n);
	return n + (style == RESUME);
}

static int resume(lua_State *L, lua_State *co, int nargs, int *n)
{
	struct tg_guard *guard = &tg_vm_of(L)->guard;
	lua_State *outer = guard->running;
	int status;

	if (lua_gethook(co) != lua_gethook(L))
		lua_sethook(co, lua_gethook(L), lua_gethookmask(L), lua_gethookcount(L));
	guard->running = co;
	status = lua_resume(co, L, nargs, n);
	guard->running = outer;
	return status;
}

/* Resumes `co` with the `nargs` values on top of L, and returns to Lua what that gave. */
static int step(lua_State *L, lua_State *co, int nargs, enum style style)
{
	struct tg_entry *entry = tg_vm_of(L)->guard.entry;
	int n, status;

	if (!lua_checkstack(co, nargs)) {
		lua_pushliteral(L, "too many arguments to resume");
		return fail(L, co, style);
	}
	lua_xmove(L, co, nargs);
	status = resume(L, co, nargs, &n);
	if (entry && entry->stop)
		return pass_stop(L, co);
	if (status == LUA_YIELD && tg_is_wait(co, n))
		return pass_wait(L, co, style);
	if (status == LUA_OK || status == LUA_YIELD)
		return give(L, co, n, style);
	lua_xmove(co, L, 1);
	return fail(L, co, style);
}

static int l_resume(lua_State *L)
{
	return step(L, target(L, RESUME), lua_gettop(L) - 1, RESUME);
}

static int l_call_wrapped(lua_State *L)
{
	return step(L, target(L, WRAP), lua_gettop(L), WRAP);
}

static int l_wrap(lua_State *L)
{
	lua_State *co;

	luaL_checktype(L, 1, LUA_TFUNCTION);
	co = lua_newthread(L);
	lua_pushvalue(L, 1);
	lua_xmove(L, co, 1);
	lua_pushcclosure(L, l_call_wrapped, 1);
	return 1;
}

static const luaL_Reg functions[] = {
	{ "resume", l_resume },
	{ "wrap", l_wrap },
	{ NULL, NULL },
};

void tg_coroutine_install(lua_State *L)
{
	lua_getglobal(L, "coroutine");
	luaL_setfuncs(L, functions, 0);
	lua_pop(L, 1);
}
