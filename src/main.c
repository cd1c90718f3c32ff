/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "command/command.h"
#include "heaptap/base/cleanup.h"
#include "heaptap/base/log.h"
#include "heaptap/base/text.h"
#include "heaptap/session/stop.h"

/* Descriptors 0 to 2 that were closed must not become a file of ours: an
 * answer would be written into it. What is opened here can be neither read
 * nor written, as the closed one. */
static void occupy_standard_descriptors(void)
{
	for (int fd = 0; fd <= 2; fd++)
		if (fcntl(fd, F_GETFD) < 0 && errno == EBADF &&
			open("/dev/null", (fd ? O_RDONLY : O_WRONLY) | O_CLOEXEC) < 0)
			_exit(5);
}

static void print_json(const struct tap_error *err)
{
	_cleanup_output_ struct tap_output output = {0};

	/* Where that cannot be written, the text on standard error is all there is. */
	tap_error_free(tap_output_open(NULL, STDOUT_FILENO, &output));
	if (!output.file)
		return;
	tap_view_error_json(output.file, err);
	tap_error_free(tap_output_commit(&output));
}

static void print_lines(const char *prefix, const char *text)
{
	_cleanup_free_ char *clean = tap_text_clean_copy(text);

	fprintf(stderr, "%s%s\n", prefix, clean);
}

/* The exit code; takes over err. */
static int fail(struct tap_error *err, bool json)
{
	int code = tap_error_exit_code(err);

	tap_log_flush();
	print_lines("heaptap: ", err->message);
	if (err->advice)
		print_lines("  ", err->advice);
	if (json)
		print_json(err);
	tap_error_free(err);
	return code;
}

static struct tap_error *print_with(
	void (*print)(FILE *, const struct tap_command *), const struct tap_command *command)
{
	_cleanup_output_ struct tap_output output = {0};
	struct tap_error *err = tap_output_open(NULL, STDOUT_FILENO, &output);

	if (err)
		return err;
	print(output.file, command);
	return tap_output_commit(&output);
}

static void print_program_help(FILE *out, const struct tap_command *command)
{
	(void)command;
	tap_help_program(out);
}

static void print_version(FILE *out, const struct tap_command *command)
{
	(void)command;
	fprintf(out, "heaptap %s\n", HEAPTAP_VERSION);
}

static void print_option_list(FILE *out, const struct tap_command *command)
{
	(void)command;
	tap_help_list_options(out);
}

static struct tap_error *run_help(int argc, char **argv)
{
	const struct tap_command *command = NULL;
	struct tap_error *err;

	if (argc < 2 || !strcmp(argv[1], "help") || argv[1][0] == '-')
		return print_with(print_program_help, NULL);
	err = tap_command_find(argv[1], &command);
	return err ? err : print_with(tap_help_command, command);
}

static struct tap_error *run_command(
	const struct tap_command *command, int argc, char **argv, int *exit_ret)
{
	struct tap_invocation invocation;
	struct tap_error *err = tap_options_parse(command, argc, argv, &invocation);

	if (!err && invocation.wants_help)
		err = print_with(tap_help_command, command);
	else if (!err && invocation.wants_version)
		err = print_with(print_version, NULL);
	else if (!err) {
		tap_log_set_level(invocation.common.quiet     ? TAP_LOG_QUIET
				  : invocation.common.verbose ? TAP_LOG_VERBOSE
							      : TAP_LOG_NORMAL);
		err = command->run(&invocation, exit_ret);
	}
	tap_invocation_deinit(&invocation);
	return err;
}

static struct tap_error *dispatch(int argc, char **argv, int *exit_ret)
{
	const struct tap_command *command = NULL;
	const char *word = argc > 1 ? argv[1] : NULL;
	struct tap_error *err;

	if (!word)
		return tap_error_advise(tap_error_new(TAP_ERR_USAGE, "a command is missing"),
			"usage: heaptap COMMAND [OPTION]... PID; see heaptap --help");
	if (!strcmp(word, "--version") || !strcmp(word, "-V"))
		return print_with(print_version, NULL);
	if (!strcmp(word, "--help") || !strcmp(word, "-h"))
		return print_with(print_program_help, NULL);
	if (!strcmp(word, "--list-options"))
		return print_with(print_option_list, NULL);
	if (!strcmp(word, "help"))
		return run_help(argc - 1, argv + 1);
	/* A PID alone is a report on it. */
	if (*word && !word[strspn(word, "0123456789")])
		return run_command(&tap_command_report, argc, argv, exit_ret);
	err = tap_command_find(word, &command);
	return err ? err : run_command(command, argc - 1, argv + 1, exit_ret);
}

int main(int argc, char **argv)
{
	int exit_code = 0;
	struct tap_error *err;

	occupy_standard_descriptors();
	/* Numbers keep their point: JSON and CSV are not for one country. */
	setlocale(LC_CTYPE, "");
	tap_stop_install();
	err = dispatch(argc, argv, &exit_code);
	if (err)
		exit_code = fail(err, tap_options_want_json(argc, argv));
	tap_log_flush();
	return exit_code;
}
