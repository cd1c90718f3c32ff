/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"
#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "heaptap/base/cleanup.h"
#include "heaptap/base/alloc.h"
#include "heaptap/symbol/symbols.h"
#include "heaptap/symbol/unwind.h"

/* This process, looked at from outside. */
struct own {
	struct tap_memory *memory;
	struct tap_maps maps;
	struct tap_symbols *symbols;
	struct tap_strings *strings;
};

static struct own open_own(void)
{
	struct own own = {0};

	assert_ok(tap_memory_open(getpid(), false, &own.memory));
	assert_ok(tap_maps_read(getpid(), &own.maps));
	assert_ok(tap_symbols_open(getpid(), own.memory, &own.maps, NULL, &own.symbols));
	own.strings = tap_strings_create();
	return own;
}

static bool update_own(struct own *own)
{
	bool changed;

	tap_maps_deinit(&own->maps);
	assert_ok(tap_maps_read(getpid(), &own->maps));
	assert_ok(tap_symbols_update(own->symbols, &own->maps, &changed));
	return changed;
}

static void close_own(struct own *own)
{
	tap_symbols_close(own->symbols);
	tap_strings_destroy(own->strings);
	tap_maps_deinit(&own->maps);
	tap_memory_close(own->memory);
}

static struct tap_module *module_named(struct own *own, const char *prefix)
{
	for (size_t i = 0; i < tap_symbols_count(own->symbols); i++) {
		struct tap_module *module = tap_symbols_at_index(own->symbols, i);

		if (!strncmp(module->name, prefix, strlen(prefix)))
			return module;
	}
	return NULL;
}

/* A function that no sanitizer puts its own in front of. */
#define LIBC_OWN "gnu_get_libc_version"

static struct tap_module *libc_of(struct own *own)
{
	return tap_symbols_module_at(own->symbols, (uint64_t)dlsym(RTLD_DEFAULT, LIBC_OWN));
}

static const char *library(void)
{
	const char *path = getenv("TAP_SYMBOL_LIBRARY");

	if (!path)
		skip();
	return path;
}

int tap_test_exported(int n);

__attribute__((noinline)) int tap_test_exported(int n)
{
	return n * 3;
}

static void modules_have_roles_and_places(void **state)
{
	struct own own = open_own();
	struct tap_module *self = tap_symbols_module_at(own.symbols, (uint64_t)tap_test_exported);
	struct tap_module *libc = libc_of(&own);
	struct tap_module *vdso = module_named(&own, "[vdso]");
	struct tap_module *linker = module_named(&own, "ld-");
	Dl_info info;

	(void)state;
	assert_non_null(self);
	assert_true(self->executable);
	assert_false(self->interpreter);
	assert_non_null(libc);
	assert_non_null(libc->build_id);
	assert_false(libc->executable);
	assert_non_null(vdso);
	assert_true(vdso->from_memory);
	assert_non_null(linker);
	assert_true(linker->interpreter);
	/* The dynamic linker's own word for where libc lies. */
	assert_true(dladdr(dlsym(RTLD_DEFAULT, LIBC_OWN), &info));
	assert_int_equal(libc->start, (uint64_t)info.dli_fbase);
	assert_int_equal(libc->bias, (uint64_t)info.dli_fbase);
	assert_null(tap_symbols_module_at(own.symbols, 8));
	assert_null(tap_symbols_module_at(own.symbols, (uint64_t)&own));
	close_own(&own);
}

static void symbols_are_found_by_name(void **state)
{
	struct own own = open_own();
	struct tap_module *self = tap_symbols_module_at(own.symbols, (uint64_t)tap_test_exported);
	struct tap_module *libc = libc_of(&own);
	struct tap_symbol symbol;

	(void)state;
	assert_true(tap_module_try_symbol(self, "tap_test_exported", &symbol));
	assert_int_equal(symbol.addr, (uint64_t)tap_test_exported);
	assert_true(symbol.function);
	assert_false(tap_module_try_symbol(self, "tap_test_no_such_thing", &symbol));
	assert_true(tap_module_try_export(libc, LIBC_OWN, &symbol));
	assert_int_equal(symbol.addr, (uint64_t)dlsym(RTLD_DEFAULT, LIBC_OWN));
	assert_true(symbol.dynamic);
	/* memcpy has an older version, and is an IFUNC: its resolver is meant. */
	assert_true(tap_module_try_export(libc, "memcpy", &symbol));
	assert_true(symbol.ifunc);
	assert_true(symbol.addr >= libc->start && symbol.addr < libc->end);
	close_own(&own);
}

