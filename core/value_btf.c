/* SPDX-License-Identifier: GPL-2.0-only */
#include "value.h"

#include <bpf/btf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

struct compiler {
	struct tg_types *types;
	const struct btf *btf;
	struct tg_error *error;
	char path[256];		/* "value.flow.lock": where we are */
};

static int compile(struct compiler *c, uint32_t id, const struct tg_type **out);

/* Adds a name to the path; returns the length to cut it back to. */
static size_t enter(struct compiler *c, const char *name)
{
	size_t length = strlen(c->path);

	if (*name)
		snprintf(c->path + length, sizeof(c->path) - length, ".%s", name);
	return length;
}

static int refuse(struct compiler *c, const char *kind, const char *name)
{
	return tg_fail(c->error, -ENOTSUP, "%s: %s%s%s has no value in Lua", c->path, kind,
		*name ? " " : "", name);
}

static int no_memory(struct compiler *c)
{
	return tg_fail(c->error, -ENOMEM, "%s: no memory for its type", c->path);
}

static const char *text_of(struct compiler *c, uint32_t offset)
{
	const char *text = btf__name_by_offset(c->btf, offset);

	return text ? text : "";
}

/* "struct flow", kept with the types; NULL without memory. */
static const char *tagged_name(struct compiler *c, const char *tag, const char *name)
{
	char text[256];

	snprintf(text, sizeof(text), "%s%s%s", tag, *name ? " " : "", name);
	return tg_types_text(c->types, text);
}

static int compile_int(struct compiler *c, const struct btf_type *t, bool big_endian,
	const struct tg_type **out)
{
	const char *name = text_of(c, t->name_off);
	struct tg_type *type;

	if (btf_int_offset(t) || btf_int_bits(t) != t->size * 8)
		return refuse(c, "an old-style bit field of type", name);
	if (t->size == 16)
		type = tg_type_new(c->types, TG_VALUE_BYTES, 16, "bytes");
	else if (t->size == 1 && btf_int_encoding(t) & BTF_INT_BOOL)
		type = tg_type_new(c->types, TG_VALUE_BOOL, 1, "bool");
	else
		type = tg_type_int(c->types, t->size, btf_int_encoding(t) & BTF_INT_SIGNED,
			big_endian && t->size > 1);
	if (!type)
		return no_memory(c);
	type->is_char = t->size == 1 && !strcmp(name, "char");
	*out = type;
	return 0;
}

static int compile_float(struct compiler *c, const struct btf_type *t, const struct tg_type **out)
{
	if (t->size != 4 && t->size != 8)
		return refuse(c, "the float", text_of(c, t->name_off));
	*out = tg_type_new(c->types, TG_VALUE_FLOAT, t->size, t->size == 4 ? "f32" : "f64");
	return *out ? 0 : no_memory(c);
}

/* By value, equal ones as they were declared. They mostly come in order: insertion is enough. */
static void sort_names(struct tg_enumerator *names, uint32_t count)
{
	for (uint32_t i = 1; i < count; i++) {
		struct tg_enumerator name = names[i];
		uint32_t at = i;

		for (; at && names[at - 1].value > name.value; at--)
			names[at] = names[at - 1];
		names[at] = name;
	}
}

/* Before enum64 (clang 14) BTF did not say whether an enum is signed: a negative name says so. */
static bool enum_is_signed(const struct btf_type *t)
{
	bool is_signed = btf_kflag(t);

	if (btf_is_enum(t))
		for (int i = 0; i < btf_vlen(t); i++)
			is_signed |= btf_enum(t)[i].val < 0;
	return is_signed;
}

static uint64_t enumerator_value(const struct btf_type *t, int i, bool is_signed)
{
	if (btf_is_enum64(t))
		return btf_enum64_value(&btf_enum64(t)[i]);
	return is_signed ? (uint64_t)(int64_t)btf_enum(t)[i].val : (uint32_t)btf_enum(t)[i].val;
}

