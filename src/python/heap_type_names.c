/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What types are called. Those written in C have their whole name in tp_name;
 * what a class statement made has the last part there, in the very bytes of
 * ht_name, and the rest in __module__ and ht_qualname.
 */
#include <stdio.h>
#include <string.h>
#include "heaptap/base/text.h"
#include "python/heap_internal.h"

#define MAX_NAME 256

static bool is_name(const char *text)
{
	if (!*text)
		return false;
	for (const unsigned char *at = (const unsigned char *)text; *at; at++) {
		if (*at < ' ' || *at == 0x7F)
			return false;
	}
	return true;
}

/* Where the UTF-8 form of a str lies (PEP 393): in itself where it is ASCII. */
static bool is_utf8_of(struct tap_python_heap *heap, uint64_t text, uint64_t addr)
{
	const struct tap_python_layout *layout = heap->layout;
	uint64_t utf8;

	if (addr == text + (uint64_t)layout->unicode.ascii_size)
		return true;
	return tap_python_heap_field(heap, text, layout->unicode.utf8, &utf8) && utf8 == addr;
}

/* Only of a str whose type was met: to meet others here might lead back here. */
static bool read_text(struct tap_python_heap *heap, uint64_t addr, char *buf, size_t capacity)
{
	const struct tap_python_heap_type *type;
	uint64_t type_addr;

	if (!tap_python_heap_field(heap, addr, heap->layout->object.type, &type_addr))
		return false;
	type = tap_python_heap_type_known(heap, type_addr);
	return type && type->shown.flags & TAP_PYTHON_STR_SUBCLASS &&
	       tap_python_unicode(heap->python, addr, buf, capacity) && is_name(buf);
}

static void class_name(struct tap_python_heap *heap, uint64_t addr, char *buf, size_t capacity)
{
	const struct tap_python_layout *layout = heap->layout;
	char module[MAX_NAME], qualname[MAX_NAME];
	uint64_t dict, text;

	if (!tap_python_heap_field(heap, addr, layout->heap_type.qualname, &text) ||
		!read_text(heap, text, qualname, sizeof(qualname)))
		return;
	if (tap_python_heap_field(heap, addr, layout->type.dict, &dict) &&
		tap_python_dict_get(heap, dict, "__module__", &text) &&
		read_text(heap, text, module, sizeof(module)) && strcmp(module, "builtins") != 0)
		snprintf(buf, capacity, "%s.%s", module, qualname);
	else
		snprintf(buf, capacity, "%s", qualname);
}

const char *tap_python_heap_type_name(
	struct tap_python_heap *heap, uint64_t addr, uint64_t flags, bool *is_class_ret)
{
	const struct tap_python_layout *layout = heap->layout;
	char raw[2 * MAX_NAME] = "", clean[3 * MAX_NAME];
	uint64_t name, text;

	if (!tap_python_heap_field(heap, addr, layout->type.name, &name) ||
		!tap_memory_try_string(heap->memory, name, raw, MAX_NAME) || !is_name(raw))
		return NULL;
	*is_class_ret = flags & TAP_PYTHON_HEAP_TYPE &&
			tap_python_heap_field(heap, addr, layout->heap_type.name, &text) &&
			is_utf8_of(heap, text, name);
	if (*is_class_ret)
		class_name(heap, addr, raw, sizeof(raw));
	return tap_strings_add(heap->strings, tap_text_clean(clean, sizeof(clean), raw));
}
