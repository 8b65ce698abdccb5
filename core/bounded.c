/* SPDX-License-Identifier: GPL-2.0-only */
#include "bounded.h"

#include <ctype.h>
#include <lauxlib.h>
#include <limits.h>
#include <stdint.h>
#include <string.h>

#include "guard.h"
#include "pattern.h"
#include "vm.h"

#define TURNS     4096		/* loop turns between two looks at the guard's clock */
#define SORT_MOST (1 << 21)	/* elements: about a second; sort itself can't be interrupted */

/* Every TURNS-th call looks at the clock. */
static void turn(lua_State *L, unsigned int *turns)
{
	if (++*turns % TURNS == 0)
		tg_guard_poll(L);
}

/* --- matching: shared by find, match, gmatch, gsub --- */

static void poll_guard(void *user)
{
	tg_guard_poll(user);
}

static void start(lua_State *L, struct tg_match *m, const char *s, size_t ls, const char *p, size_t lp)
{
	tg_match_init(m, s, ls, p, lp);
	m->poll = poll_guard;
	m->user = L;
}

/* The end of a match at `at`, NULL for none; raises for a faulty pattern. */
static const char *match_at(lua_State *L, struct tg_match *m, const char *at, const char *p)
{
	const char *end = tg_match_at(m, at, p);

	if (!end && m->error)
		luaL_error(L, m->error, m->error_index);
	return end;
}

/* Pushes capture `i`; the whole match from `s` to `e` if there are none. */
static void push_capture(lua_State *L, struct tg_match *m, int i, const char *s, const char *e)
{
	if (i >= m->captures) {
		if (i != 0)
			luaL_error(L, "invalid capture index %%%d", i + 1);
		lua_pushlstring(L, s, e - s);
		return;
	}
	if (m->capture[i].length == TG_CAPTURE_OPEN)
		luaL_error(L, "unfinished capture");
	if (m->capture[i].length == TG_CAPTURE_POSITION)
		lua_pushinteger(L, m->capture[i].start - m->subject + 1);
	else
		lua_pushlstring(L, m->capture[i].start, m->capture[i].length);
}

/* Pushes all captures, or the whole match when there are none and `s` is given. */
static int push_captures(lua_State *L, struct tg_match *m, const char *s, const char *e)
{
	int n = m->captures == 0 && s ? 1 : m->captures;

	luaL_checkstack(L, n, "too many captures");
	for (int i = 0; i < n; i++)
		push_capture(L, m, i, s, e);
	return n;
}

/* An optional start position, as an offset; more than `length` if it lies behind the end. */
static size_t start_offset(lua_State *L, int index, size_t length)
{
	lua_Integer position = luaL_optinteger(L, index, 1);

	if (position > 0)
		return (size_t)position - 1;
	if (position == 0 || position < -(lua_Integer)length)
		return 0;
	return length + (size_t)position;
}

/* --- find, match --- */

static bool is_plain(const char *p, size_t length)
{
	for (size_t i = 0; i < length; i++)
		if (p[i] && strchr("^$*+?.([%-", p[i]))
			return false;
	return true;
}

static int find_plain(lua_State *L, const char *s, size_t ls, size_t from, const char *p, size_t lp)
{
	const char *at = lp ? memmem(s + from, ls - from, p, lp) : s + from;

	if (!at) {
		luaL_pushfail(L);
		return 1;
	}
	lua_pushinteger(L, at - s + 1);
	lua_pushinteger(L, at - s + lp);
	return 2;
}

static int find_match(lua_State *L, const char *s, size_t ls, size_t from, const char *p, size_t lp,
	bool find)
{
	bool anchored = *p == '^';
	const char *at = s + from, *end;
	struct tg_match m;

	start(L, &m, s, ls, p, lp);
	p += anchored;
	do {
		end = match_at(L, &m, at, p);
		if (!end)
			continue;
		if (!find)
			return push_captures(L, &m, at, end);
		lua_pushinteger(L, at - s + 1);
		lua_pushinteger(L, end - s);
		return push_captures(L, &m, NULL, NULL) + 2;
	} while (at++ < m.subject_end && !anchored);
	luaL_pushfail(L);
	return 1;
}

