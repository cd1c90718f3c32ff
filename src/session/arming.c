/* SPDX-License-Identifier: Apache-2.0 */
#include <elf.h>
#include <string.h>
#include <unistd.h>
#include "heaptap/base/alloc.h"
#include "heaptap/base/cleanup.h"
#include "heaptap/base/clock.h"
#include "heaptap/base/log.h"
#include "heaptap/base/map.h"
#include "heaptap/proc/maps.h"
#include "heaptap/proc/root.h"
#include "session/recorder.h"
#include "session/sampler.h"

#define INSN_BYTES 16
#define LOOK_EVERY_NS UINT64_C(1000000000)

struct hook *arming_new_hook(struct recorder *rec)
{
	struct hook *hook = tap_alloc(sizeof(*hook));

	tap_vector_push(&rec->hooks, hook);
	return hook;
}

static struct tap_entry_point *new_point(
	struct recorder *rec, const char *module, const char *symbol, uint64_t addr)
{
	struct tap_entry_point *point = tap_vector_add(&rec->points);

	point->module = tap_strings_add(rec->strings, module);
	point->symbol = tap_strings_add(rec->strings, symbol);
	point->addr = addr;
	return point;
}

/* The row of an entry point that was armed before a pause. */
size_t arming_find_point(
	struct recorder *rec, const char *module, const char *symbol, uint64_t addr)
{
	for (size_t i = 0; i < rec->points.count; i++) {
		const struct tap_entry_point *point = &rec->points.items[i];

		if (point->addr == addr && !strcmp(point->symbol, symbol) &&
			!strcmp(point->module, module))
			return i;
	}
	new_point(rec, module, symbol, addr);
	return rec->points.count - 1;
}

static struct tap_error *plant(
	struct recorder *rec, struct tap_module *module, uint64_t addr, struct hook *hook)
{
	uint8_t expected[INSN_BYTES] = {0};
	struct tap_breakpoint *breakpoint;
	struct tap_error *err;

	err = tap_module_file_bytes(module, addr, expected, sizeof(expected));
	if (err)
		return err;
	return tap_target_plant(rec->target, addr, expected, sizeof(expected), hook, &breakpoint);
}

void arming_plant_entry(struct recorder *rec, const struct tap_entry *entry)
{
	const char *module = entry->module ? entry->module->path : "";
	size_t point = arming_find_point(rec, module, entry->symbol, entry->addr);
	_cleanup_error_ struct tap_error *err = NULL;
	struct hook *hook;

	if (entry->problem || !entry->addr) {
		rec->points.items[point].reason = entry->problem;
		return;
	}
	if (tap_target_breakpoint_at(rec->target, entry->addr))
		return;
	hook = arming_new_hook(rec);
	hook->kind = HOOK_ENTRY;
	hook->entry = entry->kind;
	hook->point = point;
	hook->passes_on = entry->kind == TAP_ENTRY_FREE && strcmp(entry->symbol, "free");
	err = plant(rec, entry->module, entry->addr, hook);
	if (err)
		rec->points.items[point].reason = tap_strings_add(rec->strings, err->message);
	else
		rec->points.items[point].how = TAP_ENTRY_BREAKPOINT;
}

/* Only glibc's blocks have a header that is read; a program with another
 * malloc besides is not netted at all. */
void arming_note_allocators(struct recorder *rec)
{
	bool glibc = false, other = false;

	for (size_t i = 0; i < rec->entries.count; i++) {
		const struct tap_entry *entry = &rec->entries.items[i];

		if (entry->kind != TAP_ENTRY_MALLOC || entry->module->retired ||
			entry->module->interpreter)
			continue;
		if (!strcmp(tap_entry_points_allocator(entry->module), "glibc"))
			glibc = true;
		else
			other = true;
	}
	rec->glibc = glibc && !other;
}

/* The dynamic linker calls this function when it has mapped or unmapped
 * modules (r_brk of <link.h>). Without it arming_look() finds them. */
static void plant_loader(struct recorder *rec)
{
	for (size_t i = 0; i < tap_symbols_count(rec->symbols); i++) {
		struct tap_module *module = tap_symbols_at_index(rec->symbols, i);
		_cleanup_error_ struct tap_error *err = NULL;
		struct tap_symbol symbol;

		if (!module->interpreter || module->retired ||
			!tap_module_try_symbol(module, "_dl_debug_state", &symbol) ||
			tap_target_breakpoint_at(rec->target, symbol.addr))
			continue;
		err = plant(rec, module, symbol.addr, &rec->loader_hook);
		rec->loader_tells = !err;
		if (err)
			tap_log_detail("modules that are loaded later are seen late: %s", err->message);
	}
}

