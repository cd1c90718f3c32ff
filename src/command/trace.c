/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "command/command.h"
#include "command/finish.h"
#include "heaptap/base/alloc.h"
#include "heaptap/base/log.h"
#include "heaptap/base/progress.h"
#include "heaptap/base/text.h"
#include "heaptap/session/trace.h"

#define DEFAULT_DURATION_S 30.0
#define EXIT_LEFT_BEHIND 3

struct values {
	double duration_s;
	double interval_s;
	const char *engine;
	uint64_t sample_bytes;
	double overhead_percent;
	bool exact;
	bool unsafe;
	bool fail_on_leak;
	struct tap_option_list symbols;
};

#define AT(member) offsetof(struct values, member)

static const struct values defaults = {.engine = "auto"};

static const struct tap_option options[] = {
	{"duration", 'd', "DUR", TAP_OPTION_DURATION, AT(duration_s),
		"Record for so long (default: 30s; with a COMMAND until it ends)"},
	{"interval", 0, "DUR", TAP_OPTION_DURATION, AT(interval_s),
		"Between two points of the timeline (default: duration / 200, at least 50ms)"},
	{"engine", 0, "auto|probe|breakpoint", TAP_OPTION_CHOICE, AT(engine),
		"How calls are seen (default: auto, probes where they can be placed)"},
	{"exact", 0, NULL, TAP_OPTION_FLAG, AT(exact),
		"See every call, and go on to the end, however slow that makes the process"},
	{"sample", 0, "SIZE", TAP_OPTION_SIZE, AT(sample_bytes),
		"One sample in so many bytes (default: every call, as far as --overhead allows)"},
	{"overhead", 0, "PCT", TAP_OPTION_PERCENT, AT(overhead_percent),
		"What samples may cost of the process's time (default: 5)"},
	{"symbol", 0, "ENTRY=NAME", TAP_OPTION_LIST, AT(symbols),
		"Take calls of NAME for calls of ENTRY: malloc=my_malloc"},
	{"unsafe", 0, NULL, TAP_OPTION_FLAG, AT(unsafe),
		"Record also where a thread blocks or ignores SIGTRAP"},
	{"fail-on-leak", 0, NULL, TAP_OPTION_FLAG, AT(fail_on_leak),
		"Exit with 1 where the verdict is a leak"},
	{"group", 0, "line|function|file|stack", TAP_OPTION_LATER, 0, "What a site is"},
	{"include", 0, "GLOB", TAP_OPTION_LATER, 0, "Only sites with a frame in such a file"},
	{"exclude", 0, "GLOB", TAP_OPTION_LATER, 0, "No sites with a frame in such a file"},
	{"save", 0, "FILE.htap", TAP_OPTION_LATER, 0, "Keep the recording"},
	{"snapshot-every", 0, "DUR", TAP_OPTION_LATER, 0, "Snapshots within the recording"},
	{"max-file", 0, "SIZE", TAP_OPTION_LATER, 0, "Limit of the recording's size"},
	{NULL},
};

/* --symbol's arguments taken apart. */
struct symbols {
	typeof(((struct tap_trace_options *)NULL)->symbols) items;
	size_t count;
};

static void symbols_deinit(struct symbols *symbols)
{
	for (size_t i = 0; i < symbols->count; i++)
		free((char *)symbols->items[i].entry);
	free(symbols->items);
}

static struct tap_error *symbols_init(struct symbols *symbols, const struct tap_option_list *list)
{
	symbols->items = tap_alloc((list->count + 1) * sizeof(symbols->items[0]));
	for (size_t i = 0; i < list->count; i++) {
		const char *text = list->items[i];
		const char *equals = strchr(text, '=');

		if (!equals || equals == text || !equals[1])
			return tap_error_advise(
				tap_error_new(
					TAP_ERR_USAGE, "--symbol does not take '%s'", text),
				"write it as malloc=NAME");
		symbols->items[symbols->count].entry = tap_strndup(text, (size_t)(equals - text));
		symbols->items[symbols->count++].name = equals + 1;
	}
	return NULL;
}

static enum tap_trace_engine engine_of(const struct values *values)
{
	if (!strcmp(values->engine, "probe"))
		return TAP_ENGINE_PROBE;
	return strcmp(values->engine, "breakpoint") ? TAP_ENGINE_AUTO : TAP_ENGINE_BREAKPOINT;
}

static struct tap_error *choose_target(
	const struct tap_invocation *invocation, struct tap_trace_options *session)
{
	const struct tap_common *common = &invocation->common;

	if (!invocation->argv) {
		if (!invocation->operands.count)
			return tap_error_advise(
				tap_error_new(TAP_ERR_USAGE, "trace needs a PID or a command"),
				"usage: heaptap trace [OPTION]... PID, or: heaptap trace "
				"[OPTION]... -- COMMAND");
		return tap_error_advise(tap_operand_pid(invocation, &session->pid),
			"usage: heaptap trace [OPTION]... PID; a command to run stands behind "
			"'--': heaptap trace -- COMMAND");
	}
	if (invocation->operands.count)
		return tap_error_advise(
			tap_error_new(TAP_ERR_USAGE, "trace takes a PID or a command, not both"),
			"leave out '%s'", invocation->operands.items[0]);
	if (!invocation->argv[0])
		return tap_error_new(TAP_ERR_USAGE, "no command follows '--'");
	if (common->json && (!common->output || !strcmp(common->output, "-")))
		return tap_error_advise(
			tap_error_new(TAP_ERR_USAGE,
				"--json needs -o FILE here: standard output is the command's"),
			"heaptap trace --json -o FILE -- COMMAND");
	session->argv = invocation->argv;
	return NULL;
}

