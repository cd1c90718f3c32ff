/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include "heaptap/base/cleanup.h"
#include "view/text.h"

static void label(const struct tap_page *page, const char *name)
{
	fprintf(page->out, "%-14s", name);
}

static void show_attach(const struct tap_page *page, const struct tap_info_report *report)
{
	label(page, "Attach");
	if (report->attach.allowed) {
		fputs("permitted\n", page->out);
		return;
	}
	tap_page_ink(page, TAP_INK_YELLOW);
	fputs("not possible: ", page->out);
	tap_page_ink(page, TAP_INK_PLAIN);
	tap_page_text(page, report->attach.reason);
	fputc('\n', page->out);
	if (report->attach.advice) {
		label(page, "");
		tap_page_text(page, report->attach.advice);
		fputc('\n', page->out);
	}
}

static const char *runtime_words(enum tap_runtime_kind kind)
{
	static const char *const words[] = {
		[TAP_RUNTIME_UNKNOWN] = "unknown",
		[TAP_RUNTIME_NATIVE] = "native",
		[TAP_RUNTIME_CPYTHON] = "CPython",
		[TAP_RUNTIME_GO] = "Go",
		[TAP_RUNTIME_JVM] = "Java virtual machine",
		[TAP_RUNTIME_NODE] = "Node.js",
		[TAP_RUNTIME_PYPY] = "PyPy",
	};

	return words[kind];
}

static void show_runtime(const struct tap_page *page, const struct tap_info_report *report)
{
	label(page, "Runtime");
	fputs(runtime_words(report->runtime.kind), page->out);
	if (report->runtime.version) {
		fputc(' ', page->out);
		tap_page_text(page, report->runtime.version);
	}
	if (!report->runtime.supported && report->runtime.reason) {
		fputs(report->runtime.kind == TAP_RUNTIME_UNKNOWN ? ": " : ", not supported: ",
			page->out);
		tap_page_text(page, report->runtime.reason);
	}
	fputc('\n', page->out);
}

static void show_limits(const struct tap_page *page, const struct tap_info_report *report)
{
	static const char *const seccomp[] = {"none", "strict", "filter"};
	char size[TAP_SIZE_TEXT];
	int mode = report->process.seccomp;

	label(page, "Memory limit");
	if (report->cgroup.path && report->cgroup.limit_bytes != UINT64_MAX)
		fprintf(page->out, "%s (cgroup v%d ",
			tap_text_size(size, (int64_t)report->cgroup.limit_bytes),
			report->cgroup.version);
	else if (report->cgroup.path)
		fprintf(page->out, "none (cgroup v%d ", report->cgroup.version);
	else
		fputs("none (no cgroup", page->out);
	if (report->cgroup.path)
		tap_page_text(page, report->cgroup.path);
	fputs(")\n", page->out);
	label(page, "Seccomp");
	fprintf(page->out, "%s\n", mode >= 0 && mode <= 2 ? seccomp[mode] : "unknown");
	if (report->left_behind) {
		label(page, "Left behind");
		tap_page_text(page, report->left_behind);
		fputc('\n', page->out);
	}
}

static void show_allocators(const struct tap_page *page, const struct tap_info_report *report)
{
	for (size_t i = 0; i < report->allocators.count; i++) {
		const struct tap_info_allocator *allocator = &report->allocators.items[i];

		label(page, i ? "" : "Allocators");
		tap_page_cell(page, allocator->kind, 11);
		tap_page_text(page, allocator->module);
		fputc('\n', page->out);
	}
	if (!report->allocators.count) {
		bool unread = report->runtime.kind == TAP_RUNTIME_UNKNOWN;

		label(page, "Allocators");
		fputs(unread ? "unknown\n" : "none found\n", page->out);
	}
}

static const char *debug_words(const char *debug)
{
	if (!strcmp(debug, "full"))
		return "lines and names";
	if (!strcmp(debug, "symtab"))
		return "names";
	if (!strcmp(debug, "dynsym"))
		return "exported names";
	return "nothing";
}

static void show_symbols(const struct tap_page *page, const struct tap_info_report *report)
{
	size_t poor = 0;

	for (size_t i = 0; i < report->symbols.count; i++) {
		const struct tap_info_symbols *module = &report->symbols.items[i];

		/* What the kernel maps has no debug file. */
		poor += strcmp(module->debug, "full") && module->module[0] != '[';
		if (i >= page->options->limit)
			continue;
		label(page, i ? "" : "Symbols");
		tap_page_cell(page, debug_words(module->debug), 16);
		tap_page_text(page, module->module);
		fputc('\n', page->out);
	}
	if (report->symbols.count > page->options->limit) {
		label(page, "");
		fprintf(page->out, "and %zu more modules (--limit)\n",
			report->symbols.count - page->options->limit);
	}
	if (poor) {
		label(page, "");
		fputs("for lines: install the debug files of these modules (package -dbgsym or\n",
			page->out);
		label(page, "");
		fputs("-debuginfo), or name their folder with --debug-dir\n", page->out);
	}
}

void tap_view_info_text(
	FILE *out, const struct tap_info_report *report, const struct tap_view_options *options)
{
	const struct tap_page page = {out, options};

	tap_page_head(&page, "info", &report->process);
	if (report->process.threads > 0) {
		tap_page_dot(&page);
		fprintf(out, "%d thread%s", report->process.threads,
			report->process.threads == 1 ? "" : "s");
	}
	fputs("\n\n", out);
	show_attach(&page, report);
	show_runtime(&page, report);
	show_limits(&page, report);
	show_allocators(&page, report);
	tap_page_entry_points(&page, 14, "Entry points", &report->entry_points);
	show_symbols(&page, report);
}
