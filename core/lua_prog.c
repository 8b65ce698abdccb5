/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * tidegate.core.prog: runs a pinned program on a packet (BPF_PROG_TEST_RUN), as the tests and
 * operators' specs do. A run is no dry run: it changes maps and redirects for real.
 * lua/meta/prog.lua is the manual.
 */
#include "lua_prog.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <lauxlib.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <sched.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "pinned.h"
#include "refuse.h"

#define OUTPUT_ROOM (128 << 10)	/* bytes: the largest packet, and what a program may add to it */

int luaopen_tidegate_core_prog(lua_State *L);

struct prog {
	int fd;			/* -1: closed */
	struct bpf_prog_info info;
	char *output;		/* OUTPUT_ROOM bytes in the user value: pages unused are not resident */
};

/* What a context can be given; both structs are user space's view of it. */
union context {
	struct xdp_md xdp;
	struct __sk_buff skb;
};

struct run {
	struct bpf_test_run_opts opts;
	union context context;
	int cpu;		/* -1: wherever we are */
};

int tg_lua_prog_fd(lua_State *L, int index)
{
	struct prog *p = luaL_testudata(L, index, TG_LUA_PROG);

	return p ? p->fd : -1;
}

static struct prog *check_prog(lua_State *L, int index)
{
	struct prog *p = luaL_checkudata(L, index, TG_LUA_PROG);

	if (p->fd < 0)
		luaL_error(L, "the program is closed");
	return p;
}

static bool is_xdp(const struct prog *p)
{
	return p->info.type == BPF_PROG_TYPE_XDP;
}

static bool is_tc(const struct prog *p)
{
	return p->info.type == BPF_PROG_TYPE_SCHED_CLS || p->info.type == BPF_PROG_TYPE_SCHED_ACT;
}

/* ---- options ---- */

static lua_Integer check_range(lua_State *L, const char *option, int index, lua_Integer max)
{
	int exact = 0;
	lua_Integer n = lua_type(L, index) == LUA_TNUMBER ? lua_tointegerx(L, index, &exact) : 0;

	if (!exact || n < 0 || n > max)
		luaL_error(L, "%s: an integer from 0 to %I expected, got %s", option, max,
			luaL_tolstring(L, index, NULL));
	return n;
}

static const struct context_field {
	const char *name;
	bool xdp;
	size_t offset;
} context_fields[] = {
	{ "ingress_ifindex", true, offsetof(struct xdp_md, ingress_ifindex) },
	{ "rx_queue_index", true, offsetof(struct xdp_md, rx_queue_index) },
	{ "data", true, offsetof(struct xdp_md, data) }, /* where the packet begins: metadata before it */
	{ "ifindex", false, offsetof(struct __sk_buff, ifindex) },
	{ "ingress_ifindex", false, offsetof(struct __sk_buff, ingress_ifindex) },
	{ "mark", false, offsetof(struct __sk_buff, mark) },
	{ "priority", false, offsetof(struct __sk_buff, priority) },
	{ "gso_size", false, offsetof(struct __sk_buff, gso_size) },
	{ "gso_segs", false, offsetof(struct __sk_buff, gso_segs) },
	{ NULL, false, 0 },
};

static const struct context_field *find_field(const char *name, bool xdp)
{
	const struct context_field *field = context_fields;

	while (field->name && (field->xdp != xdp || strcmp(field->name, name)))
		field++;
	return field->name ? field : NULL;
}

/* ctx = { ingress_ifindex = 3 }, on the top of the stack */
static void read_context(lua_State *L, const struct prog *p, struct run *run)
{
	int table = lua_gettop(L);

	luaL_argcheck(L, is_xdp(p) || is_tc(p), 3, "ctx: only XDP and TC programs have one");
	luaL_argcheck(L, lua_istable(L, table), 3, "ctx: a table expected");
	lua_pushnil(L);
	while (lua_next(L, table)) {
		const char *name = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "";
		const struct context_field *field = find_field(name, is_xdp(p));
		uint32_t value;

		if (!field)
			luaL_error(L, "ctx: unknown field \"%s\" (fields: %s)",
				luaL_tolstring(L, -2, NULL),
				is_xdp(p) ? "ingress_ifindex, rx_queue_index, data"
					  : "ifindex, ingress_ifindex, mark, priority, gso_size, gso_segs");
		value = check_range(L, name, -1, UINT32_MAX);
		memcpy((char *)&run->context + field->offset, &value, sizeof(value));
		lua_pop(L, 1);
	}
	if (is_xdp(p))
		run->context.xdp.data_end = run->opts.data_size_in;
	run->opts.ctx_in = &run->context;
	run->opts.ctx_size_in = is_xdp(p) ? sizeof(run->context.xdp) : sizeof(run->context.skb);
}

