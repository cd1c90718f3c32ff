/* SPDX-License-Identifier: Apache-2.0 */
#include <elf.h>
#include <link.h>
#include <string.h>
#include "heaptap/base/alloc.h"
#include "heaptap/base/cleanup.h"
#include "session/entry_points.h"

/* Bounds on what a target can make us read. */
#define MAX_MODULES 4096
#define MAX_SEGMENTS 128
#define MAX_DYNAMIC 512

/* Where an allocator's names are wanted from. */
enum scope {
	EVERYWHERE,
	OWN_ALLOCATOR, /* only from a module that is jemalloc, tcmalloc or mimalloc */
};

static const struct {
	const char *symbol;
	enum tap_entry_kind kind;
	enum scope scope;
} names[] = {
	{"malloc", TAP_ENTRY_MALLOC, EVERYWHERE},
	{"calloc", TAP_ENTRY_CALLOC, EVERYWHERE},
	{"realloc", TAP_ENTRY_REALLOC, EVERYWHERE},
	{"reallocarray", TAP_ENTRY_REALLOCARRAY, EVERYWHERE},
	{"aligned_alloc", TAP_ENTRY_ALIGNED_ALLOC, EVERYWHERE},
	{"memalign", TAP_ENTRY_MEMALIGN, EVERYWHERE},
	{"posix_memalign", TAP_ENTRY_POSIX_MEMALIGN, EVERYWHERE},
	{"valloc", TAP_ENTRY_VALLOC, EVERYWHERE},
	{"pvalloc", TAP_ENTRY_PVALLOC, EVERYWHERE},
	{"free", TAP_ENTRY_FREE, EVERYWHERE},
	{"cfree", TAP_ENTRY_FREE, EVERYWHERE},
	{"free_sized", TAP_ENTRY_FREE, EVERYWHERE},
	{"free_aligned_sized", TAP_ENTRY_FREE, EVERYWHERE},
	{"mmap", TAP_ENTRY_MMAP, EVERYWHERE},
	{"mmap64", TAP_ENTRY_MMAP, EVERYWHERE},
	{"munmap", TAP_ENTRY_MUNMAP, EVERYWHERE},
	{"mremap", TAP_ENTRY_MREMAP, EVERYWHERE},
	{"mallocx", TAP_ENTRY_MALLOCX, OWN_ALLOCATOR},
	{"rallocx", TAP_ENTRY_RALLOCX, OWN_ALLOCATOR},
	{"dallocx", TAP_ENTRY_FREE, OWN_ALLOCATOR},
	{"sdallocx", TAP_ENTRY_FREE, OWN_ALLOCATOR},
	/* operator new and new[]: plain, nothrow, aligned, both */
	{"_Znwm", TAP_ENTRY_MALLOC, OWN_ALLOCATOR},
	{"_Znam", TAP_ENTRY_MALLOC, OWN_ALLOCATOR},
	{"_ZnwmRKSt9nothrow_t", TAP_ENTRY_MALLOC, OWN_ALLOCATOR},
	{"_ZnamRKSt9nothrow_t", TAP_ENTRY_MALLOC, OWN_ALLOCATOR},
	{"_ZnwmSt11align_val_t", TAP_ENTRY_MALLOC, OWN_ALLOCATOR},
	{"_ZnamSt11align_val_t", TAP_ENTRY_MALLOC, OWN_ALLOCATOR},
	{"_ZnwmSt11align_val_tRKSt9nothrow_t", TAP_ENTRY_MALLOC, OWN_ALLOCATOR},
	{"_ZnamSt11align_val_tRKSt9nothrow_t", TAP_ENTRY_MALLOC, OWN_ALLOCATOR},
	/* operator delete and delete[]: plain, sized, nothrow, aligned, mixed */
	{"_ZdlPv", TAP_ENTRY_FREE, OWN_ALLOCATOR},
	{"_ZdaPv", TAP_ENTRY_FREE, OWN_ALLOCATOR},
	{"_ZdlPvm", TAP_ENTRY_FREE, OWN_ALLOCATOR},
	{"_ZdaPvm", TAP_ENTRY_FREE, OWN_ALLOCATOR},
	{"_ZdlPvRKSt9nothrow_t", TAP_ENTRY_FREE, OWN_ALLOCATOR},
	{"_ZdaPvRKSt9nothrow_t", TAP_ENTRY_FREE, OWN_ALLOCATOR},
	{"_ZdlPvSt11align_val_t", TAP_ENTRY_FREE, OWN_ALLOCATOR},
	{"_ZdaPvSt11align_val_t", TAP_ENTRY_FREE, OWN_ALLOCATOR},
	{"_ZdlPvmSt11align_val_t", TAP_ENTRY_FREE, OWN_ALLOCATOR},
	{"_ZdaPvmSt11align_val_t", TAP_ENTRY_FREE, OWN_ALLOCATOR},
	{"_ZdlPvSt11align_val_tRKSt9nothrow_t", TAP_ENTRY_FREE, OWN_ALLOCATOR},
	{"_ZdaPvSt11align_val_tRKSt9nothrow_t", TAP_ENTRY_FREE, OWN_ALLOCATOR},
};
#define NAMES (sizeof(names) / sizeof(names[0]))

