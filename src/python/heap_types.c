/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Types. A type is what `type`, or a subclass of it that was met, is the type
 * of. Most addresses that are asked for are none, so that those must be told
 * apart fast: types that are known are in one table, and none lies in a pool,
 * as a type made at run time takes over 800 bytes.
 */
#include <string.h>
#include "heaptap/base/alloc.h"
#include "python/heap_internal.h"

#define MAX_DEPTH 80 /* of bases and metaclasses */
#define MAX_TYPES (1u << 20)
#define MAX_NO_TYPES (1u << 20)
#define MAX_BASIC_BYTES (1u << 20)
#define MAX_ITEM_BYTES (1u << 16)
#define MAX_POOLS (1u << 22)

static struct tap_python_heap_type *meet(
	struct tap_python_heap *heap, uint64_t addr, unsigned depth);

const struct tap_python_heap_type *tap_python_heap_type_known(
	const struct tap_python_heap *heap, uint64_t addr)
{
	const uint64_t *number = tap_map_find(&heap->types_at, addr);

	return number ? heap->types.items[*number] : NULL;
}

static bool is_in_pool(struct tap_python_heap *heap, uint64_t addr)
{
	uint64_t base = addr & ~(uint64_t)(heap->layout->pool.size - 1);
	uint8_t header[TAP_PYTHON_STRUCT];
	uint64_t *known;
	bool added;

	if (heap->pools.count >= MAX_POOLS)
		tap_map_clear(&heap->pools);
	known = tap_map_put(&heap->pools, base, &added);
	if (added)
		*known = tap_memory_try_glance(heap->memory, base, header,
				 (size_t)heap->layout->pool.header_size) &&
			 tap_python_pool_class_bytes(heap->layout, header);
	return *known;
}

/* Could a type be there? All of them can be written to. */
static bool is_possible(struct tap_python_heap *heap, uint64_t addr)
{
	const struct tap_mapping *mapping;

	if (!addr || addr & 7 || tap_map_find(&heap->no_types, addr))
		return false;
	mapping = tap_maps_find(heap->maps, addr);
	return mapping && mapping->writable && !is_in_pool(heap, addr);
}

static bool is_metatype(struct tap_python_heap *heap, uint64_t addr, unsigned depth)
{
	const struct tap_python_heap_type *type;

	if (addr == heap->type_type)
		return true;
	type = meet(heap, addr, depth + 1);
	return type && (type->shown.flags & TAP_PYTHON_TYPE_SUBCLASS);
}

/* Its fields are such as a type has; the name is still to be found. */
static bool fill(struct tap_python_heap *heap, uint64_t addr, struct tap_python_heap_type *type)
{
	const struct tap_python_layout *layout = heap->layout;
	uint8_t copy[TAP_PYTHON_STRUCT];
	size_t size = (size_t)layout->type.size;
	struct tap_python_type *shown = &type->shown;

	if (size > sizeof(copy) || !tap_memory_try_read(heap->memory, addr, copy, size))
		return false;
	shown->addr = addr;
	shown->flags = tap_python_u64(copy, layout->type.flags);
	shown->basic_bytes = tap_python_u64(copy, layout->type.basic_size);
	shown->item_bytes = tap_python_u64(copy, layout->type.item_size);
	shown->is_heap_type = shown->flags & TAP_PYTHON_HEAP_TYPE;
	shown->collected = shown->flags & TAP_PYTHON_HAVE_GC;
	type->base = tap_python_u64(copy, layout->type.base);
	type->dict_offset = (int64_t)tap_python_u64(copy, layout->type.dict_offset);
	type->weaklist_offset = (int64_t)tap_python_u64(copy, layout->type.weaklist_offset);
	return shown->flags & TAP_PYTHON_READY &&
	       shown->basic_bytes >= (uint64_t)layout->object.head_size &&
	       shown->basic_bytes <= MAX_BASIC_BYTES && shown->item_bytes <= MAX_ITEM_BYTES;
}