/* Live frames travel on as real ones: nothing comes back. */
static void be_live(lua_State *L, const struct prog *p, struct run *run)
{
	luaL_argcheck(L, is_xdp(p), 3, "live: only XDP programs can be run on live frames");
	run->opts.flags |= BPF_F_TEST_XDP_LIVE_FRAMES;
	run->opts.data_out = NULL;
	run->opts.data_size_out = 0;
}

/* One option: its name at -2, its value at -1. */
static void read_option(lua_State *L, const struct prog *p, struct run *run)
{
	const char *name = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "";

	if (!strcmp(name, "repeat"))
		run->opts.repeat = check_range(L, name, -1, INT32_MAX);
	else if (!strcmp(name, "batch"))
		run->opts.batch_size = check_range(L, name, -1, 256);
	else if (!strcmp(name, "cpu"))
		run->cpu = check_range(L, name, -1, libbpf_num_possible_cpus() - 1);
	else if (!strcmp(name, "flags"))
		run->opts.flags |= check_range(L, name, -1, UINT32_MAX);
	else if (!strcmp(name, "ctx"))
		read_context(L, p, run);
	else if (strcmp(name, "live"))
		luaL_error(L, "unknown option \"%s\" (options: repeat, ctx, cpu, live, batch, flags)",
			luaL_tolstring(L, -2, NULL));
	else if (lua_toboolean(L, -1))
		be_live(L, p, run);
}

static void read_options(lua_State *L, const struct prog *p, struct run *run)
{
	if (lua_isnoneornil(L, 3))
		return;
	luaL_checktype(L, 3, LUA_TTABLE);
	lua_pushnil(L);
	while (lua_next(L, 3)) {
		read_option(L, p, run);
		lua_pop(L, 1);
	}
}

/* ---- running ---- */

static int run_on_cpu(const struct prog *p, struct run *run)
{
	cpu_set_t before, one;
	int err;

	CPU_ZERO(&one);
	CPU_SET(run->cpu, &one);
	if (sched_getaffinity(0, sizeof(before), &before) ||
		sched_setaffinity(0, sizeof(one), &one))
		return -errno;
	err = bpf_prog_test_run_opts(p->fd, &run->opts);
	sched_setaffinity(0, sizeof(before), &before);
	return err;
}

static int refuse(lua_State *L, int err, const struct run *run)
{
	struct tg_error error;

	if (err == -ENODEV)
		tg_fail(&error, err, "ctx: no such interface in this network namespace");
	else if (err == -EINVAL && run->opts.ctx_in)
		tg_fail(&error, err, "the kernel refuses the packet (%u bytes), an option, or the "
			"context (does the interface have that receive queue?)",
			run->opts.data_size_in);
	else if (err == -EINVAL || err == -ENOMEM)
		tg_fail(&error, err, "the kernel refuses the packet (%u bytes; a TC program's has to "
			"fit a page, an XDP program's 17) or an option", run->opts.data_size_in);
	else
		tg_fail(&error, err, "%s", strerror(-err));
	return tg_lua_refuse(L, err, &error);
}

/* The verdict's name; NULL where the number says as much. */
static const char *verdict(const struct prog *p, uint32_t code)
{
	static const char *const xdp[] = { "aborted", "drop", "pass", "tx", "redirect" };
	static const char *const tc[] = { "next", "pass", NULL, "drop", NULL, NULL, NULL, NULL,
		"redirect" };	/* from -1, in TCX's words */

	if (is_xdp(p))
		return code < 5 ? xdp[code] : NULL;
	return is_tc(p) && code + 1 < 9 ? tc[code + 1] : NULL;
}

