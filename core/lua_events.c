/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * tidegate.core.events: what the datapath tells of packets (core/events.h) as Lua tables, for the library alone.
 * lua/tidegate/packet_event.lua hands them on; README and lua/meta/event.lua are their reference.
 */
#include "addr.h"
#include "controller_lua.h"
#include "events.h"
#include "pinned.h"
#include "refuse.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define NAMES_SECONDS 1 /* for which an interface's and a list's name are taken for known */
#define EVENT_FIELDS  16

int luaopen_tidegate_core_events(lua_State *L);

/* One a process. */
static struct {
	struct tg_vm *vm;
	struct tg_events *events;
	int handler; /* references */
	/* tables by counter: what a rule is called, where it stands, how its events are called */
	int rules, lines, own;
	int ports, lists; /* tables of names that were looked up */
	time_t looked_up;
	int deny_classes; /* map, or -1 */
	double to_real;	  /* seconds to be added to CLOCK_MONOTONIC's */
} here = { .handler = LUA_NOREF,
	.rules = LUA_NOREF,
	.lines = LUA_NOREF,
	.own = LUA_NOREF,
	.ports = LUA_NOREF,
	.lists = LUA_NOREF,
	.deny_classes = -1 };

static const char *const kinds[TG_EVENT_COUNT] = {
#define EVENT_NAME(symbol, name) name,
	TG_EVENTS(EVENT_NAME)
#undef EVENT_NAME
};

static const char *const reasons[TG_REASON_COUNT] = {
#define REASON_NAME(symbol, name) [TG_REASON_##symbol] = name,
	TG_PASS_REASONS(REASON_NAME) TG_DROP_REASONS(REASON_NAME)
#undef REASON_NAME
};

static const char *const actions[] = { "accept", "drop", "reject" };

/* --- names --- */

static void set_ref(lua_State *L, int *ref)
{
	luaL_unref(L, LUA_REGISTRYINDEX, *ref);
	*ref = luaL_ref(L, LUA_REGISTRYINDEX);
}

/* Forgets names that may have changed, and sees what time it is. */
static void look_up_anew(lua_State *L)
{
	struct timespec real, monotonic;

	clock_gettime(CLOCK_REALTIME, &real);
	clock_gettime(CLOCK_MONOTONIC, &monotonic);
	here.to_real = (double)(real.tv_sec - monotonic.tv_sec) +
		       (double)(real.tv_nsec - monotonic.tv_nsec) / 1e9;
	if (here.ports != LUA_NOREF && monotonic.tv_sec - here.looked_up < NAMES_SECONDS)
		return;
	here.looked_up = monotonic.tv_sec;
	lua_newtable(L);
	set_ref(L, &here.ports);
	lua_newtable(L);
	set_ref(L, &here.lists);
}

static const char *port_name(lua_State *L, __u32 ifindex, char name[TG_NAME_SIZE])
{
	return if_indextoname(ifindex, name);
}

static const char *list_name(lua_State *L, __u32 class, char name[TG_NAME_SIZE])
{
	struct tg_deny_class found;

	if (here.deny_classes < 0 || bpf_map_lookup_elem(here.deny_classes, &class, &found))
		return NULL;
	memcpy(name, found.name, TG_NAME_SIZE);
	name[TG_NAME_SIZE - 1] = 0;
	return name[0] ? name : NULL;
}

/* Pushes a name out of a table of those that were looked up, or looks it up. */
static void push_name(lua_State *L, int table, __u32 number,
	const char *(*look_up)(lua_State *L, __u32 number, char name[TG_NAME_SIZE]))
{
	char name[TG_NAME_SIZE];

	lua_rawgeti(L, LUA_REGISTRYINDEX, table);
	if (lua_rawgeti(L, -1, number) == LUA_TNIL) {
		lua_pop(L, 1);
		lua_pushstring(L, look_up(L, number, name));
		lua_pushvalue(L, -1);
		lua_rawseti(L, -3, number);
	}
	lua_remove(L, -2);
}

/* --- an event --- */

/* By hand: inet_ntop takes most of the time that an event has. */
static char *print_byte(char *at, unsigned int byte)
{
	if (byte >= 100)
		*at++ = '0' + byte / 100;
	if (byte >= 10)
		*at++ = '0' + byte / 10 % 10;
	*at++ = '0' + byte % 10;
	return at;
}

