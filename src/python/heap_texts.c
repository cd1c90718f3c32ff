/* SPDX-License-Identifier: Apache-2.0 */
/* What keys, attributes, slots and functions are called. */

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include "heaptap/base/text.h"
#include "python/heap_edges.h"

#define MAX_TEXT 512
#define MAX_KEY 40 /* characters */
#define MAX_MEMBERS 4096
#define MAX_BASES 80
#define MAX_DIGITS 2 /* of 30 bits: what fits into 64 */
#define DIGIT_BITS 30

/* Include/structmember.h, PyMemberDef: the same in all versions. */
#define MEMBER_BYTES 40
#define MEMBER_NAME 0
#define MEMBER_OFFSET 16

bool tap_python_clean_text(
	struct tap_python_heap *heap, uint64_t addr, char *buf, size_t capacity)
{
	char raw[MAX_TEXT];

	if (!tap_python_heap_text(heap, addr, raw, sizeof(raw)))
		return false;
	tap_text_clean(buf, capacity, raw);
	return true;
}

/* Cuts UTF-8 after so many characters; false where it was no longer. */
static bool cut(char *text, size_t characters)
{
	for (char *at = text; *at; at++) {
		if (((unsigned char)*at & 0xC0) == 0x80)
			continue;
		if (!characters--) {
			*at = '\0';
			return true;
		}
	}
	return false;
}

static bool str_key(struct tap_python_heap *heap, uint64_t key, char *buf, size_t capacity)
{
	char text[MAX_TEXT];
	bool is_cut;

	if (!tap_python_clean_text(heap, key, text, sizeof(text)))
		return false;
	is_cut = cut(text, MAX_KEY);
	snprintf(buf, capacity, "['%s%s']", text, is_cut ? "..." : "");
	return true;
}

/* To 3.11 the sign is that of the number of digits; then they are apart. */
static bool read_integer(struct tap_python_heap *heap, uint64_t addr, uint64_t *ret, bool *negative)
{
	const struct tap_python_layout *layout = heap->layout;
	uint32_t digits[MAX_DIGITS] = {0};
	uint64_t word;

	if (layout->integer.tag >= 0) {
		if (!tap_python_heap_field(heap, addr, layout->integer.tag, &word))
			return false;
		*negative = (word & 3) == 2;
		word >>= 3;
	} else {
		if (!tap_python_heap_field(heap, addr, layout->object.items, &word))
			return false;
		*negative = (int64_t)word < 0;
		word = *negative ? -word : word;
	}
	if (word > MAX_DIGITS ||
		!tap_memory_try_read(heap->memory, addr + (uint64_t)layout->integer.digits, digits,
			word * sizeof(*digits)))
		return false;
	*ret = digits[0] | (uint64_t)digits[1] << DIGIT_BITS;
	return true;
}

static bool int_key(struct tap_python_heap *heap, uint64_t key, char *buf, size_t capacity)
{
	struct tap_python_object object;
	const struct tap_python_type *type;
	uint64_t value;
	bool negative;

	if (!tap_python_heap_object_at(heap, key, &object))
		return false;
	type = tap_python_heap_type(heap, object.type);
	if (strcmp(type->name, "NoneType") == 0) {
		snprintf(buf, capacity, "[None]");
		return true;
	}
	if (!(type->flags & TAP_PYTHON_INT_SUBCLASS) ||
		!read_integer(heap, key, &value, &negative))
		return false;
	if (strcmp(type->name, "bool") == 0)
		snprintf(buf, capacity, "[%s]", value ? "True" : "False");
	else
		snprintf(buf, capacity, "[%s%lu]", negative ? "-" : "", value);
	return true;
}

void tap_python_key_text(struct tap_python_heap *heap, uint64_t key, char *buf, size_t capacity)
{
	if (!str_key(heap, key, buf, capacity) && !int_key(heap, key, buf, capacity))
		snprintf(buf, capacity, "[...]");
}

