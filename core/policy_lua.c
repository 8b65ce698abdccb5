/* SPDX-License-Identifier: GPL-2.0-only */
#include "policy_lua.h"

#include "lists_lua.h"
#include "spec_lua.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#define SPEC "tidegate.core.policy.spec"

static const char *const actions[] = { "accept", "drop", "reject", NULL };

struct chunk {
	struct chunk *next;
	max_align_t bytes[];
};

struct read_spec {
	struct tg_policy_spec spec;
	struct chunk *chunks; /* all that it points to */
};

static int free_spec(lua_State *L)
{
	struct read_spec *read = luaL_checkudata(L, 1, SPEC);

	for (struct chunk *next, *chunk = read->chunks; chunk; chunk = next) {
		next = chunk->next;
		free(chunk);
	}
	read->chunks = NULL;
	return 0;
}

static struct read_spec *new_spec(lua_State *L)
{
	struct read_spec *read = lua_newuserdatauv(L, sizeof(*read), 0);

	memset(read, 0, sizeof(*read));
	if (luaL_newmetatable(L, SPEC)) {
		lua_pushcfunction(L, free_spec);
		lua_setfield(L, -2, "__gc");
	}
	lua_setmetatable(L, -2);
	return read;
}

/* Zeroed memory that goes with the spec. */
static void *allot(lua_State *L, struct read_spec *read, size_t count, size_t size)
{
	struct chunk *chunk = calloc(1, sizeof(*chunk) + count * size);

	if (!chunk)
		luaL_error(L, "out of memory");
	chunk->next = read->chunks;
	read->chunks = chunk;
	return chunk->bytes;
}

/* --- fields of the table on top of the stack --------------------------------------------------------------- */

static lua_Integer integer_at(lua_State *L, const char *what, lua_Integer most)
{
	int exact;
	lua_Integer value = lua_tointegerx(L, -1, &exact);

	if (!exact || value < 0 || value > most)
		luaL_error(L, "%s: 0 to %I expected", what, most);
	return value;
}

static lua_Integer integer_field(
	lua_State *L, const char *name, lua_Integer most, lua_Integer otherwise)
{
	lua_Integer value =
		lua_getfield(L, -1, name) == LUA_TNIL ? otherwise : integer_at(L, name, most);

	lua_pop(L, 1);
	return value;
}

static bool boolean_field(lua_State *L, const char *name)
{
	bool value;

	lua_getfield(L, -1, name);
	value = lua_toboolean(L, -1);
	lua_pop(L, 1);
	return value;
}

/* Leaves the list on the stack if there is one: its length, else 0. */
static size_t list_field(lua_State *L, const char *name)
{
	if (lua_getfield(L, -1, name) == LUA_TNIL) {
		lua_pop(L, 1);
		return 0;
	}
	if (!lua_istable(L, -1))
		luaL_error(L, "%s: a list expected", name);
	if (lua_rawlen(L, -1))
		return lua_rawlen(L, -1);
	lua_pop(L, 1);
	return 0;
}

static const struct tg_cidr *prefixes_field(
	lua_State *L, struct read_spec *read, const char *name, uint32_t *count)
{
	struct tg_cidr *prefixes;

	*count = list_field(L, name);
	if (!*count)
		return NULL;
	prefixes = allot(L, read, *count, sizeof(*prefixes));
	for (uint32_t i = 0; i < *count; i++) {
		lua_rawgeti(L, -1, i + 1);
		prefixes[i] = tg_check_prefix(L, lua_gettop(L));
		lua_pop(L, 1);
	}
	lua_pop(L, 1);
	return prefixes;
}

