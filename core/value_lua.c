/* SPDX-License-Identifier: GPL-2.0-only */
#include "value_lua.h"

#include <lauxlib.h>
#include <math.h>
#include <stdarg.h>
#include <string.h>

#define PATH_SIZE 256

/* ---- to Lua ---- */

static void push_scalar(lua_State *L, const struct tg_type *type, uint64_t value)
{
	const struct tg_enumerator *name;

	if (type->kind == TG_VALUE_BOOL) {
		lua_pushboolean(L, value != 0);
	} else if (type->kind == TG_VALUE_ENUM && (name = tg_enum_by_value(type, value))) {
		lua_pushstring(L, name->name);
	} else {
		lua_pushinteger(L, (lua_Integer)value);
	}
}

static double load_float(const struct tg_type *type, const void *data)
{
	double number;
	float single;

	if (type->size == sizeof(number)) {
		memcpy(&number, data, sizeof(number));
		return number;
	}
	memcpy(&single, data, sizeof(single));
	return single;
}

static void push_array(lua_State *L, const struct tg_type *type, const char *data)
{
	lua_createtable(L, type->count, 0);
	for (uint32_t i = 0; i < type->count; i++) {
		tg_lua_push_value(L, type->element, data + (size_t)i * type->element->size);
		lua_rawseti(L, -2, i + 1);
	}
}

static void push_record(lua_State *L, const struct tg_type *type, const char *data)
{
	lua_createtable(L, 0, type->count);
	for (uint32_t i = 0; i < type->count; i++) {
		const struct tg_field *field = &type->fields[i];

		if (field->bits)
			push_scalar(L, field->type, tg_field_load(field, data));
		else
			tg_lua_push_value(L, field->type, data + field->offset);
		lua_setfield(L, -2, field->name);
	}
}

void tg_lua_push_value(lua_State *L, const struct tg_type *type, const void *data)
{
	switch (type->kind) {
	case TG_VALUE_INT:
	case TG_VALUE_BOOL:
	case TG_VALUE_ENUM:
		push_scalar(L, type, tg_value_load(type, data));
		break;
	case TG_VALUE_FLOAT:
		lua_pushnumber(L, load_float(type, data));
		break;
	case TG_VALUE_CHARS:
		lua_pushlstring(L, data, strnlen(data, type->size));
		break;
	case TG_VALUE_BYTES:
		lua_pushlstring(L, data, type->size);
		break;
	case TG_VALUE_ARRAY:
		luaL_checkstack(L, 4, "value nested too deeply");
		push_array(L, type, data);
		break;
	case TG_VALUE_RECORD:
		luaL_checkstack(L, 4, "value nested too deeply");
		push_record(L, type, data);
		break;
	}
}

/* ---- sums ---- */

static void push_float_sum(lua_State *L, const struct tg_type *type, const char *data, size_t step,
	uint32_t count)
{
	double sum = 0;

	for (uint32_t i = 0; i < count; i++)
		sum += load_float(type, data + i * step);
	lua_pushnumber(L, sum);
}

static void push_field_sum(lua_State *L, const struct tg_field *field, const char *data,
	size_t step, uint32_t count)
{
	uint64_t sum = 0;

	if (field->type->kind != TG_VALUE_INT) {
		tg_lua_push_sum(L, field->type, data + field->offset, step, count);
		return;
	}
	for (uint32_t i = 0; i < count; i++)
		sum += tg_field_load(field, data + i * step);
	lua_pushinteger(L, (lua_Integer)sum);
}

static void push_sums(lua_State *L, const struct tg_type *type, const char *data, size_t step,
	uint32_t count)
{
	bool record = type->kind == TG_VALUE_RECORD;

	luaL_checkstack(L, 4, "value nested too deeply");
	lua_createtable(L, record ? 0 : type->count, record ? type->count : 0);
	for (uint32_t i = 0; i < type->count; i++) {
		if (record) {
			push_field_sum(L, &type->fields[i], data, step, count);
			lua_setfield(L, -2, type->fields[i].name);
		} else {
			tg_lua_push_sum(L, type->element, data + (size_t)i * type->element->size,
				step, count);
			lua_rawseti(L, -2, i + 1);
		}
	}
}