static void symbols_are_found_by_address(void **state)
{
	struct own own = open_own();
	struct tap_symbol symbol;
	uint64_t addr = (uint64_t)tap_test_exported, start, end;

	(void)state;
	assert_true(tap_symbols_try_name(own.symbols, addr + 3, &symbol));
	assert_string_equal(symbol.name, "tap_test_exported");
	assert_int_equal(symbol.addr, addr);
	assert_true(tap_symbols_try_extent(own.symbols, addr + 1, &start, &end));
	assert_int_equal(start, addr);
	assert_true(end > addr && end <= addr + 4096);
	assert_false(tap_symbols_try_name(own.symbols, 8, &symbol));
	assert_false(tap_symbols_try_extent(own.symbols, 8, &start, &end));
	close_own(&own);
}

static bool count_symbol(void *context, const struct tap_symbol *symbol)
{
	assert_non_null(symbol->name);
	return ++*(size_t *)context < 100;
}

static void every_symbol_until_told_to_stop(void **state)
{
	struct own own = open_own();
	struct tap_module *libc = libc_of(&own);
	size_t count = 0;

	(void)state;
	tap_module_each_symbol(libc, count_symbol, &count);
	assert_int_equal(count, 100);
	close_own(&own);
}

static void sections_and_file_bytes(void **state)
{
	struct own own = open_own();
	struct tap_module *self = tap_symbols_module_at(own.symbols, (uint64_t)tap_test_exported);
	struct tap_module *vdso = module_named(&own, "[vdso]");
	uint64_t addr, size;
	uint8_t bytes[16];

	(void)state;
	assert_true(tap_module_try_section(self, ".text", &addr, &size));
	assert_in_range((uint64_t)tap_test_exported, addr, addr + size - 1);
	assert_false(tap_module_try_section(self, ".no_such_section", &addr, &size));
	assert_false(tap_module_try_section(self, ".symtab", &addr, &size));
	assert_ok(tap_module_file_bytes(self, (uint64_t)tap_test_exported, bytes, sizeof(bytes)));
	assert_memory_equal(bytes, (void *)tap_test_exported, sizeof(bytes));
	assert_code(tap_module_file_bytes(self, 8, bytes, sizeof(bytes)), TAP_ERR_NOT_FOUND);
	assert_code(tap_module_file_bytes(self, self->end, bytes, 1), TAP_ERR_NOT_FOUND);
	assert_code(tap_module_file_bytes(vdso, vdso->start, bytes, 1), TAP_ERR_UNSUPPORTED);
	close_own(&own);
}

static void the_vdso_is_read_from_memory(void **state)
{
	struct own own = open_own();
	struct tap_module *vdso = module_named(&own, "[vdso]");
	struct tap_symbol symbol, again;

	(void)state;
	assert_true(tap_module_try_export(vdso, "__vdso_clock_gettime", &symbol));
	assert_in_range(symbol.addr, vdso->start, vdso->end - 1);
	assert_true(tap_symbols_try_name(own.symbols, symbol.addr, &again));
	assert_int_equal(again.addr, symbol.addr);
	close_own(&own);
}

/* The line on which text stands in the library's source. */
static int line_of(const char *source, const char *text)
{
	_cleanup_fclose_ FILE *file = fopen(source, "r");
	char line[512];

	assert_non_null(file);
	for (int number = 1; fgets(line, sizeof(line), file); number++)
		if (strstr(line, text))
			return number;
	fail_msg("no '%s' in %s", text, source);
	return 0;
}

static uint64_t call_in(const uint8_t *code, size_t size)
{
	/* The first direct call: what follows it is the return address. */
	for (size_t i = 0; i + 5 < size; i++)
		if (code[i] == 0xe8)
			return (uint64_t)code + i + 5;
	fail_msg("no call found");
	return 0;
}

