/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * tidegate.core.tracks: flows of stateful policies (core/tracks.h), for the library alone. Callbacks as in
 * tidegate.core.controller. A filter: { src =, dst = (prefixes), proto =, sport =, dport =, port = (integers), slot =,
 * states = { name, … } }, all optional. A flow: see push_flow.
 */
#include "controller_lua.h"
#include "refuse.h"
#include "tracks.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define SECOND 1000000000ull

int luaopen_tidegate_core_tracks(lua_State *L);

static const char *const state_names[TG_TRACK_STATE_COUNT + 1] = {
#define STATE_NAME(symbol, name, seconds) [TG_TRACK_STATE_##symbol] = name,
	TG_TRACK_STATES(STATE_NAME)
#undef STATE_NAME
};

static const char *const count_names[TG_TRACK_COUNT] = {
#define COUNT_NAME(symbol, name) [TG_TRACK_##symbol] = name,
	TG_TRACK_COUNTS(COUNT_NAME)
#undef COUNT_NAME
};

/* The datapath, with tables for flows; NULL: there are none. */
static struct tg_datapath *tracking(lua_State *L)
{
	struct tg_datapath *dp = &tg_controller_opened(L)->datapath;

	return dp->maps[TG_MAP_TRACK_SETTINGS] < 0 ? NULL : dp;
}

/* --- filters and flows -------------------------------------------------------------------------------- */

static void read_prefix(lua_State *L, int table, const char *field, struct tg_cidr *prefix)
{
	const char *text, *problem;
	size_t size;

	if (lua_getfield(L, table, field) != LUA_TNIL) {
		text = luaL_checklstring(L, -1, &size);
		problem = tg_cidr_parse(text, size, prefix);
		if (problem)
			luaL_error(L, "%s: \"%s\": %s", field, text, problem);
	}
	lua_pop(L, 1);
}

static int32_t read_number(lua_State *L, int table, const char *field, int32_t otherwise)
{
	int32_t number;

	lua_getfield(L, table, field);
	number = luaL_optinteger(L, -1, otherwise);
	lua_pop(L, 1);
	return number;
}

static uint32_t read_states(lua_State *L, int table)
{
	uint32_t states = 0;

	if (lua_getfield(L, table, "states") == LUA_TTABLE)
		for (lua_Integer i = 1; lua_geti(L, -1, i) != LUA_TNIL; i++) {
			states |= 1u << luaL_checkoption(L, -1, NULL, state_names);
			lua_pop(L, 1);
		}
	lua_pop(L, states ? 2 : 1);
	return states;
}

static struct tg_track_filter check_filter(lua_State *L, int index)
{
	struct tg_track_filter filter = TG_TRACK_ANY;

	luaL_checktype(L, index, LUA_TTABLE);
	read_prefix(L, index, "src", &filter.src);
	read_prefix(L, index, "dst", &filter.dst);
	filter.proto = read_number(L, index, "proto", 0);
	filter.sport = read_number(L, index, "sport", -1);
	filter.dport = read_number(L, index, "dport", -1);
	filter.port = read_number(L, index, "port", -1);
	filter.slot = read_number(L, index, "slot", -1);
	filter.states = read_states(L, index);
	return filter;
}

static void set_integer(lua_State *L, const char *field, lua_Integer value)
{
	lua_pushinteger(L, value);
	lua_setfield(L, -2, field);
}

static void set_number(lua_State *L, const char *field, double value)
{
	lua_pushnumber(L, value);
	lua_setfield(L, -2, field);
}

static void set_address(lua_State *L, const char *field, const __be32 word[4])
{
	bool v4 = !word[0] && !word[1] && word[2] == htonl(0xffff);
	struct tg_addr addr = { .family = v4 ? AF_INET : AF_INET6 };
	char text[TG_ADDR_TEXT];

	memcpy(addr.word, v4 ? word + 3 : word, v4 ? 4 : 16);
	lua_pushstring(L, tg_addr_print(&addr, text));
	lua_setfield(L, -2, field);
}