void tg_lua_push_sum(lua_State *L, const struct tg_type *type, const void *data, size_t step,
	uint32_t count)
{
	struct tg_field whole = { .type = type };

	switch (type->kind) {
	case TG_VALUE_INT:
		push_field_sum(L, &whole, data, step, count);
		break;
	case TG_VALUE_FLOAT:
		push_float_sum(L, type, data, step, count);
		break;
	case TG_VALUE_ARRAY:
	case TG_VALUE_RECORD:
		push_sums(L, type, data, step, count);
		break;
	default:
		lua_pushnil(L);
	}
}

/* ---- errors ---- */

/* Where in a value we are: a chain from the innermost part outwards. */
struct place {
	const struct place *outer;
	const char *name;	/* of a field; NULL: an element */
	lua_Integer element;
};

static size_t print_place(const struct place *place, char *text)
{
	size_t length = place->outer ? print_place(place->outer, text) : 0;
	char *end = text + length;
	size_t room = PATH_SIZE - length;
	int n;

	if (place->name)
		n = snprintf(end, room, "%s%s", place->outer ? "." : "", place->name);
	else
		n = snprintf(end, room, "[%lld]", (long long)place->element);
	return (size_t)n < room ? length + n : PATH_SIZE - 1;
}

/* Raises "path: message" at the caller's line. */
static _Noreturn void misuse(lua_State *L, const struct place *place, const char *format, ...)
{
	char path[PATH_SIZE];
	va_list args;

	print_place(place, path);
	luaL_where(L, 1);
	lua_pushfstring(L, "%s: ", path);
	va_start(args, format);
	lua_pushvfstring(L, format, args);
	va_end(args);
	lua_concat(L, 3);
	lua_error(L);
	__builtin_unreachable();
}

static _Noreturn void wrong_type(lua_State *L, const struct place *place, const char *expected,
	int index)
{
	misuse(L, place, "%s expected, got %s", expected, luaL_typename(L, index));
}

/* Pushes the names of an enum or a record's fields, joined with ", ". */
static const char *push_names(lua_State *L, const struct tg_type *type)
{
	luaL_Buffer b;

	luaL_buffinit(L, &b);
	for (uint32_t i = 0; i < type->count; i++) {
		luaL_addstring(&b, i ? ", " : "");
		luaL_addstring(&b, type->kind == TG_VALUE_ENUM ? type->names[i].name
							       : type->fields[i].name);
		if (i == 40) {
			luaL_addstring(&b, ", …");
			break;
		}
	}
	luaL_pushresult(&b);
	return lua_tostring(L, -1);
}

/* ---- from Lua ---- */

static _Noreturn void does_not_fit(lua_State *L, const struct place *place, lua_Integer value,
	unsigned int bits, bool is_signed)
{
	uint64_t max = (1ull << (is_signed ? bits - 1 : bits)) - 1;

	misuse(L, place, "%I does not fit %s%d (%I to %I)", (LUAI_UACINT)value,
		is_signed ? "i" : "u", bits, (LUAI_UACINT)(is_signed ? ~max : 0),
		(LUAI_UACINT)max);
}

static uint64_t read_integer(lua_State *L, int index, const struct tg_type *type,
	unsigned int bits, const struct place *place)
{
	int exact = 0;
	lua_Integer value = 0;

	if (lua_type(L, index) != LUA_TNUMBER)	/* no strings: "10" is not a number here */
		wrong_type(L, place, "integer", index);
	value = lua_tointegerx(L, index, &exact);
	if (!exact)
		misuse(L, place, "%f is not an integer", lua_tonumber(L, index));
	if (tg_value_fits(value, bits, type->is_signed))
		return value;
	if (type->kind == TG_VALUE_ENUM && tg_value_fits(value, bits, !type->is_signed))
		return value;	/* BTF does not always know an enum's sign */
	does_not_fit(L, place, value, bits, type->is_signed);
}

