/* SPDX-License-Identifier: Apache-2.0 */
#include <dwarf.h>
#include <stdlib.h>
#include <string.h>
#include "units.h"

#define RANGES_MAX 100000

struct range {
	uint64_t start, end;
	uint32_t unit;
};

struct tap_units {
	TAP_VECTOR(struct tap_unit) units;
	TAP_VECTOR(struct range) ranges; /* by start */
	uint64_t longest; /* bounds the look back */
};

static void add_ranges(struct tap_units *units, Dwarf_Die *die)
{
	Dwarf_Addr base, start, end;
	ptrdiff_t offset = 0;

	for (int i = 0; i < RANGES_MAX; i++) {
		offset = dwarf_ranges(die, offset, &base, &start, &end);
		if (offset <= 0)
			return;
		if (start >= end)
			continue;
		if (end - start > units->longest)
			units->longest = end - start;
		tap_vector_push(&units->ranges,
			((struct range){start, end, (uint32_t)(units->units.count - 1)}));
	}
}

static int by_start(const void *a, const void *b)
{
	const struct range *x = a, *y = b;

	return x->start < y->start ? -1 : x->start > y->start;
}

static void load_units(struct tap_object *object, Dwarf *dwarf)
{
	struct tap_units *units = tap_alloc(sizeof(*units));
	Dwarf_CU *cu = NULL;
	uint8_t type;
	struct tap_unit unit;

	object->units_tried = true;
	object->units = units;
	while (!dwarf_get_units(dwarf, cu, &cu, NULL, &type, &unit.die, &unit.scope)) {
		if (type != DW_UT_compile && type != DW_UT_skeleton)
			continue;
		if (dwarf_tag(&unit.scope) == DW_TAG_invalid)
			unit.scope = unit.die;
		tap_vector_push(&units->units, unit);
		add_ranges(units, &unit.die);
	}
	if (units->ranges.count)
		qsort(units->ranges.items, units->ranges.count, sizeof(units->ranges.items[0]),
			by_start);
}

struct tap_unit *tap_object_unit_at(struct tap_object *object, Dwarf *dwarf, uint64_t vaddr)
{
	struct tap_units *units;
	size_t low = 0, high;

	if (!object->units_tried)
		load_units(object, dwarf);
	units = object->units;
	high = units->ranges.count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (units->ranges.items[middle].start <= vaddr)
			low = middle + 1;
		else
			high = middle;
	}
	for (; low > 0; low--) {
		const struct range *range = &units->ranges.items[low - 1];

		if (vaddr < range->end)
			return &units->units.items[range->unit];
		if (vaddr - range->start >= units->longest)
			break;
	}
	return NULL;
}

void tap_object_drop_units(struct tap_object *object)
{
	if (!object->units)
		return;
	tap_vector_free(&object->units->units);
	tap_vector_free(&object->units->ranges);
	free(object->units);
	object->units = NULL;
}
