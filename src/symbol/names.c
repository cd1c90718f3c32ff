/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The symbols of an object: .dynsym and .symtab of its file, and .symtab of
 * its debug file where it was stripped; by address and by name.
 */
#include <stdlib.h>
#include <string.h>
#include "object.h"

/* Overlapping and nested symbols are rare: how far to look back for one. */
#define LOOK_BACK 64
#define VERSION_HIDDEN 0x8000u
#define DYNAMIC_MAX (UINT32_C(1) << 22)

/* One table and what is needed to make sense of it. */
struct table {
	const struct tap_image *image;
	Elf_Data *symbols;
	Elf_Data *versions; /* of .dynsym, or NULL */
	size_t strings;     /* index of its string section */
	uint64_t delta;     /* added to each address */
	bool dynamic;
};

static bool is_wanted(const GElf_Sym *sym)
{
	int type = GELF_ST_TYPE(sym->st_info);

	return sym->st_shndx != SHN_UNDEF && sym->st_shndx != SHN_ABS && sym->st_value &&
		(type == STT_FUNC || type == STT_OBJECT || type == STT_NOTYPE ||
			type == STT_GNU_IFUNC);
}

static uint8_t flags_of(const GElf_Sym *sym, bool dynamic, bool hidden)
{
	int type = GELF_ST_TYPE(sym->st_info), bind = GELF_ST_BIND(sym->st_info);
	int visibility = GELF_ST_VISIBILITY(sym->st_other);
	bool global = bind == STB_GLOBAL || bind == STB_WEAK || bind == STB_GNU_UNIQUE;
	uint8_t flags = 0;

	if (type == STT_FUNC || type == STT_GNU_IFUNC)
		flags |= TAP_NAME_FUNCTION;
	if (type == STT_GNU_IFUNC)
		flags |= TAP_NAME_IFUNC;
	if (global)
		flags |= TAP_NAME_GLOBAL;
	if (dynamic)
		flags |= TAP_NAME_DYNAMIC;
	if (dynamic && global && !hidden &&
		(visibility == STV_DEFAULT || visibility == STV_PROTECTED))
		flags |= TAP_NAME_EXPORT;
	return flags;
}

/* Symbols of assembly have no size: they reach up to their section's end at
 * most, and only in code. */
static void give_size(const struct tap_image *image, const GElf_Sym *sym, struct tap_name *name)
{
	Elf_Scn *scn = elf_getscn(image->elf, sym->st_shndx);
	GElf_Shdr shdr;

	name->size_bytes = sym->st_size;
	if (sym->st_size)
		return;
	name->flags |= TAP_NAME_NO_SIZE;
	if (scn && gelf_getshdr(scn, &shdr) && (shdr.sh_flags & SHF_EXECINSTR) &&
		sym->st_value >= shdr.sh_addr && sym->st_value - shdr.sh_addr < shdr.sh_size)
		name->size_bytes = shdr.sh_size - (sym->st_value - shdr.sh_addr);
}

static void add_name(struct tap_object *object, const struct table *table, const GElf_Sym *sym,
	const char *text, bool hidden)
{
	struct tap_name name = {.text = text, .vaddr = sym->st_value + table->delta};

	if (!text || !*text || !is_wanted(sym) ||
		!tap_image_segment_at(object->image, name.vaddr))
		return;
	name.flags = flags_of(sym, table->dynamic, hidden);
	give_size(table->image, sym, &name);
	tap_vector_push(&object->names, name);
}

static void add_table(struct tap_object *object, const struct table *table)
{
	size_t count = table->symbols->d_size / sizeof(Elf64_Sym);
	GElf_Sym sym;

	for (size_t i = 1; i < count && i < INT32_MAX; i++) {
		GElf_Versym version = 0;

		if (!gelf_getsym(table->symbols, (int)i, &sym) || !is_wanted(&sym))
			continue;
		if (table->versions && !gelf_getversym(table->versions, (int)i, &version))
			version = 0;
		add_name(object, table, &sym,
			elf_strptr(table->image->elf, table->strings, sym.st_name),
			version & VERSION_HIDDEN);
	}
}

static Elf_Data *data_of_type(const struct tap_image *image, GElf_Word type, GElf_Shdr *shdr)
{
	Elf_Scn *scn = NULL;

	while ((scn = elf_nextscn(image->elf, scn)))
		if (gelf_getshdr(scn, shdr) && shdr->sh_type == type)
			return elf_getdata(scn, NULL);
	return NULL;
}

