/* SPDX-License-Identifier: Apache-2.0 */
#include <unistd.h>
#include "command/command.h"
#include "command/finish.h"
#include "heaptap/base/log.h"
#include "heaptap/session/stack.h"

struct values {
	bool native;
	bool python;
};

static const struct tap_option options[] = {
	{"native", 0, NULL, TAP_OPTION_FLAG, offsetof(struct values, native),
		"Native frames (default: both)"},
	{"python", 0, NULL, TAP_OPTION_FLAG, offsetof(struct values, python),
		"Python frames (default: both)"},
	{NULL},
};

/* The object for scripts has no room for them. */
static void warn_of_notes(const struct tap_stack_report *report)
{
	if (report->note)
		tap_log_warn("%s", report->note);
	for (size_t i = 0; i < report->threads.count; i++)
		if (report->threads.items[i].note)
			tap_log_warn("thread %d: %s", (int)report->threads.items[i].tid,
				report->threads.items[i].note);
}

static void show(const struct tap_common *common, const struct tap_stack_report *report,
	struct tap_output *output)
{
	struct tap_view_options look = tap_view_options(common, output->fd);

	if (!common->json) {
		tap_view_stack_text(output->file, report, &look);
		return;
	}
	warn_of_notes(report);
	tap_view_stack_json(output->file, report);
}

static struct tap_error *run(const struct tap_invocation *invocation, int *exit_ret)
{
	const struct tap_common *common = &invocation->common;
	const struct values *values = invocation->values;
	const struct tap_stack_options session = {
		.native = values->native || !values->python,
		.python = values->python || !values->native,
		.debug_dir = common->debug_dir,
	};
	_cleanup_output_ struct tap_output output = {0};
	struct tap_stack_report report = {0};
	struct tap_error *err;
	pid_t pid = 0;

	err = tap_operand_pid(invocation, &pid);
	if (!err)
		err = tap_output_open(common->output, STDOUT_FILENO, &output);
	if (!err)
		err = tap_stack_collect(pid, &session, &report);
	if (!err && !tap_finish_is_cut_short(exit_ret)) {
		show(common, &report, &output);
		err = tap_output_commit(&output);
	}
	tap_stack_report_deinit(&report);
	return err;
}

const struct tap_command tap_command_stack = {
	.name = "stack",
	.summary = "Every thread's stack, Python and native frames mixed",
	.usage = "PID",
	.description =
		"Shows where every thread is and what it waits in. A thread is held for as long\n"
		"as its frames are read; one that is blocked in a system call which that would\n"
		"disturb is read as it stands.",
	.options = options,
	.values_size = sizeof(struct values),
	.run = run,
};
