/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The Lua VM: one lua_State on a libuv loop that belongs to the caller. The VM brings luv on that
 * loop (for the embedded library alone), the bindings as modules `tidegate.core.NAME`, the library
 * (`require "tidegate"`), a memory cap and the guard (core/guard.h). Everything here happens in the
 * loop's thread.
 *
 * Life: tg_vm_new, tg_vm_call …, uv_run, tg_vm_close (which runs the loop until the library's own
 * handles are closed), then the caller's uv_loop_close. An error in a callback is logged with its
 * traceback and counted; it never ends the process.
 */
#ifndef TG_VM_H
#define TG_VM_H

#include <lua.h>
#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

#include "error.h"
#include "guard.h"

#define TG_VM_MEMORY ((size_t)64 << 20)	/* bytes: the daemon's cap unless set otherwise */

struct tg_vm {
	lua_State *L;
	uv_loop_t *loop;
	size_t used;		/* bytes that Lua holds */
	size_t cap;		/* bytes that a task may drive `used` to; 0: no cap */
	size_t collected;	/* bytes held after the last early collection */
	struct tg_guard guard;
	uint64_t errors;	/* caught in callbacks of the loop */
	unsigned int calls;	/* core/call.h: under way in other threads */
	bool exiting;		/* tg_vm_exit was called */
	int exit_code;
	const char *quarantine;	/* path of the list of scripts that hung (core/quarantine.h), or NULL */
	void *user;		/* the embedding program's */
};

struct tg_vm *tg_vm_new(uv_loop_t *loop, struct tg_error *error);
/* False when requests that can't be cancelled (a name being resolved) are still under way: the VM
 * is then left as it is and the process should end with _exit. */
bool tg_vm_close(struct tg_vm *vm);

struct tg_vm *tg_vm_of(lua_State *L);

/* Calls `function` of the Lua module with the strings argv[0..argc). 0, or -EINVAL with the text. */
int tg_vm_call(struct tg_vm *vm, const char *module, const char *function, int argc, char **argv,
	struct tg_error *error);
/* As lua_pcall on the main state, errors logged with a traceback and counted. False on an error;
 * then nothing is left on the stack. */
bool tg_vm_pcall(struct tg_vm *vm, int nargs, int nresults);
/* Collects garbage if `bytes` more would not fit under the cap: before luaL_Buffer, which fails at
 * once where Lua itself would collect and try again. */
void tg_vm_make_room(lua_State *L, size_t bytes);
/* Ends the loop soon; the first call's code counts. */
void tg_vm_exit(struct tg_vm *vm, int code);

#endif