/* Pairs: first, last, first, last … */
static const struct tg_port_range *ranges_field(
	lua_State *L, struct read_spec *read, const char *name, uint32_t *count)
{
	size_t numbers = list_field(L, name);
	struct tg_port_range *ranges;

	*count = numbers / 2;
	if (!numbers)
		return NULL;
	if (numbers % 2)
		luaL_error(L, "%s: pairs of ports expected", name);
	ranges = allot(L, read, *count, sizeof(*ranges));
	for (size_t i = 0; i < numbers; i++) {
		uint16_t *port = i % 2 ? &ranges[i / 2].last : &ranges[i / 2].first;

		lua_rawgeti(L, -1, i + 1);
		*port = integer_at(L, name, 65535);
		lua_pop(L, 1);
		if (i % 2 && ranges[i / 2].first > ranges[i / 2].last)
			luaL_error(L, "%s: a range that ends before it begins", name);
	}
	lua_pop(L, 1);
	return ranges;
}

static const uint8_t *bytes_field(
	lua_State *L, struct read_spec *read, const char *name, uint32_t *count)
{
	uint8_t *bytes;

	*count = list_field(L, name);
	if (!*count)
		return NULL;
	bytes = allot(L, read, *count, 1);
	for (uint32_t i = 0; i < *count; i++) {
		lua_rawgeti(L, -1, i + 1);
		bytes[i] = integer_at(L, name, 255);
		lua_pop(L, 1);
	}
	lua_pop(L, 1);
	return bytes;
}

static enum tg_rule_fragment fragment_field(lua_State *L)
{
	enum tg_rule_fragment fragment = TG_RULE_ANY_PACKET;

	if (lua_getfield(L, -1, "fragment") != LUA_TNIL)
		fragment = lua_toboolean(L, -1) ? TG_RULE_FRAGMENTS : TG_RULE_NO_FRAGMENTS;
	lua_pop(L, 1);
	return fragment;
}

/* --- rules ------------------------------------------------------------------------------------------------- */

static void read_match(lua_State *L, struct read_spec *read, struct tg_rule *rule)
{
	rule->src = prefixes_field(L, read, "src", &rule->src_count);
	rule->dst = prefixes_field(L, read, "dst", &rule->dst_count);
	rule->sport = ranges_field(L, read, "sport", &rule->sport_count);
	rule->dport = ranges_field(L, read, "dport", &rule->dport_count);
	rule->port = ranges_field(L, read, "port", &rule->port_count);
	rule->protos = bytes_field(L, read, "protos", &rule->proto_count);
	rule->icmp_types = bytes_field(L, read, "icmp_types", &rule->icmp_type_count);
	rule->tcp_mask = integer_field(L, "tcp_mask", 255, 0);
	rule->tcp_flags = integer_field(L, "tcp_flags", 255, 0);
	rule->fragment = fragment_field(L);
}

static struct tg_policy_rule read_does(lua_State *L)
{
	struct tg_policy_rule does = { 0 };

	lua_getfield(L, -1, "action");
	does.action = luaL_checkoption(L, lua_gettop(L), NULL, actions);
	lua_pop(L, 1);
	does.flags = (boolean_field(L, "log") ? TG_RULE_LOG : 0) |
		     (boolean_field(L, "event") ? TG_RULE_EVENT : 0) |
		     (boolean_field(L, "audit") ? TG_RULE_AUDIT : 0);
	does.counter = integer_field(L, "counter", TG_MAX_RULE_COUNTERS - 1, TG_NO_RULE);
	return does;
}

static void read_rules(lua_State *L, struct read_spec *read)
{
	size_t count = list_field(L, "rules");
	struct tg_policy_rule *does = allot(L, read, count, sizeof(*does));
	struct tg_rule *rules = allot(L, read, count, sizeof(*rules));

	for (size_t i = 0; i < count; i++) {
		lua_rawgeti(L, -1, i + 1);
		luaL_checktype(L, lua_gettop(L), LUA_TTABLE);
		read_match(L, read, &rules[i]);
		does[i] = read_does(L);
		lua_pop(L, 1);
	}
	if (count)
		lua_pop(L, 1);
	read->spec.rules = rules;
	read->spec.does = does;
	read->spec.count = count;
}

