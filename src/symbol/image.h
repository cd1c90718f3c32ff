/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TAP_SYMBOL_IMAGE_H
#define TAP_SYMBOL_IMAGE_H

/*
 * The bytes of one ELF file, held as a private mapping that keeps no
 * descriptor open: of the file itself, or put together from the memory of a
 * process where the file cannot be opened. Addresses here are p_vaddr's.
 */

#include <gelf.h>
#include <elfutils/libdw.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "heaptap/base/vector.h"
#include "heaptap/memory/memory.h"

struct tap_image {
	uint8_t *bytes;
	size_t size_bytes;
	Elf *elf;
	Dwarf *dwarf; /* see tap_image_dwarf() */
	bool dwarf_tried;
	bool from_memory;
	uint64_t memory_bias; /* from memory: what the linker added to addresses in it */
	TAP_VECTOR(GElf_Phdr) segments;
};

/* An open regular file that holds an x86-64 ELF object; NULL for any other.
 * fd stays the caller's. */
struct tap_image *tap_image_open(int fd);
/* As tap_image_open(), by path; never waits (a path may name a FIFO). */
struct tap_image *tap_image_open_path(const char *path);
/* From memory where the file's first byte is mapped at [start, end). whole:
 * the mapping shows all of the file ([vdso]). */
struct tap_image *tap_image_read(
	struct tap_memory *memory, uint64_t start, uint64_t end, bool whole);
void tap_image_close(struct tap_image *image); /* takes NULL */

/* The PT_LOAD whose part of the file holds offset, executable ones first. */
const GElf_Phdr *tap_image_segment_of_offset(const struct tap_image *image, uint64_t offset);
/* The PT_LOAD that holds vaddr in memory, or NULL. */
const GElf_Phdr *tap_image_segment_at(const struct tap_image *image, uint64_t vaddr);
/* Lowest and highest (exclusive) page of all PT_LOADs; false for none. */
bool tap_image_extent(const struct tap_image *image, uint64_t *low_ret, uint64_t *high_ret);
/* The file's own bytes at vaddr, size_bytes of them; NULL outside. */
const uint8_t *tap_image_at(const struct tap_image *image, uint64_t vaddr, size_t size_bytes);

/* NULL where there is no such section. */
Elf_Scn *tap_image_section(const struct tap_image *image, const char *name, GElf_Shdr *shdr_ret);
bool tap_image_has_dwarf(const struct tap_image *image);
/* NULL where there is none; opened once. */
Dwarf *tap_image_dwarf(struct tap_image *image);

/* The build id as lower-case hex, in a string of its own; NULL for none. */
char *tap_image_build_id(const struct tap_image *image);

static inline void tap_image_cleanup(struct tap_image **image)
{
	tap_image_close(*image);
}
#define _cleanup_image_ __attribute__((cleanup(tap_image_cleanup)))

#endif
