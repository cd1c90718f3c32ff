/* SPDX-License-Identifier: Apache-2.0 */
#include "heaptap/analysis/info_report.h"
#include "heaptap/analysis/stack_report.h"
#include "heaptap/analysis/trace_report.h"
#include "heaptap/analysis/watch_report.h"

void tap_stack_report_deinit(struct tap_stack_report *report)
{
	for (size_t i = 0; i < report->threads.count; i++)
		tap_vector_free(&report->threads.items[i].frames);
	tap_vector_free(&report->threads);
	tap_process_deinit(&report->process);
	tap_strings_destroy(report->strings);
	report->strings = NULL;
}

const char *tap_runtime_kind_name(enum tap_runtime_kind kind)
{
	static const char *const names[] = {
		[TAP_RUNTIME_UNKNOWN] = "unknown",
		[TAP_RUNTIME_NATIVE] = "native",
		[TAP_RUNTIME_CPYTHON] = "cpython",
		[TAP_RUNTIME_GO] = "go",
		[TAP_RUNTIME_JVM] = "jvm",
		[TAP_RUNTIME_NODE] = "node",
		[TAP_RUNTIME_PYPY] = "pypy",
	};

	return names[kind];
}

const char *tap_entry_how_name(enum tap_entry_how how)
{
	static const char *const names[] = {
		[TAP_ENTRY_NONE] = NULL,
		[TAP_ENTRY_JUMP] = "jump",
		[TAP_ENTRY_TABLE] = "table",
		[TAP_ENTRY_BREAKPOINT] = "breakpoint",
	};

	return names[how];
}

void tap_info_report_deinit(struct tap_info_report *report)
{
	for (size_t i = 0; i < report->allocators.count; i++)
		tap_vector_free(&report->allocators.items[i].symbols);
	tap_vector_free(&report->allocators);
	tap_vector_free(&report->entry_points);
	tap_vector_free(&report->symbols);
	tap_cgroup_deinit(&report->cgroup);
	tap_process_deinit(&report->process);
	tap_strings_destroy(report->strings);
	report->strings = NULL;
}

void tap_watch_report_deinit(struct tap_watch_report *report)
{
	for (size_t i = 0; i < report->entries.count; i++) {
		struct tap_watch_entry *entry = &report->entries.items[i];

		tap_process_deinit(&entry->process);
		tap_vector_free(&entry->timeline);
		tap_error_free(entry->error);
	}
	tap_vector_free(&report->entries);
}

const char *tap_ended_by_name(enum tap_ended_by ended_by)
{
	static const char *const names[] = {
		[TAP_ENDED_DURATION] = "duration",
		[TAP_ENDED_SIGNAL] = "signal",
		[TAP_ENDED_EXIT] = "exit",
		[TAP_ENDED_EXEC] = "exec",
		[TAP_ENDED_BRAKE] = "brake",
		[TAP_ENDED_PROBE_COST] = "probe_cost",
	};

	return names[ended_by];
}

void tap_trace_report_deinit(struct tap_trace_report *report)
{
	for (size_t i = 0; i < report->sites.count; i++)
		tap_vector_free(&report->sites.items[i].stack);
	tap_vector_free(&report->sites);
	tap_vector_free(&report->timeline);
	tap_vector_free(&report->entry_points);
	tap_process_deinit(&report->process);
	tap_strings_destroy(report->strings);
	report->strings = NULL;
}