static uint32_t read_stateful(lua_State *L)
{
	uint32_t flags = 0;

	if (lua_getfield(L, -1, "stateful") == LUA_TSTRING)
		flags = TG_POLICY_CONNTRACK;
	else if (lua_toboolean(L, -1))
		flags = TG_POLICY_STATEFUL;
	lua_pop(L, 1);
	return flags;
}

static uint32_t read_fragments(lua_State *L)
{
	static const char *const names[] = { "follow", "rules", "drop", NULL };
	static const uint32_t flags[] = { TG_POLICY_FOLLOW, 0, TG_POLICY_NO_FRAGMENTS };
	int which;

	lua_getfield(L, -1, "fragments");
	which = luaL_checkoption(L, lua_gettop(L), "follow", names);
	lua_pop(L, 1);
	return flags[which];
}

struct tg_policy_spec *tg_push_policy_spec(lua_State *L, int index)
{
	struct read_spec *read;

	luaL_checktype(L, index, LUA_TTABLE);
	luaL_checkstack(L, 12, NULL);
	index = lua_absindex(L, index);
	read = new_spec(L);
	lua_pushvalue(L, index);
	read_rules(L, read);
	lua_getfield(L, -1, "default");
	luaL_checktype(L, lua_gettop(L), LUA_TTABLE);
	read->spec.otherwise = read_does(L);
	lua_pop(L, 1);
	read->spec.flags = read_stateful(L) | read_fragments(L) |
			   (boolean_field(L, "judge_nd") ? TG_POLICY_JUDGE_ND : 0) |
			   (boolean_field(L, "recheck") ? TG_POLICY_RECHECK : 0);
	lua_pop(L, 1);
	return &read->spec;
}

/* --- questions and answers ------------------------------------------------------------------------------------ */

static struct tg_addr addr_field(lua_State *L, const char *name)
{
	struct tg_addr addr;

	lua_getfield(L, -1, name);
	addr = tg_check_addr(L, lua_gettop(L));
	lua_pop(L, 1);
	return addr;
}

static enum tg_policy_packet_part part_field(lua_State *L)
{
	static const char *const parts[] = { "whole", "first", "later", NULL };
	int part;

	lua_getfield(L, -1, "fragment");
	part = luaL_checkoption(L, lua_gettop(L), "whole", parts);
	lua_pop(L, 1);
	return part;
}

struct tg_policy_packet tg_check_policy_packet(lua_State *L, int index)
{
	struct tg_policy_packet packet = { 0 };

	luaL_checktype(L, index, LUA_TTABLE);
	lua_pushvalue(L, index);
	packet.src = addr_field(L, "src");
	packet.dst = addr_field(L, "dst");
	if (packet.src.family != packet.dst.family)
		luaL_error(L, "src and dst are of different families");
	packet.proto = integer_field(L, "proto", 255, 0);
	packet.tcp_flags = integer_field(L, "flags", 255, 0);
	packet.icmp_type = integer_field(L, "icmp_type", 255, 0);
	packet.sport = integer_field(L, "sport", 65535, 0);
	packet.dport = integer_field(L, "dport", 65535, 0);
	packet.part = part_field(L);
	lua_pop(L, 1);
	return packet;
}

void tg_push_findings(lua_State *L, const struct tg_rule_finding *findings, size_t count)
{
	static const char *const faults[] = { [TG_RULE_DUPLICATE] = "duplicate",
		[TG_RULE_SHADOWED] = "shadowed",
		[TG_RULE_VOID] = "void" };
	lua_Integer found = 0;

	lua_newtable(L);
	for (size_t i = 0; i < count; i++) {
		if (findings[i].fault == TG_RULE_SOUND)
			continue;
		lua_createtable(L, 0, 3);
		tg_set_integer(L, "rule", i + 1);
		tg_set_string(L, "fault", faults[findings[i].fault]);
		if (findings[i].fault != TG_RULE_VOID)
			tg_set_integer(L, "by", findings[i].by + 1);
		lua_rawseti(L, -2, ++found);
	}
}
