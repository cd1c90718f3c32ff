/* SPDX-License-Identifier: Apache-2.0 */
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "command/command.h"
#include "command/finish.h"
#include "heaptap/base/log.h"
#include "heaptap/base/progress.h"
#include "heaptap/session/report.h"

struct values {
	const char *sort;
	const char *match;
	double growth_s;
};

#define AT(member) offsetof(struct values, member)

static const struct tap_option options[] = {
	{"growth", 0, "DUR", TAP_OPTION_DURATION, AT(growth_s),
		"Look twice, DUR apart, and show what became more"},
	{"sort", 0, "count|own|retained", TAP_OPTION_CHOICE, AT(sort),
		"What ranks them (default: own)"},
	{"match", 0, "GLOB", TAP_OPTION_TEXT, AT(match), "Only types whose name matches"},
	{NULL},
};

static void on_progress(void *context, const char *what)
{
	tap_progress_show(context, "types: %s", what);
}

static int by_count(const void *a, const void *b)
{
	const struct tap_heap_type *left = a, *right = b;

	return (left->count < right->count) - (left->count > right->count);
}

static int by_retained(const void *a, const void *b)
{
	const struct tap_heap_type *left = a, *right = b;

	return (left->retained_bytes < right->retained_bytes) -
	       (left->retained_bytes > right->retained_bytes);
}

static int by_change(const void *a, const void *b)
{
	const struct tap_heap_type *left = a, *right = b;

	return (left->own_change < right->own_change) - (left->own_change > right->own_change);
}

static void arrange(const struct values *values, struct tap_heap_report *report)
{
	struct tap_heap_type_list *types = &report->types;
	size_t kept = 0;

	for (size_t i = 0; i < types->count; i++)
		if (!values->match || !fnmatch(values->match, types->items[i].type, 0))
			types->items[kept++] = types->items[i];
	types->count = kept;
	if (!kept)
		return;
	if (values->sort && !strcmp(values->sort, "count"))
		qsort(types->items, kept, sizeof(*types->items), by_count);
	else if (values->sort && !strcmp(values->sort, "retained"))
		qsort(types->items, kept, sizeof(*types->items), by_retained);
	else if (!values->sort && values->growth_s > 0)
		qsort(types->items, kept, sizeof(*types->items), by_change);
}

static struct tap_error *run(const struct tap_invocation *invocation, int *exit_ret)
{
	const struct tap_common *common = &invocation->common;
	const struct values *values = invocation->values;
	_cleanup_output_ struct tap_output output = {0};
	struct tap_heap_report report = {0};
	struct tap_progress progress;
	const struct tap_report_options session = {
		.max_pause_s = TAP_REPORT_MAX_PAUSE_S,
		.types_only = true,
		.growth_s = values->growth_s,
		.debug_dir = common->debug_dir,
		.on_progress = on_progress,
		.context = &progress,
	};
	struct tap_error *err;
	pid_t pid = 0;

	err = tap_operand_pid(invocation, &pid);
	if (!err)
		err = tap_output_open(common->output, STDOUT_FILENO, &output);
	if (err)
		return err;
	tap_progress_start(&progress);
	err = tap_report_collect(pid, &session, &report);
	tap_progress_end(&progress);
	tap_log_flush();
	if (!err && !tap_finish_is_cut_short(exit_ret)) {
		struct tap_view_options look = tap_view_options(common, output.fd);

		arrange(values, &report);
		if (common->json)
			tap_view_types_json(output.file, &report, look.limit);
		else
			tap_view_types_text(output.file, &report, &look);
		err = tap_output_commit(&output);
	}
	tap_heap_report_deinit(&report);
	return err;
}

const struct tap_command tap_command_types = {
	.name = "types",
	.summary = "Python objects by type: how many, how large, what they retain",
	.usage = "PID",
	.description =
		"Counts the Python objects of a process by type, those that the collector does\n"
		"not track as well (str, bytes, int). The process is held for a moment only, as\n"
		"long as it takes to copy it (copy-on-write).",
	.options = options,
	.values_size = sizeof(struct values),
	.run = run,
};