static bool add_section(struct tap_object *object, const struct tap_image *image, GElf_Word type,
	uint64_t delta)
{
	struct table table = {.image = image, .delta = delta, .dynamic = type == SHT_DYNSYM};
	GElf_Shdr shdr, unused;

	table.symbols = data_of_type(image, type, &shdr);
	if (!table.symbols || !table.symbols->d_buf)
		return false;
	table.strings = shdr.sh_link;
	if (table.dynamic)
		table.versions = data_of_type(image, SHT_GNU_versym, &unused);
	add_table(object, &table);
	return true;
}

/* The dynamic section as the dynamic linker sees it, for a file without
 * section headers. Addresses in memory have been relocated. */
struct dynamic {
	uint64_t symbols, strings, strings_size, versions;
};

static bool find_dynamic(const struct tap_image *image, struct dynamic *ret)
{
	const GElf_Phdr *phdr = NULL;

	memset(ret, 0, sizeof(*ret));
	for (size_t i = 0; i < image->segments.count; i++)
		if (image->segments.items[i].p_type == PT_DYNAMIC)
			phdr = &image->segments.items[i];
	for (size_t i = 0; phdr && i < phdr->p_filesz / sizeof(Elf64_Dyn) && i < 4096; i++) {
		const uint8_t *at = tap_image_at(
			image, phdr->p_vaddr + i * sizeof(Elf64_Dyn), sizeof(Elf64_Dyn));
		uint64_t value;
		Elf64_Dyn dyn;

		if (!at)
			break;
		memcpy(&dyn, at, sizeof(dyn));
		value = dyn.d_un.d_ptr;
		if (dyn.d_tag != DT_STRSZ && image->from_memory && value >= image->memory_bias)
			value -= image->memory_bias;
		switch (dyn.d_tag) {
		case DT_NULL:
			return ret->symbols && ret->strings;
		case DT_SYMTAB:
			ret->symbols = value;
			break;
		case DT_STRTAB:
			ret->strings = value;
			break;
		case DT_STRSZ:
			ret->strings_size = value;
			break;
		case DT_VERSYM:
			ret->versions = value;
			break;
		default:
			break;
		}
	}
	return ret->symbols && ret->strings;
}

/* The string table follows the symbol table in every linker's layout: their
 * distance bounds the count without walking a hash table that may lie. */
static void add_dynamic(struct tap_object *object)
{
	const struct tap_image *image = object->image;
	struct table table = {.image = image, .dynamic = true};
	struct dynamic dynamic;
	size_t count;

	if (!find_dynamic(image, &dynamic) || dynamic.strings <= dynamic.symbols)
		return;
	count = (dynamic.strings - dynamic.symbols) / sizeof(Elf64_Sym);
	for (size_t i = 1; i < count && i < DYNAMIC_MAX; i++) {
		const uint8_t *at = tap_image_at(
			image, dynamic.symbols + i * sizeof(Elf64_Sym), sizeof(Elf64_Sym));
		const uint8_t *text, *version = NULL;
		Elf64_Sym sym;
		size_t room;

		if (!at)
			break;
		memcpy(&sym, at, sizeof(sym));
		if (sym.st_name >= dynamic.strings_size)
			continue;
		room = dynamic.strings_size - sym.st_name;
		text = tap_image_at(image, dynamic.strings + sym.st_name, room);
		if (!text || !memchr(text, '\0', room))
			continue;
		if (dynamic.versions)
			version = tap_image_at(image, dynamic.versions + i * 2, 2);
		add_name(object, &table, &sym, (const char *)text,
			version && (version[1] & (VERSION_HIDDEN >> 8)));
	}
}

/* By address; for one address what is exported first, then by name. */
static int by_address(const void *a, const void *b)
{
	const struct tap_name *x = a, *y = b;

	if (x->vaddr != y->vaddr)
		return x->vaddr < y->vaddr ? -1 : 1;
	if ((x->flags ^ y->flags) & TAP_NAME_DYNAMIC)
		return x->flags & TAP_NAME_DYNAMIC ? -1 : 1;
	return strcmp(x->text, y->text);
}

/* "malloc@@GLIBC_2.2.5" in .symtab is malloc; "@" alone an older version. */
static size_t bare_length(const char *text)
{
	const char *at = strchr(text, '@');

	return at && at[1] == '@' ? (size_t)(at - text) : strlen(text);
}

static bool is_repeated(const struct tap_names *names, size_t kept, const struct tap_name *name)
{
	size_t length = bare_length(name->text);

	if (name->flags & TAP_NAME_DYNAMIC)
		return false;
	for (size_t i = kept; i > 0 && kept - i < LOOK_BACK; i--) {
		const struct tap_name *other = &names->items[i - 1];

		if (other->vaddr != name->vaddr)
			return false;
		if (bare_length(other->text) == length && !memcmp(other->text, name->text, length))
			return true;
	}
	return false;
}

