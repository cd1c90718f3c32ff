/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_TESTS_PYTHON_INTERPRETERS_H
#define HEAPTAP_TESTS_PYTHON_INTERPRETERS_H

/* Which interpreters there are to test on, and how one is run. */

#include <fcntl.h>
#include <glob.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>
#include "unit.h"
#include "heaptap/base/vector.h"

/* An interpreter to test: its path, below root where that is not "". */
struct interpreter {
	char path[PATH_MAX];
	char root[PATH_MAX];
	char name[PATH_MAX];
	const char *setting; /* for its environment; NULL: none */
};

/* In the child of a fork: runs `code`, which finds the script, a fixture, in
 * descriptor 3. */
static inline void run_interpreter(const struct interpreter *interpreter, const char *script,
	const char *code, int in, int out)
{
	char path[PATH_MAX];
	int fd;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	snprintf(path, sizeof(path), "%s/python/%s", getenv("TAP_FIXTURES"), script);
	fd = open(path, O_RDONLY);
	if (fd < 0 || dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(fd, 3) < 0)
		_exit(126);
	if (*interpreter->root && (chroot(interpreter->root) < 0 || chdir("/") < 0))
		_exit(126);
	if (interpreter->setting)
		putenv((char *)(uintptr_t)interpreter->setting);
	execl(interpreter->path, interpreter->path, "-c", code, NULL);
	_exit(127);
}

TAP_VECTOR_TYPE(interpreters, struct interpreter);

static inline void add_pattern(struct interpreters *list, const char *root, const char *pattern)
{
	char path[PATH_MAX];
	glob_t found;

	snprintf(path, sizeof(path), "%s%s", root, pattern);
	if (glob(path, 0, NULL, &found) == 0) {
		for (size_t i = 0; i < found.gl_pathc; i++) {
			struct interpreter *interpreter = tap_vector_add(list);

			snprintf(interpreter->path, sizeof(interpreter->path), "%s",
				found.gl_pathv[i] + strlen(root));
			snprintf(interpreter->root, sizeof(interpreter->root), "%s", root);
			snprintf(interpreter->name, sizeof(interpreter->name), "%.2048s with hooks",
				interpreter->path);
		}
		globfree(&found);
	} else {
		print_message("SKIP: no interpreter %s\n", path);
	}
}

/* Every one that is found here, and in the tree that HEAPTAP_TEST_SID names. */
static inline void find_interpreters(struct interpreters *list)
{
	const char *pyenv = getenv("PYENV_ROOT"), *sid = getenv("HEAPTAP_TEST_SID");
	char pattern[PATH_MAX];

	if (pyenv) {
		snprintf(pattern, sizeof(pattern), "%s/versions/*/bin/python", pyenv);
		add_pattern(list, "", pattern);
	}
	add_pattern(list, "", "/usr/bin/python3.[0-9]");
	add_pattern(list, "", "/usr/bin/python3.[0-9][0-9]");
	if (sid && geteuid() == 0)
		add_pattern(list, sid, "/usr/bin/python3.[0-9][0-9]");
	else
		print_message("SKIP: HEAPTAP_TEST_SID is not set, or this is not root\n");
}

#endif
