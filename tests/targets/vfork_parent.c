/* SPDX-License-Identifier: Apache-2.0 */
/* A parent that cannot be stopped: its vfork child reads standard input. */
#include "target.h"

#include <sys/wait.h>

static NOINLINE int vfork_here(void)
{
	pid_t child;
	int status = 0;

	child = vfork(); /* WAIT */
	if (child == 0) {
		char c;

		while (read(STDIN_FILENO, &c, 1) > 0)
			;
		_exit(5);
	}
	waitpid(child, &status, 0);
	return WEXITSTATUS(status);
}

int main(void)
{
	int code;

	say("{\"ready\": true, \"pid\": %d}\n", getpid());
	code = vfork_here();
	say("{\"done\": true, \"child\": %d}\n", code);
	return code == 5 ? 0 : 1;
}