static bool is_identifier(const char *text)
{
	if (!*text || isdigit((unsigned char)*text))
		return false;
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		if (!isalnum(c) && c != '_' && c < 0x80)
			return false;
	}
	return true;
}

void tap_python_attribute_text(
	struct tap_python_heap *heap, uint64_t key, char *buf, size_t capacity)
{
	char text[MAX_TEXT];

	if (tap_python_clean_text(heap, key, text, sizeof(text)) && is_identifier(text))
		snprintf(buf, capacity, ".%s", text);
	else
		tap_python_key_text(heap, key, buf, capacity);
}

/* tp_members ends with one that has no name. */
static bool find_member(struct tap_python_heap *heap, uint64_t members, uint64_t offset, char *buf,
	size_t capacity)
{
	char raw[MAX_TEXT], clean[MAX_TEXT];

	for (uint64_t i = 0; i < MAX_MEMBERS; i++) {
		uint64_t at = members + i * MEMBER_BYTES, name, here;

		if (!tap_memory_try_u64(heap->memory, at + MEMBER_NAME, &name) || !name ||
			!tap_memory_try_u64(heap->memory, at + MEMBER_OFFSET, &here))
			return false;
		if (here != offset)
			continue;
		if (!tap_memory_try_string(heap->memory, name, raw, sizeof(raw)))
			return false;
		snprintf(buf, capacity, ".%s", tap_text_clean(clean, sizeof(clean), raw));
		return true;
	}
	return false;
}

bool tap_python_slot_text(struct tap_python_heap *heap, const struct tap_python_heap_type *type,
	uint64_t offset, char *buf, size_t capacity)
{
	for (int i = 0; type && i < MAX_BASES; i++) {
		uint64_t members;

		if (tap_python_heap_field(
			    heap, type->shown.addr, heap->layout->type.members, &members) &&
			members && find_member(heap, members, offset, buf, capacity))
			return true;
		type = type->base ? tap_python_heap_type_at(heap, type->base) : NULL;
	}
	return false;
}

bool tap_python_function_text(
	struct tap_python_heap *heap, uint64_t function, char *buf, size_t capacity)
{
	const struct tap_python_layout *layout = heap->layout;
	char module[128], name[120];
	struct tap_python_object object;
	uint64_t text;

	if (!tap_python_heap_object_at(heap, function, &object) ||
		tap_python_heap_type(heap, object.type)->kind != TAP_PYTHON_FUNCTION ||
		!tap_python_heap_field(heap, function, layout->function.qualname, &text) ||
		!tap_python_clean_text(heap, text, name, sizeof(name)))
		return false;
	if (tap_python_heap_field(heap, function, layout->function.module, &text) &&
		tap_python_clean_text(heap, text, module, sizeof(module)))
		snprintf(buf, capacity, "%s.%s", module, name);
	else
		snprintf(buf, capacity, "%s", name);
	return true;
}

struct first {
	uint64_t key, value;
};

static bool take_first(void *context, uint64_t key, uint64_t value)
{
	struct first *first = context;

	first->key = key;
	first->value = value;
	return false;
}

/* A module's begins with its __name__, a class's with the __module__ that it was
 * made in; one whose values are apart from its keys is an instance's. */
bool tap_python_dict_is_namespace(
	struct tap_python_heap *heap, uint64_t addr, uint64_t *module_ret)
{
	struct tap_python_dict dict;
	struct first first = {0};
	char text[16];

	if (module_ret)
		*module_ret = 0;
	if (!tap_python_dict_read(heap, addr, &dict))
		return false;
	if (dict.values)
		return true;
	tap_python_dict_each(heap, &dict, take_first, &first);
	if (!first.key || !tap_python_heap_text(heap, first.key, text, sizeof(text)))
		return false;
	if (strcmp(text, "__name__") == 0) {
		if (module_ret)
			*module_ret = first.value;
		return true;
	}
	return strcmp(text, "__module__") == 0;
}