void arming_forget_breakpoints(struct recorder *rec)
{
	for (size_t i = 0; i < tap_symbols_count(rec->symbols); i++) {
		struct tap_module *module = tap_symbols_at_index(rec->symbols, i);

		if (module->retired)
			tap_target_forget(rec->target, module->start, module->end);
	}
}

static void forget_retired(struct recorder *rec)
{
	/* Where another thread is the tracer, that does it later. */
	if (atomic_load(&rec->kickable) == gettid())
		arming_forget_breakpoints(rec);
	/* What took a retired module's place is planted anew. */
	for (size_t i = 0; i < rec->entries.count;) {
		if (rec->entries.items[i].module && rec->entries.items[i].module->retired)
			rec->entries.items[i] = rec->entries.items[--rec->entries.count];
		else
			i++;
	}
}

static struct tap_error *read_modules(struct recorder *rec, bool *changed_ret)
{
	struct tap_maps maps = {0};
	struct tap_error *err = tap_maps_read(rec->pid, &maps);

	if (err)
		return err;
	if (rec->symbols) {
		err = tap_symbols_update(rec->symbols, &maps, changed_ret);
	} else {
		err = tap_symbols_open(
			rec->pid, rec->memory, &maps, rec->options->debug_dir, &rec->symbols);
		if (!err)
			rec->unwinder = tap_unwinder_create(rec->symbols);
		*changed_ret = true;
	}
	tap_maps_deinit(&maps);
	return err;
}

/* What is not there may come with a module that is loaded later: an error only
 * where a process that runs already is looked at for the first time. */
struct tap_error *arming_add_named(struct recorder *rec)
{
	bool must = rec->options->pid && !atomic_load(&rec->armed);

	for (size_t i = 0; i < rec->options->symbol_count; i++) {
		struct tap_error *err = tap_entry_points_add(rec->symbols,
			rec->options->symbols[i].entry, rec->options->symbols[i].name,
			&rec->entries);

		if (err && (must || err->code != TAP_ERR_NOT_FOUND))
			return err;
		tap_error_free(err);
	}
	return NULL;
}

void arming_note_missing(struct recorder *rec)
{
	for (size_t i = 0; i < rec->options->symbol_count; i++) {
		const char *name = rec->options->symbols[i].name;
		size_t at = 0;

		while (at < rec->points.count && strcmp(rec->points.items[at].symbol, name))
			at++;
		if (at == rec->points.count)
			new_point(rec, "", name, 0)->reason = "no module of the process defines it";
	}
}

struct tap_error *arming_read_modules(struct recorder *rec)
{
	bool changed = false;
	struct tap_error *err = read_modules(rec, &changed);

	if (!err && changed) {
		tap_unwinder_forget(rec->unwinder);
		forget_retired(rec);
	}
	return err;
}

struct tap_error *arming_update(struct recorder *rec)
{
	_cleanup_error_ struct tap_error *none = NULL;
	struct tap_error *err = arming_read_modules(rec);

	if (err)
		return err;
	plant_loader(rec);
	err = arming_add_named(rec);
	if (err)
		return err;
	/* None at all is no error here: a program that has just begun has not
	 * loaded its C library. */
	none = tap_entry_points_find(rec->symbols, rec->memory, &rec->entries);
	if (none && none->code != TAP_ERR_NOT_FOUND) {
		err = none;
		none = NULL;
		return err;
	}
	for (size_t i = 0; i < rec->entries.count; i++)
		arming_plant_entry(rec, &rec->entries.items[i]);
	arming_note_allocators(rec);
	return NULL;
}

bool arming_modules_changed(struct recorder *rec)
{
	_cleanup_error_ struct tap_error *err = NULL;
	struct tap_maps maps = {0};
	uint64_t now_ns = tap_clock_ns(), hash = 0;
	bool changed;

	if (now_ns - rec->looked_ns < LOOK_EVERY_NS)
		return false;
	rec->looked_ns = now_ns;
	err = tap_maps_read(rec->pid, &maps);
	for (size_t i = 0; i < maps.count; i++) {
		const struct tap_mapping *mapping = &maps.items[i];

		if (mapping->executable)
			hash = tap_hash_u64(hash ^ mapping->start) ^ mapping->inode;
	}
	tap_maps_deinit(&maps);
	changed = !err && hash != rec->looked_hash;
	if (changed)
		rec->looked_hash = hash;
	return changed;
}

