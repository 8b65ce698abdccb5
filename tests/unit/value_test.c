/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Types from BTF made by hand: what Debian's clang can't emit (enum64, odd floats …), and bit
 * patterns checked byte by byte. tests/spec/map_spec.lua does the rest through the kernel.
 */
#include "value.h"

#include <bpf/btf.h>
#include <errno.h>
#include <lauxlib.h>
#include <lualib.h>
#include <stdlib.h>

#include "unit.h"
#include "value_lua.h"

static struct btf *btf;
static struct tg_types types;
static lua_State *L;

static const struct tg_type *compile(int id)
{
	const struct tg_type *type = NULL;
	struct tg_error error = { "" };

	CHECK_INT(0, tg_type_from_btf(&types, btf, id, "value", &type, &error));
	CHECK_STR("", error.text);
	return type;
}

static void check_refused(int id, const char *text)
{
	const struct tg_type *type;
	struct tg_error error = { "" };

	CHECK_INT(-ENOTSUP, tg_type_from_btf(&types, btf, id, "value", &type, &error));
	CHECK_STR(text, error.text);
}

static void check_described(const char *text, const struct tg_type *type)
{
	char *got = tg_type_describe(type);

	CHECK_STR(text, got);
	free(got);
}

/* Value → bytes → value through Lua: the chunk gives the value, the second tests it as `v`. */
static void check_round_trip(const struct tg_type *type, const char *expression,
	const void *bytes, const char *test)
{
	char data[64] = { 0 }, chunk[256];

	snprintf(chunk, sizeof(chunk), "return %s", expression);
	CHECK_INT(LUA_OK, luaL_dostring(L, chunk));
	tg_lua_read_value(L, -1, type, data, "value", 0);
	CHECK(!memcmp(data, bytes, type->size));
	snprintf(chunk, sizeof(chunk), "local v = ... return %s", test);
	CHECK_INT(LUA_OK, luaL_loadstring(L, chunk));
	tg_lua_push_value(L, type, data);
	CHECK_INT(LUA_OK, lua_pcall(L, 1, 1, 0));
	if (!lua_toboolean(L, -1))
		fprintf(stderr, "not so: %s\n", test);
	CHECK(lua_toboolean(L, -1));
	lua_settop(L, 0);
}

static void enum64_has_names_beyond_32_bits(void)
{
	static const uint64_t flag = 1ull << 63 | 5, any = 77;
	int id = btf__add_enum64(btf, "wide", 8, false);
	const struct tg_type *type;

	CHECK(!btf__add_enum64_value(btf, "WIDE_LOW", 1));
	CHECK(!btf__add_enum64_value(btf, "WIDE_FLAG", flag));
	type = compile(id);
	check_described("enum wide", type);
	check_round_trip(type, "'WIDE_FLAG'", &flag, "v == 'WIDE_FLAG'");
	check_round_trip(type, "(1 << 63) | 5", &flag, "v == 'WIDE_FLAG'");
	check_round_trip(type, "77", &any, "v == 77");
}

static void signed_enum64_has_negative_names(void)
{
	static const int64_t deep = -(1ll << 40), any = -3;
	int id = btf__add_enum64(btf, "deep", 8, true);
	const struct tg_type *type;

	CHECK(!btf__add_enum64_value(btf, "DEEP", deep));
	CHECK(!btf__add_enum64_value(btf, "SHALLOW", 1));
	type = compile(id);
	check_round_trip(type, "'DEEP'", &deep, "v == 'DEEP'");
	check_round_trip(type, "-3", &any, "v == -3");
}

static void enum_of_one_byte_round_trips(void)
{
	static const uint8_t high = 200;
	int id = btf__add_enum(btf, "narrow", 1);
	const struct tg_type *type;

	CHECK(!btf__add_enum_value(btf, "HIGH", high));
	type = compile(id);
	CHECK_INT(1, type->size);
	check_round_trip(type, "'HIGH'", &high, "v == 'HIGH'");
}

static void kinds_without_a_value_are_refused_by_name(void)
{
	int byte = btf__add_int(btf, "unsigned char", 1, 0), record;

	check_refused(0, "value: void has no value in Lua");
	check_refused(btf__add_ptr(btf, byte), "value: a pointer has no value in Lua");
	check_refused(btf__add_fwd(btf, "later", BTF_FWD_STRUCT),
		"value: the incomplete type later has no value in Lua");
	check_refused(btf__add_func_proto(btf, byte), "value: a function has no value in Lua");
	check_refused(btf__add_array(btf, byte, byte, 0),
		"value: an array without elements has no value in Lua");
	check_refused(btf__add_float(btf, "long double", 16),
		"value: the float long double has no value in Lua");
	check_refused(btf__add_struct(btf, "nothing", 0),
		"value: an empty struct nothing has no value in Lua");
	check_refused(123456, "value: a type that its BTF does not have has no value in Lua");

	record = btf__add_struct(btf, "outer", 8);
	CHECK(!btf__add_field(btf, "timer", record + 1, 0, 0));
	CHECK_INT(record + 1, btf__add_struct(btf, "bpf_timer", 8));
	CHECK(!btf__add_field(btf, "opaque", byte, 0, 0));
	check_refused(record, "value.timer: struct bpf_timer has no value in Lua");
}

