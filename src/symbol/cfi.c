/* SPDX-License-Identifier: Apache-2.0 */
#include "object.h"

void tap_object_load_cfi(struct tap_object *object)
{
	Dwarf *dwarf;

	if (object->cfi_tried || !object->image)
		return;
	object->cfi_tried = true;
	object->eh_frame = dwarf_getcfi_elf(object->image->elf);
	dwarf = tap_image_dwarf(object->image);
	if (dwarf)
		object->debug_frame = dwarf_getcfi(dwarf);
}

void tap_object_drop_cfi(struct tap_object *object)
{
	if (object->eh_frame)
		dwarf_cfi_end(object->eh_frame);
	object->eh_frame = NULL;
}
