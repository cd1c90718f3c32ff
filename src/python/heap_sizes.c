/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sys.getsizeof(): what the __sizeof__ of an object's type says, and what is in
 * front of it. Which __sizeof__ a type has is looked up as Python does, along
 * its __mro__; those of built-in types are known here.
 */
#include <string.h>
#include "python/heap_internal.h"

#define MAX_MRO 256
#define BLOCK_ITEMS 64 /* of a deque: Modules/_collectionsmodule.c */
#define ODICT_NODE_BYTES 32
#define OPCACHE_BYTES 32
#define TAG_BITS UINT64_C(3)
#define MAX_SIZE (UINT64_C(1) << 47)

static const struct {
	const char *name;
	enum tap_python_sizer sizer;
} sizers[] = {
	{"object", TAP_PYTHON_SIZE_GENERIC},
	{"list", TAP_PYTHON_SIZE_LIST},
	{"dict", TAP_PYTHON_SIZE_DICT},
	{"frozendict", TAP_PYTHON_SIZE_DICT},
	{"collections.OrderedDict", TAP_PYTHON_SIZE_ODICT},
	{"set", TAP_PYTHON_SIZE_SET},
	{"frozenset", TAP_PYTHON_SIZE_SET},
	{"collections.deque", TAP_PYTHON_SIZE_DEQUE},
	{"bytearray", TAP_PYTHON_SIZE_BYTEARRAY},
	{"str", TAP_PYTHON_SIZE_STR},
	{"int", TAP_PYTHON_SIZE_INT},
	{"type", TAP_PYTHON_SIZE_TYPE},
	{"frame", TAP_PYTHON_SIZE_FRAME},
	{"generator", TAP_PYTHON_SIZE_GENERATOR},
	{"coroutine", TAP_PYTHON_SIZE_GENERATOR},
	{"async_generator", TAP_PYTHON_SIZE_GENERATOR},
	{"code", TAP_PYTHON_SIZE_CODE},
};

/* The one that a type brings itself; NONE where it inherits. */
static enum tap_python_sizer own_sizer(
	struct tap_python_heap *heap, const struct tap_python_heap_type *type)
{
	uint64_t dict, value;

	for (size_t i = 0; !type->is_class && i < TAP_PYTHON_COUNT(sizers); i++) {
		if (strcmp(type->shown.name, sizers[i].name) == 0)
			return sizers[i].sizer;
	}
	/* From 3.12 on those of built-in types are elsewhere; all of them that have a
	 * __sizeof__ are above. */
	if (tap_python_heap_field(heap, type->shown.addr, heap->layout->type.dict, &dict) &&
		tap_python_dict_get(heap, dict, "__sizeof__", &value))
		return TAP_PYTHON_SIZE_UNKNOWN;
	return TAP_PYTHON_SIZE_NONE;
}

static enum tap_python_sizer choose_sizer(
	struct tap_python_heap *heap, const struct tap_python_heap_type *type)
{
	const struct tap_python_layout *layout = heap->layout;
	enum tap_python_sizer sizer = TAP_PYTHON_SIZE_NONE;
	uint64_t mro, count, base;

	if (!tap_python_heap_field(heap, type->shown.addr, layout->type.mro, &mro) ||
		!tap_python_heap_field(heap, mro, layout->object.items, &count) || count > MAX_MRO)
		return TAP_PYTHON_SIZE_UNKNOWN;
	for (uint64_t i = 0; sizer == TAP_PYTHON_SIZE_NONE && i < count; i++) {
		const struct tap_python_heap_type *of;

		if (!tap_python_heap_field(heap, mro + i * 8, layout->tuple.items, &base))
			return TAP_PYTHON_SIZE_UNKNOWN;
		of = tap_python_heap_type_at(heap, base);
		if (!of)
			return TAP_PYTHON_SIZE_UNKNOWN;
		sizer = own_sizer(heap, of);
	}
	return sizer == TAP_PYTHON_SIZE_NONE ? TAP_PYTHON_SIZE_UNKNOWN : sizer;
}

