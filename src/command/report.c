/* SPDX-License-Identifier: Apache-2.0 */
#include <unistd.h>
#include "command/command.h"
#include "command/finish.h"
#include "heaptap/base/log.h"
#include "heaptap/base/progress.h"
#include "heaptap/session/report.h"

#define DEFAULT_THRESHOLD_PERCENT 10

struct values {
	bool stop;
	double max_pause_s;
	bool force;
	double watch_s;
	double threshold_percent;
	bool fail_on_leak;
};

#define AT(member) offsetof(struct values, member)

static const struct tap_option options[] = {
	{"stop", 0, NULL, TAP_OPTION_FLAG, AT(stop),
		"Read the process in place, held all the time, instead of a copy"},
	{"max-pause", 0, "DUR", TAP_OPTION_DURATION, AT(max_pause_s),
		"Refuse where the copy would hold it for longer (default: 250ms)"},
	{"force", 0, NULL, TAP_OPTION_FLAG, AT(force), "However long it is held"},
	{"watch", 0, "DUR", TAP_OPTION_DURATION, AT(watch_s),
		"Watch its memory for so long before, for the verdict"},
	{"threshold", 0, "PCT", TAP_OPTION_PERCENT, AT(threshold_percent),
		"Share of the live bytes that makes a suspect (default: 10)"},
	{"fail-on-leak", 0, NULL, TAP_OPTION_FLAG, AT(fail_on_leak),
		"Exit with 1 where it leaks"},
	{"swap", 0, NULL, TAP_OPTION_LATER, 0, "Read what is swapped out, too"},
	{"save", 0, "FILE", TAP_OPTION_LATER, 0, "Keep the snapshot"},
	{NULL},
};

static const struct values defaults = {
	.max_pause_s = TAP_REPORT_MAX_PAUSE_S,
	.threshold_percent = DEFAULT_THRESHOLD_PERCENT,
};

static void on_progress(void *context, const char *what)
{
	tap_progress_show(context, "report: %s", what);
}

/* Without a curve, what nothing holds is the leak. */
static bool leaks(const struct values *values, const struct tap_heap_report *report)
{
	const struct tap_memory_table *memory = &report->memory;
	uint64_t lost = report->unreachable.c_bytes + report->unreachable.python_bytes;

	if (report->verdict.state != TAP_VERDICT_UNKNOWN)
		return report->verdict.state == TAP_VERDICT_LEAK;
	return memory->rss_bytes != UINT64_MAX &&
	       (double)lost > values->threshold_percent / 100 * (double)memory->rss_bytes;
}

static struct tap_error *collect(const struct tap_invocation *invocation, pid_t pid,
	struct tap_heap_report *report)
{
	const struct values *values = invocation->values;
	struct tap_progress progress;
	const struct tap_report_options session = {
		.in_place = values->stop,
		.max_pause_s = values->max_pause_s,
		.force = values->force,
		.threshold = values->threshold_percent / 100,
		.watch_s = values->watch_s,
		.debug_dir = invocation->common.debug_dir,
		.on_progress = on_progress,
		.context = &progress,
	};
	struct tap_error *err;

	tap_progress_start(&progress);
	err = tap_report_collect(pid, &session, report);
	tap_progress_end(&progress);
	tap_log_flush();
	return err;
}

static struct tap_error *run(const struct tap_invocation *invocation, int *exit_ret)
{
	const struct tap_common *common = &invocation->common;
	const struct values *values = invocation->values;
	_cleanup_output_ struct tap_output output = {0};
	struct tap_heap_report report = {0};
	struct tap_error *err;
	pid_t pid = 0;

	err = tap_operand_pid(invocation, &pid);
	if (!err)
		err = tap_output_open(common->output, STDOUT_FILENO, &output);
	if (!err)
		err = collect(invocation, pid, &report);
	if (!err && !tap_finish_is_cut_short(exit_ret)) {
		struct tap_view_options look = tap_view_options(common, output.fd);

		if (common->json)
			tap_view_report_json(output.file, &report, look.limit);
		else
			tap_view_report_text(output.file, &report, &look);
		err = tap_output_commit(&output);
		if (values->fail_on_leak && leaks(values, &report))
			*exit_ret = 1;
	}
	tap_heap_report_deinit(&report);
	return err;
}

const struct tap_command tap_command_report = {
	.name = "report",
	.summary = "What holds the memory of a process, and what nothing holds",
	.usage = "PID",
	.description =
		"Holds the process for a moment, copies it (copy-on-write), lets it go on, and\n"
		"reads the copy's heap as a graph: what retains most, under the name that a\n"
		"programmer would type, and how it is reached; blocks and cycles that nothing\n"
		"holds; what the allocators hold free; objects by type; descriptors.",
	.options = options,
	.values_size = sizeof(struct values),
	.defaults = &defaults,
	.run = run,
};
