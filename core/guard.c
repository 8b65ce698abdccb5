/* SPDX-License-Identifier: GPL-2.0-only */
#include "guard.h"

#include <lauxlib.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <uv.h>

#include "log.h"
#include "vm.h"

static void on_count(lua_State *L, lua_Debug *ar);

static uint64_t cpu_time(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return now.tv_sec * 1000000000ull + now.tv_nsec;
}

/* --- where a coroutine is, without allocating --- */

static bool describe(lua_State *L, int level, char *text, size_t size)
{
	lua_Debug ar;

	if (!lua_getstack(L, level, &ar))
		return false;
	lua_getinfo(L, "Sln", &ar);
	if (*ar.what == 'C')
		snprintf(text, size, "[C]: in %s", ar.name ? ar.name : "?");
	else
		snprintf(text, size, "%s:%d: in %s", ar.short_src, ar.currentline,
			ar.name ? ar.name : (*ar.what == 'm' ? "main chunk" : "function"));
	return true;
}

static void take_trace(lua_State *L, char *trace, size_t size)
{
	char line[200];
	size_t used = snprintf(trace, size, "stack traceback:");

	for (int level = 0; level < 20 && describe(L, level, line, sizeof(line)); level++) {
		if (used + strlen(line) + 3 > size)
			break;
		used += snprintf(trace + used, size - used, "\n\t%s", line);
	}
}

/* The place in Lua code, and the C function it called, if any. */
static void find_place(lua_State *L, char *text, size_t size)
{
	const char *called = NULL;
	lua_Debug ar;

	snprintf(text, size, "?");
	for (int level = 0; lua_getstack(L, level, &ar); level++) {
		lua_getinfo(L, "Sln", &ar);
		if (ar.currentline > 0) {
			snprintf(text, size, "%s:%d%s%s%s", ar.short_src, ar.currentline,
				called ? " (in " : "", called ? called : "", called ? ")" : "");
			return;
		}
		called = ar.name;
	}
}

void tg_guard_refused(struct tg_vm *vm, const void *block, size_t size)
{
	struct tg_guard *guard = &vm->guard;
	char place[200];

	/* Later Lua versions call the allocator while a growing stack's pointers are offsets. */
	if (block && LUA_VERSION_RELEASE_NUM > 50404)
		return;
	find_place(guard->running, place, sizeof(place));
	snprintf(guard->refusal, sizeof(guard->refusal), "not enough memory (cap %zu MiB) at %s",
		vm->cap >> 20, place);
}

/* --- entries --- */

void tg_guard_name(struct tg_vm *vm, const char *label, const char *script)
{
	snprintf(vm->guard.label, sizeof(vm->guard.label), "%s", label);
	snprintf(vm->guard.script, sizeof(vm->guard.script), "%s", script);
}

static void set_hook(lua_State *L, int step)
{
	lua_sethook(L, step ? on_count : NULL, step ? LUA_MASKCOUNT : 0, step);
}

/* Buffers of the auxiliary library fail without a collection: make one before it gets tight. */
static void relieve(struct tg_vm *vm)
{
	if (!vm->cap || vm->used < vm->cap / 4 * 3 || vm->used < vm->collected + vm->cap / 16)
		return;
	lua_gc(vm->L, LUA_GCCOLLECT);
	vm->collected = vm->used;
}

void tg_guard_enter(struct tg_vm *vm, struct tg_entry *entry, lua_State *co, uint64_t budget)
{
	struct tg_guard *guard = &vm->guard;

	relieve(vm);
	*entry = (struct tg_entry){
		.outer = guard->entry,
		.outer_running = guard->running,
		.wall = uv_hrtime(),
		.cpu = cpu_time(),
		.budget = budget,
	};
	set_hook(co, budget ? TG_GUARD_STEP : 0);
	guard->entry = entry;
	guard->running = co;
	guard->refusal[0] = '\0';
	if (!entry->outer && budget) {
		guard->limit = budget;
		guard->since = entry->wall;
	}
}

enum tg_stop tg_guard_leave(struct tg_vm *vm, struct tg_entry *entry)
{
	struct tg_guard *guard = &vm->guard;
	uint64_t wall = uv_hrtime() - entry->wall;

	if (!entry->outer)
		guard->since = 0;
	guard->entry = entry->outer;
	guard->running = entry->outer_running;
	if (entry->budget && !entry->stop && wall > TG_GUARD_WARN && cpu_time() - entry->cpu > TG_GUARD_WARN)
		tg_log(TG_LOG_WARN, "%s: ran %.0f ms without yielding", guard->label, wall / 1e6);
	return entry->stop;
}

/* --- stopping --- */

/*
 * Asked while Lua runs: so nothing hangs, however long it takes on a busy machine, and the watchdog
 * waits for its limit anew.
 */
