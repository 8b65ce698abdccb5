// SPDX-License-Identifier: GPL-2.0-only
/*
 * tidegate.core.capture: captures (core/capture.h) for lua/tidegate/capture.lua alone, which has found the tap.
 * What takes long takes a callback last (see task.await); it gets what is named here, or nil, a text and an
 * errno's name.
 */
#include "call.h"
#include "capture.h"
#include "controller_lua.h"
#include "refuse.h"

#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int luaopen_tidegate_core_capture(lua_State *L);

#define CAPTURE "tidegate.core.capture"

/* A capture as Lua has it: kept from being collected until it has ended. */
struct handle {
	struct tg_vm *vm;
	struct tg_captures *captures;
	struct tg_capture *capture;
	bool over; /* it has ended, and was freed; `status` is its last */
	struct tg_capture_status status;
	int kept, ended; /* references: to itself, and to the function that is told */
};

static const char *const ends[] = {
	[TG_CAPTURE_PACKETS] = "packets",
	[TG_CAPTURE_BYTES] = "bytes",
	[TG_CAPTURE_SECONDS] = "seconds",
	[TG_CAPTURE_STOPPED] = "stopped",
	[TG_CAPTURE_FAILED] = "failed",
};

/* --- status --- */

static void set_count(lua_State *L, const char *name, __u64 value)
{
	lua_pushinteger(L, value);
	lua_setfield(L, -2, name);
}

static void set_text(lua_State *L, const char *name, const char *value)
{
	lua_pushstring(L, value); /* NULL: nil */
	lua_setfield(L, -2, name);
}

/* { ended, error, code, packets, bytes, size, filtered, ring_full, slow } */
static void push_status(lua_State *L, const struct tg_capture_status *status)
{
	lua_createtable(L, 0, 9);
	set_text(L, "ended", ends[status->end]);
	if (status->error) {
		set_text(L, "error", strerror(-status->error));
		set_text(L, "code", uv_err_name(status->error));
	}
	set_count(L, "packets", status->packets);
	set_count(L, "bytes", status->bytes);
	set_count(L, "size", status->size);
	set_count(L, "filtered", status->filtered);
	set_count(L, "ring_full", status->ring_full);
	set_count(L, "slow", status->slow);
}

/* The capture of a handle, while it runs. */
static struct tg_capture *running(const struct handle *handle)
{
	struct tg_controller *controller = handle->vm->user;

	return controller && controller->captures == handle->captures && !handle->over
		       ? handle->capture
		       : NULL;
}

/* capture:stop(): soon */
static int l_stop(lua_State *L)
{
	struct tg_capture *capture = running(luaL_checkudata(L, 1, CAPTURE));

	if (capture)
		tg_capture_stop(capture);
	return 0;
}

/* capture:status() → { ended, error, code, packets, bytes, size, filtered, ring_full, slow } */
static int l_status(lua_State *L)
{
	struct handle *handle = luaL_checkudata(L, 1, CAPTURE);
	struct tg_capture *capture = running(handle);

	if (capture)
		tg_capture_status(capture, &handle->status);
	push_status(L, &handle->status);
	return 1;
}

static struct handle *new_handle(lua_State *L)
{
	static const luaL_Reg methods[] = {
		{ "stop", l_stop },
		{ "status", l_status },
		{ NULL, NULL },
	};
	struct handle *handle = lua_newuserdatauv(L, sizeof(*handle), 0);

	memset(handle, 0, sizeof(*handle));
	handle->vm = tg_vm_of(L);
	handle->kept = handle->ended = LUA_NOREF;
	if (luaL_newmetatable(L, CAPTURE)) {
		luaL_newlib(L, methods);
		lua_setfield(L, -2, "__index");
	}
	lua_setmetatable(L, -2);
	return handle;
}

/* --- start --- */

struct start_call {
	struct tg_call call;
	struct handle *handle;
	struct tg_capture_options options;
	char *file, *filter;
};

static void forget(struct handle *handle)
{
	lua_State *L = handle->vm->L;

	luaL_unref(L, LUA_REGISTRYINDEX, handle->kept);
	luaL_unref(L, LUA_REGISTRYINDEX, handle->ended);
	handle->kept = handle->ended = LUA_NOREF;
}

static void on_end(void *user, struct tg_capture *capture)
{
	struct handle *handle = user;
	lua_State *L = handle->vm->L;

	tg_capture_status(capture, &handle->status);
	tg_capture_free(capture);
	handle->over = true; /* this may be before work_start says which capture it is */
	lua_rawgeti(L, LUA_REGISTRYINDEX, handle->ended);
	push_status(L, &handle->status);
	forget(handle); /* the stack keeps the function, and nothing more is read of the handle */
	tg_vm_pcall(tg_vm_of(L), 1, 0);
}

/* A new file: never one that is there, be it by a symbolic link. */
static int open_file(struct start_call *this)
{
	int fd = open(this->file, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600),
	    code = -errno;

	this->options.fd = fd;
	if (fd >= 0)
		return 0;
	if (code == -EEXIST)
		return tg_fail(&this->call.error, code,
			"%s: is there already, and a capture never writes over anything",
			this->file);
	return tg_fail(&this->call.error, code, "%s: %s", this->file, strerror(-code));
}