static int find_or_match(lua_State *L, bool find)
{
	size_t ls, lp;
	const char *s = luaL_checklstring(L, 1, &ls), *p = luaL_checklstring(L, 2, &lp);
	size_t from = start_offset(L, 3, ls);

	if (from > ls) {
		luaL_pushfail(L);
		return 1;
	}
	if (find && (lua_toboolean(L, 4) || is_plain(p, lp)))
		return find_plain(L, s, ls, from, p, lp);
	return find_match(L, s, ls, from, p, lp, find);
}

static int l_find(lua_State *L)
{
	return find_or_match(L, true);
}

static int l_match(lua_State *L)
{
	return find_or_match(L, false);
}

/* --- gmatch --- */

struct iteration {
	struct tg_match match;
	const char *at, *pattern, *last;	/* last: where the match before ended */
};

static int next_match(lua_State *L)
{
	struct iteration *it = lua_touserdata(L, lua_upvalueindex(3));

	it->match.user = L;
	for (; it->at <= it->match.subject_end; it->at++) {
		const char *end = match_at(L, &it->match, it->at, it->pattern), *at = it->at;

		if (end && end != it->last) {
			it->at = it->last = end;
			return push_captures(L, &it->match, at, end);
		}
	}
	return 0;
}

static int l_gmatch(lua_State *L)
{
	size_t ls, lp, from;
	const char *s = luaL_checklstring(L, 1, &ls), *p = luaL_checklstring(L, 2, &lp);
	struct iteration *it;

	from = start_offset(L, 3, ls);
	lua_settop(L, 2);
	it = lua_newuserdatauv(L, sizeof(*it), 0);
	start(L, &it->match, s, ls, p, lp);
	it->at = s + (from > ls ? ls + 1 : from);
	it->pattern = p;
	it->last = NULL;
	lua_pushcclosure(L, next_match, 3);
	return 1;
}

/* --- gsub --- */

static void add_text(lua_State *L, struct tg_match *m, luaL_Buffer *out, const char *s, const char *e)
{
	size_t length;
	const char *text = lua_tolstring(L, 3, &length), *stop = text + length;

	while (text < stop) {
		const char *p = memchr(text, '%', stop - text);

		if (!p)
			break;
		luaL_addlstring(out, text, p++ - text);
		if (*p == '%') {
			luaL_addchar(out, '%');
		} else if (*p == '0') {
			luaL_addlstring(out, s, e - s);
		} else if (isdigit((unsigned char)*p)) {
			push_capture(L, m, *p - '1', s, e);
			luaL_addvalue(out);
		} else {
			luaL_error(L, "invalid use of '%c' in replacement string", '%');
		}
		text = p + 1;
	}
	luaL_addlstring(out, text, stop - text);
}

/* Adds what replaces [s, e). False: the original stays. */
static bool add_replacement(lua_State *L, struct tg_match *m, luaL_Buffer *out, const char *s,
	const char *e)
{
	switch (lua_type(L, 3)) {
	case LUA_TFUNCTION:
		lua_pushvalue(L, 3);
		lua_call(L, push_captures(L, m, s, e), 1);
		break;
	case LUA_TTABLE:
		push_capture(L, m, 0, s, e);
		lua_gettable(L, 3);
		break;
	default:
		add_text(L, m, out, s, e);
		return true;
	}
	if (!lua_toboolean(L, -1)) {
		lua_pop(L, 1);
		luaL_addlstring(out, s, e - s);
		return false;
	}
	if (!lua_isstring(L, -1))
		luaL_error(L, "invalid replacement value (a %s)", luaL_typename(L, -1));
	luaL_addvalue(out);
	return true;
}

