/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TAP_SYMBOL_UNITS_H
#define TAP_SYMBOL_UNITS_H

/*
 * Which compilation unit describes an address. From the units' own ranges:
 * .debug_aranges is left out by clang and rustc.
 */

#include <elfutils/libdw.h>
#include <stdbool.h>
#include "object.h"

struct tap_unit {
	Dwarf_Die die;   /* of the unit, or its skeleton: has the line table */
	Dwarf_Die scope; /* what has the functions: the split unit's where it was found */
};

/* vaddr is an address of the debug image's. NULL where no unit covers it. */
struct tap_unit *tap_object_unit_at(struct tap_object *object, Dwarf *dwarf, uint64_t vaddr);

#endif
