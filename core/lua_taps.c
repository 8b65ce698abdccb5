/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * tidegate.core.taps: mirrors and captures in the datapath (core/taps.h), for the library alone. A tap is a number
 * from 0.
 */
#include "controller_lua.h"
#include "refuse.h"
#include "taps.h"

#include <errno.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

int luaopen_tidegate_core_taps(lua_State *L);

static struct tg_taps *taps_of(lua_State *L)
{
	struct tg_controller *controller = tg_controller_opened(L);

	if (!controller->taps)
		controller->taps = tg_taps_new(&controller->datapath);
	if (!controller->taps)
		luaL_error(L, "not enough memory");
	return controller->taps;
}

static __u32 check_tap(lua_State *L, int index)
{
	lua_Integer tap = luaL_checkinteger(L, index);

	luaL_argcheck(L, tap >= 0 && tap < TG_MAX_TAPS, index, "no such tap");
	return tap;
}

/* FNV-1a. */
static __u64 hash_of(const char *text, size_t size)
{
	__u64 hash = 0xcbf29ce484222325ull;

	for (size_t i = 0; i < size; i++)
		hash = (hash ^ (unsigned char)text[i]) * 0x100000001b3ull;
	return hash;
}

/* take(name, asked) → tap, kept | nil, text, code. `asked`: all that was asked for, as a text. */
static int l_take(lua_State *L)
{
	struct tg_taps *taps = taps_of(L);
	const char *name = luaL_checkstring(L, 1);
	struct tg_error error = { "" };
	size_t size;
	const char *asked = luaL_checklstring(L, 2, &size);
	bool kept;
	int tap;

	luaL_argcheck(L, name[0] && strlen(name) < sizeof(((struct tg_tap_owner *)0)->name), 1,
		"a name of 1 to 63 characters expected");
	tap = tg_tap_take(taps, name, hash_of(asked, size), &kept, &error);
	if (tap < 0)
		return tg_lua_refuse(L, tap, &error);
	lua_pushinteger(L, tap);
	lua_pushboolean(L, kept);
	return 2;
}

/* give_back(tap) */
static int l_give_back(lua_State *L)
{
	tg_tap_give_back(taps_of(L), check_tap(L, 1));
	return 0;
}

/* forget_others(): gives back what an earlier daemon took, and this one did not. */
static int l_forget_others(lua_State *L)
{
	tg_taps_forget_others(taps_of(L));
	return 0;
}

static lua_Integer optional_field(lua_State *L, const char *name, lua_Integer most)
{
	lua_Integer value;

	lua_getfield(L, 2, name);
	value = luaL_optinteger(L, -1, 0);
	if (value < 0 || value > most)
		luaL_error(L, "field '%s' is out of range", name);
	lua_pop(L, 1);
	return value;
}

static __u64 nanoseconds(lua_Number seconds)
{
	return seconds <= 0 ? 1 : seconds > 9e9 ? 9000000000000000000ull : seconds * 1e9;
}

static __u64 optional_seconds(lua_State *L)
{
	__u64 ns;

	lua_getfield(L, 2, "seconds");
	ns = lua_isnil(L, -1) ? 0 : nanoseconds(luaL_checknumber(L, -1));
	lua_pop(L, 1);
	return ns;
}

static void check_start(lua_State *L, struct tg_tap_start *how)
{
	static const char *const kinds[] = { "off", "mirror", "capture", NULL };
	static const char *const directions[] = { "ingress", "egress", "both", NULL };

	luaL_checktype(L, 2, LUA_TTABLE);
	lua_getfield(L, 2, "kind");
	how->kind = luaL_checkoption(L, -1, NULL, kinds);
	lua_getfield(L, 2, "direction");
	how->directions = luaL_checkoption(L, -1, "both", directions) + 1;
	lua_getfield(L, 2, "port");
	how->port = luaL_checkstring(L, -1); /* the table keeps it */
	lua_pop(L, 3);
	how->ifindex = optional_field(L, "ifindex", INT32_MAX);
	how->sample = optional_field(L, "sample", UINT32_MAX);
	how->rate = optional_field(L, "rate", UINT32_MAX);
	how->snap = optional_field(L, "snap", TG_RECORD_BYTES);
	how->packets = optional_field(L, "packets", INT64_MAX);
	how->ns = optional_seconds(L);
}

/*
 * ready(tap, { kind = "mirror" | "capture", port = DEVICE, direction = "ingress" | "egress" | "both", ifindex, sample,
 * rate, snap, packets, seconds }) → the number of the start that follows | nil, text, code
 */