static uint64_t read_enum(lua_State *L, int index, const struct tg_type *type, unsigned int bits,
	const struct place *place)
{
	const struct tg_enumerator *name;
	const char *text;
	size_t length;

	if (lua_type(L, index) == LUA_TNUMBER)
		return read_integer(L, index, type, bits, place);
	if (lua_type(L, index) != LUA_TSTRING)
		wrong_type(L, place, "name or integer", index);
	text = lua_tolstring(L, index, &length);
	name = tg_enum_by_name(type, text, length);
	if (!name)
		misuse(L, place, "\"%s\" is not in %s (%s)", text, type->name, push_names(L, type));
	return name->value;
}

static uint64_t read_scalar(lua_State *L, int index, const struct tg_type *type, unsigned int bits,
	const struct place *place)
{
	if (type->kind == TG_VALUE_INT)
		return read_integer(L, index, type, bits, place);
	if (type->kind == TG_VALUE_ENUM)
		return read_enum(L, index, type, bits, place);
	if (!lua_isboolean(L, index))
		wrong_type(L, place, "boolean", index);
	return lua_toboolean(L, index);
}

static void read_float(lua_State *L, int index, const struct tg_type *type, void *data,
	const struct place *place)
{
	double number = lua_tonumber(L, index);
	float single = number;

	if (lua_type(L, index) != LUA_TNUMBER)
		wrong_type(L, place, "number", index);
	if (type->size == sizeof(number)) {
		memcpy(data, &number, sizeof(number));
		return;
	}
	if (isinf(single) && !isinf(number))
		misuse(L, place, "%f does not fit f32", number);
	memcpy(data, &single, sizeof(single));
}

/* Text may be shorter than its array, and fill it; bytes have to be as many as they are. */
static void read_string(lua_State *L, int index, const struct tg_type *type, void *data,
	const struct place *place)
{
	size_t length;
	const char *text;

	if (lua_type(L, index) != LUA_TSTRING)
		wrong_type(L, place, "string", index);
	text = lua_tolstring(L, index, &length);
	if (length > type->size)
		misuse(L, place, "%I bytes given, there is room for %d", (LUAI_UACINT)length,
			(int)type->size);
	if (length < type->size && type->kind != TG_VALUE_CHARS)
		misuse(L, place, "%I bytes given, %d needed", (LUAI_UACINT)length, (int)type->size);
	memcpy(data, text, length);
}

static void read_value(lua_State *L, int index, const struct tg_type *type, char *data,
	const struct place *place);

static void read_array(lua_State *L, int index, const struct tg_type *type, char *data,
	const struct place *place)
{
	struct place here = { .outer = place };

	if (lua_type(L, index) == LUA_TSTRING && type->element->size == 1 &&
		type->element->kind == TG_VALUE_INT) {
		read_string(L, index, type, data, place);
		return;
	}
	if (!lua_istable(L, index))
		wrong_type(L, place, "list", index);
	luaL_checkstack(L, 6, "value nested too deeply");
	lua_pushnil(L);
	while (lua_next(L, index)) {
		if (!lua_isinteger(L, -2))
			misuse(L, place, "a list has no key %s", luaL_tolstring(L, -2, NULL));
		here.element = lua_tointeger(L, -2);
		if (here.element < 1 || here.element > type->count)
			misuse(L, &here, "the array has %d elements, from 1", (int)type->count);
		read_value(L, lua_gettop(L), type->element,
			data + (here.element - 1) * type->element->size, &here);
		lua_pop(L, 1);
	}
}

