/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Types of values in BPF maps, flat and ready to use. A type comes from BTF (tg_type_from_btf, in
 * value_btf.c) or from its short text (tg_type_parse, "u32"), once per map; after that reading or writing a value
 * walks no BTF. What a type looks like in Lua is told in lua/meta/map.lua and done in value_lua.c.
 *
 * Typedefs and qualifiers are resolved; but `__be16`, `__be32` and `__be64` stay what they say, so
 * that a port reads as 80 and not as 20480. The fields of anonymous structs and unions belong to the
 * record around them. What has no value outside the kernel (pointers, locks, timers …) is refused
 * with the field's name.
 *
 * Types live in a struct tg_types and are freed together. No locks: one thread at a time.
 */
#ifndef TG_VALUE_H
#define TG_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "error.h"

struct btf;

enum tg_value_kind {
	TG_VALUE_INT,		/* 1, 2, 4 or 8 bytes */
	TG_VALUE_BOOL,
	TG_VALUE_FLOAT,		/* 4 or 8 bytes */
	TG_VALUE_ENUM,		/* 1, 2, 4 or 8 bytes with names */
	TG_VALUE_CHARS,		/* char[N]: text that ends at the first NUL, or fills it */
	TG_VALUE_BYTES,		/* N bytes that nobody interprets */
	TG_VALUE_ARRAY,
	TG_VALUE_RECORD,	/* a struct, a union, or a section of variables */
};

struct tg_type {
	enum tg_value_kind kind;
	bool is_signed;		/* INT, ENUM */
	bool big_endian;	/* INT */
	bool is_char;		/* INT: C's char */
	bool overlaps;		/* RECORD: some fields share bytes (unions) */
	uint32_t size;		/* bytes */
	uint32_t align;		/* bytes; for tg_record_layout(), BTF has its own offsets */
	uint32_t count;		/* of elements, fields or names */
	const char *name;	/* "u32", "struct flow", "enum state"; "" without one */
	union {
		const struct tg_type *element;		/* ARRAY */
		struct tg_field *fields;		/* RECORD, in order of declaration */
		struct tg_enumerator *names;		/* ENUM, by value */
	};
};

struct tg_field {
	const char *name;
	const struct tg_type *type;
	uint32_t offset;	/* bytes from the record's start */
	uint8_t bit;		/* bit fields: first bit in the byte at `offset` … */
	uint8_t bits;		/* … and width; 0: not a bit field */
};

struct tg_enumerator {
	const char *name;
	uint64_t value;		/* as tg_value_load() gives it */
};

/* The memory of types. Zeroed is empty. */
struct tg_types {
	struct tg_types_block *blocks;
};

/* Zeroed memory, and a copy of a text, that live as long as the types; NULL without memory. */
void *tg_types_alloc(struct tg_types *types, size_t size);
const char *tg_types_text(struct tg_types *types, const char *text);
void tg_types_free(struct tg_types *types);

/*
 * Types made by hand; NULL without memory, or when they would be larger than TG_TYPE_MAX_SIZE. A
 * record has `count` fields for the caller to fill with names and types (both of `types`), and then
 * tg_record_layout() gives them offsets as C would, or without gaps if `packed`; false: too large.
 */
#define TG_TYPE_MAX_SIZE (1u << 30)	/* bytes; the kernel's limit is lower */
struct tg_type *tg_type_new(struct tg_types *types, enum tg_value_kind kind, uint32_t size,
	const char *name);
struct tg_type *tg_type_int(struct tg_types *types, uint32_t size, bool is_signed,
	bool big_endian);
struct tg_type *tg_type_array(struct tg_types *types, const struct tg_type *element,
	uint32_t count);
struct tg_type *tg_type_record(struct tg_types *types, uint32_t count);
bool tg_record_layout(struct tg_type *record, bool packed);

/*
 * BTF type `id` of `btf`. `what` ("key", "value") begins the text of an error: `value.lock: …`.
 * Returns 0, -ENOTSUP for what can't be carried, -ENOMEM.
 */
int tg_type_from_btf(struct tg_types *types, const struct btf *btf, uint32_t id, const char *what,
	const struct tg_type **type, struct tg_error *error);

/*
 * A type by its text: u8 u16 u32 u64, i8 … i64, be16 be32 be64, bool, f32 f64, chars:N, bytes:N,
 * and arrays of them, "u16[4]". Returns 0, -EINVAL, -ENOMEM.
 */
int tg_type_parse(struct tg_types *types, const char *text, const struct tg_type **type,
	struct tg_error *error);

/* The type in C's words, "struct flow { be32 addr; u16 port; }", for free(); NULL without memory. */
char *tg_type_describe(const struct tg_type *type);

/* The number at `data`: INT, ENUM, BOOL; sign-extended where the type is signed. */
uint64_t tg_value_load(const struct tg_type *type, const void *data);
void tg_value_store(const struct tg_type *type, void *data, uint64_t value);
/* The same for a field of the record at `data`, bit field or not. */
uint64_t tg_field_load(const struct tg_field *field, const void *data);
void tg_field_store(const struct tg_field *field, void *data, uint64_t value);

/* Whether a number is within `bits` bits; any is within 64 (u64 is carried as the same bits). */
bool tg_value_fits(int64_t value, unsigned int bits, bool is_signed);

/* Whether two fields of a record share a bit. */
bool tg_fields_overlap(const struct tg_field *a, const struct tg_field *b);

/* The enumerator of a value, or of a name (of `length` bytes); NULL without one. */
const struct tg_enumerator *tg_enum_by_value(const struct tg_type *type, uint64_t value);
const struct tg_enumerator *tg_enum_by_name(const struct tg_type *type, const char *name,
	size_t length);

#endif
