/* SPDX-License-Identifier: Apache-2.0 */
#include "object.h"

/* Only where there is something to find: opening DWARF can mean unpacking
 * compressed sections, and the target may be waiting. */
static Dwarf_CFI *debug_frame_of(struct tap_image *image)
{
	Dwarf *dwarf;
	GElf_Shdr shdr;

	if (!tap_image_section(image, ".debug_frame", &shdr) || shdr.sh_type == SHT_NOBITS)
		return NULL;
	dwarf = tap_image_dwarf(image);
	return dwarf ? dwarf_getcfi(dwarf) : NULL;
}

/* .eh_frame is mapped and nearly everywhere; .debug_frame is for code that
 * was built without it. */
void tap_object_load_cfi(struct tap_object *object)
{
	if (object->cfi_tried)
		return;
	object->cfi_tried = true;
	if (!object->image)
		return;
	object->eh_frame = dwarf_getcfi_elf(object->image->elf);
	object->debug_frame = debug_frame_of(object->image);
	if (object->eh_frame || object->debug_frame)
		return;
	tap_object_find_debug(object);
	if (object->debug && !object->debug_delta)
		object->debug_frame = debug_frame_of(object->debug);
}

void tap_object_drop_cfi(struct tap_object *object)
{
	if (object->eh_frame)
		dwarf_cfi_end(object->eh_frame);
	object->eh_frame = NULL;
}
