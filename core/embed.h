/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The Lua library inside the binary: the files of lua/tidegate, made into a table at build time
 * (cmake/embed.cmake). In a debug build the environment's TIDEGATE_LUA_DIR names a directory (the
 * tree's lua/) that is read instead.
 */
#ifndef TG_EMBED_H
#define TG_EMBED_H

#include <lua.h>

struct tg_embedded {
	const char *module;	/* "tidegate.net"; NULL ends the table */
	const char *file;	/* "tidegate/net.lua", relative to lua/ */
	const char *text, *end;
};

extern const struct tg_embedded tg_embedded[];

/* Puts a searcher for the library's modules first in package.searchers. */
void tg_embed_install(lua_State *L);

#endif