/* Objects/object.h: the head of the collector, and what managed dictionaries
 * and lists of weak references take in front of it. */
static uint32_t lead_bytes(const struct tap_python_heap *heap, uint64_t flags)
{
	uint64_t managed = 0;
	uint32_t head = flags & TAP_PYTHON_HAVE_GC ? (uint32_t)heap->layout->gc.head_size : 0;

	if (heap->layout->minor >= 11)
		managed |= TAP_PYTHON_MANAGED_DICT;
	if (heap->layout->minor >= 12)
		managed |= TAP_PYTHON_MANAGED_WEAKREF;
	return head + (flags & managed ? 16u : 0u);
}

static const struct {
	const char *name;
	enum tap_python_kind kind;
} kinds[] = {
	{"set", TAP_PYTHON_SET},
	{"frozenset", TAP_PYTHON_SET},
	{"collections.deque", TAP_PYTHON_DEQUE},
	{"bytearray", TAP_PYTHON_BYTEARRAY},
	{"module", TAP_PYTHON_MODULE},
	{"function", TAP_PYTHON_FUNCTION},
	{"method", TAP_PYTHON_METHOD},
	{"cell", TAP_PYTHON_CELL},
	{"frame", TAP_PYTHON_FRAME},
	{"generator", TAP_PYTHON_GENERATOR},
	{"coroutine", TAP_PYTHON_GENERATOR},
	{"async_generator", TAP_PYTHON_GENERATOR},
	{"code", TAP_PYTHON_CODE},
	{"weakref", TAP_PYTHON_WEAKREF}, /* to 3.11 */
	{"weakproxy", TAP_PYTHON_WEAKREF},
	{"weakcallableproxy", TAP_PYTHON_WEAKREF},
	{"weakref.ReferenceType", TAP_PYTHON_WEAKREF},
	{"weakref.ProxyType", TAP_PYTHON_WEAKREF},
	{"weakref.CallableProxyType", TAP_PYTHON_WEAKREF},
	{"functools._lru_cache_wrapper", TAP_PYTHON_LRU_CACHE},
	{"traceback", TAP_PYTHON_TRACEBACK},
	{"numpy.ndarray", TAP_PYTHON_NDARRAY},
	{"frozendict", TAP_PYTHON_DICT}, /* 3.15: not a subclass of dict */
	{"float", TAP_PYTHON_ATOM},
	{"complex", TAP_PYTHON_ATOM},
	{"NoneType", TAP_PYTHON_ATOM},
	{"ellipsis", TAP_PYTHON_ATOM},
	{"NotImplementedType", TAP_PYTHON_ATOM},
	{"object", TAP_PYTHON_ATOM},
};

static enum tap_python_kind kind_of_flags(uint64_t flags)
{
	if (flags & TAP_PYTHON_LIST_SUBCLASS)
		return TAP_PYTHON_LIST;
	if (flags & TAP_PYTHON_TUPLE_SUBCLASS)
		return TAP_PYTHON_TUPLE;
	if (flags & TAP_PYTHON_DICT_SUBCLASS)
		return TAP_PYTHON_DICT;
	if (flags & TAP_PYTHON_EXCEPTION_SUBCLASS)
		return TAP_PYTHON_EXCEPTION;
	if (flags & TAP_PYTHON_TYPE_SUBCLASS)
		return TAP_PYTHON_TYPE;
	if (flags & (TAP_PYTHON_INT_SUBCLASS | TAP_PYTHON_STR_SUBCLASS | TAP_PYTHON_BYTES_SUBCLASS))
		return TAP_PYTHON_ATOM;
	return TAP_PYTHON_OTHER;
}

/* Of the type itself, of what it derives from else: a type written in C that
 * derives from a set is laid out as one. */
static enum tap_python_kind builtin_kind(
	struct tap_python_heap *heap, const struct tap_python_heap_type *type)
{
	enum tap_python_kind kind = kind_of_flags(type->shown.flags);
	bool is_first = true;

