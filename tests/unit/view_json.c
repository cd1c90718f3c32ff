/* SPDX-License-Identifier: Apache-2.0 */
/* The objects for scripts: they parse, and have the documented keys. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "unit.h"
#include <jansson.h>
#include "heaptap/base/alloc.h"
#include "heaptap/view/view.h"

#define HOSTILE "a\xff\"\n\x1b[2J\xed\xa0\x80\xe2\x80\xae"
#define HOSTILE_UTF8 "a\xef\xbf\xbd\"\n\x1b[2J\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xe2\x80\xae"

/* Prints with FN(out, ...), parses what came out into `document`. */
#define PARSED(document, call)                                                  \
	char *printed_ = NULL;                                                  \
	size_t printed_size_ = 0;                                               \
	FILE *out = open_memstream(&printed_, &printed_size_);                  \
	json_error_t why_;                                                      \
	call;                                                                   \
	fclose(out);                                                            \
	json_t *document = json_loads(printed_, JSON_REJECT_DUPLICATES, &why_); \
	if (!document)                                                          \
		fail_msg("%s in: %s", why_.text, printed_);                     \
	assert_int_equal(printed_[printed_size_ - 1], '\n');                    \
	free(printed_)

/* Exactly these keys, in this order. */
static void assert_keys(json_t *object, const char *keys)
{
	char found[1024] = "";
	const char *key;
	json_t *value;

	json_object_foreach(object, key, value)
	{
		strcat(found, *found ? " " : "");
		strcat(found, key);
	}
	assert_string_equal(found, keys);
}

#define PROCESS_KEYS "pid exe cmdline python threads start_time cgroup"
#define VERDICT_KEYS "state reason signal growth_bytes_per_s limit_bytes limit_kind time_to_limit_s"
#define FRAME_KEYS "function file line module language inlined"

static struct tap_process make_process(void)
{
	struct tap_process process = {.pid = 4242, .threads = 3, .start_wall_ns = 1000000000};

	process.exe = tap_strdup("/usr/bin/" HOSTILE);
	process.cmdline = tap_alloc(2 * sizeof(char *));
	process.cmdline[0] = tap_strdup(HOSTILE);
	process.cmdline_count = 1;
	return process;
}

static struct tap_frame make_frame(void)
{
	return (struct tap_frame){
		.function = HOSTILE, .language = TAP_LANGUAGE_CXX, .inlined = true};
}

static void test_error(void **state)
{
	struct tap_error *err = tap_error_advise(
		tap_error_new(TAP_ERR_PERMISSION, "cannot attach to %s", HOSTILE), "be root");

	(void)state;
	PARSED(document, tap_view_error_json(out, err));
	assert_keys(document, "schema code message advice");
	assert_string_equal(
		json_string_value(json_object_get(document, "schema")), "heaptap.error/1");
	assert_string_equal(json_string_value(json_object_get(document, "code")), "permission");
	assert_string_equal(json_string_value(json_object_get(document, "message")),
		"cannot attach to " HOSTILE_UTF8);
	json_decref(document);
	tap_error_free(err);
}

static void test_info(void **state)
{
	struct tap_info_report report = {
		.process = make_process(), .strings = tap_strings_create()};
	struct tap_info_allocator *allocator = tap_vector_add(&report.allocators);
	struct tap_entry_point *point = tap_vector_add(&report.entry_points);
	struct tap_info_symbols *symbols = tap_vector_add(&report.symbols);

	(void)state;
	allocator->module = HOSTILE;
	allocator->kind = "glibc";
	tap_vector_push(&allocator->symbols, "malloc");
	point->module = point->symbol = HOSTILE;
	symbols->module = HOSTILE;
	symbols->debug = "none";
	report.process.seccomp = 2;
	report.cgroup.limit_bytes = UINT64_MAX;
	PARSED(document, tap_view_info_json(out, &report));
	assert_keys(document,
		"schema process attach runtime allocators entry_points symbols seccomp cgroup "
		"left_behind");
	assert_keys(json_object_get(document, "process"), PROCESS_KEYS);
	assert_keys(json_object_get(document, "attach"), "allowed reason advice");
	assert_keys(json_object_get(document, "runtime"), "kind version supported reason");
	assert_keys(json_object_get(document, "cgroup"), "path version limit_bytes");
	assert_true(
		json_is_null(json_object_get(json_object_get(document, "cgroup"), "limit_bytes")));
	assert_keys(
		json_array_get(json_object_get(document, "allocators"), 0), "module kind symbols");
	assert_keys(json_array_get(json_object_get(document, "entry_points"), 0),
		"module symbol how reason");
	assert_keys(
		json_array_get(json_object_get(document, "symbols"), 0), "module build_id debug");
	assert_string_equal(json_string_value(json_object_get(document, "seccomp")), "filter");
	assert_true(json_is_null(json_object_get(document, "left_behind")));
	json_decref(document);
	tap_info_report_deinit(&report);
}