static void push_address(lua_State *L, const __be32 *addr, __u8 family)
{
	const uint8_t *bytes = (const uint8_t *)addr;
	char text[TG_ADDR_TEXT], *at = text;
	struct tg_addr value;

	if (family == 6) {
		value = tg_addr_from_bytes(AF_INET6, addr);
		lua_pushstring(L, tg_addr_print(&value, text));
		return;
	}
	for (int i = 0; i < 4; i++) {
		if (i)
			*at++ = '.';
		at = print_byte(at, bytes[i]);
	}
	lua_pushlstring(L, text, at - text);
}

static void push_flags(lua_State *L, __u8 flags)
{
	static const char letters[] = "FSRPAUEC";
	char text[8];
	int length = 0;

	for (int i = 0; i < 8; i++)
		if (flags >> i & 1)
			text[length++] = letters[i];
	lua_pushlstring(L, text, length);
}

static void push_proto(lua_State *L, __u8 proto)
{
	switch (proto) {
	case IPPROTO_TCP:
		lua_pushliteral(L, "tcp");
		break;
	case IPPROTO_UDP:
		lua_pushliteral(L, "udp");
		break;
	case IPPROTO_ICMP:
		lua_pushliteral(L, "icmp");
		break;
	case IPPROTO_ICMPV6:
		lua_pushliteral(L, "icmp6");
		break;
	default:
		lua_pushinteger(L, proto);
	}
}

static void set_integer(lua_State *L, const char *field, lua_Integer value)
{
	lua_pushinteger(L, value);
	lua_setfield(L, -2, field);
}

static void set_string(lua_State *L, const char *field, const char *value)
{
	lua_pushstring(L, value);
	lua_setfield(L, -2, field);
}

static void set_transport(lua_State *L, const struct tg_packet_event *event)
{
	push_proto(L, event->proto);
	lua_setfield(L, -2, "proto");
	if (event->proto == IPPROTO_TCP || event->proto == IPPROTO_UDP) {
		if (event->sport || event->dport) { /* a later fragment has none */
			set_integer(L, "sport", ntohs(event->sport));
			set_integer(L, "dport", ntohs(event->dport));
		}
	} else if (event->proto == IPPROTO_ICMP || event->proto == IPPROTO_ICMPV6) {
		set_integer(L, "icmp_type", ntohs(event->sport));
	}
	if (event->proto == IPPROTO_TCP) {
		push_flags(L, event->tcp_flags);
		lua_setfield(L, -2, "flags");
	}
}

/* Sets a field to what a table has for a counter, if anything. */
static bool set_of_rule(lua_State *L, int table, __u32 counter, const char *field)
{
	if (table == LUA_NOREF)
		return false;
	lua_rawgeti(L, LUA_REGISTRYINDEX, table);
	if (lua_rawgeti(L, -1, counter) == LUA_TNIL) {
		lua_pop(L, 2);
		return false;
	}
	lua_setfield(L, -3, field);
	lua_pop(L, 1);
	return true;
}

static void set_rule(lua_State *L, const struct tg_packet_event *event)
{
	if (event->kind == TG_EVENT_DENY_HIT) {
		push_name(L, here.lists, event->rule, list_name);
		lua_setfield(L, -2, "list");
		return;
	}
	set_of_rule(L, here.rules, event->rule, "rule");
	set_of_rule(L, here.lines, event->rule, "line");
	if (event->flags & TG_RULE_AUDIT) {
		lua_pushboolean(L, true);
		lua_setfield(L, -2, "audit");
	}
}

static void push_event(lua_State *L, const struct tg_packet_event *event)
{
	lua_createtable(L, 0, EVENT_FIELDS);
	if (event->kind != TG_EVENT_RULE || !set_of_rule(L, here.own, event->rule, "name"))
		set_string(L, "name", kinds[event->kind]);
	push_name(L, here.ports, event->ifindex, port_name);
	lua_setfield(L, -2, "port");
	set_string(L, "direction", event->direction == TG_INGRESS ? "ingress" : "egress");
	if (event->family) {
		push_address(L, event->src, event->family);
		lua_setfield(L, -2, "src");
		push_address(L, event->dst, event->family);
		lua_setfield(L, -2, "dst");
		set_transport(L, event);
	}
	set_rule(L, event);
	set_string(L, "action", actions[event->action < 3 ? event->action : TG_ACTION_DROP]);
	if (event->reason < TG_REASON_COUNT && reasons[event->reason])
		set_string(L, "reason", reasons[event->reason]);
	set_integer(L, "length", event->length);
	set_integer(L, "sample", event->sample);
	lua_pushnumber(L, event->time / 1e9 + here.to_real);
	lua_setfield(L, -2, "time");
}

struct turn {
	const struct tg_packet_event *events;
	size_t count;
};

