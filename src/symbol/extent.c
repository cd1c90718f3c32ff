/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which code belongs together: one extent per FDE of .eh_frame, read straight
 * from the section (Linux Standard Base, "DWARF Extensions"), as libdw gives
 * the range of a row only.
 */
#include <dwarf.h>
#include <stdlib.h>
#include <string.h>
#include "object.h"

/* The section, its address, and where a value is read in it. */
struct cursor {
	const uint8_t *at;
	const uint8_t *end;
	const uint8_t *start;
	uint64_t vaddr; /* of start */
};

static bool read_fixed(struct cursor *c, size_t size_bytes, bool is_signed, uint64_t *ret)
{
	uint64_t value = 0;

	if ((size_t)(c->end - c->at) < size_bytes)
		return false;
	memcpy(&value, c->at, size_bytes);
	if (is_signed && size_bytes < 8 && value >> (size_bytes * 8 - 1))
		value |= UINT64_MAX << (size_bytes * 8);
	c->at += size_bytes;
	*ret = value;
	return true;
}

static bool read_leb(struct cursor *c, bool is_signed, uint64_t *ret)
{
	uint64_t value = 0;
	unsigned shift = 0;
	uint8_t byte;

	do {
		if (c->at >= c->end || shift > 63)
			return false;
		byte = *c->at++;
		value |= (uint64_t)(byte & 0x7f) << shift;
		shift += 7;
	} while (byte & 0x80);
	if (is_signed && shift < 64 && (byte & 0x40))
		value |= UINT64_MAX << shift;
	*ret = value;
	return true;
}

/* A pointer in one of the DW_EH_PE encodings. relative: false for a length. */
static bool read_encoded(struct cursor *c, uint8_t encoding, bool relative, uint64_t *ret)
{
	uint64_t here = c->vaddr + (uint64_t)(c->at - c->start);
	bool ok;

	switch (encoding & 0x0f) {
	case DW_EH_PE_absptr:
	case DW_EH_PE_udata8:
	case DW_EH_PE_sdata8:
		ok = read_fixed(c, 8, false, ret);
		break;
	case DW_EH_PE_udata4:
		ok = read_fixed(c, 4, false, ret);
		break;
	case DW_EH_PE_sdata4:
		ok = read_fixed(c, 4, relative, ret);
		break;
	case DW_EH_PE_udata2:
		ok = read_fixed(c, 2, false, ret);
		break;
	case DW_EH_PE_sdata2:
		ok = read_fixed(c, 2, relative, ret);
		break;
	case DW_EH_PE_uleb128:
		ok = read_leb(c, false, ret);
		break;
	case DW_EH_PE_sleb128:
		ok = read_leb(c, true, ret);
		break;
	default:
		return false;
	}
	if (!ok || !relative)
		return ok;
	if ((encoding & 0x70) == DW_EH_PE_pcrel)
		*ret += here;
	return (encoding & 0x70) == DW_EH_PE_pcrel || (encoding & 0x70) == 0;
}

/* The encoding of addresses in the FDEs of a CIE; its augmentation says. */
static bool encoding_of(const Dwarf_CIE *cie, uint8_t *ret)
{
	struct cursor c = {cie->augmentation_data,
		cie->augmentation_data + cie->augmentation_data_size, NULL, 0};
	uint64_t unused;
	uint8_t encoding;

	*ret = DW_EH_PE_absptr;
	if (!cie->augmentation || cie->augmentation[0] != 'z' || !cie->augmentation_data)
		return !cie->augmentation || !cie->augmentation[0];
	for (const char *letter = cie->augmentation + 1; *letter; letter++) {
		if (*letter == 'S' || *letter == 'B')
			continue;
		if (c.at >= c.end)
			return false;
		encoding = *c.at++;
		if (*letter == 'R')
			*ret = encoding;
		else if (*letter == 'P' && !read_encoded(&c, encoding & 0x0f, false, &unused))
			return false;
		else if (!strchr("RPL", *letter))
			return false;
	}
	return true;
}

struct section {
	const uint8_t *bytes;
	size_t size_bytes;
	uint64_t vaddr;
	const unsigned char *ident;
};

static bool cie_encoding(Elf_Data *data, const struct section *section, Dwarf_Off offset,
	uint8_t *ret)
{
	Dwarf_CFI_Entry entry;
	Dwarf_Off next;

	return !dwarf_next_cfi(section->ident, data, true, offset, &next, &entry) &&
		dwarf_cfi_cie_p(&entry) && encoding_of(&entry.cie, ret);
}