/* What a size is made of; failed: part of it could not be read. */
struct sizing {
	struct tap_python_heap *heap;
	const struct tap_python_layout *layout;
	const struct tap_python_heap_type *type;
	uint64_t addr;
	bool failed;
};

static uint64_t field(struct sizing *sizing, uint64_t addr, int32_t offset)
{
	uint64_t value;

	if (tap_python_heap_field(sizing->heap, addr, offset, &value))
		return value;
	sizing->failed = true;
	return 0;
}

static uint32_t field32(struct sizing *sizing, uint64_t addr, int32_t offset)
{
	uint32_t value;

	if (tap_python_heap_field32(sizing->heap, addr, offset, &value))
		return value;
	sizing->failed = true;
	return 0;
}

/* ob_size, whose sign may tell another thing. */
static uint64_t items(struct sizing *sizing, uint64_t addr)
{
	uint64_t count = field(sizing, addr, sizing->layout->object.items);

	if (count > INT64_MAX)
		count = 0 - count;
	if (count > MAX_SIZE)
		sizing->failed = true;
	return count;
}

/* object.__sizeof__; values inline are not in it. */
static uint64_t generic_size(struct sizing *sizing)
{
	const struct tap_python_type *shown = &sizing->type->shown;
	uint64_t size = shown->basic_bytes;

	if (shown->item_bytes)
		size += items(sizing, sizing->addr) * shown->item_bytes;
	return size;
}

/* Keys that are shared are accounted for in the type. */
static uint64_t dict_size(struct sizing *sizing)
{
	struct tap_python_dict dict;
	uint64_t size = sizing->type->shown.basic_bytes;

	if (!tap_python_dict_read(sizing->heap, sizing->addr, &dict)) {
		sizing->failed = true;
		return 0;
	}
	if (dict.values)
		size += (sizing->layout->minor < 11 ? dict.keys.slots * 2 / 3
						    : dict.keys.count + dict.keys.usable) *
			8;
	if (dict.keys.refcount == 1)
		size += dict.keys.block_bytes;
	return size;
}

static uint64_t odict_size(struct sizing *sizing)
{
	const struct tap_python_layout *layout = sizing->layout;
	uint64_t size = dict_size(sizing);

	size += field(sizing, sizing->addr, layout->odict.fast_nodes_size) * 8;
	if (field(sizing, sizing->addr, layout->odict.first))
		size += field(sizing, sizing->addr, layout->dict.used) * ODICT_NODE_BYTES;
	return size;
}

static uint64_t set_size(struct sizing *sizing)
{
	const struct tap_python_layout *layout = sizing->layout;
	uint64_t size = sizing->type->shown.basic_bytes;

	if (field(sizing, sizing->addr, layout->set.table) !=
		sizing->addr + (uint64_t)layout->set.small_table)
		size += (field(sizing, sizing->addr, layout->set.mask) + 1) *
			(uint64_t)layout->set.entry_size;
	return size;
}

static uint64_t deque_size(struct sizing *sizing)
{
	const struct tap_python_layout *layout = sizing->layout;
	uint64_t left = field(sizing, sizing->addr, layout->deque.left_index);
	uint64_t blocks = (left + items(sizing, sizing->addr) + BLOCK_ITEMS - 1) / BLOCK_ITEMS;

	return sizing->type->shown.basic_bytes + blocks * (uint64_t)layout->deque.block_size;
}

static uint64_t int_size(struct sizing *sizing)
{
	const struct tap_python_layout *layout = sizing->layout;
	uint64_t digits;

	digits = layout->integer.tag < 0 ? items(sizing, sizing->addr)
					 : field(sizing, sizing->addr, layout->integer.tag) >> 3;
	if (!digits && layout->minor >= 11)
		digits = 1;
	return (uint64_t)layout->integer.digits + digits * 4;
}