static const struct tg_field *check_field(lua_State *L, int index, const struct tg_type *type,
	const struct place *place)
{
	size_t length;
	const char *name;

	index = lua_absindex(L, index);
	if (lua_type(L, index) != LUA_TSTRING)	/* and lua_tolstring() would upset lua_next() */
		misuse(L, place, "unknown field %s (fields: %s)", luaL_tolstring(L, index, NULL),
			push_names(L, type));
	name = lua_tolstring(L, index, &length);
	for (uint32_t i = 0; i < type->count; i++)
		if (!strncmp(type->fields[i].name, name, length) && !type->fields[i].name[length])
			return &type->fields[i];
	misuse(L, place, "unknown field \"%s\" (fields: %s)", name, push_names(L, type));
}

/* The Lua value on the top of the stack, to a field of the record at `data`. */
static void read_field(lua_State *L, const struct tg_field *field, char *data,
	const struct place *place)
{
	int top = lua_gettop(L);

	if (field->bits)
		tg_field_store(field, data, read_scalar(L, top, field->type, field->bits, place));
	else
		read_value(L, top, field->type, data + field->offset, place);
}

/* Names the field that another one of the table at `index` contradicts. */
static _Noreturn void contradicts(lua_State *L, int index, const struct tg_type *type,
	const struct tg_field *field, const struct place *place)
{
	for (uint32_t i = 0; i < type->count; i++) {
		const struct tg_field *other = &type->fields[i];

		if (other != field && tg_fields_overlap(other, field) &&
			lua_getfield(L, index, other->name) != LUA_TNIL)
			misuse(L, place, "\"%s\" and \"%s\" share memory and differ: give one",
				field->name, other->name);
	}
	misuse(L, place, "\"%s\" does not agree with itself", field->name);
}

/*
 * Fields that share bytes: what has been read from a map can be written back, so several may be
 * given as long as they agree. Reading a field over zeros and over ones tells which bits it says.
 */
static void read_shared_field(lua_State *L, int index, const struct tg_type *type,
	const struct tg_field *field, char *data, char *said, const struct place *record)
{
	struct place here = { .outer = record, .name = field->name };
	char *zeros = lua_newuserdatauv(L, 2 * type->size, 0);
	char *ones = zeros + type->size;

	memset(zeros, 0, type->size);
	memset(ones, 0xff, type->size);
	lua_insert(L, -2);	/* keep the value on the top */
	read_field(L, field, zeros, &here);
	read_field(L, field, ones, &here);
	for (uint32_t i = 0; i < type->size; i++) {
		char mask = ~(zeros[i] ^ ones[i]);

		if ((data[i] ^ zeros[i]) & mask & said[i])
			contradicts(L, index, type, field, record);
		data[i] = (data[i] & ~mask) | (zeros[i] & mask);
		said[i] |= mask;
	}
	lua_remove(L, -2);
}

static void read_record(lua_State *L, int index, const struct tg_type *type, char *data,
	const struct place *place)
{
	struct place here = { .outer = place };
	char *said = NULL;

	if (!lua_istable(L, index))
		wrong_type(L, place, "table", index);
	luaL_checkstack(L, 8, "value nested too deeply");
	if (type->overlaps)
		said = memset(lua_newuserdatauv(L, type->size, 0), 0, type->size);
	lua_pushnil(L);
	while (lua_next(L, index)) {
		const struct tg_field *field = check_field(L, -2, type, place);

		here.name = field->name;
		if (said)
			read_shared_field(L, index, type, field, data, said, place);
		else
			read_field(L, field, data, &here);
		lua_pop(L, 1);
	}
	if (said)
		lua_pop(L, 1);
}

static void read_value(lua_State *L, int index, const struct tg_type *type, char *data,
	const struct place *place)
{
	switch (type->kind) {
	case TG_VALUE_INT:
		tg_value_store(type, data, read_integer(L, index, type, type->size * 8, place));
		break;
	case TG_VALUE_BOOL:
	case TG_VALUE_ENUM:
		tg_value_store(type, data, read_scalar(L, index, type, type->size * 8, place));
		break;
	case TG_VALUE_FLOAT:
		read_float(L, index, type, data, place);
		break;
	case TG_VALUE_CHARS:
	case TG_VALUE_BYTES:
		read_string(L, index, type, data, place);
		break;
	case TG_VALUE_ARRAY:
		read_array(L, index, type, data, place);
		break;
	case TG_VALUE_RECORD:
		read_record(L, index, type, data, place);
		break;
	}
}

