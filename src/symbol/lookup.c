/* SPDX-License-Identifier: Apache-2.0 */
/* Questions about a module, in the addresses of the process. */
#include <string.h>
#include "object.h"

static void to_symbol(
	const struct tap_module *module, const struct tap_name *name, struct tap_symbol *ret)
{
	ret->name = name->text;
	ret->addr = module->bias + name->vaddr;
	ret->size_bytes = name->flags & TAP_NAME_NO_SIZE ? 0 : name->size_bytes;
	ret->ifunc = name->flags & TAP_NAME_IFUNC;
	ret->dynamic = name->flags & TAP_NAME_DYNAMIC;
	ret->function = name->flags & TAP_NAME_FUNCTION;
}

static bool find_symbol(
	struct tap_module *module, const char *text, uint8_t flags, struct tap_symbol *ret)
{
	const struct tap_name *name =
		tap_object_named(tap_loaded_of(module)->object, text, flags);

	if (!name)
		return false;
	to_symbol(module, name, ret);
	return true;
}

bool tap_module_try_symbol(struct tap_module *module, const char *name, struct tap_symbol *ret)
{
	return find_symbol(module, name, 0, ret);
}

bool tap_module_try_export(struct tap_module *module, const char *name, struct tap_symbol *ret)
{
	return find_symbol(module, name, TAP_NAME_EXPORT, ret);
}

void tap_module_each_symbol(struct tap_module *module,
	bool (*fn)(void *context, const struct tap_symbol *symbol), void *context)
{
	struct tap_object *object = tap_loaded_of(module)->object;
	struct tap_symbol symbol;

	tap_object_load_names(object);
	for (size_t i = 0; i < object->names.count; i++) {
		to_symbol(module, &object->names.items[i], &symbol);
		if (!fn(context, &symbol))
			return;
	}
}

enum tap_debug_kind tap_module_debug(struct tap_module *module)
{
	struct tap_object *object = tap_loaded_of(module)->object;
	enum tap_debug_kind kind = TAP_DEBUG_NONE;

	if (tap_object_dwarf_image(object))
		return TAP_DEBUG_FULL;
	tap_object_load_names(object);
	for (size_t i = 0; i < object->names.count; i++) {
		if (!(object->names.items[i].flags & TAP_NAME_DYNAMIC))
			return TAP_DEBUG_SYMTAB;
		kind = TAP_DEBUG_DYNSYM;
	}
	return kind;
}

bool tap_module_try_section(
	struct tap_module *module, const char *name, uint64_t *addr_ret, uint64_t *size_ret)
{
	const struct tap_image *image = tap_loaded_of(module)->object->image;
	GElf_Shdr shdr;

	if (!image || !tap_image_section(image, name, &shdr) || !(shdr.sh_flags & SHF_ALLOC))
		return false;
	*addr_ret = module->bias + shdr.sh_addr;
	*size_ret = shdr.sh_size;
	return true;
}

struct tap_error *tap_module_file_bytes(
	struct tap_module *module, uint64_t addr, void *buf, size_t size_bytes)
{
	const struct tap_image *image = tap_loaded_of(module)->object->image;
	const uint8_t *bytes;

	if (!image || image->from_memory)
		return tap_error_new(
			TAP_ERR_UNSUPPORTED, "the file of %s cannot be read", module->path);
	bytes = tap_image_at(image, addr - module->bias, size_bytes);
	if (!bytes)
		return tap_error_new(TAP_ERR_NOT_FOUND, "0x%llx is not in the file of %s",
			(unsigned long long)addr, module->path);
	memcpy(buf, bytes, size_bytes);
	return NULL;
}

bool tap_symbols_try_name(struct tap_symbols *symbols, uint64_t pc, struct tap_symbol *ret)
{
	struct tap_module *module = tap_symbols_module_at(symbols, pc);
	const struct tap_name *name;

	if (!module)
		return false;
	name = tap_object_name_at(tap_loaded_of(module)->object, pc - module->bias);
	if (!name)
		return false;
	to_symbol(module, name, ret);
	return true;
}

bool tap_symbols_try_extent(
	struct tap_symbols *symbols, uint64_t pc, uint64_t *start_ret, uint64_t *end_ret)
{
	struct tap_module *module = tap_symbols_module_at(symbols, pc);
	const struct tap_extent *extent;

	if (!module)
		return false;
	extent = tap_object_extent_at(tap_loaded_of(module)->object, pc - module->bias);
	if (!extent)
		return false;
	*start_ret = module->bias + extent->start;
	*end_ret = module->bias + extent->end;
	return true;
}