static int compile_enum(struct compiler *c, const struct btf_type *t, const struct tg_type **out)
{
	const char *name = tagged_name(c, "enum", text_of(c, t->name_off));
	struct tg_type *type = tg_type_new(c->types, TG_VALUE_ENUM, t->size, name);

	if (!name || !type)
		return no_memory(c);
	type->is_signed = enum_is_signed(t);
	type->count = btf_vlen(t);
	type->names = tg_types_alloc(c->types, type->count * sizeof(*type->names));
	if (!type->names)
		return no_memory(c);
	for (uint32_t i = 0; i < type->count; i++) {
		const char *text = text_of(c, btf_is_enum64(t) ? btf_enum64(t)[i].name_off
							       : btf_enum(t)[i].name_off);

		type->names[i].name = tg_types_text(c->types, text);
		type->names[i].value = enumerator_value(t, i, type->is_signed);
		if (!type->names[i].name)
			return no_memory(c);
	}
	sort_names(type->names, type->count);
	*out = type;
	return 0;
}

static int compile_array(struct compiler *c, const struct btf_type *t, const struct tg_type **out)
{
	const struct btf_array *array = btf_array(t);
	const struct tg_type *element;
	int err = compile(c, array->type, &element);

	if (err)
		return err;
	if (!array->nelems)
		return refuse(c, "an array without elements", "");
	*out = tg_type_array(c->types, element, array->nelems);
	return *out ? 0 : no_memory(c);
}

/* Structs that the kernel knows by name and owns the contents of. */
static bool is_kernel_object(const char *name)
{
	static const char *const names[] = { "bpf_spin_lock", "bpf_res_spin_lock", "bpf_timer",
		"bpf_wq", "bpf_list_head", "bpf_list_node", "bpf_rb_root", "bpf_rb_node",
		"bpf_refcount", "bpf_task_work" };

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (!strcmp(name, names[i]))
			return true;
	return false;
}

static const struct btf_type *resolve(struct compiler *c, uint32_t id, bool *big_endian);

/* Whether the member's own fields are to appear in the record around it. */
static const struct btf_type *anonymous_member(struct compiler *c, const struct btf_member *member)
{
	bool unused;
	const struct btf_type *t = resolve(c, member->type, &unused);

	return t && !*text_of(c, member->name_off) && btf_is_composite(t) ? t : NULL;
}

static uint32_t count_fields(struct compiler *c, const struct btf_type *t)
{
	uint32_t count = 0;

	for (int i = 0; i < btf_vlen(t); i++) {
		const struct btf_member *member = &btf_members(t)[i];
		const struct btf_type *inner = anonymous_member(c, member);

		count += inner ? count_fields(c, inner) : *text_of(c, member->name_off) != '\0';
	}
	return count;
}

static int add_field(struct compiler *c, struct tg_type *record, const char *name, uint32_t id,
	uint32_t bit_offset, uint8_t bits)
{
	struct tg_field *field = &record->fields[record->count];
	size_t length = enter(c, name);
	int err = compile(c, id, &field->type);

	if (err)
		return err;
	c->path[length] = '\0';
	field->name = tg_types_text(c->types, name);
	field->offset = bit_offset / 8;
	field->bit = bit_offset % 8;
	field->bits = bits;
	record->count++;
	return field->name ? 0 : no_memory(c);
}

static int add_members(struct compiler *c, struct tg_type *record, const struct btf_type *t,
	uint32_t base)
{
	int err = 0;

	for (int i = 0; i < btf_vlen(t) && !err; i++) {
		const struct btf_member *member = &btf_members(t)[i];
		const struct btf_type *inner = anonymous_member(c, member);
		const char *name = text_of(c, member->name_off);
		uint32_t offset = base + btf_member_bit_offset(t, i);

		if (inner)
			err = add_members(c, record, inner, offset);
		else if (*name)		/* else `int :3`, padding */
			err = add_field(c, record, name, member->type, offset,
				btf_member_bitfield_size(t, i));
	}
	return err;
}