void arming_look(struct recorder *rec)
{
	_cleanup_error_ struct tap_error *err = NULL;

	if (rec->loader_tells || !arming_modules_changed(rec))
		return;
	err = arming_update(rec);
	if (err)
		tap_log_detail("modules that were loaded: %s", err->message);
}

bool arming_follow_return(struct recorder *rec, uint64_t addr)
{
	_cleanup_error_ struct tap_error *err = NULL;
	struct tap_module *module;

	if (tap_target_breakpoint_at(rec->target, addr))
		return true;
	module = tap_symbols_module_at(rec->symbols, addr);
	if (!module) {
		if (rec->beside)
			placing_read_modules(rec->beside);
		else
			arming_look(rec);
		module = tap_symbols_module_at(rec->symbols, addr);
	}
	if (!module)
		return false;
	err = plant(rec, module, addr, &rec->return_hook);
	if (err)
		tap_log_detail("a call is not followed: %s", err->message);
	return !err;
}

static const char *const domain_names[] = {
	[TAP_PYTHON_RAW] = "raw",
	[TAP_PYTHON_MEM] = "mem",
	[TAP_PYTHON_OBJ] = "obj",
};

static struct tap_error *redirect(struct recorder *rec, const struct tap_python_table *table)
{
	static const struct {
		const char *name;
		enum tap_entry_kind kind;
	} functions[] = {
		{"malloc", TAP_ENTRY_MALLOC},
		{"calloc", TAP_ENTRY_CALLOC},
		{"realloc", TAP_ENTRY_REALLOC},
		{"free", TAP_ENTRY_FREE},
	};
	const char *module = tap_python_info(rec->python)->module;
	struct tap_error *err = NULL;

	for (unsigned i = 0; i < 4 && !err; i++) {
		_cleanup_free_ char *name =
			tap_format("%s.%s", domain_names[table->domain], functions[i].name);
		uint64_t pointer_addr = table->addr + 8 + 8 * i;
		size_t point = arming_find_point(rec, module ? module : "", name, pointer_addr);
		struct hook *hook = arming_new_hook(rec);
		struct tap_breakpoint *breakpoint;

		hook->kind = HOOK_ENTRY;
		hook->entry = functions[i].kind;
		hook->table = true;
		hook->object_domain = table->domain != TAP_PYTHON_RAW;
		hook->point = point;
		hook->passes_on = functions[i].kind == TAP_ENTRY_FREE;
		err = tap_target_redirect(
			rec->target, pointer_addr, table->functions[i], hook, &breakpoint);
		if (err)
			rec->points.items[point].reason = tap_strings_add(rec->strings, err->message);
		else
			rec->points.items[point].how = TAP_ENTRY_TABLE;
	}
	return err;
}

void arming_open_python(struct recorder *rec)
{
	_cleanup_error_ struct tap_error *err = NULL;

	if (rec->python && tap_python_info(rec->python)->supported)
		return;
	tap_python_close(rec->python);
	rec->python = NULL;
	err = tap_python_open(rec->symbols, rec->memory, &rec->python);
	if (err)
		tap_log_detail("CPython: %s", err->message);
}

void arming_try_tables(struct recorder *rec)
{
	struct tap_python_table tables[TAP_PYTHON_DOMAINS];
	struct tap_error *err;

	if (rec->tables_armed)
		return;
	arming_open_python(rec);
	if (!rec->python || !tap_python_info(rec->python)->supported)
		return;
	rec->tables_armed = true;
	err = tap_python_tables(rec->python, tables);
	for (int i = 0; i < TAP_PYTHON_DOMAINS && !err; i++)
		err = redirect(rec, &tables[i]);
	rec->tables_seen = !err;
	if (err && err->code == TAP_ERR_TIMEOUT) {
		/* No thread could be borrowed for our page: at the next tick. */
		rec->tables_armed = false;
	} else if (err) {
		const char *module = tap_python_info(rec->python)->module;

		new_point(rec, module ? module : "", "allocator tables", 0)->reason =
			tap_strings_add(rec->strings, err->message);
		tap_log_warn("CPython's own allocations are not seen, only those of its C library: %s",
			err->message);
	}
	tap_error_free(err);
}
