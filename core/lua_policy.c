/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * tidegate.core.policy: policies compiled (core/policy.h) and asked, for the library alone. What takes long
 * takes a callback last (see task.await); it gets what is named here, or nil, a text and an errno's name.
 *
 * A spec: { rules = { rule, … }, default = what it does, stateful = nil | true | "conntrack", judge_nd, recheck =
 * boolean, fragments = "follow" | "rules" | "drop" }. A rule: what it matches, src, dst = { prefix, … }, sport,
 * dport, port (either) = { first, last, first, last, … }, protos, icmp_types = { number, … }, tcp_mask,
 * tcp_flags, fragment = nil | boolean; and what it does: action = "accept" | "drop" | "reject", log, event, audit =
 * boolean, counter = number | nil.
 */
#include "call.h"
#include "policy.h"
#include "policy_lua.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#define POLICY "tidegate.core.policy"

int luaopen_tidegate_core_policy(lua_State *L);

static const struct tg_compiled_policy *check_policy(lua_State *L, int index)
{
	struct tg_compiled_policy *policy = luaL_checkudata(L, index, POLICY);

	if (!policy->pages)
		luaL_error(L, "the policy is not compiled");
	return policy;
}

static int l_free(lua_State *L)
{
	tg_policy_free(luaL_checkudata(L, 1, POLICY));
	return 0;
}

/* policy:match(packet) → the number of the first rule that matches, or nil: the default decides. `packet`: { src,
 * dst, proto, sport, dport, flags, icmp_type, fragment = "whole" | "first" | "later" }. */
static int l_match(lua_State *L)
{
	const struct tg_compiled_policy *policy = check_policy(L, 1);
	struct tg_policy_packet packet = tg_check_policy_packet(L, 2);
	uint32_t rule = tg_policy_match(policy, &packet);

	if (rule == TG_POLICY_NO_RULE)
		return 0;
	lua_pushinteger(L, rule + 1);
	return 1;
}

/* policy:version() → integer: another one where the rules say something else. */
static int l_version(lua_State *L)
{
	lua_pushinteger(L, tg_policy_head(check_policy(L, 1))->version);
	return 1;
}

/* policy:bytes() → what its tables take. */
static int l_bytes(lua_State *L)
{
	lua_pushinteger(L, check_policy(L, 1)->page_count * (lua_Integer)TG_POLICY_PAGE);
	return 1;
}

static struct tg_compiled_policy *new_policy(lua_State *L)
{
	static const luaL_Reg methods[] = { { "match", l_match }, { "version", l_version },
		{ "bytes", l_bytes }, { "__gc", l_free }, { NULL, NULL } };
	struct tg_compiled_policy *policy = lua_newuserdatauv(L, sizeof(*policy), 0);

	*policy = (struct tg_compiled_policy){ 0 };
	if (luaL_newmetatable(L, POLICY)) {
		luaL_setfuncs(L, methods, 0);
		lua_pushvalue(L, -1);
		lua_setfield(L, -2, "__index");
	}
	lua_setmetatable(L, -2);
	return policy;
}

struct compile_call {
	struct tg_call call;
	int kept[2]; /* references to spec and policy */
	const struct tg_policy_spec *spec;
	struct tg_compiled_policy *policy;
	struct tg_rule_finding *findings;
};

static void work_compile(struct tg_call *call)
{
	struct compile_call *this = (struct compile_call *)call;

	call->code = tg_policy_compile(this->spec, this->policy, this->findings, &call->error);
}

static int push_compiled(struct tg_call *call, lua_State *L)
{
	struct compile_call *this = (struct compile_call *)call;

	lua_rawgeti(L, LUA_REGISTRYINDEX, this->kept[1]);
	tg_push_findings(L, this->findings, this->spec->count);
	return 2;
}

static void release_compile(struct tg_call *call)
{
	struct compile_call *this = (struct compile_call *)call;

	luaL_unref(call->vm->L, LUA_REGISTRYINDEX, this->kept[0]);
	luaL_unref(call->vm->L, LUA_REGISTRYINDEX, this->kept[1]);
	free(this->findings);
}

/* compile(spec, done): done(policy, { { rule =, fault = "duplicate" | "shadowed" | "void", by = }, … }) */
static int l_compile(lua_State *L)
{
	struct compile_call *this;
	struct tg_policy_spec *spec;
	struct tg_compiled_policy *policy;

	luaL_checktype(L, 2, LUA_TFUNCTION);
	lua_settop(L, 2);
	spec = tg_push_policy_spec(L, 1);
	policy = new_policy(L);
	this = tg_call_new(L, sizeof(*this), 2);
	this->kept[1] = luaL_ref(L, LUA_REGISTRYINDEX);
	this->kept[0] = luaL_ref(L, LUA_REGISTRYINDEX);
	this->spec = spec;
	this->policy = policy;
	this->findings = calloc(spec->count + 1, sizeof(*this->findings));
	this->call.work = work_compile;
	this->call.push = push_compiled;
	this->call.release = release_compile;
	tg_call_in_pool(&this->call);
	return 0;
}

static const luaL_Reg functions[] = {
	{ "compile", l_compile },
	{ NULL, NULL },
};

int luaopen_tidegate_core_policy(lua_State *L)
{
	luaL_newlib(L, functions);
	return 1;
}
