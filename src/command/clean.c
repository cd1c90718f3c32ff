/* SPDX-License-Identifier: Apache-2.0 */
#include <unistd.h>
#include "command/command.h"
#include "command/finish.h"
#include "heaptap/session/clean.h"

#define EXIT_IN_THE_WAY 3

static struct tap_error *run(const struct tap_invocation *invocation, int *exit_ret)
{
	const struct tap_common *common = &invocation->common;
	_cleanup_output_ struct tap_output output = {0};
	struct tap_clean_report report = {0};
	struct tap_view_options look;
	struct tap_error *err;
	pid_t pid = 0;

	err = tap_operand_pid(invocation, &pid);
	if (!err)
		err = tap_output_open(common->output, STDOUT_FILENO, &output);
	if (!err)
		err = tap_clean_collect(pid, &report);
	if (!err) {
		look = tap_view_options(common, output.fd);
		if (common->json)
			tap_view_clean_json(output.file, &report);
		else
			tap_view_clean_text(output.file, &report, &look);
		err = tap_output_commit(&output);
		if (report.found && !report.removed)
			*exit_ret = EXIT_IN_THE_WAY;
	}
	tap_clean_report_deinit(&report);
	return err;
}

const struct tap_command tap_command_clean = {
	.name = "clean",
	.summary = "Take out of a process what a heaptap that was killed left in it",
	.usage = "PID",
	.description =
		"A heaptap that is killed with SIGKILL while it records leaves its probes in the\n"
		"process: code that passes every call through, which does no harm. This takes it\n"
		"out again, as every trace of the process does first. Only bytes that are exactly\n"
		"what that heaptap placed are put back; nothing is done while one is recording.",
	.run = run,
};