static void inlined_functions_are_frames(void **state)
{
	void *handle = dlopen(library(), RTLD_NOW);
	struct own own = open_own();
	struct tap_frame frames[8];
	uint64_t pc;

	(void)state;
	assert_non_null(handle);
	pc = call_in(dlsym(handle, "tap_lib_inlines"), 64);
	assert_int_equal(tap_symbols_resolve(own.symbols, pc, true, own.strings, frames, 8), 3);
	assert_string_equal(frames[0].function, "innermost");
	assert_string_equal(frames[1].function, "middle");
	assert_string_equal(frames[2].function, "tap_lib_inlines");
	assert_true(frames[0].inlined && frames[1].inlined && !frames[2].inlined);
	for (int i = 0; i < 3; i++) {
		assert_non_null(frames[i].file);
		assert_non_null(strstr(frames[i].file, "symbol_library.c"));
		assert_int_equal(frames[i].language, TAP_LANGUAGE_C);
		assert_int_equal(frames[i].pc, pc);
		assert_string_equal(frames[i].module, library());
	}
	assert_int_equal(frames[0].line, line_of(frames[0].file, "line: innermost"));
	assert_int_equal(frames[1].line, line_of(frames[0].file, "line: middle"));
	assert_int_equal(frames[2].line, line_of(frames[0].file, "line: outer"));
	/* Again, from what was kept; and cut to what there is room for. */
	assert_int_equal(tap_symbols_resolve(own.symbols, pc, true, own.strings, frames, 2), 2);
	assert_string_equal(frames[1].function, "middle");
	assert_int_equal(tap_symbols_resolve(own.symbols, 8, false, own.strings, frames, 8), 1);
	assert_null(frames[0].function);
	close_own(&own);
	dlclose(handle);
}

static void copy_file(const char *from, const char *to)
{
	_cleanup_close_ int in = open(from, O_RDONLY), out = open(to, O_WRONLY | O_CREAT, 0700);
	char buf[65536];
	ssize_t n;

	assert_true(in >= 0 && out >= 0);
	while ((n = read(in, buf, sizeof(buf))) > 0)
		assert_int_equal(write(out, buf, (size_t)n), n);
}

/* A library that is replaced under the process is read as it is mapped; one
 * that goes is retired, and its old addresses keep their names. */
static void deleted_and_unmapped_libraries_keep_their_names(void **state)
{
	char dir[] = "/tmp/tap-symbols-XXXXXX";
	_cleanup_free_ char *path = NULL;
	const char *original = library();
	struct own own = open_own();
	struct tap_module *module;
	struct tap_symbol symbol;
	uint64_t addr;
	uint8_t bytes[16];
	void *handle;

	(void)state;
	assert_non_null(mkdtemp(dir));
	path = tap_format("%s/libgone.so", dir);
	copy_file(original, path);
	handle = dlopen(path, RTLD_NOW);
	assert_non_null(handle);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rmdir(dir), 0);
	addr = (uint64_t)dlsym(handle, "tap_lib_plain");

	assert_true(update_own(&own));
	assert_false(update_own(&own));
	module = tap_symbols_module_at(own.symbols, addr);
	assert_non_null(module);
	assert_true(module->deleted);
	assert_string_equal(module->path, path);
	assert_true(tap_module_try_symbol(module, "tap_lib_plain", &symbol));
	assert_int_equal(symbol.addr, addr);
	if (!module->from_memory) {
		assert_ok(tap_module_file_bytes(module, addr, bytes, sizeof(bytes)));
		assert_memory_equal(bytes, (void *)addr, sizeof(bytes));
	}

	dlclose(handle);
	assert_true(update_own(&own));
	assert_true(module->retired);
	assert_true(tap_symbols_try_name(own.symbols, addr + 1, &symbol));
	assert_string_equal(symbol.name, "tap_lib_plain");
	close_own(&own);
}

static void a_library_that_comes_back_is_one_module(void **state)
{
	const char *path = library();
	struct own own = open_own();
	size_t count = 0;

	(void)state;
	for (int i = 0; i < 3; i++) {
		void *handle = dlopen(path, RTLD_NOW);
		void *addr = dlsym(handle, "tap_lib_plain");
		struct tap_module *module;

		assert_true(update_own(&own));
		module = tap_symbols_module_at(own.symbols, (uint64_t)addr);
		assert_non_null(module);
		assert_false(module->retired);
		if (!i)
			count = tap_symbols_count(own.symbols);
		dlclose(handle);
		update_own(&own);
	}
	/* Mapped at the same place again, as the loader does. */
	assert_true(tap_symbols_count(own.symbols) <= count + 2);
	close_own(&own);
}