static int l_gsub(lua_State *L)
{
	size_t ls, lp;
	const char *at = luaL_checklstring(L, 1, &ls), *p = luaL_checklstring(L, 2, &lp);
	const char *end, *last = NULL;
	int type = lua_type(L, 3);
	bool anchored = *p == '^', changed = false;
	lua_Integer most = luaL_optinteger(L, 4, ls + 1), n = 0;
	struct tg_match m;
	luaL_Buffer out;

	luaL_argexpected(L, type == LUA_TNUMBER || type == LUA_TSTRING || type == LUA_TFUNCTION ||
		type == LUA_TTABLE, 3, "string/function/table");
	start(L, &m, at, ls, p, lp);
	luaL_buffinit(L, &out);
	for (p += anchored; n < most;) {
		end = match_at(L, &m, at, p);
		if (end && end != last) {
			n++;
			changed |= add_replacement(L, &m, &out, at, end);
			at = last = end;
		} else if (at < m.subject_end) {
			luaL_addchar(&out, *at++);
		} else {
			break;
		}
		if (anchored)
			break;
	}
	if (changed) {
		luaL_addlstring(&out, at, m.subject_end - at);
		luaL_pushresult(&out);
	} else {
		lua_pushvalue(L, 1);
	}
	lua_pushinteger(L, n);
	return 2;
}

/* --- rep --- */

/* Fills `size` bytes by repeating the first `length`. */
static void repeat(char *out, size_t length, size_t size)
{
	while (length < size) {
		size_t more = length < size - length ? length : size - length;

		memcpy(out + length, out, more);
		length += more;
	}
}

static int l_rep(lua_State *L)
{
	size_t length, gap, size;
	const char *s = luaL_checklstring(L, 1, &length);
	lua_Integer n = luaL_checkinteger(L, 2);
	const char *separator = luaL_optlstring(L, 3, "", &gap);
	luaL_Buffer out;
	char *bytes;

	if (n <= 0 || length + gap == 0)
		return lua_pushliteral(L, ""), 1;
	if (length + gap < length || length + gap > (size_t)INT64_MAX / (size_t)n)
		return luaL_error(L, "resulting string too large");
	size = n * length + (n - 1) * gap;
	tg_vm_make_room(L, 2 * size);	/* the buffer and the string */
	bytes = luaL_buffinitsize(L, &out, size + gap);
	memcpy(bytes, s, length);
	memcpy(bytes + length, separator, gap);
	repeat(bytes, length + gap, size);
	luaL_pushresultsize(&out, size);
	return 1;
}

/* --- table --- */

enum { READ = 1, WRITE = 2, LENGTH = 4 };

static bool has_field(lua_State *L, int index, const char *field)
{
	int type = luaL_getmetafield(L, index, field);

	if (type != LUA_TNIL)
		lua_pop(L, 1);
	return type != LUA_TNIL;
}

/* A table, or what acts as one. */
static void check_table(lua_State *L, int index, int uses)
{
	if (lua_type(L, index) == LUA_TTABLE)
		return;
	if ((!(uses & READ) || has_field(L, index, "__index")) &&
		(!(uses & WRITE) || has_field(L, index, "__newindex")) &&
		(!(uses & LENGTH) || has_field(L, index, "__len")))
		return;
	luaL_checktype(L, index, LUA_TTABLE);
}

static lua_Integer length_of(lua_State *L, int index, int uses)
{
	check_table(L, index, uses | LENGTH);
	return luaL_len(L, index);
}

/* to[t] = from[f] */
static void copy(lua_State *L, int from, lua_Integer f, int to, lua_Integer t)
{
	lua_geti(L, from, f);
	lua_seti(L, to, t);
}

static int l_insert(lua_State *L)
{
	lua_Integer end = (lua_Integer)((lua_Unsigned)length_of(L, 1, READ | WRITE) + 1);
	lua_Integer position = end;
	unsigned int turns = 0;

	if (lua_gettop(L) == 3) {
		position = luaL_checkinteger(L, 2);
		luaL_argcheck(L, (lua_Unsigned)position - 1u < (lua_Unsigned)end, 2,
			"position out of bounds");
		for (lua_Integer i = end; i > position; i--) {
			copy(L, 1, i - 1, 1, i);
			turn(L, &turns);
		}
	} else if (lua_gettop(L) != 2) {
		return luaL_error(L, "wrong number of arguments to 'insert'");
	}
	lua_seti(L, 1, position);
	return 0;
}

