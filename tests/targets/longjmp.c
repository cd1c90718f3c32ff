/* SPDX-License-Identifier: Apache-2.0 */
/*
 * longjmp LOG
 *
 * Frames that never return: after each leak its frame is left by a longjmp; an
 * allocator of its own (jump_alloc) leaves itself by a longjmp at every third
 * call; a timer's handler jumps out of a loop that computes.
 */
#include "target.h"

#include <setjmp.h>
#include <sys/time.h>

static jmp_buf leave_leak, leave_alloc;
static sigjmp_buf leave_handler;
static void *volatile last_leak;
static volatile sig_atomic_t may_jump;
static volatile unsigned long jumped;

static NOINLINE void leak_site(size_t size)
{
	last_leak = malloc(size); /* LEAK */
	longjmp(leave_leak, 1);
}

NOINLINE void *jump_alloc(size_t size);

NOINLINE void *jump_alloc(size_t size)
{
	static unsigned int calls;

	if (++calls % 3 == 0)
		longjmp(leave_alloc, 1);
	return malloc(size);
}

static NOINLINE void use_jump_alloc(void)
{
	void *volatile block = NULL;

	if (setjmp(leave_alloc) == 0)
		block = jump_alloc(333);
	free(block);
}

static void on_timer(int sig)
{
	(void)sig;
	if (may_jump) {
		may_jump = 0;
		siglongjmp(leave_handler, 1);
	}
}

static NOINLINE void be_interrupted(void)
{
	struct itimerval soon = { { 0, 0 }, { 0, 500 } };

	if (sigsetjmp(leave_handler, 1) == 0) {
		may_jump = 1;
		setitimer(ITIMER_REAL, &soon, NULL);
		for (volatile unsigned long i = 0;; i++)
			;
	}
	jumped++;
}

int main(int argc, char **argv)
{
	static struct leak_log leaks = LEAK_LOG_INIT;
	volatile unsigned long expected = 0;
	static struct timespec next, before;

	if (argc < 2)
		return 2;
	leak_log_open(&leaks, argv[1]);
	catch_terminate();
	signal(SIGALRM, on_timer);
	say("{\"ready\": true, \"pid\": %d, \"function\": \"leak_site\", \"size\": 1000}\n",
	    getpid());
	clock_gettime(CLOCK_MONOTONIC, &next);
	for (;;) {
		add_ns(&next, 20000000);
		if (!wait_until(&next))
			break;
		before = leak_log_begin();
		if (setjmp(leave_leak) == 0)
			leak_site(1000);
		leak_log_add(&leaks, before, 1000);
		use_jump_alloc();
		be_interrupted();
		expected++;
	}
	say("{\"done\": true, \"jumped\": %lu, \"expected\": %lu}\n", jumped, expected);
	return 0;
}
