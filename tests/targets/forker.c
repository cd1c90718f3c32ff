/* SPDX-License-Identifier: Apache-2.0 */
/*
 * forker [--rate N] [--storm]
 *
 * Starts children that allocate, free and exit with a checksum of what they
 * computed, and compares it. With --storm it does so as fast as it can, and
 * mixes fork, vfork with exec, and threads.
 */
#include "target.h"

#include <sys/wait.h>

/* Allocates and frees; the result depends on every block. */
static NOINLINE int checksum(unsigned int seed)
{
	unsigned int sum = seed;

	for (int i = 0; i < 50; i++) {
		unsigned char *block = malloc(100 + (size_t)i * 7);

		if (!block)
			return -1;
		memset(block, (int)(sum + (unsigned int)i), 100);
		for (int k = 0; k < 100; k++)
			sum = sum * 31 + block[k];
		free(block);
	}
	return (int)(sum & 0x3f) + 1;
}

static int fork_once(unsigned int seed)
{
	int status = 0;
	pid_t child = fork();

	if (child == 0)
		_exit(checksum(seed));
	return child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) &&
	       WEXITSTATUS(status) == checksum(seed);
}

static int spawn_once(const char *self)
{
	int status = 0;
	pid_t child = vfork();

	if (child == 0) {
		execl(self, self, "--child", (char *)NULL);
		_exit(127);
	}
	return child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) &&
	       WEXITSTATUS(status) == checksum(99);
}

static void *thread_body(void *arg)
{
	*(int *)arg = checksum(5);
	return NULL;
}

static int thread_once(void)
{
	pthread_t thread;
	int result = 0;

	if (pthread_create(&thread, NULL, thread_body, &result) != 0)
		return 0;
	pthread_join(thread, NULL);
	return result == checksum(5);
}

int main(int argc, char **argv)
{
	long period_ns = (long)(1e9 / atof(option(argc, argv, "--rate", "20")));
	int storm = has_option(argc, argv, "--storm");
	unsigned long rounds = 0, bad = 0;
	struct timespec next;

	if (has_option(argc, argv, "--child"))
		return checksum(99);
	catch_terminate();
	say("{\"ready\": true, \"pid\": %d}\n", getpid());
	clock_gettime(CLOCK_MONOTONIC, &next);
	for (;;) {
		if (!storm)
			add_ns(&next, period_ns);
		if (!wait_until(&next))
			break;
		rounds++;
		bad += !fork_once((unsigned int)rounds);
		if (storm) {
			bad += !spawn_once("/proc/self/exe");
			bad += !thread_once();
		}
	}
	say("{\"done\": true, \"rounds\": %lu, \"bad\": %lu}\n", rounds, bad);
	return bad != 0;
}
