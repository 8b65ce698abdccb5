/* SPDX-License-Identifier: GPL-2.0-only */
#include "value.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Bit fields and __beNN are read for a little-endian host, as all BPF machines that we run on. */
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "big-endian hosts are not supported");

/* ---- memory ---- */

struct tg_types_block {
	struct tg_types_block *next;
	max_align_t data[];
};

void *tg_types_alloc(struct tg_types *types, size_t size)
{
	struct tg_types_block *block = calloc(1, sizeof(*block) + size);

	if (!block)
		return NULL;
	block->next = types->blocks;
	types->blocks = block;
	return block->data;
}

void tg_types_free(struct tg_types *types)
{
	while (types->blocks) {
		struct tg_types_block *block = types->blocks;

		types->blocks = block->next;
		free(block);
	}
}

const char *tg_types_text(struct tg_types *types, const char *text)
{
	size_t size = strlen(text) + 1;
	char *copy = tg_types_alloc(types, size);

	return copy ? memcpy(copy, text, size) : NULL;
}

/* ---- making types ---- */

struct tg_type *tg_type_new(struct tg_types *types, enum tg_value_kind kind, uint32_t size,
	const char *name)
{
	struct tg_type *type = tg_types_alloc(types, sizeof(*type));

	if (!type)
		return NULL;
	type->kind = kind;
	type->size = size;
	type->align = kind <= TG_VALUE_ENUM ? size : 1;
	type->name = name;
	return type;
}

static const char *int_name(uint32_t size, bool is_signed, bool big_endian)
{
	static const char *const names[3][4] = {
		{ "u8", "u16", "u32", "u64" },
		{ "i8", "i16", "i32", "i64" },
		{ "u8", "be16", "be32", "be64" },
	};

	return names[big_endian ? 2 : is_signed][__builtin_ctz(size)];
}

struct tg_type *tg_type_int(struct tg_types *types, uint32_t size, bool is_signed,
	bool big_endian)
{
	struct tg_type *type = tg_type_new(types, TG_VALUE_INT, size,
		int_name(size, is_signed, big_endian));

	if (!type)
		return NULL;
	type->is_signed = is_signed;
	type->big_endian = big_endian;
	return type;
}

struct tg_type *tg_type_array(struct tg_types *types, const struct tg_type *element,
	uint32_t count)
{
	bool text = element->kind == TG_VALUE_INT && element->is_char;
	uint64_t size = (uint64_t)element->size * count;
	struct tg_type *type = size > TG_TYPE_MAX_SIZE ? NULL :
		tg_type_new(types, text ? TG_VALUE_CHARS : TG_VALUE_ARRAY, size, "");

	if (!type)
		return NULL;
	type->align = element->align;
	type->count = count;
	type->element = text ? NULL : element;
	return type;
}

struct tg_type *tg_type_record(struct tg_types *types, uint32_t count)
{
	struct tg_type *type = tg_type_new(types, TG_VALUE_RECORD, 0, "");

	if (!type)
		return NULL;
	type->count = count;
	type->fields = tg_types_alloc(types, count * sizeof(*type->fields));
	return type->fields ? type : NULL;
}

static uint64_t round_up(uint64_t n, uint32_t align)
{
	return (n + align - 1) / align * align;
}

bool tg_record_layout(struct tg_type *record, bool packed)
{
	uint64_t end = 0;

	for (uint32_t i = 0; i < record->count; i++) {
		struct tg_field *field = &record->fields[i];

		if (!packed && field->type->align > record->align)
			record->align = field->type->align;
		field->offset = packed ? end : round_up(end, field->type->align);
		end = (uint64_t)field->offset + field->type->size;
		if (end > TG_TYPE_MAX_SIZE)
			return false;
	}
	record->size = round_up(end, record->align);
	return true;
}

/* ---- types by their text ---- */

