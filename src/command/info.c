/* SPDX-License-Identifier: Apache-2.0 */
#include <unistd.h>
#include "command/command.h"
#include "command/finish.h"
#include "heaptap/session/info.h"

static struct tap_error *run(const struct tap_invocation *invocation, int *exit_ret)
{
	const struct tap_common *common = &invocation->common;
	_cleanup_output_ struct tap_output output = {0};
	struct tap_info_report report = {0};
	struct tap_view_options look;
	struct tap_error *err;
	pid_t pid = 0;

	err = tap_operand_pid(invocation, &pid);
	if (!err)
		err = tap_output_open(common->output, STDOUT_FILENO, &output);
	if (!err)
		err = tap_info_collect(pid, common->debug_dir, &report);
	if (!err && !tap_finish_is_cut_short(exit_ret)) {
		look = tap_view_options(common, output.fd);
		if (common->json)
			tap_view_info_json(output.file, &report);
		else
			tap_view_info_text(output.file, &report, &look);
		err = tap_output_commit(&output);
	}
	tap_info_report_deinit(&report);
	return err;
}

const struct tap_command tap_command_info = {
	.name = "info",
	.summary = "What heaptap can see of a process, and what to do about the rest",
	.usage = "PID",
	.description =
		"Shows whether heaptap may attach to the process, its runtime and version, its\n"
		"allocators, the symbols of its modules and its memory limit, with what to do\n"
		"about what is missing. The process is not stopped and nothing is written to it.",
	.run = run,
};