/* handler({ event, … }) */
static int hand_on(lua_State *L)
{
	const struct turn *turn = lua_touserdata(L, 1);
	int count = 0;

	look_up_anew(L);
	lua_rawgeti(L, LUA_REGISTRYINDEX, here.handler);
	lua_createtable(L, turn->count, 0);
	for (size_t i = 0; i < turn->count; i++) {
		if (turn->events[i].kind >= TG_EVENT_COUNT)
			continue;
		push_event(L, &turn->events[i]);
		lua_rawseti(L, -2, ++count);
	}
	lua_call(L, 1, 0);
	return 0;
}

static void deliver(void *user, const struct tg_packet_event *events, size_t count)
{
	struct turn turn = { events, count };

	if (here.handler == LUA_NOREF)
		return;
	lua_pushcfunction(here.vm->L, hand_on);
	lua_pushlightuserdata(here.vm->L, &turn);
	tg_vm_pcall(here.vm, 1, 0);
}

/* --- functions --- */

static int begin(lua_State *L, int ring, int handler)
{
	struct tg_error error = { "" };

	luaL_checktype(L, handler, LUA_TFUNCTION);
	if (here.events)
		tg_events_close(here.events);
	here.vm = tg_vm_of(L);
	here.events = tg_events_open(here.vm->loop, ring, deliver, NULL, &error);
	if (!here.events)
		return tg_lua_refuse(L, -EIO, &error);
	lua_pushvalue(L, handler);
	set_ref(L, &here.handler);
	lua_pushboolean(L, true);
	return 1;
}

/*
 * start(fn) → true | nil, text, code: fn({ event, … }) for what is told from now on; nothing new if it is read already.
 * False if nothing is told, with the features of the program.
 */
static int l_start(lua_State *L)
{
	struct tg_datapath *dp = &tg_controller_opened(L)->datapath;

	here.deny_classes = dp->maps[TG_MAP_DENY_CLASSES];
	if (dp->maps[TG_MAP_EVENTS] < 0 || here.events) {
		lua_pushboolean(L, here.events != NULL);
		return 1;
	}
	return begin(L, dp->maps[TG_MAP_EVENTS], 1);
}

/* open(path, fn) → true | nil, text, code: the same of a ring that is pinned there, for tests. */
static int l_open(lua_State *L)
{
	struct tg_error error = { "" };
	int fd = tg_pinned_open(luaL_checkstring(L, 1), "map", &error), result;

	if (fd < 0)
		return tg_lua_refuse(L, fd, &error);
	result = begin(L, fd, 2);
	close(fd);
	return result;
}

/* stop() */
static int l_stop(lua_State *L)
{
	if (here.events)
		tg_events_close(here.events);
	here.events = NULL;
	luaL_unref(L, LUA_REGISTRYINDEX, here.handler);
	here.handler = LUA_NOREF;
	return 0;
}

/* rules(names, lines, own): tables by counter; what a rule is called, where it stands, what its events are called. */
static int l_rules(lua_State *L)
{
	for (int i = 1; i <= 3; i++)
		luaL_checktype(L, i, LUA_TTABLE);
	lua_settop(L, 3);
	set_ref(L, &here.own);
	set_ref(L, &here.lines);
	set_ref(L, &here.rules);
	return 0;
}

/* counts() → { [kind] = { told, lost, left_out } }, or nothing where nothing is told. */
static int l_counts(lua_State *L)
{
	struct tg_datapath *dp = &tg_controller_opened(L)->datapath;
	__u64 counts[TG_EVENT_COUNT][TG_EVENT_COUNTS];

	lua_createtable(L, 0, TG_EVENT_COUNT);
	if (dp->maps[TG_MAP_EVENT_COUNTERS] < 0 ||
		!tg_events_counts(dp->maps[TG_MAP_EVENT_COUNTERS], counts))
		return 1;
	for (int i = 0; i < TG_EVENT_COUNT; i++) {
		if (i == TG_EVENT_FLOW_END)
			continue;
		lua_createtable(L, 0, TG_EVENT_COUNTS);
		set_integer(L, "told", counts[i][TG_EVENT_TOLD]);
		set_integer(L, "lost", counts[i][TG_EVENT_LOST]);
		set_integer(L, "left_out", counts[i][TG_EVENT_LEFT_OUT]);
		lua_setfield(L, -2, kinds[i]);
	}
	return 1;
}

static const luaL_Reg functions[] = {
	{ "start", l_start },
	{ "open", l_open },
	{ "stop", l_stop },
	{ "rules", l_rules },
	{ "counts", l_counts },
	{ NULL, NULL },
};

int luaopen_tidegate_core_events(lua_State *L)
{
	luaL_newlib(L, functions);
	return 1;
}
