/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>
#include "heaptap/base/alloc.h"
#include "heaptap/session/info.h"
#include "session/entry_points.h"
#include "session/look.h"
#include "session/probed.h"
#include "session/runtime.h"

static const char *debug_name(enum tap_debug_kind kind)
{
	static const char *const names[] = {
		[TAP_DEBUG_NONE] = "none",
		[TAP_DEBUG_DYNSYM] = "dynsym",
		[TAP_DEBUG_SYMTAB] = "symtab",
		[TAP_DEBUG_FULL] = "full",
	};

	return names[kind];
}

static void add_symbols(struct tap_info_report *report, struct tap_symbols *symbols)
{
	for (size_t i = 0; i < tap_symbols_count(symbols); i++) {
		struct tap_module *module = tap_symbols_at_index(symbols, i);
		struct tap_info_symbols *row;

		if (module->retired)
			continue;
		row = tap_vector_add(&report->symbols);
		row->module = tap_strings_add(report->strings, module->path);
		row->build_id = tap_strings_add(report->strings, module->build_id);
		row->debug = debug_name(tap_module_debug(module));
	}
}

static struct tap_info_allocator *allocator_of(
	struct tap_info_report *report, const char *module, const char *kind)
{
	struct tap_info_allocator *allocator;

	for (size_t i = 0; i < report->allocators.count; i++)
		if (report->allocators.items[i].module == module &&
			!strcmp(report->allocators.items[i].kind, kind))
			return &report->allocators.items[i];
	allocator = tap_vector_add(&report->allocators);
	allocator->module = module;
	allocator->kind = kind;
	return allocator;
}

/* An entry point of the memory of the system says nothing about an allocator. */
static bool is_of_allocator(enum tap_entry_kind kind)
{
	return kind != TAP_ENTRY_MMAP && kind != TAP_ENTRY_MUNMAP && kind != TAP_ENTRY_MREMAP;
}

/* As trace would by itself. */
static enum tap_entry_how how_of(struct tap_info_report *report, struct tap_symbols *symbols,
	const struct tap_entry *entry, const char **reason_ret)
{
	_cleanup_error_ struct tap_error *no_probe = NULL;

	*reason_ret = entry->problem;
	if (entry->problem)
		return TAP_ENTRY_NONE;
	if (!HEAPTAP_PROBE)
		return TAP_ENTRY_BREAKPOINT;
	no_probe = probed_check(symbols, entry);
	if (!no_probe)
		return TAP_ENTRY_JUMP;
	*reason_ret = tap_strings_add(report->strings, no_probe->message);
	return TAP_ENTRY_BREAKPOINT;
}

static void add_entry(struct tap_info_report *report, struct tap_symbols *symbols,
	const struct tap_entry *entry)
{
	struct tap_entry_point *point = tap_vector_add(&report->entry_points);

	point->module = tap_strings_add(report->strings, entry->module->path);
	point->symbol = tap_strings_add(report->strings, entry->symbol);
	point->how = how_of(report, symbols, entry, &point->reason);
	point->addr = entry->addr;
	if (is_of_allocator(entry->kind))
		tap_vector_push(&allocator_of(report, point->module,
					tap_entry_points_allocator(entry->module))
					 ->symbols,
			point->symbol);
}

static void add_entries(
	struct tap_info_report *report, struct tap_symbols *symbols, struct tap_memory *memory)
{
	struct tap_entry_list entries = {0};

	/* None is a finding, not a failure. */
	tap_error_free(tap_entry_points_find(symbols, memory, &entries));
	for (size_t i = 0; i < entries.count; i++)
		add_entry(report, symbols, &entries.items[i]);
	tap_vector_free(&entries);
}

static void add_table(struct tap_info_report *report, struct tap_info_allocator *allocator,
	const struct tap_python_table *table)
{
	static const char *const domains[] = {
		[TAP_PYTHON_RAW] = "raw",
		[TAP_PYTHON_MEM] = "mem",
		[TAP_PYTHON_OBJ] = "obj",
	};
	static const char *const functions[] = {"malloc", "calloc", "realloc", "free"};

	for (size_t i = 0; i < 4; i++) {
		char name[32];
		struct tap_entry_point *point = tap_vector_add(&report->entry_points);

		snprintf(name, sizeof(name), "%s.%s", domains[table->domain], functions[i]);
		point->module = allocator->module;
		point->symbol = tap_strings_add(report->strings, name);
		point->how = TAP_ENTRY_TABLE;
		point->addr = table->functions[i];
		tap_vector_push(&allocator->symbols, point->symbol);
	}
}

static void add_python_tables(struct tap_info_report *report, struct tap_python *python)
{
	struct tap_python_table tables[TAP_PYTHON_DOMAINS];
	struct tap_entry_point *point;
	struct tap_info_allocator *allocator;
	const char *module;
	struct tap_error *err;

	if (!python || !tap_python_info(python)->supported)
		return;
	module = tap_strings_add(report->strings, tap_python_info(python)->module);
	allocator = allocator_of(report, module, "pymalloc");
	err = tap_python_tables(python, tables);
	for (size_t i = 0; !err && i < TAP_PYTHON_DOMAINS; i++)
		add_table(report, allocator, &tables[i]);
	if (!err)
		return;
	point = tap_vector_add(&report->entry_points);
	point->module = module;
	point->symbol = "allocator tables";
	point->reason = tap_strings_add(report->strings, err->message);
	tap_error_free(err);
}

static void set_refusal(struct tap_info_report *report, const struct tap_error *err)
{
	report->attach.allowed = false;
	report->attach.reason = tap_strings_add(report->strings, err->message);
	report->attach.advice = tap_strings_add(report->strings, err->advice);
}

static void add_memory(struct tap_info_report *report, struct tap_look *look)
{
	tap_runtime_find(look, report);
	add_entries(report, look->symbols, look->memory);
	add_python_tables(report, look->python);
	add_symbols(report, look->symbols);
}

/* What can be said of a process that heaptap may not attach to: who it is. */
static struct tap_error *look_inside(const char *debug_dir, struct tap_info_report *report)
{
	_cleanup_look_ struct tap_look look = {0};
	_cleanup_error_ struct tap_error *refusal = tap_process_check_traceable(&report->process);
	struct tap_error *err;

	if (refusal && refusal->code != TAP_ERR_BUSY)
		return (err = refusal, refusal = NULL, err);
	report->attach.allowed = true;
	if (refusal)
		set_refusal(report, refusal);
	err = tap_look_open(&report->process, debug_dir, &look);
	if (!err) {
		add_memory(report, &look);
		return NULL;
	}
	if (err->code != TAP_ERR_PERMISSION)
		return err;
	if (!refusal)
		set_refusal(report, err);
	report->runtime.reason = "its memory may not be read";
	tap_error_free(err);
	return NULL;
}

struct tap_error *tap_info_collect(pid_t pid, const char *debug_dir, struct tap_info_report *ret)
{
	struct tap_error *err;

	ret->strings = tap_strings_create();
	ret->cgroup.limit_bytes = UINT64_MAX;
	err = tap_process_read(pid, &ret->process);
	if (err)
		return err;
	err = look_inside(debug_dir, ret);
	if (!err)
		tap_error_free(tap_cgroup_read(pid, &ret->cgroup));
	return err;
}
