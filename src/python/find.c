/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include "heaptap/base/alloc.h"
#include "python/runtime.h"

#define MAX_SECTION (64 << 20)

/* PyPy carries CPython's names for its C API, but none of its structures. */
static bool is_pypy(const struct tap_module *module)
{
	return strncmp(module->name, "pypy", 4) == 0 || strncmp(module->name, "libpypy", 7) == 0;
}

/* 0: the executable, 1: a libpython, 2: what may carry CPython inside. */
static int module_rank(const struct tap_module *module)
{
	if (module->executable)
		return 0;
	return strncmp(module->name, "libpython", 9) == 0 ? 1 : 2;
}

static bool look_into(struct tap_module *module, int rank, struct tap_python_site *ret)
{
	struct tap_symbol symbol;
	uint64_t addr, size_bytes;

	ret->module = module;
	ret->runtime_addr = 0;
	/* Reading the symbol tables of every library would take long; whoever
	 * embeds CPython exports the name. */
	if (rank < 2 ? tap_module_try_symbol(module, "_PyRuntime", &symbol)
		     : tap_module_try_export(module, "_PyRuntime", &symbol)) {
		ret->runtime_addr = symbol.addr;
		return true;
	}
	if (tap_module_try_section(module, ".PyRuntime", &addr, &size_bytes)) {
		ret->runtime_addr = addr;
		return true;
	}
	/* Before 3.7 there was none. */
	return tap_module_try_export(module, "_PyThreadState_Current", &symbol);
}

bool tap_python_find(struct tap_symbols *symbols, struct tap_python_site *ret)
{
	for (int rank = 0; rank < 3; rank++) {
		for (size_t i = 0; i < tap_symbols_count(symbols); i++) {
			struct tap_module *module = tap_symbols_at_index(symbols, i);

			if (module->retired || is_pypy(module) || module_rank(module) != rank)
				continue;
			if (look_into(module, rank, ret))
				return true;
		}
	}
	return false;
}

uint8_t *tap_python_copy_section(struct tap_module *module, struct tap_memory *memory,
	const char *name, uint64_t *addr_ret, size_t *size_ret)
{
	uint64_t size_bytes;
	uint8_t *bytes;

	if (!tap_module_try_section(module, name, addr_ret, &size_bytes))
		return NULL;
	if (!size_bytes || size_bytes > MAX_SECTION)
		return NULL;
	bytes = tap_alloc(size_bytes);
	*size_ret = tap_memory_read_some(memory, *addr_ret, bytes, size_bytes);
	if (*size_ret)
		return bytes;
	free(bytes);
	return NULL;
}
