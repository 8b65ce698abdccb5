/* SPDX-License-Identifier: GPL-2.0-only */
/* tidegate.core.console: what lua/tidegate/console.lua needs beyond libuv's pipes. For the library only. */
#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <lua.h>
#include <string.h>
#include <unistd.h>

#include "console.h"
#include "refuse.h"

int luaopen_tidegate_core_console(lua_State *L);

/* listen(path) → descriptor of a listening socket, or nil, message, code */
static int l_listen(lua_State *L)
{
	struct tg_error error;
	int fd = tg_console_listen(luaL_checkstring(L, 1), &error);

	if (fd < 0)
		return tg_lua_refuse(L, fd, &error);
	lua_pushinteger(L, fd);
	return 1;
}

static void set_integer(lua_State *L, const char *name, lua_Integer value)
{
	lua_pushinteger(L, value);
	lua_setfield(L, -2, name);
}

/* peer(descriptor) → { pid=, uid=, gid=, welcome= } of who connected, or nil, message, code */
static int l_peer(lua_State *L)
{
	struct tg_error error;
	struct ucred peer;
	int err = tg_console_peer(luaL_checkinteger(L, 1), &peer);

	if (err) {
		tg_fail(&error, err, "peer's credentials: %s", strerror(-err));
		return tg_lua_refuse(L, err, &error);
	}
	lua_createtable(L, 0, 4);
	set_integer(L, "pid", peer.pid);
	set_integer(L, "uid", peer.uid);
	set_integer(L, "gid", peer.gid);
	lua_pushboolean(L, tg_console_welcomes(&peer));
	lua_setfield(L, -2, "welcome");
	return 1;
}

/* keep(descriptor) → another one of the same file, which the caller closes, or nil, message, code */
static int l_keep(lua_State *L)
{
	int fd = fcntl(luaL_checkinteger(L, 1), F_DUPFD_CLOEXEC, 3);
	struct tg_error error;

	if (fd < 0) {
		int code = -errno;

		tg_fail(&error, code, "descriptor: %s", strerror(-code));
		return tg_lua_refuse(L, code, &error);
	}
	lua_pushinteger(L, fd);
	return 1;
}

/* close(descriptor): one that keep returned */
static int l_close(lua_State *L)
{
	close(luaL_checkinteger(L, 1));
	return 0;
}

static const luaL_Reg functions[] = {
	{ "keep", l_keep },
	{ "close", l_close },
	{ "listen", l_listen },
	{ "peer", l_peer },
	{ NULL, NULL },
};

int luaopen_tidegate_core_console(lua_State *L)
{
	luaL_newlib(L, functions);
	return 1;
}
