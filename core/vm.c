/* SPDX-License-Identifier: GPL-2.0-only */
#include "vm.h"

#include <errno.h>
#include <lauxlib.h>
#include <luv/luv.h>
#include <lualib.h>
#include <stdlib.h>
#include <string.h>

#include "bounded.h"
#include "coroutine.h"
#include "embed.h"
#include "log.h"

#define CORE_MODULE(name) int luaopen_tidegate_core_##name(lua_State *L);
#include "core_modules.h"
#undef CORE_MODULE

static const luaL_Reg core_modules[] = {
#define CORE_MODULE(name) { "tidegate.core." #name, luaopen_tidegate_core_##name },
#include "core_modules.h"
#undef CORE_MODULE
	{ "luv", luaopen_luv },
	{ NULL, NULL },
};

struct tg_vm *tg_vm_of(lua_State *L)
{
	return *(struct tg_vm **)lua_getextraspace(L);
}

/* The cap is for tasks: what the loop's callbacks need between them is not refused. */
static bool over_cap(const struct tg_vm *vm, size_t more)
{
	return vm->cap && vm->guard.entry && vm->used + more > vm->cap;
}

static void *allocate(void *user, void *block, size_t old, size_t new)
{
	struct tg_vm *vm = user;
	void *moved;

	if (!block)
		old = 0;
	if (!new) {
		free(block);
		vm->used -= old;
		return NULL;
	}
	if (new > old && over_cap(vm, new - old)) {
		tg_guard_refused(vm, block, new);
		return NULL;
	}
	moved = realloc(block, new);
	if (moved)
		vm->used += new - old;
	return moved;
}

void tg_vm_make_room(lua_State *L, size_t bytes)
{
	struct tg_vm *vm = tg_vm_of(L);

	if (bytes < vm->cap && over_cap(vm, bytes))
		lua_gc(L, LUA_GCCOLLECT);
}

static int on_panic(lua_State *L)
{
	const char *text = lua_tostring(L, -1);

	tg_log(TG_LOG_ERROR, "Lua error outside of any protection: %s", text ? text : "?");
	return 0;	/* Lua aborts */
}

/* --- errors in callbacks --- */

static int add_traceback(lua_State *L)
{
	luaL_traceback(L, L, luaL_tolstring(L, 1, NULL), 1);
	return 1;
}

bool tg_vm_pcall(struct tg_vm *vm, int nargs, int nresults)
{
	lua_State *L = vm->L;
	int handler = lua_gettop(L) - nargs, status;

	lua_pushcfunction(L, add_traceback);
	lua_insert(L, handler);
	status = lua_pcall(L, nargs, nresults, handler);
	lua_remove(L, handler);
	if (status == LUA_OK)
		return true;
	vm->errors++;
	tg_log(TG_LOG_ERROR, "in a callback: %s", luaL_tolstring(L, -1, NULL));
	lua_pop(L, 2);
	return false;
}

/* How luv calls back (luv.h, luv_CFpcall): never exits, unlike its default. */
static int call_from_luv(lua_State *L, int nargs, int nresults, int flags)
{
	struct tg_vm *vm = tg_vm_of(L);
	int top = lua_gettop(L) - nargs - 1;

	if (!tg_vm_pcall(vm, nargs, nresults))
		return -LUA_ERRRUN;
	return lua_gettop(L) - top;
}

/* --- life --- */

static void preload(lua_State *L)
{
	luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
	luaL_setfuncs(L, core_modules, 0);
	lua_pop(L, 1);
}

static int l_open(lua_State *L)
{
	luaL_openlibs(L);
	preload(L);
	tg_bounded_install(L);
	tg_coroutine_install(L);
	tg_embed_install(L);
	return 0;
}

struct tg_vm *tg_vm_new(uv_loop_t *loop, struct tg_error *error)
{
	struct tg_vm *vm = calloc(1, sizeof(*vm));
	lua_State *L = vm ? lua_newstate(allocate, vm) : NULL;

	if (!L) {
		free(vm);
		tg_fail(error, -ENOMEM, "no memory for a Lua VM");
		return NULL;
	}
	vm->L = vm->guard.running = L;
	vm->loop = loop;
	*(struct tg_vm **)lua_getextraspace(L) = vm;
	lua_atpanic(L, on_panic);
	lua_pushcfunction(L, l_open);
	if (lua_pcall(L, 0, 0, 0) != LUA_OK) {
		tg_fail(error, -EINVAL, "Lua VM: %s", lua_tostring(L, -1));
		lua_close(L);
		free(vm);
		return NULL;
	}
	luv_set_loop(L, loop);
	luv_set_callback(L, call_from_luv);
	return vm;
}

static int l_call(lua_State *L)
{
	const char *module = lua_touserdata(L, 1), *function = lua_touserdata(L, 2);
	char **argv = lua_touserdata(L, 3);
	int argc = lua_tointeger(L, 4);

	luaL_checkstack(L, argc + 4, "too many arguments");
	lua_getglobal(L, "require");
	lua_pushstring(L, module);
	lua_call(L, 1, 1);
	lua_getfield(L, -1, function);
	for (int i = 0; i < argc; i++)
		lua_pushstring(L, argv[i]);
	lua_call(L, argc, 0);
	return 0;
}

int tg_vm_call(struct tg_vm *vm, const char *module, const char *function, int argc, char **argv,
	struct tg_error *error)
{
	lua_State *L = vm->L;

	lua_pushcfunction(L, add_traceback);
	lua_pushcfunction(L, l_call);
	lua_pushlightuserdata(L, (void *)module);
	lua_pushlightuserdata(L, (void *)function);
	lua_pushlightuserdata(L, argv);
	lua_pushinteger(L, argc);
	if (lua_pcall(L, 4, 0, -6) == LUA_OK) {
		lua_pop(L, 1);
		return 0;
	}
	tg_fail(error, -EINVAL, "%s", lua_tostring(L, -1));
	lua_pop(L, 2);
	return -EINVAL;
}

void tg_vm_exit(struct tg_vm *vm, int code)
{
	if (!vm->exiting)
		vm->exit_code = code;
	vm->exiting = true;
	uv_stop(vm->loop);
}

/* The library's shutdown() cancels all tasks and closes luv's handles; it returns what is pending. */
static bool wait_for_requests(struct tg_vm *vm)
{
	lua_State *L = vm->L;
	uint64_t limit = uv_hrtime() + 1000000000ull;
	bool idle = true;

	do {
		lua_getglobal(L, "require");
		lua_pushliteral(L, "tidegate.shutdown");
		if (!tg_vm_pcall(vm, 1, 1) || !tg_vm_pcall(vm, 0, 1))
			return false;
		idle = lua_tointeger(L, -1) == 0 && !vm->calls;
		lua_pop(L, 1);
		uv_run(vm->loop, UV_RUN_NOWAIT);
		if (!idle)
			uv_sleep(2);
	} while (!idle && uv_hrtime() < limit);
	return idle;
}

bool tg_vm_close(struct tg_vm *vm)
{
	if (!wait_for_requests(vm))
		return false;
	lua_close(vm->L);
	uv_run(vm->loop, UV_RUN_NOWAIT);
	free(vm);
	return true;
}
