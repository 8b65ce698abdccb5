/* SPDX-License-Identifier: GPL-2.0-only */
/* Policies between Lua tables and what the compiler takes (core/policy.h). */
#ifndef TG_POLICY_LUA_H
#define TG_POLICY_LUA_H

#include "policy.h"

#include <lua.h>

/*
 * Reads the spec at stack index `index` (its fields: lua/meta has them not, core/lua_policy.c does) and pushes a
 * userdata that owns it. The Lua library has validated it: what is wrong here raises.
 */
struct tg_policy_spec *tg_push_policy_spec(lua_State *L, int index);

/* A packet from the table at `index`. Raises. */
struct tg_policy_packet tg_check_policy_packet(lua_State *L, int index);

/* Pushes { { rule =, fault =, by = }, … } of `count` rules; numbers count from 1. */
void tg_push_findings(lua_State *L, const struct tg_rule_finding *findings, size_t count);

#endif
