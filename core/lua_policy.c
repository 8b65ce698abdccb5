/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * tidegate.core.policy: policies compiled (core/policy.h), asked, and put in force, for the library alone. What takes long
 * takes a callback last (see task.await); it gets what is named here, or nil, a text and an errno's name.
 *
 * A spec: { rules = { rule, … }, default = what it does, stateful = nil | true | "conntrack", judge_nd, recheck =
 * boolean, fragments = "follow" | "rules" | "drop" }. A rule: what it matches, src, dst = { prefix, … }, sport,
 * dport, port (either) = { first, last, first, last, … }, protos, icmp_types = { number, … }, tcp_mask,
 * tcp_flags, fragment = nil | boolean; and what it does: action = "accept" | "drop" | "reject", log, event, audit =
 * boolean, counter = number | nil.
 */
#include "controller_lua.h"
#include "policy.h"
#include "jiffies.h"
#include "policy_lua.h"
#include "refuse.h"
#include "rule_counters.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

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

/* --- in force ------------------------------------------------------------------------------------------------- */

struct commit_call {
	struct tg_call call;
	int kept; /* reference to the table of policies */
	__u32 features;
	const struct tg_compiled_policy *policies[TG_MAX_POLICIES];
};

static void work_commit(struct tg_call *call)
{
	struct commit_call *this = (struct commit_call *)call;

	call->code = tg_datapath_commit(&tg_controller_of_call(call)->datapath, this->features,
		this->policies, &call->error);
}

static void release_commit(struct tg_call *call)
{
	luaL_unref(call->vm->L, LUA_REGISTRYINDEX, ((struct commit_call *)call)->kept);
}

static void read_policies(lua_State *L, const struct tg_compiled_policy **policies)
{
	for (lua_pushnil(L); lua_next(L, 1); lua_pop(L, 1)) {
		lua_Integer index = luaL_checkinteger(L, -2);

		luaL_argcheck(L, index >= 0 && index < TG_MAX_POLICIES, 1, "no such place");
		policies[index] = check_policy(L, lua_gettop(L));
	}
}

/*
 * commit({ [place] = policy, … }, features, done): puts just these policies in force, by their places in the
 * directory (port_place, tap_place), and makes the programs fit `features`. done(true); on failure all is as it was.
 */
static int l_commit(lua_State *L)
{
	lua_Integer features = luaL_checkinteger(L, 2);
	const struct tg_compiled_policy *policies[TG_MAX_POLICIES] = { NULL };
	struct commit_call *this;

	tg_controller_opened(L);
	luaL_checktype(L, 1, LUA_TTABLE);
	lua_settop(L, 3);
	read_policies(L, policies);
	this = tg_call_new(L, sizeof(*this), 3);
	memcpy(this->policies, policies, sizeof(policies));
	lua_pushvalue(L, 1);
	this->kept = luaL_ref(L, LUA_REGISTRYINDEX);
	this->features = features;
	this->call.work = work_commit;
	this->call.release = release_commit;
	tg_call_in_pool(&this->call);
	return 0;
}

/* port_place(slot, "ingress" | "egress") → the place of the port's policy. */
static int l_port_place(lua_State *L)
{
	static const char *const directions[] = { "ingress", "egress", NULL };
	lua_Integer slot = luaL_checkinteger(L, 1);
	int direction = luaL_checkoption(L, 2, NULL, directions);

	luaL_argcheck(L, slot >= 0 && slot < TG_MAX_PORTS, 1, "no such slot");
	lua_pushinteger(L, TG_POLICY_OF_PORT(slot, direction));
	return 1;
}

/* tap_place(tap) → the place of what the tap matches. */
static int l_tap_place(lua_State *L)
{
	lua_Integer tap = luaL_checkinteger(L, 1);

	luaL_argcheck(L, tap >= 0 && tap < TG_MAX_TAPS, 1, "no such tap");
	lua_pushinteger(L, TG_POLICY_OF_TAP(tap));
	return 1;
}

/* counter(port, direction, key) → the counter of that rule (see rule_counters.h) | nil, text, code */
static int l_counter(lua_State *L)
{
	struct tg_datapath *dp = &tg_controller_opened(L)->datapath;
	size_t size;
	const char *key;
	int counter;

	for (int i = 1; i <= 3; i++)
		luaL_checkstring(L, i);
	key = lua_pushfstring(
		L, "%s\n%s\n%s", lua_tostring(L, 1), lua_tostring(L, 2), lua_tostring(L, 3));
	size = lua_rawlen(L, -1);
	counter = tg_rule_counters_ask(dp->counters, key, size);
	if (counter < 0) {
		struct tg_error error;

		tg_fail(&error, counter, "no counter is left: an instance counts %d rules",
			TG_MAX_RULE_COUNTERS);
		return tg_lua_refuse(L, counter, &error);
	}
	lua_pushinteger(L, counter);
	return 1;
}

static void push_counter(
	lua_State *L, const struct tg_rule_counter *cpus, const struct tg_ticks *ticks)
{
	struct tg_rule_counter sum = { 0 };

	for (int i = 0; i < libbpf_num_possible_cpus(); i++) {
		sum.packets += cpus[i].packets;
		sum.bytes += cpus[i].bytes;
		sum.last = cpus[i].last > sum.last ? cpus[i].last : sum.last;
	}
	lua_createtable(L, 0, 3);
	lua_pushinteger(L, sum.packets);
	lua_setfield(L, -2, "packets");
	lua_pushinteger(L, sum.bytes);
	lua_setfield(L, -2, "bytes");
	if (sum.last) {
		lua_pushnumber(L, tg_ticks_date(ticks, sum.last));
		lua_setfield(L, -2, "last");
	}
}

/* counters { counter, … } → { { packets, bytes, last = seconds since 1970 | nil }, … }, of each in turn */
static int l_counters(lua_State *L)
{
	struct tg_datapath *dp = &tg_controller_opened(L)->datapath;
	struct tg_rule_counter *cpus;
	struct tg_error error;
	struct tg_ticks ticks;

	luaL_checktype(L, 1, LUA_TTABLE);
	if (tg_ticks_read(&ticks, &error))
		return luaL_error(L, "%s", error.text);
	cpus = lua_newuserdatauv(L, libbpf_num_possible_cpus() * sizeof(*cpus), 0);
	lua_createtable(L, lua_rawlen(L, 1), 0);
	for (size_t i = 1; i <= lua_rawlen(L, 1); i++) {
		__u32 counter;

		lua_rawgeti(L, 1, i);
		counter = luaL_checkinteger(L, -1);
		lua_pop(L, 1);
		if (dp->maps[TG_MAP_RULE_COUNTERS] < 0 ||
			bpf_map_lookup_elem(dp->maps[TG_MAP_RULE_COUNTERS], &counter, cpus))
			memset(cpus, 0, libbpf_num_possible_cpus() * sizeof(*cpus));
		push_counter(L, cpus, &ticks);
		lua_rawseti(L, -2, i);
	}
	return 1;
}

static const luaL_Reg functions[] = {
	{ "compile", l_compile },
	{ "commit", l_commit },
	{ "port_place", l_port_place },
	{ "tap_place", l_tap_place },
	{ "counter", l_counter },
	{ "counters", l_counters },
	{ NULL, NULL },
};

int luaopen_tidegate_core_policy(lua_State *L)
{
	luaL_newlib(L, functions);
	return 1;
}