static const struct {
	const char *name;
	enum tg_value_kind kind;
	uint8_t size;
	bool is_signed, big_endian;
} scalars[] = {
	{ "u8", TG_VALUE_INT, 1, false, false },   { "u16", TG_VALUE_INT, 2, false, false },
	{ "u32", TG_VALUE_INT, 4, false, false },  { "u64", TG_VALUE_INT, 8, false, false },
	{ "i8", TG_VALUE_INT, 1, true, false },	   { "i16", TG_VALUE_INT, 2, true, false },
	{ "i32", TG_VALUE_INT, 4, true, false },   { "i64", TG_VALUE_INT, 8, true, false },
	{ "be16", TG_VALUE_INT, 2, false, true },  { "be32", TG_VALUE_INT, 4, false, true },
	{ "be64", TG_VALUE_INT, 8, false, true },  { "bool", TG_VALUE_BOOL, 1, false, false },
	{ "f32", TG_VALUE_FLOAT, 4, true, false }, { "f64", TG_VALUE_FLOAT, 8, true, false },
};

static struct tg_type *scalar_by_name(struct tg_types *types, const char *name, size_t length)
{
	for (size_t i = 0; i < sizeof(scalars) / sizeof(*scalars); i++) {
		if (strlen(scalars[i].name) != length || memcmp(scalars[i].name, name, length))
			continue;
		if (scalars[i].kind == TG_VALUE_INT)
			return tg_type_int(types, scalars[i].size, scalars[i].is_signed,
				scalars[i].big_endian);
		return tg_type_new(types, scalars[i].kind, scalars[i].size, scalars[i].name);
	}
	return NULL;
}

/* A count from 1 to TG_TYPE_MAX_SIZE that ends in `end` and then the text; 0 if it is not one. */
static uint32_t parse_count(const char *text, const char *end)
{
	char *after;
	unsigned long count;

	if (*text < '0' || *text > '9')
		return 0;
	count = strtoul(text, &after, 10);
	return strcmp(after, end) || count > TG_TYPE_MAX_SIZE ? 0 : count;
}

int tg_type_parse(struct tg_types *types, const char *text, const struct tg_type **type,
	struct tg_error *error)
{
	size_t length = strcspn(text, "[:");
	uint32_t count = 0;

	*type = NULL;
	if (text[length] == '\0')
		*type = scalar_by_name(types, text, length);
	else if (text[length] == '[' && (count = parse_count(text + length + 1, "]")))
		*type = scalar_by_name(types, text, length);
	else if (!strncmp(text, "bytes:", 6) && (count = parse_count(text + 6, "")))
		*type = tg_type_new(types, TG_VALUE_BYTES, count, "bytes");
	else if (!strncmp(text, "chars:", 6) && (count = parse_count(text + 6, "")))
		*type = tg_type_new(types, TG_VALUE_CHARS, count, "chars");
	if (*type && text[length] == '[')
		*type = tg_type_array(types, *type, count);
	return *type ? 0 : tg_fail(error, -EINVAL, "\"%s\" is not a type (u8 to u64, i8 to i64, "
		"be16 be32 be64, bool, f32, f64, chars:N, bytes:N, or one of them with [N])", text);
}

/* ---- in words ---- */

static void describe(FILE *out, const struct tg_type *type);

/* C puts an array's length after the name: "u32 words[4]". */
static void describe_named(FILE *out, const struct tg_type *type, const char *name)
{
	const struct tg_type *base = type;

	while (base->kind == TG_VALUE_ARRAY)
		base = base->element;
	describe(out, base);
	fprintf(out, "%s%s", *name ? " " : "", name);
	for (; type->kind == TG_VALUE_ARRAY; type = type->element)
		fprintf(out, "[%u]", type->count);
}

static void describe(FILE *out, const struct tg_type *type)
{
	if (type->kind == TG_VALUE_ARRAY) {
		describe_named(out, type, "");
	} else if (type->kind == TG_VALUE_CHARS || type->kind == TG_VALUE_BYTES) {
		fprintf(out, "%s:%u", type->kind == TG_VALUE_CHARS ? "chars" : "bytes", type->size);
	} else if (type->kind == TG_VALUE_RECORD) {
		fprintf(out, "%s%s{ ", type->name, *type->name ? " " : "");
		for (uint32_t i = 0; i < type->count; i++) {
			describe_named(out, type->fields[i].type, type->fields[i].name);
			if (type->fields[i].bits)
				fprintf(out, ":%u", type->fields[i].bits);
			fputs("; ", out);
		}
		fputc('}', out);
	} else {
		fputs(type->name, out);
	}
}

