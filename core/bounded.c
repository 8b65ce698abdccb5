/* SPDX-License-Identifier: GPL-2.0-only */
#include "bounded.h"

void tg_bounded_install(lua_State *L)
{
	(void)L;
}