static int l_ready(lua_State *L)
{
	struct tg_taps *taps = taps_of(L);
	__u32 tap = check_tap(L, 1), start = 0;
	struct tg_error error = { "" };
	struct tg_tap_start how;
	int result;

	check_start(L, &how);
	result = tg_tap_ready(taps, tap, &how, &start, &error);
	if (result)
		return tg_lua_refuse(L, result, &error);
	lua_pushinteger(L, start);
	return 1;
}

/* start(tap) → true | nil, text, code: after ready. */
static int l_start(lua_State *L)
{
	struct tg_error error = { "" };
	int result = tg_tap_start(taps_of(L), check_tap(L, 1), &error);

	if (result)
		return tg_lua_refuse(L, result, &error);
	lua_pushboolean(L, true);
	return 1;
}

/* stop(tap) */
static int l_stop(lua_State *L)
{
	tg_tap_stop(taps_of(L), check_tap(L, 1));
	return 0;
}

/* extend(tap, seconds): it ends so long from now. */
static int l_extend(lua_State *L)
{
	tg_tap_extend(taps_of(L), check_tap(L, 1), nanoseconds(luaL_checknumber(L, 2)));
	return 0;
}

/* device(tap, ifindex, down): where a mirror's copies leave by, from now on, and whether that has no carrier. */
static int l_device(lua_State *L)
{
	tg_tap_device(taps_of(L), check_tap(L, 1), luaL_checkinteger(L, 2), lua_toboolean(L, 3));
	return 0;
}

static void push_counts(lua_State *L, const struct tg_tap_status *status)
{
	static const char *const names[TG_TAP_COUNT] = {
#define TAP_COUNT_NAME(symbol, name) name,
		TG_TAP_COUNTS(TAP_COUNT_NAME)
#undef TAP_COUNT_NAME
	};

	lua_createtable(L, 0, TG_TAP_COUNT);
	for (int i = 0; i < TG_TAP_COUNT; i++) {
		lua_createtable(L, 0, 2);
		lua_pushinteger(L, status->counts[i].packets);
		lua_setfield(L, -2, "packets");
		lua_pushinteger(L, status->counts[i].bytes);
		lua_setfield(L, -2, "bytes");
		lua_setfield(L, -2, names[i]);
	}
}

/*
 * status(tap) → { at_work, start, ifindex, taken, seconds_left, packets_left, counts = { [name] = { packets, bytes } } }
 */
static int l_status(lua_State *L)
{
	struct tg_tap_status status;

	tg_tap_status(taps_of(L), check_tap(L, 1), &status);
	lua_createtable(L, 0, 7);
	lua_pushboolean(L, status.at_work);
	lua_setfield(L, -2, "at_work");
	lua_pushinteger(L, status.start);
	lua_setfield(L, -2, "start");
	lua_pushinteger(L, status.ifindex);
	lua_setfield(L, -2, "ifindex");
	lua_pushinteger(L, status.taken);
	lua_setfield(L, -2, "taken");
	if (status.left_ns) {
		lua_pushnumber(L, status.left_ns / 1e9);
		lua_setfield(L, -2, "seconds_left");
	}
	if (status.left_packets) {
		lua_pushinteger(L, status.left_packets);
		lua_setfield(L, -2, "packets_left");
	}
	push_counts(L, &status);
	lua_setfield(L, -2, "counts");
	return 1;
}

/* look() → { tap, … }: those that have ended since the last look. */
static int l_look(lua_State *L)
{
	__u32 ended = tg_taps_look(taps_of(L));

	lua_newtable(L);
	for (int i = 0, n = 1; i < TG_MAX_TAPS; i++) {
		if (!(ended & 1u << i))
			continue;
		lua_pushinteger(L, i);
		lua_rawseti(L, -2, n++);
	}
	return 1;
}

/* carrier(device) → true: packets can leave by it; false: it is down, or not there. */
static int l_carrier(lua_State *L)
{
	struct ifreq request = { 0 };
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool up = false;

	strncpy(request.ifr_name, luaL_checkstring(L, 1), IFNAMSIZ - 1);
	if (fd >= 0 && !ioctl(fd, SIOCGIFFLAGS, &request))
		up = (request.ifr_flags & (IFF_UP | IFF_RUNNING)) == (IFF_UP | IFF_RUNNING);
	if (fd >= 0)
		close(fd);
	lua_pushboolean(L, up);
	return 1;
}

static const luaL_Reg functions[] = {
	{ "take", l_take },
	{ "give_back", l_give_back },
	{ "forget_others", l_forget_others },
	{ "ready", l_ready },
	{ "start", l_start },
	{ "stop", l_stop },
	{ "extend", l_extend },
	{ "device", l_device },
	{ "status", l_status },
	{ "look", l_look },
	{ "carrier", l_carrier },
	{ NULL, NULL },
};

int luaopen_tidegate_core_taps(lua_State *L)
{
	luaL_newlib(L, functions);
	return 1;
}
