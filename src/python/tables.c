/* SPDX-License-Identifier: Apache-2.0 */
#include "python/runtime.h"

/* The records' names up to 3.11: static variables of Objects/obmalloc.c. */
static const char *const symbol_names[TAP_PYTHON_DOMAINS] = {
	[TAP_PYTHON_RAW] = "_PyMem_Raw",
	[TAP_PYTHON_MEM] = "_PyMem",
	[TAP_PYTHON_OBJ] = "_PyObject",
};

static const char *const domain_names[TAP_PYTHON_DOMAINS] = {
	[TAP_PYTHON_RAW] = "raw",
	[TAP_PYTHON_MEM] = "mem",
	[TAP_PYTHON_OBJ] = "object",
};

/* Reads the record and checks that its pointers are functions. Hooks
 * (tracemalloc, debug, a library's) have a context, and may lie elsewhere. */
static struct tap_error *read_table(struct tap_python *python, enum tap_python_domain domain,
	uint64_t addr, struct tap_python_table *ret)
{
	uint64_t words[5];

	if (addr % 8 || !tap_memory_try_read(python->memory, addr, words, sizeof(words)))
		return tap_error_new(TAP_ERR_NOT_FOUND,
			"the allocator table of the %s domain cannot be read",
			domain_names[domain]);
	for (int i = 0; i < 4; i++) {
		uint64_t start, end;
		const struct tap_module *module;

		module = tap_symbols_module_at(python->symbols, words[i + 1]);
		if (!module || (!words[0] && module != python->module) ||
			!tap_symbols_try_extent(python->symbols, words[i + 1], &start, &end) ||
			start != words[i + 1])
			return tap_error_new(TAP_ERR_NOT_FOUND,
				"the allocator table of the %s domain does not hold functions",
				domain_names[domain]);
	}
	ret->domain = domain;
	ret->addr = addr;
	ret->ctx = words[0];
	memcpy(ret->functions, words + 1, sizeof(ret->functions));
	return NULL;
}

static struct tap_error *read_tables(struct tap_python *python,
	const uint64_t addrs[TAP_PYTHON_DOMAINS],
	struct tap_python_table tables[TAP_PYTHON_DOMAINS])
{
	for (int i = 0; i < TAP_PYTHON_DOMAINS; i++) {
		struct tap_error *err =
			read_table(python, (enum tap_python_domain)i, addrs[i], &tables[i]);

		if (err)
			return err;
	}
	return NULL;
}

static bool from_runtime(struct tap_python *python, uint64_t addrs[TAP_PYTHON_DOMAINS])
{
	const struct tap_python_layout *layout = &python->layout;
	uint64_t runtime = python->info.runtime_addr;

	if (layout->runtime.allocator_raw < 0)
		return false;
	addrs[TAP_PYTHON_RAW] = runtime + (uint64_t)layout->runtime.allocator_raw;
	addrs[TAP_PYTHON_MEM] = runtime + (uint64_t)layout->runtime.allocator_mem;
	addrs[TAP_PYTHON_OBJ] = runtime + (uint64_t)layout->runtime.allocator_obj;
	return true;
}

static bool from_symbols(struct tap_python *python, uint64_t addrs[TAP_PYTHON_DOMAINS])
{
	for (int i = 0; i < TAP_PYTHON_DOMAINS; i++) {
		struct tap_symbol symbol;

		if (!tap_module_try_symbol(python->module, symbol_names[i], &symbol))
			return false;
		addrs[i] = symbol.addr;
	}
	return true;
}

struct tap_error *tap_python_tables(
	struct tap_python *python, struct tap_python_table tables[TAP_PYTHON_DOMAINS])
{
	uint64_t addrs[TAP_PYTHON_DOMAINS];

	if (!python->info.supported)
		return tap_error_new(
			TAP_ERR_NOT_FOUND, "no allocator tables: %s", python->info.reason);
	if (from_runtime(python, addrs) || from_symbols(python, addrs))
		return read_tables(python, addrs, tables);
	if (!tap_python_tables_scan(python, addrs))
		return tap_error_new(TAP_ERR_NOT_FOUND,
			"the allocator tables of CPython were not found in %s: it has no symbols "
			"for them, and what its data looks like leaves it open",
			python->module->name);
	return read_tables(python, addrs, tables);
}