/* A name or a symbol that no other allocator has. */
static const struct {
	const char *in_name;
	const char *symbol;
	const char *kind;
	bool own_interface;
} allocators[] = {
	{"jemalloc", "mallocx", "jemalloc", true},
	{"jemalloc", "je_mallctl", "jemalloc", true},
	{"tcmalloc", "tc_malloc", "tcmalloc", true},
	{"tcmalloc", "MallocExtension_GetAllocatedSize", "tcmalloc", true},
	{"mimalloc", "mi_malloc", "mimalloc", true},
	{"libasan.", "__asan_init", "sanitizer", false},
	{"libtsan.", "__tsan_init", "sanitizer", false},
	{"liblsan.", "__lsan_init", "sanitizer", false},
	{"libhwasan.", "__hwasan_init", "sanitizer", false},
	{"ld-musl", "__libc_malloc_impl", "musl", false},
	{"libc.so.6", "gnu_get_libc_version", "glibc", false},
	{"libc.so.6", "_int_malloc", "glibc", false}, /* linked statically */
};

static int allocator_row(struct tap_module *module)
{
	struct tap_symbol symbol;

	for (size_t i = 0; i < sizeof(allocators) / sizeof(allocators[0]); i++)
		if (strstr(module->name, allocators[i].in_name) ||
			tap_module_try_symbol(module, allocators[i].symbol, &symbol))
			return (int)i;
	return -1;
}

const char *tap_entry_points_allocator(struct tap_module *module)
{
	int row = allocator_row(module);

	return row < 0 ? "other" : allocators[row].kind;
}

/* The executable's dynamic section, from its program headers in memory, which
 * a stripped file has too. */
static uint64_t find_dynamic(struct tap_memory *memory, const struct tap_module *executable)
{
	Elf64_Ehdr header;

	if (!tap_memory_try_read(memory, executable->start, &header, sizeof(header)) ||
		memcmp(header.e_ident, ELFMAG, SELFMAG) ||
		header.e_phentsize != sizeof(Elf64_Phdr) || header.e_phnum > MAX_SEGMENTS)
		return 0;
	for (unsigned i = 0; i < header.e_phnum; i++) {
		Elf64_Phdr segment;

		if (!tap_memory_try_read(memory,
			    executable->start + header.e_phoff + i * sizeof(segment), &segment,
			    sizeof(segment)))
			return 0;
		if (segment.p_type == PT_DYNAMIC)
			return executable->bias + segment.p_vaddr;
	}
	return 0;
}

/* The first link map, by way of the address that the dynamic linker leaves in
 * DT_DEBUG for debuggers (struct r_debug in <link.h>). */
static uint64_t first_link_map(struct tap_memory *memory, const struct tap_module *executable)
{
	uint64_t dynamic = find_dynamic(memory, executable);
	uint64_t map;

	for (unsigned i = 0; dynamic && i < MAX_DYNAMIC; i++) {
		Elf64_Dyn entry;

		if (!tap_memory_try_read(
			    memory, dynamic + i * sizeof(entry), &entry, sizeof(entry)) ||
			entry.d_tag == DT_NULL)
			return 0;
		if (entry.d_tag != DT_DEBUG)
			continue;
		if (!entry.d_un.d_ptr ||
			!tap_memory_try_u64(
				memory, entry.d_un.d_ptr + offsetof(struct r_debug, r_map), &map))
			return 0;
		return map;
	}
	return 0;
}

static struct tap_module *find_executable(struct tap_symbols *symbols)
{
	for (size_t i = 0; i < tap_symbols_count(symbols); i++) {
		struct tap_module *module = tap_symbols_at_index(symbols, i);

		if (module->executable && !module->retired)
			return module;
	}
	return NULL;
}

static bool contains(
	struct tap_module *const *modules, size_t count, const struct tap_module *module)
{
	for (size_t i = 0; i < count; i++)
		if (modules[i] == module)
			return true;
	return false;
}

static size_t walk_link_map(struct tap_symbols *symbols, struct tap_memory *memory, uint64_t addr,
	struct tap_module **modules, size_t capacity)
{
	size_t count = 0;

	for (unsigned i = 0; addr && i < MAX_MODULES && count < capacity; i++) {
		struct link_map map;
		struct tap_module *module;

		if (!tap_memory_try_read(memory, addr, &map, sizeof(map)))
			break;
		/* The dynamic section always lies in the module itself; l_addr is
		 * only a bias, and 0 for most executables. */
		module = tap_symbols_module_at(symbols, (uint64_t)(uintptr_t)map.l_ld);
		if (module && !module->retired && !contains(modules, count, module))
			modules[count++] = module;
		addr = (uint64_t)(uintptr_t)map.l_next;
	}
	return count;
}

size_t tap_entry_points_scope(struct tap_symbols *symbols, struct tap_memory *memory,
	struct tap_module **modules, size_t capacity)
{
	struct tap_module *executable = find_executable(symbols);
	size_t count = 0;