static int push_result(lua_State *L, const struct prog *p, const struct run *run)
{
	const char *name = verdict(p, run->opts.retval);

	lua_createtable(L, 0, 4);
	lua_pushinteger(L, (int32_t)run->opts.retval);
	if (name)
		lua_pushstring(L, name);
	else
		lua_pushvalue(L, -1);
	lua_setfield(L, -3, "retval");
	lua_setfield(L, -2, "code");
	lua_pushinteger(L, run->opts.duration);
	lua_setfield(L, -2, "duration_ns");
	if (run->opts.data_out) {
		lua_pushlstring(L, p->output, run->opts.data_size_out);
		lua_setfield(L, -2, "data");
	}
	return 1;
}

static int l_run(lua_State *L)
{
	struct prog *p = check_prog(L, 1);
	struct run run = { .cpu = -1 };
	size_t length;
	int err;

	run.opts.sz = sizeof(run.opts);
	run.opts.data_in = luaL_checklstring(L, 2, &length);
	if (length < ETH_HLEN || length > OUTPUT_ROOM)
		luaL_error(L, "packet: %d bytes given, from %d (an Ethernet header) to %d go",
			(int)length, ETH_HLEN, OUTPUT_ROOM);
	run.opts.data_size_in = length;
	run.opts.data_out = p->output;
	run.opts.data_size_out = OUTPUT_ROOM;
	run.opts.repeat = 1;
	read_options(L, p, &run);
	err = run.cpu < 0 ? bpf_prog_test_run_opts(p->fd, &run.opts) : run_on_cpu(p, &run);
	return err ? refuse(L, err, &run) : push_result(L, p, &run);
}

/* ---- the program itself ---- */

static int l_info(lua_State *L)
{
	struct prog *p = check_prog(L, 1);
	const char *type = libbpf_bpf_prog_type_str(p->info.type);

	lua_createtable(L, 0, 3);
	if (type)
		lua_pushstring(L, type);
	else
		lua_pushinteger(L, p->info.type);
	lua_setfield(L, -2, "type");
	lua_pushstring(L, p->info.name);
	lua_setfield(L, -2, "name");
	lua_pushinteger(L, p->info.id);
	lua_setfield(L, -2, "id");
	return 1;
}

static int l_close(lua_State *L)
{
	struct prog *p = luaL_checkudata(L, 1, TG_LUA_PROG);

	if (p->fd >= 0)
		close(p->fd);
	p->fd = -1;
	return 0;
}

static int l_tostring(lua_State *L)
{
	struct prog *p = luaL_checkudata(L, 1, TG_LUA_PROG);

	lua_pushfstring(L, "program \"%s\"%s", p->info.name, p->fd < 0 ? " (closed)" : "");
	return 1;
}

static int open_pinned(struct prog *p, const char *path, struct tg_error *error)
{
	uint32_t length = sizeof(p->info);
	int err;

	p->fd = tg_pinned_open(path, "prog", error);
	if (p->fd < 0)
		return p->fd;
	err = bpf_obj_get_info_by_fd(p->fd, &p->info, &length);
	return err ? tg_fail(error, err, "%s: %s", path, strerror(-err)) : 0;
}

static int l_open(lua_State *L)
{
	const char *path = luaL_checkstring(L, 1);
	struct prog *p = lua_newuserdatauv(L, sizeof(*p), 1);
	struct tg_error error;
	int err;

	memset(p, 0, sizeof(*p));
	p->fd = -1;
	luaL_setmetatable(L, TG_LUA_PROG);	/* from here on it closes itself */
	err = open_pinned(p, path, &error);
	if (err)
		return tg_lua_refuse(L, err, &error);
	p->output = lua_newuserdatauv(L, OUTPUT_ROOM, 0);
	lua_setiuservalue(L, -2, 1);
	return 1;
}

static const luaL_Reg methods[] = {
	{ "run", l_run },
	{ "info", l_info },
	{ "close", l_close },
	{ NULL, NULL },
};

static const luaL_Reg metamethods[] = {
	{ "__gc", l_close },
	{ "__close", l_close },
	{ "__tostring", l_tostring },
	{ NULL, NULL },
};

static const luaL_Reg functions[] = {
	{ "open", l_open },
	{ NULL, NULL },
};

int luaopen_tidegate_core_prog(lua_State *L)
{
	luaL_newmetatable(L, TG_LUA_PROG);
	luaL_setfuncs(L, metamethods, 0);
	luaL_newlib(L, methods);
	lua_setfield(L, -2, "__index");
	luaL_newlib(L, functions);
	return 1;
}