static void set_sides(lua_State *L, const struct tg_track_entry *entry)
{
	int origin = entry->track.origin & 1;
	const struct tg_track_side *asks = &entry->track.side[origin],
				   *answers = &entry->track.side[!origin];

	set_address(L, "src", entry->id.addr[origin]);
	set_address(L, "dst", entry->id.addr[!origin]);
	set_integer(L, "sport", ntohs(entry->id.port[origin]));
	set_integer(L, "dport", ntohs(entry->id.port[!origin]));
	set_integer(L, "packets", asks->packets);
	set_integer(L, "bytes", asks->bytes);
	set_integer(L, "reply_packets", answers->packets);
	set_integer(L, "reply_bytes", answers->bytes);
}

/*
 * { proto, src, dst, sport, dport, packets, bytes, reply_packets, reply_bytes, state, age, idle, confirmed, slot, direction
 * (0: ingress), rule (a counter, or nil) }; seconds.
 */
static void push_flow(lua_State *L, const struct tg_track_entry *entry, uint64_t now)
{
	const struct tg_track *track = &entry->track;

	lua_createtable(L, 0, 16);
	set_sides(L, entry);
	set_integer(L, "proto", entry->id.proto);
	lua_pushstring(L, track->state < TG_TRACK_STATE_COUNT ? state_names[track->state] : "?");
	lua_setfield(L, -2, "state");
	set_number(L, "age", (double)(int64_t)(now - track->since) / SECOND);
	set_number(L, "idle", fmax(0, (double)(int64_t)(now - track->seen) / SECOND));
	lua_pushboolean(L, !entry->embryo);
	lua_setfield(L, -2, "confirmed");
	set_integer(L, "slot", track->gate[0].policy / TG_DIRECTIONS);
	set_integer(L, "direction", track->gate[0].policy % TG_DIRECTIONS);
	if (track->gate[0].rule != TG_NO_RULE)
		set_integer(L, "rule", track->gate[0].rule);
}

/* --- calls ----------------------------------------------------------------------------------------------- */

struct tracks_call {
	struct tg_call call;
	struct tg_datapath *dp;
	struct tg_track_filter filter;
	struct tg_track_cursor cursor;
	struct tg_track_sum sum;
	struct tg_track_entry *entries; /* flows that are told of */
	size_t count, room, left_out, most;
	int64_t removed;
};

static void release(struct tg_call *call)
{
	free(((struct tracks_call *)call)->entries);
}

/* With room for as many flows to tell of. */
static struct tracks_call *new_call(lua_State *L, int callback, size_t room)
{
	struct tracks_call *this = tg_call_new(L, sizeof(*this), callback);

	this->dp = tracking(L);
	this->room = room;
	this->entries = calloc(room + 1, sizeof(*this->entries));
	this->call.release = release;
	return this;
}

static void start(struct tracks_call *this, void (*work)(struct tg_call *call),
	int (*push)(struct tg_call *call, lua_State *L))
{
	this->call.work = work;
	this->call.push = push;
	tg_call_in_pool(&this->call);
}

static void conclude(struct tracks_call *this, int64_t result)
{
	if (result < 0)
		this->call.code = tg_fail(&this->call.error, result,
			"the tables of flows can't be read: %s", strerror(-result));
}

static void note_end(void *user, const struct tg_track_entry *entry)
{
	struct tracks_call *this = user;

	if (this->count < this->room)
		this->entries[this->count++] = *entry;
	else
		this->left_out++;
}

static int push_flows(struct tracks_call *this, lua_State *L)
{
	uint64_t now = tg_track_now();

	lua_createtable(L, this->count, 0);
	for (size_t i = 0; i < this->count; i++) {
		push_flow(L, &this->entries[i], now);
		lua_rawseti(L, -2, i + 1);
	}
	return 1;
}