char *tg_type_describe(const struct tg_type *type)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	if (!out)
		return NULL;
	describe(out, type);
	if (!fclose(out))
		return text;
	free(text);
	return NULL;
}

/* ---- numbers in memory ---- */

static uint64_t extend(uint64_t value, unsigned int bits, bool is_signed)
{
	unsigned int unused = 64 - bits;

	return is_signed ? (uint64_t)((int64_t)(value << unused) >> unused)
			 : value << unused >> unused;
}

static uint64_t swap(uint64_t value, uint32_t size)
{
	return __builtin_bswap64(value) >> (64 - size * 8);
}

uint64_t tg_value_load(const struct tg_type *type, const void *data)
{
	uint64_t value = 0;

	switch (type->size) {	/* constant sizes: one load each */
	case 1:
		memcpy(&value, data, 1);
		break;
	case 2:
		memcpy(&value, data, 2);
		break;
	case 4:
		memcpy(&value, data, 4);
		break;
	default:
		memcpy(&value, data, 8);
	}
	if (type->big_endian)
		value = swap(value, type->size);
	return extend(value, type->size * 8, type->is_signed);
}

void tg_value_store(const struct tg_type *type, void *data, uint64_t value)
{
	if (type->big_endian)
		value = swap(value, type->size);
	switch (type->size) {
	case 1:
		memcpy(data, &value, 1);
		break;
	case 2:
		memcpy(data, &value, 2);
		break;
	case 4:
		memcpy(data, &value, 4);
		break;
	default:
		memcpy(data, &value, 8);
	}
}

/* A bit field of up to 64 bits can touch nine bytes; the record may end with the last of them. */
static size_t bytes_touched(const struct tg_field *field)
{
	return (field->bit + field->bits + 7) / 8;
}

uint64_t tg_field_load(const struct tg_field *field, const void *data)
{
	const uint8_t *at = (const uint8_t *)data + field->offset;
	unsigned __int128 word = 0;

	if (!field->bits)
		return tg_value_load(field->type, at);
	memcpy(&word, at, bytes_touched(field));
	return extend((uint64_t)(word >> field->bit), field->bits, field->type->is_signed);
}

void tg_field_store(const struct tg_field *field, void *data, uint64_t value)
{
	uint8_t *at = (uint8_t *)data + field->offset;
	unsigned __int128 word = 0, mask;

	if (!field->bits) {
		tg_value_store(field->type, at, value);
		return;
	}
	mask = (((unsigned __int128)1 << field->bits) - 1) << field->bit;
	memcpy(&word, at, bytes_touched(field));
	word = (word & ~mask) | (((unsigned __int128)value << field->bit) & mask);
	memcpy(at, &word, bytes_touched(field));
}

bool tg_value_fits(int64_t value, unsigned int bits, bool is_signed)
{
	return bits >= 64 || (int64_t)extend(value, bits, is_signed) == value;
}

static uint64_t first_bit(const struct tg_field *field)
{
	return field->offset * 8ull + field->bit;
}

static uint64_t end_bit(const struct tg_field *field)
{
	return first_bit(field) + (field->bits ? field->bits : field->type->size * 8ull);
}

bool tg_fields_overlap(const struct tg_field *a, const struct tg_field *b)
{
	return first_bit(a) < end_bit(b) && first_bit(b) < end_bit(a);
}

/* ---- enumerators ---- */

const struct tg_enumerator *tg_enum_by_value(const struct tg_type *type, uint64_t value)
{
	uint32_t low = 0, high = type->count;

	while (low < high) {	/* the first that is not less: of equals the first declared */
		uint32_t middle = (low + high) / 2;

		if (type->names[middle].value < value)
			low = middle + 1;
		else
			high = middle;
	}
	return low < type->count && type->names[low].value == value ? &type->names[low] : NULL;
}

const struct tg_enumerator *tg_enum_by_name(const struct tg_type *type, const char *name,
	size_t length)
{
	for (uint32_t i = 0; i < type->count; i++)
		if (!strncmp(type->names[i].name, name, length) && !type->names[i].name[length])
			return &type->names[i];
	return NULL;
}
