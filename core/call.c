/* SPDX-License-Identifier: GPL-2.0-only */
#include "call.h"

#include "refuse.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

void *tg_call_new(lua_State *L, size_t size, int callback)
{
	struct tg_call *call;

	luaL_checktype(L, callback, LUA_TFUNCTION);
	call = calloc(1, size);
	if (!call)
		luaL_error(L, "out of memory");
	call->vm = tg_vm_of(L);
	lua_pushvalue(L, callback);
	call->callback = luaL_ref(L, LUA_REGISTRYINDEX);
	call->request.data = call;
	call->vm->calls++;
	return call;
}

static void tell_lua(struct tg_call *call)
{
	lua_State *L = call->vm->L;
	int count = 1;

	lua_rawgeti(L, LUA_REGISTRYINDEX, call->callback);
	if (call->code < 0)
		count = tg_lua_refuse(L, call->code, &call->error);
	else if (call->push)
		count = call->push(call, L);
	else
		lua_pushboolean(L, true);
	tg_vm_pcall(call->vm, count, 0);
}

/* At the program's end nobody is told: a task that makes one call after the other would never let it end. */
static void finish(void *arg)
{
	struct tg_call *call = arg;

	call->vm->calls--; /* over, for its callback: that may close the controller */
	if (call->home && !call->vm->calls)
		tg_mailbox_hold(call->home, false);
	if (!call->vm->exiting)
		tell_lua(call);
	luaL_unref(call->vm->L, LUA_REGISTRYINDEX, call->callback);
	if (call->release)
		call->release(call);
	free(call);
}

static void in_pool(uv_work_t *request)
{
	struct tg_call *call = request->data;

	call->work(call);
}

static void after_pool(uv_work_t *request, int status)
{
	finish(request->data);
}

void tg_call_in_pool(struct tg_call *call)
{
	uv_queue_work(call->vm->loop, &call->request, in_pool, after_pool);
}

void tg_call_answer(struct tg_call *call)
{
	tg_mailbox_post(call->home, finish, call);
}

static void in_engine(void *arg)
{
	struct tg_call *call = arg;

	call->work(call);
	if (!call->later)
		tg_call_answer(call);
}

void tg_call_in_engine(struct tg_call *call, struct tg_engine *engine, struct tg_mailbox *home)
{
	call->home = home;
	tg_mailbox_hold(home, true);
	tg_engine_post(engine, in_engine, call);
}
