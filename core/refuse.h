/* SPDX-License-Identifier: GPL-2.0-only */
/* How bindings tell scripts that the environment refuses (misuse raises an error instead). */
#ifndef TG_REFUSE_H
#define TG_REFUSE_H

#include <lua.h>

#include "error.h"

/* Pushes nil, the text (the errno's, if `error` has none), and the name of a negative errno ("ENOENT"); returns 3. */
int tg_lua_refuse(lua_State *L, int code, const struct tg_error *error);

#endif
