/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>
#include "python/heap_edges.h"

static bool module_name(
	struct tap_python_heap *heap, uint64_t module, char *buf, size_t capacity)
{
	const struct tap_python_layout *layout = heap->layout;
	uint64_t text, dict;

	if (tap_python_heap_field(heap, module, layout->module.name, &text) &&
		tap_python_clean_text(heap, text, buf, capacity))
		return true;
	return tap_python_heap_field(heap, module, layout->module.dict, &dict) &&
	       tap_python_dict_get(heap, dict, "__name__", &text) &&
	       tap_python_clean_text(heap, text, buf, capacity);
}

/* The __dict__ of a module goes by the module's name. */
static bool dict_name(struct tap_python_heap *heap, uint64_t dict, char *buf, size_t capacity)
{
	uint64_t name;

	return tap_python_dict_is_namespace(heap, dict, &name) && name &&
	       tap_python_clean_text(heap, name, buf, capacity);
}

static bool type_name(struct tap_python_heap *heap, uint64_t addr, char *buf, size_t capacity)
{
	const struct tap_python_heap_type *type = tap_python_heap_type_at(heap, addr);

	if (!type)
		return false;
	snprintf(buf, capacity, "%s", type->shown.name);
	return true;
}

static bool method_name(struct tap_python_heap *heap, uint64_t method, char *buf, size_t capacity)
{
	uint64_t function;

	return tap_python_heap_field(heap, method, heap->layout->method.function, &function) &&
	       tap_python_function_text(heap, function, buf, capacity);
}

/* "frame of FUNCTION (FILE:LINE)" */
static bool frame_name(struct tap_python_heap *heap, uint64_t addr, char *buf, size_t capacity)
{
	const struct tap_python_layout *layout = heap->layout;
	uint64_t frame = addr;
	char text[512];

	if (layout->minor >= 11 &&
		!tap_python_heap_field(heap, addr, layout->frame_object_values.frame, &frame))
		return false;
	if (!tap_python_frame_text(heap, frame, text, sizeof(text)))
		return false;
	snprintf(buf, capacity, "frame of %s", text);
	return true;
}

/* "generator module.qualname"; where it has ended its module is not known. */
static bool generator_name(struct tap_python_heap *heap, const struct tap_python_object *object,
	char *buf, size_t capacity)
{
	const struct tap_python_heap_type *type = tap_python_heap_type_of(heap, object);
	uint64_t frame = tap_python_generator_frame(heap, object->addr), text;
	char name[256], module[256] = "";
	struct tap_python_locals locals;

	if (!tap_python_heap_field(heap, object->addr, heap->layout->generator.qualname, &text) ||
		!tap_python_clean_text(heap, text, name, sizeof(name)))
		return false;
	if (frame && tap_python_locals_read(heap, frame, &locals) &&
		tap_python_dict_get(heap, locals.globals, "__name__", &text))
		tap_python_clean_text(heap, text, module, sizeof(module));
	snprintf(buf, capacity, "%s %s%s%s", type->builtin_name, module, *module ? "." : "", name);
	return true;
}

static bool lru_name(struct tap_python_heap *heap, const struct tap_python_object *object,
	char *buf, size_t capacity)
{
	struct tap_python_lru lru;

	if (!tap_python_heap_lru(heap, object, &lru) || !*lru.name)
		return false;
	snprintf(buf, capacity, "%s", lru.name);
	return true;
}

bool tap_python_heap_own_name(struct tap_python_heap *heap, const struct tap_python_object *object,
	char *buf, size_t capacity)
{
	switch (tap_python_heap_type_of(heap, object)->shown.kind) {
	case TAP_PYTHON_MODULE:
		return module_name(heap, object->addr, buf, capacity);
	case TAP_PYTHON_DICT:
		return dict_name(heap, object->addr, buf, capacity);
	case TAP_PYTHON_TYPE:
		return type_name(heap, object->addr, buf, capacity);
	case TAP_PYTHON_FUNCTION:
		return tap_python_function_text(heap, object->addr, buf, capacity);
	case TAP_PYTHON_METHOD:
		return method_name(heap, object->addr, buf, capacity);
	case TAP_PYTHON_FRAME:
		return frame_name(heap, object->addr, buf, capacity);
	case TAP_PYTHON_GENERATOR:
		return generator_name(heap, object, buf, capacity);
	case TAP_PYTHON_LRU_CACHE:
		return lru_name(heap, object, buf, capacity);
	default:
		return false;
	}
}
