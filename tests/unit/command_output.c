/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "unit.h"
#include "command/output.h"
#include "heaptap/base/alloc.h"

static char folder[] = "/tmp/heaptap-output-XXXXXX";

static char *inside(const char *name)
{
	return tap_format("%s/%s", folder, name);
}

static void write_file(const char *path, const char *text)
{
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

static void assert_content(const char *path, const char *wanted)
{
	char text[256] = "";
	FILE *file = fopen(path, "r");

	assert_non_null(file);
	text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
	fclose(file);
	assert_string_equal(text, wanted);
}

static size_t files_in_folder(void)
{
	DIR *dir = opendir(folder);
	size_t count = 0;

	while (readdir(dir))
		count++;
	closedir(dir);
	return count - 2;
}

static void clear(void)
{
	const char *names[] = {"answer", "link"};

	for (size_t i = 0; i < 2; i++) {
		char *path = inside(names[i]);

		unlink(path);
		free(path);
	}
	assert_int_equal(files_in_folder(), 0);
}

static int setup(void **state)
{
	(void)state;
	return mkdtemp(folder) ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	return rmdir(folder);
}

static void test_replaced_when_whole(void **state)
{
	struct tap_output output;
	char *path = inside("answer");
	struct stat status;

	(void)state;
	write_file(path, "old");
	chmod(path, 0640);
	assert_ok(tap_output_open(path, STDOUT_FILENO, &output));
	fputs("new", output.file);
	assert_content(path, "old");
	assert_ok(tap_output_commit(&output));
	tap_output_deinit(&output);
	assert_content(path, "new");
	assert_int_equal(stat(path, &status), 0);
	assert_int_equal(status.st_mode & 07777, 0640);
	clear();
	free(path);
}

static void test_left_alone_when_not(void **state)
{
	struct tap_output output;
	char *path = inside("answer");

	(void)state;
	write_file(path, "old");
	assert_ok(tap_output_open(path, STDOUT_FILENO, &output));
	fputs("half", output.file);
	tap_output_deinit(&output);
	assert_content(path, "old");
	assert_int_equal(files_in_folder(), 1);
	clear();
	free(path);
}

static void test_a_link_stays_one(void **state)
{
	struct tap_output output;
	char *path = inside("answer"), *link = inside("link");
	struct stat status;

	(void)state;
	write_file(path, "old");
	assert_int_equal(symlink(path, link), 0);
	assert_ok(tap_output_open(link, STDOUT_FILENO, &output));
	fputs("new", output.file);
	assert_ok(tap_output_commit(&output));
	tap_output_deinit(&output);
	assert_content(path, "new");
	assert_int_equal(lstat(link, &status), 0);
	assert_true(S_ISLNK(status.st_mode));
	clear();
	free(path);
	free(link);
}

static void test_not_writable(void **state)
{
	struct tap_output output;

	(void)state;
	assert_code(tap_output_open(folder, STDOUT_FILENO, &output), TAP_ERR_FILE);
	tap_output_deinit(&output);
	assert_code(tap_output_open("/nonexistent/x", STDOUT_FILENO, &output), TAP_ERR_FILE);
	tap_output_deinit(&output);
}

static void test_full_disk(void **state)
{
	struct tap_output output;

	(void)state;
	assert_ok(tap_output_open("/dev/full", STDOUT_FILENO, &output));
	fputs("x", output.file);
	assert_code(tap_output_commit(&output), TAP_ERR_FILE);
	tap_output_deinit(&output);
}

static void test_reader_went_away(void **state)
{
	struct tap_output output;
	int ends[2];

	(void)state;
	signal(SIGPIPE, SIG_IGN);
	assert_int_equal(pipe(ends), 0);
	close(ends[0]);
	assert_ok(tap_output_open(NULL, ends[1], &output));
	fputs("x", output.file);
	assert_ok(tap_output_commit(&output));
	assert_true(output.broken);
	tap_output_deinit(&output);
	close(ends[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_replaced_when_whole),
		cmocka_unit_test(test_left_alone_when_not),
		cmocka_unit_test(test_a_link_stays_one),
		cmocka_unit_test(test_not_writable),
		cmocka_unit_test(test_full_disk),
		cmocka_unit_test(test_reader_went_away),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