/* UTF-8 and wide forms that are kept beside the characters (PEP 393). */
static uint64_t other_forms(struct sizing *sizing, uint64_t data, bool is_ascii, bool is_ready)
{
	const struct tap_python_layout *layout = sizing->layout;
	uint64_t size = 0, wide, utf8;

	if (!is_ascii) {
		utf8 = field(sizing, sizing->addr, layout->unicode.utf8);
		if (utf8 && utf8 != data)
			size += field(sizing, sizing->addr, layout->unicode.utf8_length) + 1;
	}
	if (layout->unicode.wide < 0)
		return size;
	wide = field(sizing, sizing->addr, layout->unicode.wide);
	if (wide && (!is_ready || wide != data))
		size += 4 * (1 + field(sizing, sizing->addr,
					 is_ascii ? layout->unicode.length
						  : layout->unicode.wide_length));
	return size;
}

static uint64_t str_size(struct sizing *sizing)
{
	const struct tap_python_layout *layout = sizing->layout;
	uint32_t state = field32(sizing, sizing->addr, layout->unicode.state);
	uint64_t length = field(sizing, sizing->addr, layout->unicode.length);
	uint64_t width = state >> 2 & 7, size, data;
	bool is_compact = state >> 5 & 1, is_ascii = is_compact && (state >> 6 & 1);

	if (is_compact) {
		size = (uint64_t)(is_ascii ? layout->unicode.ascii_size
					   : layout->unicode.compact_size);
		data = sizing->addr + size;
	} else {
		size = (uint64_t)layout->unicode.full_size;
		data = field(sizing, sizing->addr, layout->unicode.data);
	}
	if (is_compact || data)
		size += (length + 1) * width;
	return size + other_forms(sizing, data, is_ascii, width != 0);
}

static uint64_t type_size(struct sizing *sizing)
{
	const struct tap_python_heap_type *itself =
		tap_python_heap_type_at(sizing->heap, sizing->addr);
	struct tap_python_keys keys;

	if (!itself || !itself->shown.is_heap_type)
		return (uint64_t)sizing->layout->type.size;
	if (!tap_python_keys_read(sizing->heap, itself->cached_keys, &keys))
		return (uint64_t)sizing->layout->heap_type.size;
	return (uint64_t)sizing->layout->heap_type.size + keys.block_bytes;
}

/* Slots for variables and operands of code at an address. */
static uint64_t slots(struct sizing *sizing, uint64_t code)
{
	const struct tap_python_layout *layout = sizing->layout;
	uint64_t count = field32(sizing, code, layout->code_values.stacksize);

	if (layout->minor >= 11)
		return count + field32(sizing, code, layout->code_values.nlocalsplus);
	return count + field32(sizing, code, layout->code_values.nlocals) +
	       items(sizing, field(sizing, code, layout->code_values.cellvars)) +
	       items(sizing, field(sizing, code, layout->code_values.freevars));
}

static uint64_t frame_size(struct sizing *sizing)
{
	const struct tap_python_layout *layout = sizing->layout;
	uint64_t frame, code;

	if (layout->minor < 11) {
		code = field(sizing, sizing->addr, layout->frame_object_values.code);
		/* The first of them is in the structure. */
		return (uint64_t)layout->frame_object_values.size + (slots(sizing, code) - 1) * 8;
	}
	frame = field(sizing, sizing->addr, layout->frame_object_values.frame);
	code = field(sizing, frame, layout->frame.code) & ~TAG_BITS;
	return (uint64_t)layout->frame_object_values.frame_data +
	       (uint64_t)layout->frame_values.localsplus + slots(sizing, code) * 8;
}

static uint64_t generator_size(struct sizing *sizing)
{
	const struct tap_python_layout *layout = sizing->layout;
	uint64_t code;

	if (layout->minor < 11)
		return generic_size(sizing);
	code = field(sizing, sizing->addr + (uint64_t)layout->generator.iframe,
		       layout->frame.code) &
	       ~TAG_BITS;
	return (uint64_t)layout->generator.iframe + (uint64_t)layout->frame_values.localsplus +
	       slots(sizing, code) * 8;
}

