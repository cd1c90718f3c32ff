/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <unistd.h>
#include "command/command.h"
#include "command/finish.h"
#include "heaptap/base/cleanup.h"
#include "heaptap/base/log.h"
#include "heaptap/base/progress.h"
#include "heaptap/base/text.h"
#include "heaptap/session/stop.h"
#include "heaptap/session/watch.h"

struct values {
	double duration_s;
	double interval_s;
	double warmup_s;
	bool csv;
};

#define AT(member) offsetof(struct values, member)

static const struct tap_option options[] = {
	{"duration", 'd', "DUR", TAP_OPTION_DURATION, AT(duration_s),
		"Watch for so long (default: until Ctrl-C)"},
	{"interval", 0, "DUR", TAP_OPTION_DURATION, AT(interval_s),
		"Time between two looks (default: duration / 200, 50ms to 1s)"},
	{"warmup", 0, "DUR", TAP_OPTION_DURATION, AT(warmup_s),
		"Leave so much at the start out of the verdict"},
	{"csv", 0, NULL, TAP_OPTION_FLAG, AT(csv), "Print a line per look as it comes"},
	{"when", 0, "COND", TAP_OPTION_LATER, 0, "Condition for --then"},
	{"then", 0, "COMMAND", TAP_OPTION_LATER, 0, "What to run when the condition holds"},
	{"every", 0, NULL, TAP_OPTION_LATER, 0, "Run it each time the condition holds"},
	{"openmetrics", 0, "FILE", TAP_OPTION_LATER, 0, "Keep the figures in FILE"},
	{NULL},
};

/* What the ticks go to. */
struct live {
	const struct values *values;
	struct tap_output *output;
	struct tap_progress progress;
	struct tap_error *err;
};

static void show_progress(struct live *live, const struct tap_watch_report *report, size_t index)
{
	const struct tap_watch_entry *entry = &report->entries.items[index];
	const struct tap_watch_point *point = &entry->timeline.items[entry->timeline.count - 1];
	char elapsed[TAP_SIZE_TEXT], rss[TAP_SIZE_TEXT], duration[TAP_SIZE_TEXT];
	bool ends = live->values->duration_s > 0;

	tap_progress_show(&live->progress, "watch %d: %s%s%s, RSS %s%s", (int)entry->process.pid,
		tap_text_duration(elapsed, point->t_s), ends ? " of " : "",
		ends ? tap_text_duration(duration, live->values->duration_s) : "",
		tap_text_size(rss, (int64_t)point->usage.rss_bytes),
		ends ? "" : " (Ctrl-C ends it)");
}

static void on_point(void *context, const struct tap_watch_report *report, size_t index)
{
	const struct tap_watch_entry *entry = &report->entries.items[index];
	struct live *live = context;
	struct tap_text line = {0};

	if (!live->values->csv) {
		show_progress(live, report, index);
		return;
	}
	if (live->err)
		return;
	tap_view_watch_csv_line(
		&line, entry->process.pid, &entry->timeline.items[entry->timeline.count - 1]);
	live->err = tap_output_stream(live->output, line.data, line.size_bytes);
	tap_text_deinit(&line);
	if (live->err || live->output->broken)
		tap_stop_request();
}

static struct tap_error *parse_pids(
	const struct tap_invocation *invocation, pid_t **pids_ret, size_t *count_ret)
{
	size_t count = invocation->operands.count;
	struct tap_error *err = NULL;

	*pids_ret = tap_alloc((count + 1) * sizeof(**pids_ret));
	*count_ret = 0;
	if (invocation->argv || !count)
		return tap_error_advise(
			tap_error_new(TAP_ERR_USAGE, invocation->argv
							     ? "watch takes no command behind '--'"
							     : "watch needs a PID"),
			"usage: heaptap watch [OPTION]... PID...");
	for (size_t i = 0; i < count && !err; i++) {
		pid_t pid = 0;
		bool known = false;

		err = tap_parse_pid(invocation->operands.items[i], &pid);
		for (size_t j = 0; j < *count_ret; j++)
			known |= (*pids_ret)[j] == pid;
		if (!err && !known)
			(*pids_ret)[(*count_ret)++] = pid;
	}
	return err;
}