/* What .dynsym and .symtab both have is kept once, as exported. */
static void drop_repeated(struct tap_names *names)
{
	size_t kept = 0;

	for (size_t i = 0; i < names->count; i++)
		if (!is_repeated(names, kept, &names->items[i]))
			names->items[kept++] = names->items[i];
	names->count = kept;
}

static uint64_t hash_of(const char *text)
{
	return tap_hash_bytes(text, bare_length(text), 0);
}

static void index_names(struct tap_object *object)
{
	struct tap_names *names = &object->names;

	if (names->count)
		qsort(names->items, names->count, sizeof(names->items[0]), by_address);
	drop_repeated(names);
	for (size_t i = names->count; i-- > 0;) {
		uint64_t *head =
			tap_map_put(&object->names_by_hash, hash_of(names->items[i].text), NULL);

		names->items[i].next = (uint32_t)*head;
		*head = i + 1;
	}
}

void tap_object_load_names(struct tap_object *object)
{
	if (object->names_tried)
		return;
	object->names_tried = true;
	if (!object->image)
		return;
	if (!add_section(object, object->image, SHT_DYNSYM, 0))
		add_dynamic(object);
	if (!add_section(object, object->image, SHT_SYMTAB, 0)) {
		tap_object_find_debug(object);
		if (object->debug)
			add_section(object, object->debug, SHT_SYMTAB, object->debug_delta);
	}
	index_names(object);
}

void tap_object_drop_names(struct tap_object *object)
{
	tap_vector_free(&object->names);
	tap_map_deinit(&object->names_by_hash);
}

/* Of several names for one function: the one that people use. */
static unsigned rank(const struct tap_name *name)
{
	unsigned underscores = (unsigned)strspn(name->text, "_");
	size_t length = strlen(name->text);

	return (name->flags & TAP_NAME_FUNCTION ? 0 : 1u << 24) +
		(name->flags & TAP_NAME_GLOBAL ? 0 : 1u << 20) +
		((underscores < 15 ? underscores : 15) << 16) +
		(unsigned)(length < 0xffff ? length : 0xffff);
}

/* The best of the names that share items[last]'s address and cover vaddr. */
static const struct tap_name *best_of_address(
	const struct tap_names *names, size_t last, uint64_t vaddr, bool sized)
{
	const struct tap_name *best = NULL;
	uint64_t addr = names->items[last].vaddr;

	for (size_t i = last + 1; i > 0 && names->items[i - 1].vaddr == addr; i--) {
		const struct tap_name *name = &names->items[i - 1];

		if (last + 1 - i >= LOOK_BACK)
			break;
		if (!!(name->flags & TAP_NAME_NO_SIZE) != sized && vaddr - addr < name->size_bytes &&
			(!best || rank(name) < rank(best)))
			best = name;
	}
	return best;
}

const struct tap_name *tap_object_name_at(struct tap_object *object, uint64_t vaddr)
{
	const struct tap_names *names = &object->names;
	const struct tap_name *name;
	size_t low = 0, high;

	tap_object_load_names(object);
	high = names->count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (names->items[middle].vaddr <= vaddr)
			low = middle + 1;
		else
			high = middle;
	}
	if (!low)
		return NULL;
	for (size_t i = low; i > 0 && low - i < LOOK_BACK; i--) {
		name = best_of_address(names, i - 1, vaddr, true);
		if (name)
			return name;
	}
	return best_of_address(names, low - 1, vaddr, false);
}

/* flags: what it must have. What is exported comes first, then functions. */
const struct tap_name *tap_object_named(
	struct tap_object *object, const char *text, uint8_t flags)
{
	const struct tap_name *best = NULL;
	size_t length = strlen(text);
	uint64_t *head;

	tap_object_load_names(object);
	head = tap_map_find(&object->names_by_hash, tap_hash_bytes(text, length, 0));
	for (size_t i = head ? (size_t)*head : 0; i; i = object->names.items[i - 1].next) {
		const struct tap_name *name = &object->names.items[i - 1];
		const unsigned order = TAP_NAME_EXPORT | TAP_NAME_GLOBAL;

		if (bare_length(name->text) != length || memcmp(name->text, text, length) ||
			(name->flags & flags) != flags)
			continue;
		if (!best || (name->flags & order) > (best->flags & order))
			best = name;
	}
	return best;
}
