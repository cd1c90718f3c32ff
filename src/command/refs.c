/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "command/command.h"
#include "command/finish.h"
#include "heaptap/base/log.h"
#include "heaptap/base/progress.h"
#include "heaptap/session/refs.h"
#include "heaptap/session/report.h"

#define DEFAULT_DEPTH 5

struct values {
	const char *type;
	const char *addr;
	const char *index;
	int64_t max_depth;
	bool forward;
};

#define AT(member) offsetof(struct values, member)

static const struct tap_option options[] = {
	{"type", 0, "NAME", TAP_OPTION_TEXT, AT(type), "An object of this type"},
	{"addr", 0, "HEX", TAP_OPTION_TEXT, AT(addr), "The object or block at this address"},
	{"index", 0, "N", TAP_OPTION_TEXT, AT(index),
		"Which object of the type, from 0 on (default: 0)"},
	{"max-depth", 0, "N", TAP_OPTION_NUMBER, AT(max_depth), "Steps away from it (default: 5)"},
	{"forward", 0, NULL, TAP_OPTION_FLAG, AT(forward),
		"What it holds, instead of what holds it"},
	{NULL},
};

static const struct values defaults = {.max_depth = DEFAULT_DEPTH};

static void on_progress(void *context, const char *what)
{
	tap_progress_show(context, "refs: %s", what);
}

static struct tap_error *parse_addr(const char *text, uint64_t *ret)
{
	char *end;

	errno = 0;
	*ret = strtoull(text, &end, 16);
	if (errno || end == text || *end || *text == '-')
		return tap_error_advise(
			tap_error_new(TAP_ERR_USAGE, "'%s' is not an address", text),
			"an address is hexadecimal, as heaptap report --json shows it: 0x7f3a5c0010");
	return NULL;
}

static struct tap_error *parse(const struct values *values, struct tap_refs_options *session)
{
	int64_t index = 0;
	struct tap_error *err = NULL;

	if (!values->type == !values->addr)
		return tap_error_advise(
			tap_error_new(TAP_ERR_USAGE, "refs needs either --type or --addr"),
			"heaptap types PID shows the types; heaptap report --json PID has addresses");
	if (values->addr)
		err = parse_addr(values->addr, &session->addr);
	if (!err && values->index)
		err = tap_text_parse_number(values->index, 0, INT64_MAX, &index);
	session->index = (uint64_t)index;
	return err;
}

static bool ends_with(const char *text, const char *end)
{
	size_t size = text ? strlen(text) : 0, end_size = strlen(end);

	return size >= end_size && !strcmp(text + size - end_size, end);
}

static struct tap_error *check_output(const char *path)
{
	if (ends_with(path, ".svg") || ends_with(path, ".png"))
		return tap_error_advise(
			tap_error_new(TAP_ERR_USAGE, "pictures are not in this version of heaptap"),
			"-o FILE.dot can be drawn: dot -Tsvg FILE.dot");
	return NULL;
}

static void show(const struct tap_common *common, const struct tap_refs_report *report,
	struct tap_output *output)
{
	struct tap_view_options look = tap_view_options(common, output->fd);

	if (common->json)
		tap_view_refs_json(output->file, report);
	else if (ends_with(common->output, ".dot"))
		tap_view_refs_dot(output->file, report);
	else
		tap_view_refs_text(output->file, report, &look);
}

static struct tap_error *run(const struct tap_invocation *invocation, int *exit_ret)
{
	const struct tap_common *common = &invocation->common;
	const struct values *values = invocation->values;
	_cleanup_output_ struct tap_output output = {0};
	struct tap_refs_report report = {0};
	struct tap_progress progress;
	struct tap_refs_options session = {
		.type = values->type,
		.max_depth = (unsigned)(values->max_depth < 1000 ? values->max_depth : 1000),
		.forward = values->forward,
		.max_pause_s = TAP_REPORT_MAX_PAUSE_S,
		.debug_dir = common->debug_dir,
		.on_progress = on_progress,
		.context = &progress,
	};
	struct tap_error *err;
	pid_t pid = 0;

	err = tap_operand_pid(invocation, &pid);
	if (!err)
		err = parse(values, &session);
	if (!err)
		err = check_output(common->output);
	if (!err)
		err = tap_output_open(common->output, STDOUT_FILENO, &output);
	if (err)
		return err;
	tap_progress_start(&progress);
	err = tap_refs_collect(pid, &session, &report);
	tap_progress_end(&progress);
	tap_log_flush();
	if (!err && !tap_finish_is_cut_short(exit_ret)) {
		show(common, &report, &output);
		err = tap_output_commit(&output);
	}
	tap_refs_report_deinit(&report);
	return err;
}

const struct tap_command tap_command_refs = {
	.name = "refs",
	.summary = "What holds one object, or what it holds",
	.usage = "(--type NAME | --addr HEX) PID",
	.description =
		"Shows what refers to an object, and what refers to that, up to something that\n"
		"is held from outside of the heap. -o FILE.dot writes it in the language of\n"
		"Graphviz. The process is held for a moment only, as long as it takes to copy it\n"
		"(copy-on-write).",
	.options = options,
	.values_size = sizeof(struct values),
	.defaults = &defaults,
	.run = run,
};