static struct tap_error *check(const struct tap_invocation *invocation)
{
	const struct values *values = invocation->values;

	if (values->csv && invocation->common.json)
		return tap_error_advise(
			tap_error_new(TAP_ERR_USAGE, "--csv and --json are two answers"),
			"choose one of them");
	if (values->duration_s > 0 && values->warmup_s >= values->duration_s)
		return tap_error_advise(
			tap_error_new(TAP_ERR_USAGE, "--warmup leaves nothing of --duration"),
			"make the duration longer than the warm-up");
	return NULL;
}

static struct tap_error *start_csv(struct live *live)
{
	struct tap_text line = {0};
	struct tap_error *err;

	if (!live->values->csv)
		return NULL;
	tap_view_watch_csv_head(&line);
	err = tap_output_stream(live->output, line.data, line.size_bytes);
	tap_text_deinit(&line);
	return err;
}

static void show(const struct tap_invocation *invocation, const struct tap_watch_report *report,
	struct tap_output *output)
{
	const struct values *values = invocation->values;
	struct tap_view_options look = tap_view_options(&invocation->common, output->fd);

	if (invocation->common.json)
		tap_view_watch_json(output->file, report);
	else if (!values->csv)
		tap_view_watch_text(output->file, report, &look);
	else
		/* The lines have no room for why there are no more. */
		for (size_t i = 0; i < report->entries.count; i++)
			if (report->entries.items[i].error)
				tap_log_warn("%s", report->entries.items[i].error->message);
}

static struct tap_error *watch(const struct tap_invocation *invocation, const pid_t *pids,
	size_t count, struct tap_output *output, int *exit_ret)
{
	const struct values *values = invocation->values;
	struct live live = {.values = values, .output = output};
	const struct tap_watch_options session = {
		.duration_s = values->duration_s,
		.interval_s = values->interval_s,
		.warmup_s = values->warmup_s,
		.on_point = on_point,
		.context = &live,
	};
	struct tap_watch_report report = {0};
	struct tap_error *err;

	tap_progress_start(&live.progress);
	err = start_csv(&live);
	if (!err)
		err = tap_watch_collect(pids, count, &session, &report);
	tap_progress_end(&live.progress);
	if (!err) {
		err = live.err;
		live.err = NULL;
	}
	if (!err && !tap_finish_is_cut_short(exit_ret)) {
		show(invocation, &report, output);
		err = tap_output_commit(output);
	}
	tap_error_free(live.err);
	tap_watch_report_deinit(&report);
	return err;
}

static struct tap_error *run(const struct tap_invocation *invocation, int *exit_ret)
{
	_cleanup_output_ struct tap_output output = {0};
	_cleanup_free_ pid_t *pids = NULL;
	struct tap_error *err;
	size_t count = 0;

	err = parse_pids(invocation, &pids, &count);
	if (!err)
		err = check(invocation);
	if (!err)
		err = tap_output_open(invocation->common.output, STDOUT_FILENO, &output);
	if (!err)
		err = watch(invocation, pids, count, &output, exit_ret);
	return err;
}

const struct tap_command tap_command_watch = {
	.name = "watch",
	.summary = "Memory of processes over time, and whether it climbs",
	.usage = "PID...",
	.description =
		"Reads RSS, PSS, USS, swap and open descriptors again and again and judges the\n"
		"curve: flat, warming up, or climbing without end; and when the memory limit is\n"
		"reached. Needs no right to attach. Ctrl-C ends it with its answer.",
	.options = options,
	.values_size = sizeof(struct values),
	.run = run,
};