/* A cursor as an integer, nil at the end. */
static void push_cursor(lua_State *L, const struct tg_track_cursor *cursor)
{
	if (cursor->table > 1)
		lua_pushnil(L);
	else
		lua_pushinteger(L, (lua_Integer)cursor->under_way << 33 |
					   (lua_Integer)cursor->table << 32 | cursor->position);
}

static struct tg_track_cursor check_cursor(lua_State *L, int index)
{
	lua_Integer value = luaL_optinteger(L, index, 0);

	return (struct tg_track_cursor){ value >> 32 & 1, value, value >> 33 & 1 };
}

static void work_read(struct tg_call *call)
{
	struct tracks_call *this = (struct tracks_call *)call;
	int result = 0;

	if (this->dp)
		result = tg_tracks_read(
			this->dp, &this->cursor, &this->filter, this->entries, this->room);
	else
		this->cursor.table = 2;
	this->count = result > 0 ? result : 0;
	conclude(this, result);
}

static int push_read(struct tg_call *call, lua_State *L)
{
	struct tracks_call *this = (struct tracks_call *)call;

	push_flows(this, L);
	push_cursor(L, &this->cursor);
	return 2;
}

/* read(filter, cursor | nil, done): done(some flows, cursor for the next; nil: these were the last) */
static int l_read(lua_State *L)
{
	struct tg_track_filter filter = check_filter(L, 1);
	struct tg_track_cursor cursor = check_cursor(L, 2);
	struct tracks_call *this = new_call(L, 3, 4 * TG_TRACK_BATCH);

	this->filter = filter;
	this->cursor = cursor;
	start(this, work_read, push_read);
	return 0;
}

static void work_count(struct tg_call *call)
{
	struct tracks_call *this = (struct tracks_call *)call;

	if (this->dp)
		conclude(this, tg_tracks_count(this->dp, &this->filter, &this->sum));
}

static int push_count(struct tg_call *call, lua_State *L)
{
	struct tracks_call *this = (struct tracks_call *)call;

	lua_createtable(L, 0, 3);
	set_integer(L, "confirmed", this->sum.flows);
	set_integer(L, "embryos", this->sum.embryos);
	lua_newtable(L);
	for (int i = 0; i < TG_TRACK_STATE_COUNT; i++)
		if (this->sum.states[i])
			set_integer(L, state_names[i], this->sum.states[i]);
	lua_setfield(L, -2, "states");
	return 1;
}

/* count(filter, done): done { confirmed =, embryos =, states = { [name] = } }, those that live */
static int l_count(lua_State *L)
{
	struct tg_track_filter filter = check_filter(L, 1);
	struct tracks_call *this = new_call(L, 2, 0);

	this->filter = filter;
	start(this, work_count, push_count);
	return 0;
}

static void work_kill(struct tg_call *call)
{
	struct tracks_call *this = (struct tracks_call *)call;

	if (this->dp)
		this->removed = tg_tracks_kill(this->dp, &this->filter, note_end, this);
	conclude(this, this->removed);
}

static int push_ended(struct tg_call *call, lua_State *L)
{
	struct tracks_call *this = (struct tracks_call *)call;

	lua_pushinteger(L, this->removed);
	push_flows(this, L);
	lua_pushinteger(L, this->left_out);
	push_cursor(L, &this->cursor);
	return 4;
}

/* kill(filter, room, done): done(how many, `room` of them at most, how many others) */
static int l_kill(lua_State *L)
{
	struct tg_track_filter filter = check_filter(L, 1);
	struct tracks_call *this = new_call(L, 3, luaL_checkinteger(L, 2));

	this->filter = filter;
	start(this, work_kill, push_ended);
	return 0;
}

