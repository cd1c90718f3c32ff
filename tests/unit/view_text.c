/* SPDX-License-Identifier: Apache-2.0 */
/* The reports for people: nothing of the target's reaches a terminal as it
 * is, and what matters is said. */
#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "unit.h"
#include "heaptap/base/alloc.h"
#include "heaptap/view/view.h"

#define HOSTILE "evil\x1b]0;x\x07\n\xff\xe2\x80\xae"

static const struct tap_view_options plain = {.limit = 10, .width = 80};
static const struct tap_view_options colored = {
	.limit = 10, .width = 80, .color = true, .utf8 = true};

#define PRINTED(text, call)                               \
	char *text = NULL;                                \
	size_t text##_size_ = 0;                          \
	FILE *out = open_memstream(&text, &text##_size_); \
	call;                                             \
	fclose(out)

static void assert_has(const char *text, const char *part)
{
	if (!strstr(text, part))
		fail_msg("'%s' is not in:\n%s", part, text);
}

static void assert_clean(const char *text)
{
	for (const char *p = text; *p; p++)
		if ((unsigned char)*p < 0x20 && *p != '\n')
			fail_msg("control character %d in:\n%s", *p, text);
	assert_null(strstr(text, "\xe2\x80\xae"));
	assert_null(strchr(text, '\xff'));
}

static struct tap_process make_process(void)
{
	struct tap_process process = {.pid = 4242, .threads = 2};

	process.exe = tap_strdup(HOSTILE);
	process.comm = tap_strdup(HOSTILE);
	process.cgroup = tap_strdup(HOSTILE);
	return process;
}

static struct tap_trace_report make_trace(void)
{
	struct tap_trace_report report = {
		.process = make_process(), .duration_s = 10, .engine = "breakpoint", .child_exit_code = -1};
	struct tap_entry_point *point = tap_vector_add(&report.entry_points);

	point->module = "/lib/libc.so.6";
	point->symbol = "malloc";
	point->how = TAP_ENTRY_BREAKPOINT;
	return report;
}

static void add_site(struct tap_trace_report *report)
{
	struct tap_trace_site *site = tap_vector_add(&report->sites);
	struct tap_frame *frame = tap_vector_add(&site->stack);

	site->file = HOSTILE;
	site->line = 47;
	site->function = HOSTILE;
	site->growth_bytes = 11534336;
	site->live_blocks = 2800;
	site->rss_share = 0.93;
	site->rss_correlation = 0.99;
	frame->function = frame->module = HOSTILE;
	report->entry_points.items[0].calls = 2800;
	report->totals.allocated_blocks = 2800;
}

static void test_trace_site(void **state)
{
	struct tap_trace_report report = make_trace();

	(void)state;
	add_site(&report);
	report.verdict.state = TAP_VERDICT_LEAK;
	strcpy(report.verdict.reason, "climbing");
	report.verdict.growth_known = true;
	report.verdict.growth_bytes_per_s = 3 << 20;
	report.verdict.limit_kind = TAP_LIMIT_CGROUP;
	report.verdict.limit_bytes = UINT64_C(8) << 30;
	report.verdict.time_to_limit_s = 20700;
	PRINTED(text, tap_view_trace_text(out, &report, &plain));
	assert_clean(text);
	assert_has(text, "heaptap trace 4242 | ");
	assert_has(text, "LEAK  +3.0 MiB/s; climbing; the cgroup limit (8.0 GiB) is reached in "
			 "about 5h 45m");
	assert_has(text, ":47   ");
	assert_has(text, "+11.0 MiB   +2,800 blocks   93 % of RSS growth   r = 0.99");
	free(text);
	tap_trace_report_deinit(&report);
}

static void assert_head(const struct tap_trace_report *report, const char *words)
{
	PRINTED(text, tap_view_trace_text(out, report, &plain));
	assert_has(text, words);
	free(text);
}

static void test_trace_how(void **state)
{
	struct tap_trace_report report = make_trace();

	(void)state;
	report.exact = true;
	report.overhead_samples = 0.123;
	assert_head(&report, " | every call seen by breakpoints, overhead 12 % | ");
	report.engine = "probe";
	report.overhead_fixed = 0.02;
	report.overhead_samples = 0.0104;
	assert_head(&report, " | every call seen, overhead 3.0 % (probes 2.0 %, samples 1.0 %) | ");
	report.exact = false;
	assert_head(&report, " | not every call seen, overhead ");
	report.sample_interval_bytes = 65536;
	assert_head(&report, " | sampled every 64.0 KiB, overhead ");
	tap_trace_report_deinit(&report);
}

static void test_trace_silence(void **state)
{
	struct tap_trace_report report = make_trace();

	(void)state;
	report.ended_by = TAP_ENDED_EXIT;
	report.child_exit_code = 137;
	PRINTED(text, tap_view_trace_text(out, &report, &plain));
	assert_has(text, "0 allocator calls in 10 s at the 1 entry point of libc.so.6");
	assert_has(text, "the process ended");
	assert_has(text, "ended by signal 9");
	free(text);
	tap_trace_report_deinit(&report);
}

static void test_stack(void **state)
{
	struct tap_stack_report report = {.process = make_process(), .pause_s = 0.0003};
	struct tap_stack_thread *thread = tap_vector_add(&report.threads);
	struct tap_frame *frame;

	(void)state;
	thread->tid = 4242;
	thread->name = HOSTILE;
	thread->state = 'S';
	thread->wchan = "futex_wait";
	thread->holds_gil = 1;
	thread->note = HOSTILE;
	frame = tap_vector_add(&thread->frames);
	frame->file = "/srv/cache.py";
	frame->line = 47;
	frame->function = "append";
	frame->language = TAP_LANGUAGE_PYTHON;
	frame = tap_vector_add(&thread->frames);
	frame->function = "malloc";
	frame->module = "/lib/libc.so.6";
	frame->offset = 0x1234;
	PRINTED(text, tap_view_stack_text(out, &report, &plain));
	assert_clean(text);
	assert_has(text, "Thread 4242 \"evil");
	assert_has(text, "sleeping, waits in futex_wait, holds the GIL");
	assert_has(text, "\n  cache.py:47 append\n");
	assert_has(text, "\n  malloc  libc.so.6+0x1234\n");
	free(text);
	tap_stack_report_deinit(&report);
}

static void add_curve(struct tap_watch_report *report)
{
	struct tap_watch_entry *entry = tap_vector_add(&report->entries);

	entry->process = make_process();
	for (int i = 0; i < 100; i++) {
		struct tap_watch_point *point = tap_vector_add(&entry->timeline);

		point->t_s = i;
		point->usage.rss_bytes = (uint64_t)(i + 1) << 20;
		point->usage.pss_bytes = TAP_USAGE_UNKNOWN;
		point->usage.uss_bytes = TAP_USAGE_UNKNOWN;
		point->usage.fds = TAP_USAGE_UNKNOWN;
	}
}

static void test_watch_one(void **state)
{
	struct tap_watch_report report = {.duration_s = 99};

	(void)state;
	add_curve(&report);
	PRINTED(text, tap_view_watch_text(out, &report, &plain));
	assert_clean(text);
	assert_has(text, "1.0 MiB |");
	assert_has(text, "100 MiB |");
	assert_has(text, "RSS 1.0 MiB -> 100 MiB (+99.0 MiB)");
	assert_null(strstr(text, "PSS"));
	free(text);
	tap_watch_report_deinit(&report);
}

static void test_watch_several(void **state)
{
	struct tap_watch_report report = {.duration_s = 99};
	struct tap_watch_entry *entry;

	(void)state;
	add_curve(&report);
	entry = tap_vector_add(&report.entries);
	entry->process.pid = 7;
	entry->error = tap_error_new(TAP_ERR_GONE, "no such process: 7");
	PRINTED(text, tap_view_watch_text(out, &report, &colored));
	assert_has(text, "heaptap watch of 2 processes");
	assert_has(text, "no such process: 7");
	assert_has(text, "\xe2\x96\x81"); /* the lowest block of a sparkline */
	free(text);
	tap_watch_report_deinit(&report);
}

static void test_csv(void **state)
{
	struct tap_text line = {0};
	const struct tap_watch_point point = {.t_s = 1.5,
		.usage = {.rss_bytes = 4096,
			.pss_bytes = TAP_USAGE_UNKNOWN,
			.uss_bytes = TAP_USAGE_UNKNOWN,
			.swap_bytes = 0,
			.fds = 5}};

	(void)state;
	tap_view_watch_csv_head(&line);
	tap_view_watch_csv_line(&line, 42, &point);
	assert_string_equal(line.data,
		"t_s,pid,rss_bytes,pss_bytes,uss_bytes,swap_bytes,fds\n1.500,42,4096,,,0,5\n");
	tap_text_deinit(&line);
}

static void test_info_refused(void **state)
{
	struct tap_info_report report = {.process = make_process()};

	(void)state;
	report.attach.reason = "not permitted: " HOSTILE;
	report.attach.advice = "run as root";
	report.cgroup.path = tap_strdup(HOSTILE);
	report.cgroup.limit_bytes = UINT64_C(512) << 20;
	report.cgroup.version = 2;
	PRINTED(text, tap_view_info_text(out, &report, &plain));
	assert_clean(text);
	assert_has(text, "not possible: not permitted: evil");
	assert_has(text, "run as root");
	assert_has(text, "512 MiB (cgroup v2");
	free(text);
	tap_info_report_deinit(&report);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_trace_site),
		cmocka_unit_test(test_trace_how),
		cmocka_unit_test(test_trace_silence),
		cmocka_unit_test(test_stack),
		cmocka_unit_test(test_watch_one),
		cmocka_unit_test(test_watch_several),
		cmocka_unit_test(test_csv),
		cmocka_unit_test(test_info_refused),
	};

	setlocale(LC_CTYPE, "C.UTF-8");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