static void work_start(struct tg_call *call)
{
	struct start_call *this = (struct start_call *)call;
	struct tg_captures *captures = ((struct tg_controller *)call->vm->user)->captures;

	if (this->filter) {
		this->options.filter = tg_expression_new(this->filter, &call->error);
		call->code = this->options.filter ? 0 : -EINVAL;
	}
	if (!call->code && this->file)
		call->code = open_file(this);
	if (call->code)
		return;
	this->handle->captures = captures;
	this->handle->capture =
		tg_captures_start(captures, &this->options, on_end, this->handle, &call->error);
	this->options.fd = -1;
	this->options.filter = NULL;
	if (!this->handle->capture)
		call->code = -EIO;
}

static int push_started(struct tg_call *call, lua_State *L)
{
	struct start_call *this = (struct start_call *)call;

	lua_rawgeti(L, LUA_REGISTRYINDEX, this->handle->kept);
	return 1;
}

static void release_start(struct tg_call *call)
{
	struct start_call *this = (struct start_call *)call;

	if (call->code)
		forget(this->handle);
	if (this->options.fd >= 0)
		close(this->options.fd);
	tg_expression_free(this->options.filter);
	free(this->file);
	free(this->filter);
}

static __u64 get_number(lua_State *L, const char *name)
{
	__u64 number;

	lua_getfield(L, 1, name);
	number = luaL_optinteger(L, -1, 0);
	lua_pop(L, 1);
	return number;
}

static char *get_text(lua_State *L, const char *name)
{
	const char *text;
	char *copy;

	lua_getfield(L, 1, name);
	text = luaL_optstring(L, -1, NULL);
	copy = text ? strdup(text) : NULL;
	lua_pop(L, 1);
	return copy;
}

static struct tg_captures *open_captures(lua_State *L)
{
	struct tg_controller *controller = tg_controller_opened(L);

	if (!controller->captures)
		controller->captures = tg_captures_new(&controller->datapath, controller->home);
	if (!controller->captures)
		luaL_error(L, "out of memory");
	return controller->captures;
}

static void read_options(lua_State *L, struct tg_capture_options *options)
{
	lua_getfield(L, 1, "fd");
	options->fd = luaL_optinteger(L, -1, -1);
	lua_getfield(L, 1, "seconds");
	options->ns = luaL_optnumber(L, -1, 0) * 1e9;
	lua_pop(L, 2);
	options->tap = get_number(L, "tap");
	options->start = get_number(L, "start");
	options->snap = get_number(L, "snap");
	options->packets = get_number(L, "packets");
	options->bytes = get_number(L, "bytes");
}

/*
 * start({ file | fd, tap, start, filter, snap, packets, bytes, seconds }, ended, done): done(capture);
 * ended(status) when it has ended. The descriptor is the capture's, also if it can't start.
 */
static int l_start(lua_State *L)
{
	struct start_call *this;
	struct handle *handle;
	int ended;

	luaL_checktype(L, 1, LUA_TTABLE);
	luaL_checktype(L, 2, LUA_TFUNCTION);
	open_captures(L);
	handle = new_handle(L);
	this = tg_call_new(L, sizeof(*this), 3);
	this->handle = handle;
	read_options(L, &this->options);
	this->file = get_text(L, "file");
	this->filter = get_text(L, "filter");
	handle->kept = luaL_ref(L, LUA_REGISTRYINDEX);
	lua_pushvalue(L, 2);
	ended = luaL_ref(L, LUA_REGISTRYINDEX);
	handle->ended = ended;
	this->call.work = work_start;
	this->call.push = push_started;
	this->call.release = release_start;
	tg_call_in_pool(&this->call);
	return 0;
}

/* --- expressions, rules --- */

struct check_call {
	struct tg_call call;
	char filter[];
};

static void work_check(struct tg_call *call)
{
	struct check_call *this = (struct check_call *)call;
	struct tg_expression *expression = tg_expression_new(this->filter, &call->error);

	call->code = expression ? 0 : -EINVAL;
	tg_expression_free(expression);
}

/* check(filter, done): is it a tcpdump expression? done(true) */
static int l_check(lua_State *L)
{
	size_t size;
	const char *filter = luaL_checklstring(L, 1, &size);
	struct check_call *this = tg_call_new(L, sizeof(*this) + size + 1, 2);

	memcpy(this->filter, filter, size);
	this->call.work = work_check;
	tg_call_in_pool(&this->call);
	return 0;
}

/* rules({ [counter] = "dns (policy.lua:12)", … }): what comments call them from now on. */
static int l_rules(lua_State *L)
{
	struct tg_captures *captures = open_captures(L);
	char **names;

	luaL_checktype(L, 1, LUA_TTABLE);
	names = calloc(TG_MAX_RULE_COUNTERS, sizeof(*names));
	for (lua_pushnil(L); names && lua_next(L, 1); lua_pop(L, 1)) {
		lua_Integer counter = lua_isinteger(L, -2) ? lua_tointeger(L, -2) : -1;

		if (counter >= 0 && counter < TG_MAX_RULE_COUNTERS &&
			lua_type(L, -1) == LUA_TSTRING)
			names[counter] = strdup(lua_tostring(L, -1));
	}
	if (names)
		tg_captures_rules(captures, names, TG_MAX_RULE_COUNTERS);
	return 0;
}

static const luaL_Reg functions[] = {
	{ "start", l_start },
	{ "check", l_check },
	{ "rules", l_rules },
	{ NULL, NULL },
};

int luaopen_tidegate_core_capture(lua_State *L)
{
	luaL_newlib(L, functions);
	return 1;
}