static void add_extent(struct tap_object *object, const struct section *section,
	const Dwarf_FDE *fde, uint8_t encoding)
{
	struct cursor c = {fde->start, fde->end, section->bytes, section->vaddr};
	uint64_t start, size;

	if (read_encoded(&c, encoding, true, &start) && read_encoded(&c, encoding, false, &size) &&
		size && size <= UINT32_MAX && start + size > start && start)
		tap_vector_push(&object->extents, ((struct tap_extent){start, start + size}));
}

static void scan_section(struct tap_object *object, const struct section *section)
{
	Elf_Data data = {.d_buf = (void *)section->bytes, .d_size = section->size_bytes,
		.d_type = ELF_T_BYTE, .d_version = EV_CURRENT};
	Dwarf_Off offset = 0, next = 0, cie = (Dwarf_Off)-1;
	uint8_t encoding = DW_EH_PE_omit;
	Dwarf_CFI_Entry entry;

	for (; offset < section->size_bytes; offset = next) {
		int failed;

		next = offset;
		failed = dwarf_next_cfi(section->ident, &data, true, offset, &next, &entry);
		if (failed > 0 || next <= offset)
			return;
		if (failed || dwarf_cfi_cie_p(&entry))
			continue;
		if (entry.fde.CIE_pointer != cie) {
			cie = entry.fde.CIE_pointer;
			if (cie >= section->size_bytes ||
				!cie_encoding(&data, section, cie, &encoding))
				encoding = DW_EH_PE_omit;
		}
		if (encoding != DW_EH_PE_omit)
			add_extent(object, section, &entry.fde, encoding);
	}
}

/* Without section headers: PT_GNU_EH_FRAME says where .eh_frame begins; it
 * ends with a zero word, at its segment's end at the latest. */
static bool find_by_header(const struct tap_image *image, struct section *ret)
{
	for (size_t i = 0; i < image->segments.count; i++) {
		const GElf_Phdr *p = &image->segments.items[i], *segment;
		const uint8_t *header = tap_image_at(image, p->p_vaddr, 12);
		struct cursor c;
		uint64_t vaddr;

		if (p->p_type != PT_GNU_EH_FRAME || !header)
			continue;
		c = (struct cursor){header + 4, header + 12, header, p->p_vaddr};
		if (header[0] != 1 || !read_encoded(&c, header[1], true, &vaddr))
			return false;
		segment = tap_image_segment_at(image, vaddr);
		if (!segment || vaddr - segment->p_vaddr >= segment->p_filesz)
			return false;
		ret->vaddr = vaddr;
		ret->size_bytes = segment->p_filesz - (vaddr - segment->p_vaddr);
		ret->bytes = tap_image_at(image, vaddr, ret->size_bytes);
		return ret->bytes;
	}
	return false;
}

static bool find_section(const struct tap_image *image, struct section *ret)
{
	GElf_Shdr shdr;

	ret->ident = (const unsigned char *)elf_getident(image->elf, NULL);
	if (!tap_image_section(image, ".eh_frame", &shdr) || shdr.sh_type == SHT_NOBITS)
		return find_by_header(image, ret);
	ret->vaddr = shdr.sh_addr;
	ret->size_bytes = shdr.sh_size;
	ret->bytes = tap_image_at(image, shdr.sh_addr, shdr.sh_size);
	return ret->bytes;
}

static int by_start(const void *a, const void *b)
{
	const struct tap_extent *x = a, *y = b;

	return x->start < y->start ? -1 : x->start > y->start;
}

static void load_extents(struct tap_object *object)
{
	struct section section = {0};

	object->extents_tried = true;
	if (!object->image || !find_section(object->image, &section))
		return;
	scan_section(object, &section);
	if (object->extents.count)
		qsort(object->extents.items, object->extents.count,
			sizeof(object->extents.items[0]), by_start);
}

const struct tap_extent *tap_object_extent_at(struct tap_object *object, uint64_t vaddr)
{
	size_t low = 0, high;

	if (!object->extents_tried)
		load_extents(object);
	high = object->extents.count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (object->extents.items[middle].start <= vaddr)
			low = middle + 1;
		else
			high = middle;
	}
	if (!low || vaddr >= object->extents.items[low - 1].end)
		return NULL;
	return &object->extents.items[low - 1];
}