static void qualifiers_and_typedefs_are_looked_through(void)
{
	static const uint8_t port[] = { 0x01, 0xbb };
	int u16 = btf__add_int(btf, "unsigned short", 2, 0);
	int be = btf__add_typedef(btf, "__be16", btf__add_const(btf, u16));
	int id = btf__add_typedef(btf, "port_t", btf__add_volatile(btf, btf__add_restrict(btf, be)));

	id = btf__add_type_tag(btf, "tagged", id);
	check_described("be16", compile(id));
	check_round_trip(compile(id), "443", port, "v == 443");
}

static void a_bit_field_may_touch_nine_bytes_and_end_the_record(void)
{
	int u64 = btf__add_int(btf, "unsigned long", 8, 0);
	int id = btf__add_struct(btf, "far", 9);

	CHECK(!btf__add_field(btf, "low", u64, 0, 3));
	CHECK(!btf__add_field(btf, "across", u64, 3, 64 - 1));
	check_described("struct far { u64 low:3; u64 across:63; }", compile(id));
	check_round_trip(compile(id), "{ low = 5, across = 3 << 61 }", (uint8_t[9]){ 5, 0, 0, 0, 0, 0,
		0, 0, 0x03 }, "v.low == 5 and v.across == 3 << 61");
}

static void unions_inside_unions_agree_with_themselves(void)
{
	static const uint8_t bytes[4] = { 1, 0, 2, 0 };
	int u16 = btf__add_int(btf, "unsigned short", 2, 0);
	int u32 = btf__add_int(btf, "unsigned int", 4, 0);
	int id = btf__add_union(btf, "outer", 4);

	CHECK(!btf__add_field(btf, "word", u32, 0, 0));
	CHECK(!btf__add_field(btf, "inner", id + 1, 0, 0));
	CHECK_INT(id + 1, btf__add_union(btf, "inner", 4));
	CHECK(!btf__add_field(btf, "both", u32, 0, 0));
	CHECK(!btf__add_field(btf, "pair", id + 3, 0, 0));
	CHECK_INT(id + 2, btf__add_array(btf, u32, u16, 2));
	CHECK_INT(id + 3, btf__add_typedef(btf, "pair_t", id + 2));
	check_round_trip(compile(id), "{ word = 0x20001, inner = { both = 0x20001, pair = { 1, 2 } } }",
		bytes, "v.word == 0x20001 and v.inner.pair[2] == 2 and v.inner.both == v.word");
	check_round_trip(compile(id), "{ inner = { pair = { 1, 2 } } }", bytes, "v.word == 0x20001");
}

static void types_by_text_have_the_sizes_they_say(void)
{
	static const struct {
		const char *text;
		uint32_t size;
	} good[] = { { "u8", 1 }, { "i64", 8 }, { "be32", 4 }, { "bool", 1 }, { "f32", 4 },
		{ "f64", 8 }, { "chars:5", 5 }, { "bytes:16777216", 16777216 }, { "u16[3]", 6 } };
	static const char *const bad[] = { "", "u", "u7", "u128", "be8", "bytes", "bytes:",
		"bytes:0", "bytes:-1", "bytes:1x", "bytes:1073741825", "u64[1073741824]", "u8[", "u8[]", "u8[2", "u8[2]x",
		"bytes:2[3]", " u8", "u8 " };
	const struct tg_type *type;

	for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++) {
		CHECK_INT(0, tg_type_parse(&types, good[i].text, &type, NULL));
		CHECK_INT(good[i].size, type->size);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		CHECK_INT(-EINVAL, tg_type_parse(&types, bad[i], &type, NULL));
}

static void numbers_fit_exactly_their_range(void)
{
	CHECK(tg_value_fits(255, 8, false) && !tg_value_fits(256, 8, false));
	CHECK(!tg_value_fits(-1, 8, false) && tg_value_fits(-128, 8, true));
	CHECK(!tg_value_fits(-129, 8, true) && !tg_value_fits(128, 8, true));
	CHECK(tg_value_fits(-1, 64, false) && tg_value_fits(INT64_MIN, 64, true));
	CHECK(tg_value_fits(-1, 1, true) && !tg_value_fits(1, 1, true));
	CHECK(tg_value_fits(INT64_MAX, 63, false) && !tg_value_fits(-1, 63, false));
}

int main(void)
{
	btf = btf__new_empty();
	L = luaL_newstate();
	luaL_openlibs(L);
	RUN(enum64_has_names_beyond_32_bits);
	RUN(signed_enum64_has_negative_names);
	RUN(enum_of_one_byte_round_trips);
	RUN(kinds_without_a_value_are_refused_by_name);
	RUN(qualifiers_and_typedefs_are_looked_through);
	RUN(a_bit_field_may_touch_nine_bytes_and_end_the_record);
	RUN(unions_inside_unions_agree_with_themselves);
	RUN(types_by_text_have_the_sizes_they_say);
	RUN(numbers_fit_exactly_their_range);
	lua_close(L);
	tg_types_free(&types);
	btf__free(btf);
	return unit_result();
}