static int l_remove(lua_State *L)
{
	lua_Integer size = length_of(L, 1, READ | WRITE), position = luaL_optinteger(L, 2, size);
	unsigned int turns = 0;

	if (position != size)
		luaL_argcheck(L, (lua_Unsigned)position - 1u <= (lua_Unsigned)size, 2,
			"position out of bounds");
	lua_geti(L, 1, position);
	for (; position < size; position++) {
		copy(L, 1, position + 1, 1, position);
		turn(L, &turns);
	}
	lua_pushnil(L);
	lua_seti(L, 1, position);
	return 1;
}

static int l_move(lua_State *L)
{
	lua_Integer f = luaL_checkinteger(L, 2), e = luaL_checkinteger(L, 3), t = luaL_checkinteger(L, 4);
	int to = lua_isnoneornil(L, 5) ? 1 : 5;
	unsigned int turns = 0;

	check_table(L, 1, READ);
	check_table(L, to, WRITE);
	if (e >= f) {
		luaL_argcheck(L, f > 0 || e < LUA_MAXINTEGER + f, 3, "too many elements to move");
		luaL_argcheck(L, t <= LUA_MAXINTEGER - (e - f), 4, "destination wrap around");
		if (t > e || t <= f || (to != 1 && !lua_compare(L, 1, to, LUA_OPEQ))) {
			for (lua_Integer i = 0; i <= e - f; i++, turn(L, &turns))
				copy(L, 1, f + i, to, t + i);
		} else {
			for (lua_Integer i = e - f; i >= 0; i--, turn(L, &turns))
				copy(L, 1, f + i, to, t + i);
		}
	}
	lua_pushvalue(L, to);
	return 1;
}

static void add_element(lua_State *L, luaL_Buffer *out, lua_Integer i)
{
	lua_geti(L, 1, i);
	if (!lua_isstring(L, -1))
		luaL_error(L, "invalid value (%s) at index %I in table for 'concat'",
			luaL_typename(L, -1), (LUAI_UACINT)i);
	luaL_addvalue(out);
}

static int l_concat(lua_State *L)
{
	lua_Integer length = length_of(L, 1, READ), i, last;
	size_t gap;
	const char *separator = luaL_optlstring(L, 2, "", &gap);
	unsigned int turns = 0;
	luaL_Buffer out;

	i = luaL_optinteger(L, 3, 1);
	last = luaL_optinteger(L, 4, length);
	luaL_buffinit(L, &out);
	for (; i < last; i++, turn(L, &turns)) {
		add_element(L, &out, i);
		luaL_addlstring(&out, separator, gap);
	}
	if (i == last)
		add_element(L, &out, i);
	luaL_pushresult(&out);
	return 1;
}

/* sort: Lua's own (upvalue 1), for lists of a bounded length while a budget runs. */
static int l_sort(lua_State *L)
{
	struct tg_entry *entry = tg_vm_of(L)->guard.entry;

	if (entry && entry->budget && length_of(L, 1, READ | WRITE) > SORT_MOST)
		return luaL_error(L, "too many elements to sort (%d at most)", SORT_MOST);
	lua_pushvalue(L, lua_upvalueindex(1));
	lua_insert(L, 1);
	lua_call(L, lua_gettop(L) - 1, 0);
	return 0;
}

static const luaL_Reg string_functions[] = {
	{ "find", l_find },
	{ "match", l_match },
	{ "gmatch", l_gmatch },
	{ "gsub", l_gsub },
	{ "rep", l_rep },
	{ NULL, NULL },
};

static const luaL_Reg table_functions[] = {
	{ "insert", l_insert },
	{ "remove", l_remove },
	{ "move", l_move },
	{ "concat", l_concat },
	{ NULL, NULL },
};

void tg_bounded_install(lua_State *L)
{
	lua_getglobal(L, "string");
	luaL_setfuncs(L, string_functions, 0);
	lua_pop(L, 1);
	lua_getglobal(L, "table");
	luaL_setfuncs(L, table_functions, 0);
	lua_getfield(L, -1, "sort");
	lua_pushcclosure(L, l_sort, 1);
	lua_setfield(L, -2, "sort");
	lua_pop(L, 1);
}
