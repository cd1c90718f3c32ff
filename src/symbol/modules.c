/* SPDX-License-Identifier: Apache-2.0 */
#include <elf.h>
#include <stdlib.h>
#include <string.h>
#include "heaptap/base/cleanup.h"
#include "heaptap/proc/root.h"
#include "object.h"

/* A process that maps files without end must not fill our memory. */
#define MODULES_MAX 8192
#define EXTENT_MAX_BYTES (UINT64_C(16) << 30)

static bool is_same_file(const struct tap_object *object, const struct tap_mapping *mapping)
{
	return object->inode == mapping->inode && object->dev_major == mapping->dev_major &&
		object->dev_minor == mapping->dev_minor && !strcmp(object->path, mapping->path);
}

static bool can_be_module(const struct tap_mapping *mapping)
{
	return mapping->executable && (mapping->inode || !strcmp(mapping->path, "[vdso]"));
}

static struct tap_loaded *live_at(const struct tap_symbols *symbols, uint64_t addr)
{
	size_t low = 0, high = symbols->by_start.count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (symbols->by_start.items[middle]->module.start <= addr)
			low = middle + 1;
		else
			high = middle;
	}
	if (!low || addr >= symbols->by_start.items[low - 1]->module.end)
		return NULL;
	return symbols->by_start.items[low - 1];
}

static struct tap_object *object_of(struct tap_symbols *symbols, const struct tap_maps *maps,
	const struct tap_mapping *mapping)
{
	struct tap_object *object;

	for (size_t i = 0; mapping->inode && i < symbols->objects.count; i++)
		if (is_same_file(symbols->objects.items[i], mapping))
			return symbols->objects.items[i];
	object = tap_object_open(symbols, maps, mapping);
	tap_vector_push(&symbols->objects, object);
	return object;
}

/* Where the object lies by its program headers, which may lie themselves:
 * false where they do not agree with the mapping. */
static bool place(const struct tap_object *object, const struct tap_mapping *mapping,
	struct tap_module *module)
{
	const GElf_Phdr *segment;
	uint64_t low, high;

	if (!object->image)
		return false;
	segment = tap_image_segment_of_offset(object->image, mapping->offset);
	if (!segment || !tap_image_extent(object->image, &low, &high))
		return false;
	module->bias = mapping->start - mapping->offset + segment->p_offset - segment->p_vaddr;
	module->start = module->bias + low;
	module->end = module->bias + high;
	return high - low <= EXTENT_MAX_BYTES && module->start < module->end &&
		module->start <= mapping->start && mapping->start < module->end;
}

/* Fits what the program headers say to what is mapped: the lowest mapping of
 * the file, and nothing of another file's. */
static void fit(const struct tap_object *object, const struct tap_maps *maps,
	const struct tap_mapping *mapping, struct tap_module *module)
{
	const struct tap_mapping *m = mapping;
	uint64_t low = module->start;

	module->start = mapping->start;
	for (; m >= maps->items && m->start >= low; m--)
		if (is_same_file(object, m))
			module->start = m->start;
	for (m = mapping; m < maps->items + maps->count && m->start < module->end; m++) {
		if (m->inode && !is_same_file(object, m)) {
			module->end = m->start;
			break;
		}
	}
	if (module->end < mapping->end)
		module->end = mapping->end;
}

static struct tap_loaded *revive(struct tap_symbols *symbols, const struct tap_object *object,
	const struct tap_module *place_now)
{
	for (size_t i = 0; i < symbols->loaded.count; i++) {
		struct tap_loaded *loaded = symbols->loaded.items[i];

		if (loaded->object == object && loaded->module.bias == place_now->bias &&
			loaded->module.start == place_now->start &&
			loaded->module.end == place_now->end)
			return loaded;
	}
	return NULL;
}

static void add_module(struct tap_symbols *symbols, const struct tap_maps *maps,
	const struct tap_mapping *mapping)
{
	struct tap_object *object = object_of(symbols, maps, mapping);
	struct tap_module module = {0};
	struct tap_loaded *loaded;

	if (place(object, mapping, &module)) {
		fit(object, maps, mapping, &module);
	} else {
		module.bias = mapping->start - mapping->offset;
		module.start = mapping->start;
		module.end = mapping->end;
	}
	loaded = revive(symbols, object, &module);
	if (!loaded) {
		loaded = tap_alloc(sizeof(*loaded));
		loaded->module = module;
		loaded->object = object;
		tap_vector_push(&symbols->loaded, loaded);
	}
	loaded->module.path = object->path;
	loaded->module.name = object->name;
	loaded->module.build_id = object->build_id;
	loaded->module.deleted = mapping->deleted;
	loaded->module.from_memory = object->image && object->image->from_memory;
	loaded->module.retired = false;
	loaded->seen = true;
}

static int by_start(const void *a, const void *b)
{
	const struct tap_loaded *const *x = a, *const *y = b;

	return (*x)->module.start < (*y)->module.start ? -1
						       : (*x)->module.start > (*y)->module.start;
}

static void index_live(struct tap_symbols *symbols)
{
	symbols->by_start.count = 0;
	for (size_t i = 0; i < symbols->loaded.count; i++)
		if (!symbols->loaded.items[i]->module.retired)
			tap_vector_push(&symbols->by_start, symbols->loaded.items[i]);
	if (symbols->by_start.count)
		qsort(symbols->by_start.items, symbols->by_start.count,
			sizeof(symbols->by_start.items[0]), by_start);
}