	for (unsigned i = 0; type && kind == TAP_PYTHON_OTHER && i < MAX_DEPTH; i++) {
		for (size_t j = 0; j < TAP_PYTHON_COUNT(kinds); j++) {
			/* What derives from an atom in C may refer to anything. */
			if (strcmp(type->shown.name, kinds[j].name) == 0 &&
				(is_first || kinds[j].kind != TAP_PYTHON_ATOM))
				kind = kinds[j].kind;
		}
		type = type->base ? tap_python_heap_type_known(heap, type->base) : NULL;
		is_first = false;
	}
	return kind;
}

/* Has a class something that its builtin has not: slots, attributes? */
static bool adds(
	const struct tap_python_heap_type *type, const struct tap_python_heap_type *builtin)
{
	return type->shown.basic_bytes != builtin->shown.basic_bytes ||
	       type->dict_offset != builtin->dict_offset;
}

static void choose_kind(struct tap_python_heap *heap, struct tap_python_heap_type *type)
{
	const struct tap_python_heap_type *builtin = type;

	for (unsigned i = 0; builtin->is_class && i < MAX_DEPTH; i++) {
		const struct tap_python_heap_type *base =
			tap_python_heap_type_known(heap, builtin->base);

		if (!base)
			break;
		builtin = base;
	}
	type->builtin = builtin->shown.addr;
	type->builtin_bytes = builtin->shown.basic_bytes;
	type->builtin_name = builtin->shown.name;
	type->shown.kind = builtin_kind(heap, builtin);
	if (type->shown.kind == TAP_PYTHON_ATOM && adds(type, builtin))
		type->shown.kind = TAP_PYTHON_INSTANCE;
}

static struct tap_python_heap_type *refuse(struct tap_python_heap *heap, uint64_t addr)
{
	if (heap->no_types.count >= MAX_NO_TYPES)
		tap_map_clear(&heap->no_types);
	tap_map_put(&heap->no_types, addr, NULL);
	return NULL;
}

static struct tap_python_heap_type *keep(
	struct tap_python_heap *heap, const struct tap_python_heap_type *found)
{
	struct tap_python_heap_type *type = tap_alloc(sizeof(*type));

	*type = *found;
	type->number = (uint32_t)heap->types.count;
	tap_vector_push(&heap->types, type);
	*tap_map_put(&heap->types_at, type->shown.addr, NULL) = type->number;
	return type;
}

static struct tap_python_heap_type *meet(
	struct tap_python_heap *heap, uint64_t addr, unsigned depth)
{
	const struct tap_python_layout *layout = heap->layout;
	const uint64_t *number = tap_map_find(&heap->types_at, addr);
	struct tap_python_heap_type found = {0}, *type;
	uint64_t meta;

	if (number)
		return heap->types.items[*number];
	if (depth > MAX_DEPTH || heap->types.count >= MAX_TYPES || !is_possible(heap, addr))
		return NULL;
	if (!tap_python_heap_field(heap, addr, layout->object.type, &meta) ||
		!is_metatype(heap, meta, depth) || !fill(heap, addr, &found))
		return refuse(heap, addr);
	found.lead_bytes = lead_bytes(heap, found.shown.flags);
	found.least_bytes = found.shown.flags & TAP_PYTHON_STR_SUBCLASS
				    ? (uint64_t)layout->unicode.ascii_size
				    : found.shown.basic_bytes;
	if (found.shown.is_heap_type)
		tap_python_heap_field(
			heap, addr, layout->heap_type.cached_keys, &found.cached_keys);
	found.shown.name =
		tap_python_heap_type_name(heap, addr, found.shown.flags, &found.is_class);
	if (!found.shown.name)
		return refuse(heap, addr);
	/* Its bases are types, too; they are met first. */
	if (found.base && !meet(heap, found.base, depth + 1))
		return refuse(heap, addr);
	type = keep(heap, &found);
	choose_kind(heap, type);
	return type;
}

const struct tap_python_heap_type *tap_python_heap_type_at(
	struct tap_python_heap *heap, uint64_t addr)
{
	return meet(heap, addr, 0);
}
