/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Calls from Lua whose work is done in another thread: the binding makes a struct tg_call (first
 * member of its own struct, from malloc), keeps Lua's callback in it and starts it; `work` runs
 * there, then `push` runs in the VM's thread and puts the callback's arguments on the stack.
 * A call that failed (`code` < 0) gives the callback nil, the error's text and its name ("EPERM").
 */
#ifndef TG_CALL_H
#define TG_CALL_H

#include <lua.h>
#include <uv.h>

#include "engine.h"
#include "error.h"
#include "vm.h"

struct tg_call {
	struct tg_vm *vm;
	struct tg_mailbox *home; /* answers to an engine's call come this way */
	uv_work_t request;
	int callback;		 /* reference in the registry */
	int code;		 /* set by work: 0 or a negative errno */
	bool later;		 /* set by work: tg_call_answer is called by whoever it left the call with */
	struct tg_error error;
	void (*work)(struct tg_call *call);
	int (*push)(struct tg_call *call, lua_State *L); /* NULL: pushes true */
	void (*release)(struct tg_call *call);		 /* frees what the call holds; may be NULL */
};

/* A zeroed call of `size` bytes, with the function at stack index `callback` kept. Raises on misuse. */
void *tg_call_new(lua_State *L, size_t size, int callback);
/* Does the work in a thread of libuv's pool. */
void tg_call_in_pool(struct tg_call *call);
/* Does the work in the engine's thread. */
void tg_call_in_engine(struct tg_call *call, struct tg_engine *engine, struct tg_mailbox *home);
/* In the engine's thread, for a call whose work set `later`. */
void tg_call_answer(struct tg_call *call);

#endif