	if (executable)
		count = walk_link_map(
			symbols, memory, first_link_map(memory, executable), modules, capacity);
	if (count)
		return count;
	if (executable && capacity)
		modules[count++] = executable;
	for (size_t i = 0; i < tap_symbols_count(symbols) && count < capacity; i++) {
		struct tap_module *module = tap_symbols_at_index(symbols, i);

		if (!module->retired && module != executable)
			modules[count++] = module;
	}
	return count;
}

static void add(struct tap_entry_list *list, enum tap_entry_kind kind, struct tap_module *module,
	const struct tap_symbol *symbol)
{
	struct tap_entry *entry;

	for (size_t i = 0; i < list->count; i++) {
		const struct tap_entry *other = &list->items[i];

		if (symbol->ifunc ? other->module == module && !strcmp(other->symbol, symbol->name)
				  : other->addr == symbol->addr)
			return;
	}
	entry = tap_vector_add(list);
	entry->kind = kind;
	entry->module = module;
	entry->symbol = symbol->name;
	if (symbol->ifunc)
		entry->problem = "which of its variants was chosen when it was bound is not known";
	else
		entry->addr = symbol->addr;
}

static bool is_code(const struct tap_symbol *symbol)
{
	return symbol->function || symbol->ifunc;
}

/* The definition that calls by this name are bound to. */
static void add_bound(size_t name, struct tap_module *const *scope, const bool *own, size_t count,
	struct tap_entry_list *list)
{
	for (size_t i = 0; i < count; i++) {
		struct tap_symbol symbol;

		if (!tap_module_try_export(scope[i], names[name].symbol, &symbol) ||
			!is_code(&symbol))
			continue;
		if (names[name].scope == EVERYWHERE || own[i])
			add(list, names[name].kind, scope[i], &symbol);
		return;
	}
}

/* An allocator linked into a module that keeps it to itself: a static
 * program, or a library with hidden symbols. */
static void add_static(struct tap_module *module, bool own, struct tap_entry_list *list)
{
	struct tap_symbol symbol;

	/* The dynamic linker's own serves only until libc's is there. */
	if (module->interpreter || !tap_module_try_symbol(module, "malloc", &symbol) ||
		!symbol.function || symbol.dynamic)
		return;
	for (size_t i = 0; i < NAMES; i++)
		if ((names[i].scope == EVERYWHERE || own) &&
			tap_module_try_symbol(module, names[i].symbol, &symbol) &&
			is_code(&symbol) && !symbol.dynamic)
			add(list, names[i].kind, module, &symbol);
}

static bool has_malloc(const struct tap_entry_list *list)
{
	for (size_t i = 0; i < list->count; i++)
		if (list->items[i].kind == TAP_ENTRY_MALLOC)
			return true;
	return false;
}

struct tap_error *tap_entry_points_find(
	struct tap_symbols *symbols, struct tap_memory *memory, struct tap_entry_list *ret)
{
	_cleanup_free_ struct tap_module **scope = tap_alloc(MAX_MODULES * sizeof(*scope));
	_cleanup_free_ bool *own = tap_alloc(MAX_MODULES * sizeof(*own));
	size_t count = tap_entry_points_scope(symbols, memory, scope, MAX_MODULES);

	for (size_t i = 0; i < count; i++) {
		int row = allocator_row(scope[i]);

		own[i] = row >= 0 && allocators[row].own_interface;
	}
	for (size_t name = 0; name < NAMES; name++)
		add_bound(name, scope, own, count, ret);
	for (size_t i = 0; i < count; i++)
		add_static(scope[i], own[i], ret);
	if (!has_malloc(ret))
		return tap_error_advise(
			tap_error_new(TAP_ERR_NOT_FOUND, "no module of the process defines malloc"),
			"an allocator under another name is given by --symbol malloc=NAME");
	return NULL;
}

struct tap_error *tap_entry_points_add(struct tap_symbols *symbols, const char *entry,
	const char *name, struct tap_entry_list *ret)
{
	size_t row = 0;
	bool found = false;

	while (row < NAMES && strcmp(names[row].symbol, entry))
		row++;
	if (row == NAMES)
		return tap_error_advise(tap_error_new(TAP_ERR_USAGE,
						"'%s' is no entry point of an allocator", entry),
			"those there are: malloc, calloc, realloc, reallocarray, aligned_alloc, "
			"memalign, posix_memalign, valloc, pvalloc, free, mmap, munmap, mremap");
	for (size_t i = 0; i < tap_symbols_count(symbols); i++) {
		struct tap_module *module = tap_symbols_at_index(symbols, i);
		struct tap_symbol symbol;

		if (module->retired || !tap_module_try_symbol(module, name, &symbol) ||
			!is_code(&symbol))
			continue;
		add(ret, names[row].kind, module, &symbol);
		found = true;
	}
	if (!found)
		return tap_error_new(
			TAP_ERR_NOT_FOUND, "no module of the process defines '%s'", name);
	return NULL;
}