struct live {
	struct tap_progress progress;
	const struct tap_trace_options *session;
};

static void on_tick(
	void *context, double elapsed_s, uint64_t calls, int64_t live_bytes, uint64_t rss_bytes)
{
	struct live *live = context;
	bool ends = live->session->duration_s > 0;
	char elapsed[TAP_SIZE_TEXT], duration[TAP_SIZE_TEXT], count[TAP_SIZE_TEXT];
	char net[TAP_SIZE_TEXT], rss[TAP_SIZE_TEXT];

	tap_progress_show(&live->progress, "trace: %s%s%s, %s calls, %s%s live, RSS %s",
		tap_text_duration(elapsed, elapsed_s), ends ? " of " : "",
		ends ? tap_text_duration(duration, live->session->duration_s) : "",
		tap_text_count(count, (int64_t)calls), live_bytes > 0 ? "+" : "",
		tap_text_size(net, live_bytes), tap_text_size(rss, (int64_t)rss_bytes));
}

static void show(const struct tap_common *common, const struct tap_trace_report *report,
	struct tap_output *output)
{
	struct tap_view_options look = tap_view_options(common, output->fd);

	if (common->json && report->ended_why)
		tap_log_warn("%s", report->ended_why);
	if (common->json)
		tap_view_trace_json(output->file, report, look.limit);
	else
		tap_view_trace_text(output->file, report, &look);
}

static struct tap_error *record(const struct tap_invocation *invocation,
	struct tap_trace_options *session, struct tap_output *output, int *exit_ret)
{
	const struct values *values = invocation->values;
	struct live live = {.session = session};
	struct tap_trace_report report = {0};
	struct tap_error *err;

	session->on_tick = on_tick;
	session->context = &live;
	tap_progress_start(&live.progress);
	err = tap_trace_collect(session, &report);
	tap_progress_end(&live.progress);
	tap_log_flush();
	if (!err && !tap_finish_is_cut_short(exit_ret)) {
		show(&invocation->common, &report, output);
		err = tap_output_commit(output);
		if (values->fail_on_leak && report.verdict.state == TAP_VERDICT_LEAK)
			*exit_ret = 1;
		if (report.left_behind) {
			tap_log_warn("%s", report.left_behind);
			*exit_ret = EXIT_LEFT_BEHIND;
		}
	}
	tap_trace_report_deinit(&report);
	return err;
}

static struct tap_error *run(const struct tap_invocation *invocation, int *exit_ret)
{
	const struct tap_common *common = &invocation->common;
	const struct values *values = invocation->values;
	_cleanup_output_ struct tap_output output = {0};
	__attribute__((cleanup(symbols_deinit))) struct symbols symbols = {0};
	struct tap_trace_options session = {
		.interval_s = values->interval_s,
		.engine = engine_of(values),
		.exact = values->exact,
		.sample_bytes = values->sample_bytes,
		.overhead = values->overhead_percent / 100,
		.unsafe = values->unsafe,
		.debug_dir = common->debug_dir,
	};
	struct tap_error *err;

	err = symbols_init(&symbols, &values->symbols);
	if (!err)
		err = choose_target(invocation, &session);
	if (err)
		return err;
	session.symbols = symbols.items;
	session.symbol_count = symbols.count;
	session.duration_s = values->duration_s > 0 ? values->duration_s
			     : session.argv         ? 0
						    : DEFAULT_DURATION_S;
	err = tap_output_open(
		common->output, session.argv ? STDERR_FILENO : STDOUT_FILENO, &output);
	if (!err)
		err = record(invocation, &session, &output, exit_ret);
	return err;
}

const struct tap_command tap_command_trace = {
	.name = "trace",
	.summary = "Record allocations and frees by site, and report what grew",
	.usage = "PID",
	.other_usage = "-- COMMAND [ARGUMENT]...",
	.description =
		"Records allocations and frees for a while (until Ctrl-C at the latest), puts\n"
		"everything back, and shows which sites allocated what stays. With a COMMAND,\n"
		"standard input, output and error are the command's and the answer goes to -o,\n"
		"else to standard error.\n"
		"\n"
		"Calls are counted by probes, or where none can be placed by breakpoints. Ctrl-C,\n"
		"SIGTERM, SIGHUP and SIGQUIT put all back. SIGKILL of heaptap leaves its probes,\n"
		"and the process goes on (heaptap clean takes them out); breakpoints that are\n"
		"left there end the process.",
	.options = options,
	.values_size = sizeof(struct values),
	.defaults = &defaults,
	.run = run,
};