static void work_collect(struct tg_call *call)
{
	struct tracks_call *this = (struct tracks_call *)call;

	if (this->dp)
		this->removed =
			tg_tracks_collect(this->dp, &this->cursor, this->most, note_end, this);
	conclude(this, this->removed);
}

/* collect(cursor, most, room, done): looks at `most` flows for those that have expired; done as kill's, and a cursor */
static int l_collect(lua_State *L)
{
	struct tg_track_cursor cursor = check_cursor(L, 1);
	size_t most = luaL_checkinteger(L, 2);
	struct tracks_call *this = new_call(L, 4, luaL_checkinteger(L, 3));

	this->cursor = cursor;
	this->most = most;
	start(this, work_collect, push_ended);
	return 0;
}

/* --- settings and counters -------------------------------------------------------------------------------- */

/* size(flows): of each of both tables, when they are made; those that are there keep theirs. */
static int l_size(lua_State *L)
{
	lua_Integer flows = luaL_checkinteger(L, 1);

	luaL_argcheck(L, flows >= 0 && flows <= 1 << 24, 1, "0 to 2^24");
	tg_controller_opened(L)->datapath.tracked = flows;
	return 0;
}

static uint64_t check_until(lua_State *L, int table)
{
	uint64_t until = 0;

	if (lua_getfield(L, table, "pick_up") == LUA_TBOOLEAN)
		until = lua_toboolean(L, -1) ? UINT64_MAX : 0;
	else if (!lua_isnil(L, -1))
		until = tg_track_now() + luaL_checknumber(L, -1) * SECOND;
	lua_pop(L, 1);
	return until;
}

/* set { timeouts = { [name] = seconds }, pick_up = boolean | seconds from now on, new_sample = } → whether there are flows */
static int l_set(lua_State *L)
{
	struct tg_datapath *dp = tracking(L);
	struct tg_track_settings settings = { .pick_up_until = check_until(L, 1),
		.new_sample = read_number(L, 1, "new_sample", 0) };

	lua_getfield(L, 1, "timeouts");
	for (int i = 0; lua_istable(L, -1) && i < TG_TRACK_STATE_COUNT; i++) {
		lua_getfield(L, -1, state_names[i]);
		settings.timeout_ns[i] = luaL_optnumber(L, -1, 0) * SECOND;
		lua_pop(L, 1);
	}
	lua_pushboolean(L, dp && !tg_tracks_set(dp, &settings));
	return 1;
}

/* states() → { { name, seconds }, … }: and the defaults of their timeouts */
static int l_states(lua_State *L)
{
	lua_newtable(L);
#define PUSH_STATE(symbol, name, seconds)                                                          \
	lua_createtable(L, 2, 0);                                                                  \
	lua_pushstring(L, name);                                                                   \
	lua_rawseti(L, -2, 1);                                                                     \
	lua_pushinteger(L, seconds);                                                               \
	lua_rawseti(L, -2, 2);                                                                     \
	lua_rawseti(L, -2, TG_TRACK_STATE_##symbol + 1);
	TG_TRACK_STATES(PUSH_STATE)
#undef PUSH_STATE
	return 1;
}

/* counters() → { [name] = }, what became of flows; nil: there are no tables */
static int l_counters(lua_State *L)
{
	struct tg_datapath *dp = tracking(L);

	if (!dp)
		return 0;
	lua_createtable(L, 0, TG_TRACK_COUNT);
	for (int i = 0; i < TG_TRACK_COUNT; i++)
		set_integer(L, count_names[i], tg_tracks_counter(dp, i));
	return 1;
}

static const luaL_Reg functions[] = {
	{ "read", l_read },
	{ "count", l_count },
	{ "kill", l_kill },
	{ "collect", l_collect },
	{ "size", l_size },
	{ "set", l_set },
	{ "states", l_states },
	{ "counters", l_counters },
	{ NULL, NULL },
};

int luaopen_tidegate_core_tracks(lua_State *L)
{
	luaL_newlib(L, functions);
	return 1;
}