static bool budget_spent(struct tg_guard *guard, const struct tg_entry *entry)
{
	uint64_t now = uv_hrtime();

	if (!entry->budget || now - entry->wall < entry->budget)
		return false;
	if (guard->since)
		guard->since = now - guard->limit;
	return cpu_time() - entry->cpu >= entry->budget;
}

static void begin_stop(lua_State *L, struct tg_guard *guard, enum tg_stop stop)
{
	struct tg_entry *entry = guard->entry;

	entry->stop = stop;
	take_trace(L, guard->trace, sizeof(guard->trace));
	find_place(L, guard->place, sizeof(guard->place));
}

/* Raises in code that can't yield, but lets it run during the grace that follows the first time. */
static void raise_stop(lua_State *L, struct tg_entry *entry)
{
	if (!entry->grace)
		entry->grace = entry->closing ? 1 : uv_hrtime() + TG_GUARD_CLOSE;
	else if (uv_hrtime() < entry->grace)
		return;
	luaL_error(L, entry->stop == TG_STOP_EXIT ? "exit" : "time budget of %f s spent",
		entry->budget / 1e9);
}

static void on_count(lua_State *L, lua_Debug *ar)
{
	struct tg_guard *guard = &tg_vm_of(L)->guard;
	struct tg_entry *entry = guard->entry;

	if (!entry || (!entry->stop && !budget_spent(guard, entry))) {
		if (lua_gethookcount(L) != TG_GUARD_STEP)
			set_hook(L, TG_GUARD_STEP);
		return;
	}
	if (!entry->stop)
		begin_stop(L, guard, TG_STOP_BUDGET);
	set_hook(L, 1);
	if (lua_isyieldable(L))
		lua_yield(L, 0);
	else
		raise_stop(L, entry);
}

int tg_guard_stop(lua_State *L)
{
	struct tg_entry *entry = tg_vm_of(L)->guard.entry;

	set_hook(L, 1);
	if (lua_isyieldable(L))
		return lua_yield(L, 0);
	raise_stop(L, entry);
	return 0;
}

void tg_guard_poll(lua_State *L)
{
	struct tg_guard *guard = &tg_vm_of(L)->guard;
	struct tg_entry *entry = guard->entry;

	if (!entry || (!entry->stop && !budget_spent(guard, entry)))
		return;
	if (!entry->stop)
		begin_stop(L, guard, TG_STOP_BUDGET);
	tg_guard_stop(L);
}

int tg_guard_exit(lua_State *L)
{
	struct tg_guard *guard = &tg_vm_of(L)->guard;

	if (!guard->entry)
		return 0;
	begin_stop(L, guard, TG_STOP_EXIT);
	return tg_guard_stop(L);
}

/* --- closing --- */

static const char children;	/* registry: weak table, coroutine → the one it waits for */

static void push_children(lua_State *L)
{
	if (lua_rawgetp(L, LUA_REGISTRYINDEX, &children) == LUA_TTABLE)
		return;
	lua_pop(L, 1);
	lua_newtable(L);
	lua_createtable(L, 0, 1);
	lua_pushliteral(L, "k");
	lua_setfield(L, -2, "__mode");
	lua_setmetatable(L, -2);
	lua_pushvalue(L, -1);
	lua_rawsetp(L, LUA_REGISTRYINDEX, &children);
}

static void push_thread_of(lua_State *L, lua_State *co)
{
	lua_pushthread(co);
	lua_xmove(co, L, 1);
}

void tg_guard_set_child(lua_State *L, lua_State *co, lua_State *child)
{
	luaL_checkstack(L, 4, NULL);
	push_children(L);
	push_thread_of(L, co);
	if (child)
		push_thread_of(L, child);
	else
		lua_pushnil(L);
	lua_rawset(L, -3);
	lua_pop(L, 1);
}

static void close_children(lua_State *L, lua_State *co)
{
	lua_State *child;

	luaL_checkstack(L, 4, NULL);
	push_children(L);
	push_thread_of(L, co);
	lua_rawget(L, -2);
	child = lua_tothread(L, -1);
	if (child) {
		tg_guard_set_child(L, co, NULL);
		close_children(L, child);
		if (lua_status(child) == LUA_YIELD)
			lua_resetthread(child);
	}
	lua_pop(L, 2);
}

const char *tg_guard_close(lua_State *L, lua_State *co)
{
	struct tg_vm *vm = tg_vm_of(L);
	struct tg_entry entry;
	int before = lua_status(co), status;

	tg_guard_enter(vm, &entry, co, TG_GUARD_CLOSE);
	entry.closing = true;
	close_children(L, co);
	status = lua_resetthread(co);
	tg_guard_leave(vm, &entry);
	if (status == LUA_OK || status == before) {
		lua_settop(co, 0);
		return NULL;
	}
	luaL_checkstack(L, 1, NULL);
	lua_xmove(co, L, 1);
	return luaL_tolstring(L, -1, NULL);
}
