/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The guard stands at every entry into script code. An entry is one resume of a task, or the closing
 * of one. While an entry with a budget is under way a count hook looks at the clock; when the budget
 * is spent, the entry is stopped in a way that no pcall can hide:
 *
 *  - where the running coroutine can yield, the hook yields out of it. Our coroutine.resume and
 *    wrap (core/coroutine.c) see the entry stopping and pass it outward, up to the scheduler, which
 *    closes the task (innermost coroutine first), so that its <close> variables run, with a small
 *    budget of their own;
 *  - where it cannot (inside table.sort or gsub, in a metamethod called from C), the hook raises,
 *    first once, so that <close> variables of the frames in between get their chance, then, from
 *    TG_GUARD_CLOSE on, at every instruction until control is back in yieldable code.
 *
 * The budget is processor time of this thread: a busy machine stops nobody. New coroutines inherit
 * the hook (lua_newthread copies it; resume copies it to older ones). C functions that can take long
 * call tg_guard_poll.
 *
 * The guard also notes where memory was refused, since LUA_ERRMEM carries no place, and which task
 * and script are running, for the watchdog (core/watchdog.h).
 */
#ifndef TG_GUARD_H
#define TG_GUARD_H

#include <lua.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define TG_GUARD_WARN  50000000ull	/* ns without yielding: logged */
#define TG_GUARD_STOP  500000000ull	/* ns: the task is stopped */
#define TG_GUARD_CLOSE 50000000ull	/* ns for the <close> variables of a task that is ended */
#define TG_GUARD_STEP  1000		/* instructions between two looks at the clock */

struct tg_vm;

enum tg_stop { TG_STOP_NONE, TG_STOP_BUDGET, TG_STOP_EXIT };

/* One entry, on the C stack of whoever enters; they nest. */
struct tg_entry {
	struct tg_entry *outer;
	lua_State *outer_running;
	uint64_t wall, cpu;	/* ns: the clocks at the start */
	uint64_t budget;	/* ns; 0: no limit */
	uint64_t grace;		/* ns, wall: until then a stopping entry may run its <close> variables */
	enum tg_stop stop;
	bool closing;
};

struct tg_guard {
	struct tg_entry *entry;	/* innermost; NULL outside tasks */
	lua_State *running;	/* the coroutine that runs in it */
	char label[128];	/* the task, for messages; read by the watchdog's thread */
	char script[256];	/* the script's path; "" for the library's own tasks */
	_Atomic uint64_t since;	/* ns, uv_hrtime: start of the outermost entry; 0: idle */
	_Atomic uint64_t limit;	/* ns: its budget */
	char trace[2048];	/* where the last stopped entry was */
	char place[200];	/* the same in one line: "app.lua:12 (in find)" */
	char refusal[320];	/* "not enough memory (cap 64 MiB) at app.lua:12 (in rep)"; "" if none */
};

void tg_guard_enter(struct tg_vm *vm, struct tg_entry *entry, lua_State *co, uint64_t budget);
/* Returns how the entry was stopped, if it was; logs one that was slow. */
enum tg_stop tg_guard_leave(struct tg_vm *vm, struct tg_entry *entry);
/* Names the task for messages and the watchdog; before tg_guard_enter. */
void tg_guard_name(struct tg_vm *vm, const char *label, const char *script);

/* The running entry is being stopped: yields out of L, or raises. Does not return, but within a
 * non-yieldable stretch's grace. Call as `return tg_guard_stop(L)` from a C function. */
int tg_guard_stop(lua_State *L);
/* Stops the entry when its budget is spent; for loops in C functions, every few thousand steps. */
void tg_guard_poll(lua_State *L);
/* Ends the running entry because the program wants to exit. */
int tg_guard_exit(lua_State *L);

/* Closes a coroutine and those that it waits for, innermost first, within TG_GUARD_CLOSE. NULL or
 * an error's text, on the top of L. */
const char *tg_guard_close(lua_State *L, lua_State *co);
/* `co` runs (or ran) `child` and waits for it, so that closing `co` closes it. NULL: no longer. */
void tg_guard_set_child(lua_State *L, lua_State *co, lua_State *child);

/* The allocator refused `size` bytes: note who asked. */
void tg_guard_refused(struct tg_vm *vm, const void *block, size_t size);

#endif