static int add_variables(struct compiler *c, struct tg_type *record, const struct btf_type *t)
{
	int err = 0;

	for (int i = 0; i < btf_vlen(t) && !err; i++) {
		const struct btf_var_secinfo *info = &btf_var_secinfos(t)[i];
		const struct btf_type *var = btf__type_by_id(c->btf, info->type);

		err = add_field(c, record, text_of(c, var->name_off), var->type, info->offset * 8, 0);
	}
	return err;
}

static bool has_overlap(const struct tg_type *record)
{
	for (uint32_t i = 0; i < record->count; i++)
		for (uint32_t j = i + 1; j < record->count; j++)
			if (tg_fields_overlap(&record->fields[i], &record->fields[j]))
				return true;
	return false;
}

static int compile_record(struct compiler *c, const struct btf_type *t, const struct tg_type **out)
{
	const char *name = text_of(c, t->name_off);
	const char *tag = btf_is_datasec(t) ? "section" : btf_is_union(t) ? "union" : "struct";
	struct tg_type *record;
	int err;

	if (is_kernel_object(name) || !t->size)
		return refuse(c, t->size ? "struct" : "an empty struct", name);
	record = tg_type_record(c->types,
		btf_is_datasec(t) ? btf_vlen(t) : count_fields(c, t));
	if (!record)
		return no_memory(c);
	record->size = t->size;
	record->count = 0;	/* counted again as they are added */
	record->name = tagged_name(c, tag, name);
	if (!record->name)
		return no_memory(c);
	err = btf_is_datasec(t) ? add_variables(c, record, t) : add_members(c, record, t, 0);
	record->overlaps = has_overlap(record);
	*out = record;
	return err;
}

/* The type under typedefs and qualifiers. */
static const struct btf_type *resolve(struct compiler *c, uint32_t id, bool *big_endian)
{
	const struct btf_type *t = btf__type_by_id(c->btf, id);

	*big_endian = false;
	while (t && (btf_is_mod(t) || btf_is_typedef(t) || btf_is_type_tag(t))) {
		const char *name = text_of(c, t->name_off);

		if (btf_is_typedef(t) && !strncmp(name, "__be", 4))
			*big_endian = !strcmp(name, "__be16") || !strcmp(name, "__be32") ||
				      !strcmp(name, "__be64");
		t = btf__type_by_id(c->btf, t->type);
	}
	return t;
}

static int compile(struct compiler *c, uint32_t id, const struct tg_type **out)
{
	bool big_endian;
	const struct btf_type *t = resolve(c, id, &big_endian);

	if (!t)
		return refuse(c, "a type that its BTF does not have", "");
	switch (btf_kind(t)) {
	case BTF_KIND_INT:
		return compile_int(c, t, big_endian, out);
	case BTF_KIND_FLOAT:
		return compile_float(c, t, out);
	case BTF_KIND_ENUM:
	case BTF_KIND_ENUM64:
		return compile_enum(c, t, out);
	case BTF_KIND_ARRAY:
		return compile_array(c, t, out);
	case BTF_KIND_STRUCT:
	case BTF_KIND_UNION:
	case BTF_KIND_DATASEC:
		return compile_record(c, t, out);
	case BTF_KIND_PTR:
		return refuse(c, "a pointer", "");
	case BTF_KIND_FWD:
		return refuse(c, "the incomplete type", text_of(c, t->name_off));
	case BTF_KIND_FUNC:
	case BTF_KIND_FUNC_PROTO:
		return refuse(c, "a function", text_of(c, t->name_off));
	case BTF_KIND_UNKN:
		return refuse(c, "void", "");
	default:
		return refuse(c, "an unknown BTF kind", text_of(c, t->name_off));
	}
}

int tg_type_from_btf(struct tg_types *types, const struct btf *btf, uint32_t id, const char *what,
	const struct tg_type **type, struct tg_error *error)
{
	struct compiler c = { .types = types, .btf = btf, .error = error };

	snprintf(c.path, sizeof(c.path), "%s", what);
	return compile(&c, id, type);
}
