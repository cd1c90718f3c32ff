/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include "heaptap/base/alloc.h"
#include "python/heap_internal.h"

struct find {
	struct tap_python_heap *heap;
	uint64_t found;
};

/* sys.modules is a dict, whose type's type is `type`, whose type it is itself. */
static bool find_type_type(void *context, uint64_t interpreter)
{
	struct find *find = context;
	const struct tap_python_layout *layout = find->heap->layout;
	uint64_t modules, dict, type, again;

	if (!tap_python_heap_field(
		    find->heap, interpreter, layout->interpreter.modules, &modules) ||
		!tap_python_heap_field(find->heap, modules, layout->object.type, &dict) ||
		!tap_python_heap_field(find->heap, dict, layout->object.type, &type) ||
		!tap_python_heap_field(find->heap, type, layout->object.type, &again) ||
		type != again)
		return true;
	find->found = type;
	return false;
}

static bool meet_type_of_key(void *context, uint64_t key, uint64_t value)
{
	struct tap_python_heap *heap = context;
	uint64_t type;

	(void)value;
	if (tap_python_heap_field(heap, key, heap->layout->object.type, &type))
		tap_python_heap_type_at(heap, type);
	return false;
}

/* str comes first: names of classes are str. */
static bool meet_str(void *context, uint64_t interpreter)
{
	struct tap_python_heap *heap = context;
	struct tap_python_dict dict;
	uint64_t modules;

	if (!tap_python_heap_field(
		    heap, interpreter, heap->layout->interpreter.modules, &modules) ||
		!tap_python_dict_read(heap, modules, &dict))
		return true;
	tap_python_dict_each(heap, &dict, meet_type_of_key, heap);
	return false;
}

struct tap_error *tap_python_heap_open(
	struct tap_python *python, const struct tap_maps *maps, struct tap_python_heap **ret)
{
	struct find find = {0};
	struct tap_python_heap *heap;

	*ret = NULL;
	if (!python->info.supported)
		return tap_error_new(TAP_ERR_UNSUPPORTED,
			"the objects of this interpreter are not known: %s", python->info.reason);
	heap = tap_alloc(sizeof(*heap));
	heap->python = python;
	heap->memory = python->memory;
	heap->layout = &python->layout;
	heap->maps = maps;
	heap->strings = tap_strings_create();
	find.heap = heap;
	tap_python_heap_interpreters(heap, find_type_type, &find);
	heap->type_type = find.found;
	if (!heap->type_type || !tap_python_heap_type_at(heap, heap->type_type)) {
		tap_python_heap_close(heap);
		return tap_error_new(TAP_ERR_UNSUPPORTED,
			"the objects of this interpreter are not known: its types are not where "
			"this version has them");
	}
	tap_python_heap_interpreters(heap, meet_str, heap);
	*ret = heap;
	return NULL;
}

void tap_python_heap_close(struct tap_python_heap *heap)
{
	if (!heap)
		return;
	for (size_t i = 0; i < heap->types.count; i++)
		free(heap->types.items[i]);
	tap_vector_free(&heap->types);
	tap_map_deinit(&heap->types_at);
	tap_map_deinit(&heap->no_types);
	tap_map_deinit(&heap->pools);
	tap_strings_destroy(heap->strings);
	free(heap);
}

uint32_t tap_python_heap_types(const struct tap_python_heap *heap)
{
	return (uint32_t)heap->types.count;
}

const struct tap_python_type *tap_python_heap_type(
	const struct tap_python_heap *heap, uint32_t type)
{
	return &heap->types.items[type]->shown;
}
