/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TAP_SYMBOL_OBJECT_H
#define TAP_SYMBOL_OBJECT_H

/*
 * Inside of the symbol layer: what is known of one ELF file, in its own
 * addresses (p_vaddr), and the modules that are mappings of it. A file that is
 * mapped twice (dlmopen, dlclose and dlopen again) is one object. Everything
 * but the image is made when it is first asked for.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "heaptap/base/map.h"
#include "heaptap/base/vector.h"
#include "heaptap/symbol/symbols.h"
#include "image.h"

enum {
	TAP_NAME_FUNCTION = 1,
	TAP_NAME_IFUNC = 2,
	TAP_NAME_DYNAMIC = 4,
	TAP_NAME_EXPORT = 8,  /* the dynamic linker binds to it: default version, not local */
	TAP_NAME_GLOBAL = 16, /* global or weak */
	TAP_NAME_NO_SIZE = 32,/* size_bytes is the room up to its section's end */
};

struct tap_name {
	const char *text;
	uint64_t vaddr;
	uint64_t size_bytes;
	uint32_t next; /* with the same hash: index + 1, 0 at the end */
	uint8_t flags;
};

TAP_VECTOR_TYPE(tap_names, struct tap_name);
TAP_VECTOR_TYPE(tap_extents, struct tap_extent);
struct tap_units;

/* The code that one FDE describes; end is exclusive. */
struct tap_extent {
	uint64_t start;
	uint64_t end;
};

struct tap_object {
	struct tap_symbols *owner;
	uint64_t inode;
	uint32_t dev_major, dev_minor;
	char *path; /* as in maps */
	char *name; /* last component, inside path */
	char *build_id;

	struct tap_image *image; /* NULL: no ELF file */
	struct tap_image *debug; /* its separate debug file, or NULL */
	struct tap_image *alt;   /* what dwz moved out of it, or NULL */
	bool debug_tried;
	uint64_t debug_delta;    /* address in image = address in debug + this */

	struct tap_names names; /* by address */
	struct tap_map names_by_hash;
	bool names_tried;

	Dwarf_CFI *eh_frame;
	Dwarf_CFI *debug_frame; /* belongs to its Dwarf */
	bool cfi_tried;
	struct tap_extents extents; /* by start */
	bool extents_tried;
	struct tap_units *units;
	bool units_tried;
};

struct tap_loaded {
	struct tap_module module; /* what the caller sees: first */
	struct tap_object *object;
	bool seen;
};

struct tap_symbols {
	pid_t pid;
	struct tap_memory *memory;
	const char *debug_dir;
	TAP_VECTOR(struct tap_object *) objects;
	TAP_VECTOR(struct tap_loaded *) loaded; /* in the order they came */
	TAP_VECTOR(struct tap_loaded *) by_start; /* mapped ones */
	struct tap_extents executable; /* address ranges, whatever they show */
	struct tap_lines *lines; /* what was resolved; NULL until something was */
};

static inline struct tap_loaded *tap_loaded_of(const struct tap_module *module)
{
	return (struct tap_loaded *)module;
}

/* Is addr in an executable mapping, of a file or not? */
bool tap_symbols_is_executable(const struct tap_symbols *symbols, uint64_t addr);

/* open.c: finds what mapping shows; an object without image where it is no
 * ELF file or cannot be read. Never NULL. */
struct tap_object *tap_object_open(struct tap_symbols *symbols, const struct tap_maps *maps,
	const struct tap_mapping *mapping);
void tap_object_close(struct tap_object *object);

/* debugfile.c: the image that has DWARF, or NULL; looked for once. */
void tap_object_find_debug(struct tap_object *object);
/* The image whose .debug_info describes the object, NULL for none. */
struct tap_image *tap_object_dwarf_image(struct tap_object *object);

/* names.c */
void tap_object_load_names(struct tap_object *object);
const struct tap_name *tap_object_name_at(struct tap_object *object, uint64_t vaddr);
const struct tap_name *tap_object_named(
	struct tap_object *object, const char *text, uint8_t flags);
void tap_object_drop_names(struct tap_object *object);

/* extent.c */
const struct tap_extent *tap_object_extent_at(struct tap_object *object, uint64_t vaddr);

/* cfi.c */
void tap_object_load_cfi(struct tap_object *object);
void tap_object_drop_cfi(struct tap_object *object);

/* units.c */
void tap_object_drop_units(struct tap_object *object);

/* lines.c */
void tap_lines_destroy(struct tap_lines *lines); /* takes NULL */

#endif
