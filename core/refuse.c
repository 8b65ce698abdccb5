/* SPDX-License-Identifier: GPL-2.0-only */
#include "refuse.h"

#include <string.h>

int tg_lua_refuse(lua_State *L, int code, const struct tg_error *error)
{
	const char *name = strerrorname_np(-code);

	lua_pushnil(L);
	lua_pushstring(L, error->text[0] ? error->text : strerror(-code));
	lua_pushstring(L, name ? name : "EUNKNOWN");
	return 3;
}