void tg_lua_read_value(lua_State *L, int index, const struct tg_type *type, void *data,
	const char *what, lua_Integer element)
{
	struct place root = { .name = what };
	struct place here = { .outer = &root, .element = element };

	read_value(L, lua_absindex(L, index), type, data, element ? &here : &root);
}

/* ---- types described in Lua ---- */

static const struct tg_type *check_type(lua_State *L, int index, struct tg_types *types,
	const struct place *place, int depth);

/* An entry { name, type[, count] } on the top of the stack. */
static void check_entry(lua_State *L, struct tg_field *field, struct tg_types *types,
	const struct place *record, int depth)
{
	struct place here = { .outer = record };
	int entry = lua_gettop(L);
	lua_Integer count;

	if (!lua_istable(L, entry))
		wrong_type(L, record, "{ name, type }", entry);
	if (lua_rawgeti(L, entry, 1) != LUA_TSTRING)
		wrong_type(L, record, "a field's name", -1);
	field->name = tg_types_text(types, lua_tostring(L, -1));
	here.name = field->name;
	lua_rawgeti(L, entry, 2);
	field->type = check_type(L, lua_gettop(L), types, &here, depth + 1);
	if (lua_rawgeti(L, entry, 3) != LUA_TNIL) {
		count = lua_tointeger(L, -1);
		if (count < 1 || count > TG_TYPE_MAX_SIZE)
			misuse(L, &here, "the count of elements has to be an integer from 1");
		field->type = tg_type_array(types, field->type, count);
	}
	lua_settop(L, entry);
	if (!field->name || !field->type)
		misuse(L, &here, "too large, or no memory for the type");
}

static void check_names(lua_State *L, const struct tg_type *record, const struct place *place)
{
	for (uint32_t i = 0; i < record->count; i++)
		for (uint32_t j = 0; j < i; j++)
			if (!strcmp(record->fields[i].name, record->fields[j].name))
				misuse(L, place, "two fields are called \"%s\"",
					record->fields[i].name);
}

static const struct tg_type *check_record(lua_State *L, int index, struct tg_types *types,
	const struct place *place, int depth)
{
	lua_Unsigned count = lua_rawlen(L, index);
	struct tg_type *record = count ? tg_type_record(types, count) : NULL;
	bool packed;

	if (!record || depth > 16)
		misuse(L, place, "not a type: a list of { name, type } expected, at most 16 deep");
	luaL_checkstack(L, 8, "type nested too deeply");
	for (lua_Unsigned i = 0; i < count; i++) {
		lua_rawgeti(L, index, i + 1);
		check_entry(L, &record->fields[i], types, place, depth);
		lua_pop(L, 1);
	}
	check_names(L, record, place);
	lua_getfield(L, index, "packed");
	packed = lua_toboolean(L, -1);
	lua_pop(L, 1);
	if (!tg_record_layout(record, packed))
		misuse(L, place, "the type is too large");
	return record;
}

static const struct tg_type *check_type(lua_State *L, int index, struct tg_types *types,
	const struct place *place, int depth)
{
	const struct tg_type *type;
	struct tg_error error;

	if (lua_istable(L, index))
		return check_record(L, index, types, place, depth);
	if (lua_type(L, index) != LUA_TSTRING)
		wrong_type(L, place, "type (a string, or a list of fields)", index);
	if (tg_type_parse(types, lua_tostring(L, index), &type, &error))
		misuse(L, place, "%s", error.text);
	return type;
}

const struct tg_type *tg_lua_check_type(lua_State *L, int index, struct tg_types *types,
	const char *what)
{
	struct place root = { .name = what };

	return check_type(L, lua_absindex(L, index), types, &root, 0);
}