/* What 3.8 to 3.10 keep beside a code object. */
static uint64_t code_caches(struct sizing *sizing)
{
	const struct tap_python_layout *layout = sizing->layout;
	uint64_t addr = sizing->addr, size = 0, cells, code;

	cells = field(sizing, addr, layout->code_values.cellvars);
	if (field(sizing, addr, layout->code_values.cell2arg) && cells)
		size += items(sizing, cells) * 8;
	if (field(sizing, addr, layout->code_values.opcache))
		size += (uint64_t)(uint8_t)field32(sizing, addr, layout->code_values.opcache_size) *
			OPCACHE_BYTES;
	if (field(sizing, addr, layout->code_values.opcache_map)) {
		code = field(sizing, addr, layout->code.code);
		size += items(sizing, code) / 2;
	}
	return size;
}

static uint64_t code_size(struct sizing *sizing)
{
	const struct tap_python_layout *layout = sizing->layout;
	uint64_t size = generic_size(sizing);
	uint64_t extra = field(sizing, sizing->addr, layout->code_values.extra);

	if (layout->minor >= 11)
		size = (size + 7) & ~UINT64_C(7);
	if (extra) /* _PyCodeObjectExtra: their number, and as many pointers */
		size += 8 + field(sizing, extra, 0) * 8;
	if (layout->minor < 11)
		size += code_caches(sizing);
	return size;
}

/* From 3.15 on its bytes are those of a bytes object. */
static uint64_t bytearray_size(struct sizing *sizing)
{
	const struct tap_python_layout *layout = sizing->layout;
	uint64_t allocated = field(sizing, sizing->addr, layout->bytearray.allocated);
	uint64_t size = sizing->type->shown.basic_bytes + allocated;

	if (allocated && layout->bytearray.bytes_object >= 0)
		size += (uint64_t)layout->bytes.data + 1;
	return size;
}

static uint64_t own_size(struct sizing *sizing)
{
	const struct tap_python_layout *layout = sizing->layout;
	uint64_t basic = sizing->type->shown.basic_bytes;

	switch (sizing->type->sizer) {
	case TAP_PYTHON_SIZE_GENERIC:
		return generic_size(sizing);
	case TAP_PYTHON_SIZE_LIST:
		return basic + field(sizing, sizing->addr, layout->list.allocated) * 8;
	case TAP_PYTHON_SIZE_DICT:
		return dict_size(sizing);
	case TAP_PYTHON_SIZE_ODICT:
		return odict_size(sizing);
	case TAP_PYTHON_SIZE_SET:
		return set_size(sizing);
	case TAP_PYTHON_SIZE_DEQUE:
		return deque_size(sizing);
	case TAP_PYTHON_SIZE_BYTEARRAY:
		return bytearray_size(sizing);
	case TAP_PYTHON_SIZE_STR:
		return str_size(sizing);
	case TAP_PYTHON_SIZE_INT:
		return int_size(sizing);
	case TAP_PYTHON_SIZE_TYPE:
		return type_size(sizing);
	case TAP_PYTHON_SIZE_FRAME:
		return frame_size(sizing);
	case TAP_PYTHON_SIZE_GENERATOR:
		return generator_size(sizing);
	case TAP_PYTHON_SIZE_CODE:
		return code_size(sizing);
	default:
		sizing->failed = true;
		return 0;
	}
}

uint64_t tap_python_heap_sizeof(
	struct tap_python_heap *heap, const struct tap_python_object *object)
{
	struct tap_python_heap_type *type = heap->types.items[object->type];
	struct sizing sizing = {
		.heap = heap, .layout = heap->layout, .type = type, .addr = object->addr};
	uint64_t size, lead = object->lead_bytes;

	if (type->sizer == TAP_PYTHON_SIZE_NONE)
		type->sizer = choose_sizer(heap, type);
	size = own_size(&sizing);
	/* Of static types 3.11 and 3.12 count a head that they do not have. */
	if (heap->layout->minor == 11 || heap->layout->minor == 12)
		lead = type->lead_bytes;
	return sizing.failed || size > MAX_SIZE ? 0 : size + lead;
}
