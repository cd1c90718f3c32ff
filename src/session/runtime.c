/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include "session/runtime.h"

#define NATIVE_ALONE ": its own memory is not read, the native allocator's calls are"

/* What gives a runtime away: a module's name, a section or symbol of the
 * executable. */
static const struct {
	enum tap_runtime_kind kind;
	const char *module_prefix;
	const char *section;
	const char *symbol;
	const char *reason;
} marks[] = {
	{TAP_RUNTIME_GO, NULL, ".go.buildinfo", "runtime.main",
		"a Go program has a collector and an allocator of its own" NATIVE_ALONE},
	{TAP_RUNTIME_JVM, "libjvm.so", NULL, NULL,
		"a Java virtual machine has a collector and a heap of its own" NATIVE_ALONE},
	{TAP_RUNTIME_NODE, "libnode.so", NULL, "_ZN4node5StartEiPPc",
		"V8 has a collector and a heap of its own" NATIVE_ALONE},
	{TAP_RUNTIME_PYPY, "libpypy", NULL, "pypy_main_startup",
		"PyPy has a collector and a heap of its own" NATIVE_ALONE},
};

static bool has_mark(struct tap_module *module, size_t mark)
{
	struct tap_symbol symbol;
	uint64_t addr, size;

	if (marks[mark].module_prefix && !strncmp(module->name, marks[mark].module_prefix,
						 strlen(marks[mark].module_prefix)))
		return true;
	if (!module->executable)
		return false;
	if (marks[mark].section &&
		tap_module_try_section(module, marks[mark].section, &addr, &size))
		return true;
	return marks[mark].symbol && tap_module_try_symbol(module, marks[mark].symbol, &symbol);
}

const char *tap_runtime_try_foreign(struct tap_symbols *symbols, enum tap_runtime_kind *kind_ret)
{
	for (size_t i = 0; i < tap_symbols_count(symbols); i++) {
		struct tap_module *module = tap_symbols_at_index(symbols, i);

		for (size_t mark = 0; mark < sizeof(marks) / sizeof(marks[0]); mark++) {
			if (module->retired || !has_mark(module, mark))
				continue;
			*kind_ret = marks[mark].kind;
			return marks[mark].reason;
		}
	}
	return NULL;
}

void tap_runtime_find(const struct tap_look *look, struct tap_info_report *report)
{
	const struct tap_python_info *info = look->python ? tap_python_info(look->python) : NULL;

	if (info) {
		report->runtime.kind = TAP_RUNTIME_CPYTHON;
		report->runtime.supported = info->supported;
		if (*info->version)
			report->runtime.version = tap_strings_add(report->strings, info->version);
		if (!info->supported)
			report->runtime.reason = tap_strings_add(report->strings, info->reason);
		return;
	}
	report->runtime.reason = tap_runtime_try_foreign(look->symbols, &report->runtime.kind);
	if (!report->runtime.reason) {
		report->runtime.kind = TAP_RUNTIME_NATIVE;
		report->runtime.supported = true;
	}
}