static void test_stack(void **state)
{
	struct tap_stack_report report = {.process = make_process(), .pause_s = 0.25};
	struct tap_stack_thread *thread = tap_vector_add(&report.threads);
	json_t *object;

	(void)state;
	thread->tid = 7;
	thread->name = HOSTILE;
	thread->state = 'S';
	thread->holds_gil = -1;
	tap_vector_push(&thread->frames, make_frame());
	PARSED(document, tap_view_stack_json(out, &report));
	assert_keys(document, "schema process pause_s threads");
	object = json_array_get(json_object_get(document, "threads"), 0);
	assert_keys(object, "tid name state wchan holds_gil stack");
	assert_true(json_is_null(json_object_get(object, "holds_gil")));
	assert_string_equal(json_string_value(json_object_get(object, "name")), HOSTILE_UTF8);
	object = json_array_get(json_object_get(object, "stack"), 0);
	assert_keys(object, FRAME_KEYS);
	assert_true(json_is_null(json_object_get(object, "line")));
	assert_string_equal(json_string_value(json_object_get(object, "language")), "c++");
	json_decref(document);
	tap_stack_report_deinit(&report);
}

static void test_watch(void **state)
{
	struct tap_watch_report report = {0};
	struct tap_watch_entry *entry = tap_vector_add(&report.entries);
	struct tap_watch_point *point = tap_vector_add(&entry->timeline);
	json_t *object;

	(void)state;
	entry->process.pid = 4242;
	entry->error = tap_error_new(TAP_ERR_GONE, "process 4242 has ended");
	point->usage = (struct tap_usage){.rss_bytes = 4096,
		.pss_bytes = TAP_USAGE_UNKNOWN,
		.uss_bytes = TAP_USAGE_UNKNOWN,
		.fds = TAP_USAGE_UNKNOWN};
	PARSED(document, tap_view_watch_json(out, &report));
	assert_keys(document, "schema processes");
	object = json_array_get(json_object_get(document, "processes"), 0);
	assert_keys(object, "process verdict timeline error");
	assert_keys(json_object_get(object, "verdict"), VERDICT_KEYS);
	assert_true(
		json_is_null(json_object_get(json_object_get(object, "verdict"), "limit_bytes")));
	assert_true(json_is_null(json_object_get(json_object_get(object, "process"), "threads")));
	object = json_array_get(json_object_get(object, "timeline"), 0);
	assert_keys(object, "t_s rss_bytes pss_bytes uss_bytes swap_bytes fds");
	assert_true(json_is_null(json_object_get(object, "pss_bytes")));
	assert_int_equal(json_integer_value(json_object_get(object, "rss_bytes")), 4096);
	json_decref(document);
	tap_watch_report_deinit(&report);
}

static struct tap_trace_report make_trace(void)
{
	struct tap_trace_report report = {.process = make_process(),
		.start_wall_ns = UINT64_C(1700000000123456789),
		.duration_s = 10,
		.engine = "breakpoint",
		.exact = true,
		.child_exit_code = -1};

	for (int i = 0; i < 3; i++) {
		struct tap_trace_site *site = tap_vector_add(&report.sites);

		site->function = HOSTILE;
		site->rss_share = site->rss_correlation = NAN;
		site->growth_bytes = -5;
		tap_vector_push(&site->stack, make_frame());
	}
	tap_vector_add(&report.timeline)->live_bytes = -7;
	tap_vector_add(&report.entry_points)->module = HOSTILE;
	report.entry_points.items[0].symbol = "malloc";
	return report;
}

static void test_trace(void **state)
{
	struct tap_trace_report report = make_trace();
	json_t *object;

	(void)state;
	PARSED(document, tap_view_trace_json(out, &report, 2));
	assert_keys(document,
		"schema process start duration_s engine exact unseen_s sample_interval_bytes overhead "
		"verdict ended_by entry_points child_exit_code timeline totals sites");
	assert_keys(json_object_get(document, "overhead"), "fixed samples");
	assert_string_equal(
		json_string_value(json_object_get(document, "start")), "2023-11-14T22:13:20.123Z");
	assert_keys(json_object_get(document, "totals"),
		"allocated_bytes allocated_blocks freed_bytes freed_blocks live_bytes live_blocks "
		"growth_bytes unseen_freed_blocks unseen_freed_bytes netted lost_samples");
	assert_true(json_is_null(json_object_get(document, "child_exit_code")));
	assert_int_equal(json_array_size(json_object_get(document, "sites")), 2);
	object = json_array_get(json_object_get(document, "sites"), 0);
	assert_keys(object,
		"file line function language growth_bytes live_bytes live_blocks replaced_bytes "
		"allocated_bytes allocated_blocks freed_bytes growth_bytes_per_s "
		"standard_error_bytes rss_correlation rss_share stack");
	assert_true(json_is_null(json_object_get(object, "rss_correlation")));
	assert_int_equal(json_integer_value(json_object_get(object, "growth_bytes")), -5);
	assert_keys(json_array_get(json_object_get(document, "timeline"), 0),
		"t_s rss_bytes swap_bytes live_bytes");
	assert_keys(json_array_get(json_object_get(document, "entry_points"), 0),
		"module symbol how reason calls");
	json_decref(document);
	tap_trace_report_deinit(&report);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_error),
		cmocka_unit_test(test_info),
		cmocka_unit_test(test_stack),
		cmocka_unit_test(test_watch),
		cmocka_unit_test(test_trace),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