static bool retire_unseen(struct tap_symbols *symbols)
{
	bool changed = false;

	for (size_t i = 0; i < symbols->loaded.count; i++) {
		struct tap_loaded *loaded = symbols->loaded.items[i];

		if (!loaded->seen && !loaded->module.retired) {
			loaded->module.retired = true;
			changed = true;
		}
	}
	return changed;
}

static void note_executable(struct tap_symbols *symbols, const struct tap_maps *maps)
{
	struct tap_extents *extents = &symbols->executable;

	extents->count = 0;
	for (size_t i = 0; i < maps->count; i++) {
		const struct tap_mapping *m = &maps->items[i];

		if (!m->executable)
			continue;
		if (extents->count && extents->items[extents->count - 1].end == m->start) {
			extents->items[extents->count - 1].end = m->end;
			continue;
		}
		tap_vector_push(extents, ((struct tap_extent){m->start, m->end}));
	}
}

/* The kernel's word for which file was executed and which one loads. */
static void mark_roles(struct tap_symbols *symbols)
{
	_cleanup_error_ struct tap_error *err = NULL;
	_cleanup_free_ char *text = NULL;
	struct tap_loaded *loaded;
	size_t size = 0;

	err = tap_proc_read(symbols->pid, "auxv", &text, &size);
	if (err)
		return;
	for (size_t at = 0; at + sizeof(Elf64_auxv_t) <= size; at += sizeof(Elf64_auxv_t)) {
		Elf64_auxv_t entry;

		memcpy(&entry, text + at, sizeof(entry));
		if (entry.a_type == AT_NULL)
			break;
		loaded = live_at(symbols, entry.a_un.a_val);
		if (loaded && entry.a_type == AT_ENTRY)
			loaded->module.executable = true;
		if (loaded && entry.a_type == AT_BASE)
			loaded->module.interpreter = true;
	}
}

struct tap_error *tap_symbols_update(
	struct tap_symbols *symbols, const struct tap_maps *maps, bool *changed_ret)
{
	bool changed = false;

	for (size_t i = 0; i < symbols->loaded.count; i++)
		symbols->loaded.items[i]->seen = false;
	for (size_t i = 0; i < maps->count; i++) {
		const struct tap_mapping *mapping = &maps->items[i];
		struct tap_loaded *loaded;

		if (!can_be_module(mapping))
			continue;
		loaded = live_at(symbols, mapping->start);
		if (loaded && is_same_file(loaded->object, mapping)) {
			loaded->seen = true;
			loaded->module.deleted = mapping->deleted;
		} else if (symbols->loaded.count < MODULES_MAX) {
			add_module(symbols, maps, mapping);
			index_live(symbols);
			changed = true;
		}
	}
	if (retire_unseen(symbols))
		changed = true;
	note_executable(symbols, maps);
	if (changed) {
		index_live(symbols);
		mark_roles(symbols);
	}
	if (changed_ret)
		*changed_ret = changed;
	return NULL;
}

struct tap_error *tap_symbols_open(pid_t pid, struct tap_memory *memory,
	const struct tap_maps *maps, const char *debug_dir, struct tap_symbols **ret)
{
	struct tap_symbols *symbols = tap_alloc(sizeof(*symbols));
	struct tap_error *err;

	symbols->pid = pid;
	symbols->memory = memory;
	symbols->debug_dir = debug_dir;
	err = tap_symbols_update(symbols, maps, NULL);
	if (err) {
		tap_symbols_close(symbols);
		return err;
	}
	*ret = symbols;
	return NULL;
}

void tap_symbols_close(struct tap_symbols *symbols)
{
	if (!symbols)
		return;
	for (size_t i = 0; i < symbols->loaded.count; i++)
		free(symbols->loaded.items[i]);
	for (size_t i = 0; i < symbols->objects.count; i++)
		tap_object_close(symbols->objects.items[i]);
	tap_lines_destroy(symbols->lines);
	tap_vector_free(&symbols->loaded);
	tap_vector_free(&symbols->by_start);
	tap_vector_free(&symbols->objects);
	tap_vector_free(&symbols->executable);
	free(symbols);
}

size_t tap_symbols_count(const struct tap_symbols *symbols)
{
	return symbols->loaded.count;
}

struct tap_module *tap_symbols_at_index(const struct tap_symbols *symbols, size_t index)
{
	return index < symbols->loaded.count ? &symbols->loaded.items[index]->module : NULL;
}

struct tap_module *tap_symbols_module_at(const struct tap_symbols *symbols, uint64_t addr)
{
	struct tap_loaded *loaded = live_at(symbols, addr);

	if (loaded)
		return &loaded->module;
	/* The one that came last is the one an old stack means most likely. */
	for (size_t i = symbols->loaded.count; i-- > 0;) {
		loaded = symbols->loaded.items[i];
		if (loaded->module.retired && addr >= loaded->module.start &&
			addr < loaded->module.end)
			return &loaded->module;
	}
	return NULL;
}

bool tap_symbols_is_executable(const struct tap_symbols *symbols, uint64_t addr)
{
	size_t low = 0, high = symbols->executable.count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (symbols->executable.items[middle].end <= addr)
			low = middle + 1;
		else
			high = middle;
	}
	return low < symbols->executable.count && addr >= symbols->executable.items[low].start;
}
