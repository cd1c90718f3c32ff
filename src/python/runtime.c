/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include "heaptap/base/alloc.h"
#include "python/runtime.h"
#include "python/walk.h"

#define MAX_INTERPRETERS 4096

bool tap_python_try_field(
	const struct tap_python *python, uint64_t addr, int32_t offset, uint64_t *ret)
{
	return addr && offset >= 0 &&
	       tap_memory_try_u64(python->memory, addr + (uint64_t)offset, ret);
}

static bool refuse(struct tap_python *python, const char *reason)
{
	snprintf(python->info.reason, sizeof(python->info.reason), "%s", reason);
	return false;
}

/* The main interpreter: the one whose id is 0. */
static uint64_t main_interpreter(const struct tap_python *python)
{
	const struct tap_python_layout *layout = &python->layout;
	struct tap_python_walk walk = {0};
	uint64_t interp, id;

	if (!tap_python_try_field(
		    python, python->info.runtime_addr, layout->runtime.interpreters_head, &interp))
		return 0;
	while (tap_python_walk_on(&walk, interp, MAX_INTERPRETERS)) {
		if (!tap_python_try_field(python, interp, layout->interpreter.id, &id))
			return 0;
		if (id == 0)
			return interp;
		if (!tap_python_try_field(python, interp, layout->interpreter.next, &interp))
			return 0;
	}
	return 0;
}

/* The head of its list of thread states is a head and points back. */
static bool has_thread_states(const struct tap_python *python, uint64_t interp)
{
	const struct tap_python_layout *layout = &python->layout;
	uint64_t state, prev, back;

	return tap_python_try_field(python, interp, layout->interpreter.threads_head, &state) &&
	       tap_python_try_field(python, state, layout->thread.prev, &prev) && prev == 0 &&
	       tap_python_try_field(python, state, layout->thread.interp, &back) && back == interp;
}

static bool choose_layout(struct tap_python *python)
{
	uint32_t hex = python->info.hex;
	const struct tap_python_layout *layout;

	layout = hex >> 24 == 3 ? tap_python_layout_find((int)(hex >> 16 & 0xFF)) : NULL;
	if (!layout) {
		snprintf(python->info.reason, sizeof(python->info.reason),
			"no layout for CPython %u.%u", hex >> 24, hex >> 16 & 0xFF);
		return false;
	}
	python->layout = *layout;
	return true;
}

bool tap_python_believe(struct tap_python *python)
{
	uint64_t interp;

	if (!choose_layout(python))
		return false;
	if (python->info.free_threaded)
		return refuse(python, "no layout for free-threaded builds of CPython");
	if (!python->info.runtime_addr)
		return refuse(python, "_PyRuntime was not found");
	if (!tap_python_layout_override(&python->layout, python->memory, python->info.runtime_addr))
		return refuse(python, "its table of offsets (_Py_DebugOffsets) makes no sense");
	interp = main_interpreter(python);
	if (!interp)
		return refuse(python, "no main interpreter where this version has it "
				      "(not started yet, or built with other options)");
	if (!has_thread_states(python, interp))
		return refuse(python, "no thread state where this version has it "
				      "(not started yet, or built with other options)");
	tap_python_layout_measure(python);
	return true;
}

struct tap_error *tap_python_open(
	struct tap_symbols *symbols, struct tap_memory *memory, struct tap_python **ret)
{
	struct tap_python_site site;
	struct tap_python *python;

	*ret = NULL;
	if (!tap_python_find(symbols, &site))
		return NULL;
	python = tap_alloc(sizeof(*python));
	python->symbols = symbols;
	python->memory = memory;
	python->module = site.module;
	python->info.module = site.module->path;
	python->info.runtime_addr = site.runtime_addr;
	python->codes = tap_python_codes_create();
	*ret = python;
	if (!tap_python_version_read(python)) {
		refuse(python, "nothing tells which version of CPython it is");
		return NULL;
	}
	python->info.supported = tap_python_believe(python);
	if (python->info.supported)
		tap_python_eval_find(python);
	return NULL;
}

void tap_python_close(struct tap_python *python)
{
	if (!python)
		return;
	tap_python_codes_destroy(python->codes);
	tap_map_deinit(&python->threads);
	free(python);
}

const struct tap_python_info *tap_python_info(const struct tap_python *python)
{
	return &python->info;
}