/* Executable memory of a file that is no ELF file still names its module. */
static void a_mapping_that_is_no_elf_file_is_harmless(void **state)
{
	int fd = memfd_create("tap-not-elf", MFD_CLOEXEC);
	uint8_t *code;
	struct own own;
	struct tap_module *module;
	struct tap_symbol symbol;
	uint64_t start, end;

	(void)state;
	assert_int_equal(ftruncate(fd, 8192), 0);
	assert_int_equal(write(fd, "\177ELF garbage", 12), 12);
	code = mmap(NULL, 8192, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(code, MAP_FAILED);
	own = open_own();
	module = tap_symbols_module_at(own.symbols, (uint64_t)code + 100);
	assert_non_null(module);
	assert_false(tap_module_try_symbol(module, "malloc", &symbol));
	assert_false(tap_module_try_section(module, ".text", &start, &end));
	assert_false(tap_symbols_try_name(own.symbols, (uint64_t)code + 8, &symbol));
	assert_false(tap_symbols_try_extent(own.symbols, (uint64_t)code + 8, &start, &end));
	assert_int_equal(tap_module_debug(module), TAP_DEBUG_NONE);
	close_own(&own);
	munmap(code, 8192);
	close(fd);
}

static void the_kind_of_debug_information_is_told(void **state)
{
	struct own own = open_own();

	(void)state;
	assert_int_equal(tap_module_debug(tap_symbols_module_at(own.symbols,
				 (uint64_t)tap_test_exported)),
		TAP_DEBUG_FULL);
	assert_int_equal(tap_module_debug(module_named(&own, "[vdso]")), TAP_DEBUG_DYNSYM);
	close_own(&own);
}

/* Asks everything that can be asked of addresses in [start, end). */
static void ask_all(struct own *own, uint64_t start, uint64_t end)
{
	struct tap_unwinder *unwinder = tap_unwinder_create(own->symbols);
	struct tap_native_frame stack[8];
	struct tap_frame frames[8];
	struct tap_symbol symbol;
	uint64_t first, last;

	for (uint64_t pc = start; pc < end; pc += 257) {
		struct tap_regs regs = {.rip = pc, .rsp = (uint64_t)&own, .rbp = (uint64_t)&own};

		tap_symbols_try_name(own->symbols, pc, &symbol);
		tap_symbols_try_extent(own->symbols, pc, &first, &last);
		tap_symbols_resolve(own->symbols, pc, true, own->strings, frames, 8);
		assert_in_range(tap_unwind(unwinder, own->memory, &regs, TAP_UNWIND_ALL, stack, 8),
			1, 8);
	}
	tap_unwinder_destroy(unwinder);
}

/* Bytes of a real library, changed here and there: whatever they say now,
 * every question ends. */
static void corrupt_files_do_no_harm(void **state)
{
	_cleanup_close_ int in = open(library(), O_RDONLY);
	struct stat st;
	uint8_t *bytes;
	uint32_t seed = 12345;

	(void)state;
	assert_true(in >= 0 && !fstat(in, &st));
	bytes = tap_alloc((size_t)st.st_size);
	for (int round = 0; round < 150; round++) {
		int fd = memfd_create("tap-corrupt", MFD_CLOEXEC);
		void *code;
		struct own own;
		struct tap_module *module;
		struct tap_symbol symbol;

		assert_int_equal(pread(in, bytes, (size_t)st.st_size, 0), st.st_size);
		for (int i = 0; i < 40; i++) {
			size_t at;

			seed = seed * 1103515245 + 12345;
			at = (seed >> 8) % (round % 3 ? (size_t)st.st_size : 1024);
			seed = seed * 1103515245 + 12345;
			bytes[at < 20 ? at + 20 : at] = (uint8_t)(seed >> 16);
		}
		assert_int_equal(write(fd, bytes, (size_t)st.st_size), st.st_size);
		code = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
		own = open_own();
		module = tap_symbols_module_at(own.symbols, (uint64_t)code);
		assert_non_null(module);
		tap_module_try_symbol(module, "tap_lib_plain", &symbol);
		tap_module_debug(module);
		ask_all(&own, module->start, (uint64_t)code + (size_t)st.st_size);
		close_own(&own);
		munmap(code, (size_t)st.st_size);
		close(fd);
	}
	free(bytes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(modules_have_roles_and_places),
		cmocka_unit_test(symbols_are_found_by_name),
		cmocka_unit_test(symbols_are_found_by_address),
		cmocka_unit_test(every_symbol_until_told_to_stop),
		cmocka_unit_test(sections_and_file_bytes),
		cmocka_unit_test(the_vdso_is_read_from_memory),
		cmocka_unit_test(inlined_functions_are_frames),
		cmocka_unit_test(deleted_and_unmapped_libraries_keep_their_names),
		cmocka_unit_test(a_library_that_comes_back_is_one_module),
		cmocka_unit_test(a_mapping_that_is_no_elf_file_is_harmless),
		cmocka_unit_test(the_kind_of_debug_information_is_told),
		cmocka_unit_test(corrupt_files_do_no_harm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
