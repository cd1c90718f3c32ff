/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include "unit.h"
#include "command/command.h"

#define MAX_WORDS 16

/* Parses a command line of words that end with NULL. What is found points into
 * argv, which lives until the next one. */
static struct tap_error *parse(struct tap_invocation *ret, const char *const *words)
{
	static char *argv[MAX_WORDS];
	const struct tap_command *command = NULL;
	int argc = 0;

	for (; words[argc]; argc++)
		argv[argc] = (char *)words[argc];
	argv[argc] = NULL;
	assert_ok(tap_command_find(words[0], &command));
	return tap_options_parse(command, argc, argv, ret);
}

#define PARSE(ret, ...) parse(ret, (const char *const[]){__VA_ARGS__, NULL})

static void assert_refused(struct tap_error *err, const char *part)
{
	assert_non_null(err);
	assert_int_equal(err->code, TAP_ERR_USAGE);
	assert_int_equal(tap_error_exit_code(err), 2);
	if (!strstr(err->message, part) && !(err->advice && strstr(err->advice, part)))
		fail_msg("'%s' is not in: %s / %s", part, err->message, err->advice);
	tap_error_free(err);
}

static void test_common(void **state)
{
	struct tap_invocation line;

	(void)state;
	assert_ok(PARSE(&line, "stack", "4242", "--json", "-o", "out.json", "--limit=3", "-qv"));
	assert_true(line.common.json && line.common.quiet && line.common.verbose);
	assert_string_equal(line.common.output, "out.json");
	assert_string_equal(line.common.color, "auto");
	assert_int_equal(line.common.limit, 3);
	assert_int_equal(line.operands.count, 1);
	assert_string_equal(line.operands.items[0], "4242");
	assert_null(line.argv);
	tap_invocation_deinit(&line);
}

static void test_double_dash(void **state)
{
	struct tap_invocation line;

	(void)state;
	assert_ok(PARSE(&line, "trace", "-d", "5s", "--", "ls", "--json", "-d"));
	assert_int_equal(line.operands.count, 0);
	assert_false(line.common.json);
	assert_string_equal(line.argv[0], "ls");
	assert_string_equal(line.argv[2], "-d");
	assert_null(line.argv[3]);
	tap_invocation_deinit(&line);
	/* An option's argument is no end of the options. */
	assert_ok(PARSE(&line, "stack", "-o", "--"));
	assert_null(line.argv);
	assert_string_equal(line.common.output, "--");
	tap_invocation_deinit(&line);
	assert_ok(PARSE(&line, "trace", "4242", "--"));
	assert_non_null(line.argv);
	assert_null(line.argv[0]);
	tap_invocation_deinit(&line);
}

static void test_help_wins(void **state)
{
	struct tap_invocation line;

	(void)state;
	assert_ok(PARSE(&line, "watch", "--help"));
	assert_true(line.wants_help);
	tap_invocation_deinit(&line);
}

static void test_refusals(void **state)
{
	static const struct {
		const char *words[5];
		const char *part;
	} rows[] = {
		{{"trace", "--save", "f.htap", "1"}, "--save is not in this version"},
		{{"trace", "--save"}, "--save is not in this version"},
		{{"watch", "--when=rss > 1G", "1"}, "--when is not in this version"},
		{{"watch", "--every"}, "--every is not in this version"},
		{{"trace", "--durration", "1"}, "did you mean --duration?"},
		{{"trace", "--duration", "0"}, "'0' is not a duration"},
		{{"trace", "-d"}, "--duration needs DUR"},
		{{"trace", "-x"}, "no option -x"},
		{{"trace", "--engine", "magic"}, "auto|probe|breakpoint"},
		{{"stack", "--json=1"}, "--json takes no argument"},
		{{"stack", "--limit", "0"}, "--limit"},
		{{"stack", "--limit", "many"}, "--limit"},
		{{"stack", "--color", "red"}, "auto|always|never"},
		{{"info", "--csv"}, "no option --csv"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct tap_invocation line;

		assert_refused(parse(&line, rows[i].words), rows[i].part);
		tap_invocation_deinit(&line);
	}
}

static void test_commands(void **state)
{
	const struct tap_command *command = NULL;

	(void)state;
	assert_refused(tap_command_find("stakc", &command), "did you mean 'stack'?");
	assert_refused(tap_command_find("snap", &command), "not in this version");
	assert_refused(tap_command_find("lines", &command), "report, trace, watch, types");
	assert_refused(tap_command_find("qqqqqqq", &command), "no command 'qqqqqqq'");
	assert_refused(tap_command_find("--json", &command), "options follow the command");
	assert_refused(tap_command_find("", &command), "no command ''");
}

static void test_pids(void **state)
{
	static const char *const wrong[] = {
		"", "0", "-1", "+5", " 5", "5 ", "0x10", "1e3", "99999999999", "abc", NULL};
	pid_t pid = 0;

	(void)state;
	assert_ok(tap_parse_pid("4242", &pid));
	assert_int_equal(pid, 4242);
	for (size_t i = 0; wrong[i]; i++)
		assert_refused(tap_parse_pid(wrong[i], &pid), "is not a PID");
}

static void test_json_is_wanted(void **state)
{
	const char *yes[] = {"heaptap", "nonsense", "--json", NULL};
	const char *no[] = {"heaptap", "trace", "--", "jq", "--json", NULL};

	(void)state;
	assert_true(tap_options_want_json(3, (char **)yes));
	assert_false(tap_options_want_json(5, (char **)no));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_common),
		cmocka_unit_test(test_double_dash),
		cmocka_unit_test(test_help_wins),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_commands),
		cmocka_unit_test(test_pids),
		cmocka_unit_test(test_json_is_wanted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
