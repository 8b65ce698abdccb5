/* SPDX-License-Identifier: GPL-2.0-only */
/* What of tidegate.core.controller is about TC and the ports' slots (datapath_tc.h, datapath_ports.h). */
#ifndef TG_PORTS_LUA_H
#define TG_PORTS_LUA_H

#include <lauxlib.h>

extern const luaL_Reg tg_ports_functions[];

#endif
