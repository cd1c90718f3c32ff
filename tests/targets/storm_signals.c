/* SPDX-License-Identifier: Apache-2.0 */
/*
 * storm_signals [--longjmp]
 *
 * A thousand signals a second into a thread that computes, with a handler that
 * allocates where it may. With --longjmp it also leaves by a jump, out of mmap,
 * which leaves nothing locked behind.
 */
#include <setjmp.h>
#include <sys/mman.h>
#include "storm.h"

static sigjmp_buf home;
static int jumps;
static volatile sig_atomic_t count, can_jump, inside;

/* glibc's malloc is not made for handlers that call it from within. */
static void *quiet_malloc(size_t size)
{
	void *block;

	inside = 1;
	block = malloc(size);
	inside = 0;
	return block;
}

static void quiet_free(void *block)
{
	inside = 1;
	free(block);
	inside = 0;
}

static void on_tick(int sig)
{
	int saved = errno;

	(void)sig;
	count++;
	if (!inside) {
		void *block = malloc(100);

		memset(block, 1, 100);
		free(block);
	}
	errno = saved;
	/* mmap holds nothing that a jump would leave held. */
	if (jumps && can_jump)
		siglongjmp(home, 1);
}

static NOINLINE unsigned int compute(void)
{
	unsigned int sum = 1;

	for (unsigned int i = 0; i < 100; i++) {
		unsigned int *block = quiet_malloc(sizeof(*block) * 16);

		for (unsigned int k = 0; k < 16; k++)
			block[k] = sum + k * i;
		for (unsigned int k = 0; k < 16; k++)
			sum = sum * 16777619u ^ block[k];
		quiet_free(block);
	}
	return sum;
}

static NOINLINE void map_and_jump(void)
{
	if (sigsetjmp(home, 1) == 0) {
		for (int i = 0; i < 2000; i++) {
			void *block;

			can_jump = 1;
			block = mmap(NULL, 65536, PROT_READ | PROT_WRITE,
				     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
			can_jump = 0;
			munmap(block, 65536);
		}
	}
	can_jump = 0;
}

int main(int argc, char **argv)
{
	struct sigevent event = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGALRM };
	struct itimerspec spec = { { 0, 1000000 }, { 0, 1000000 } };
	struct sigaction action = { .sa_handler = on_tick, .sa_flags = SA_RESTART };
	unsigned int right = compute();
	struct storm_watch watch;
	struct timespec next;
	timer_t timer;

	jumps = has_option(argc, argv, "--longjmp");
	storm_begin();
	sigaction(SIGALRM, &action, NULL);
	event._sigev_un._tid = getpid();
	timer_create(CLOCK_MONOTONIC, &event, &timer);
	timer_settime(timer, 0, &spec, NULL);
	say("{\"ready\": true, \"pid\": %d}\n", getpid());
	clock_gettime(CLOCK_MONOTONIC, &next);
	storm_watch_begin(&watch);
	do {
		storm_watch_restart(&watch);
		for (int i = 0; i < 20; i++) {
			storm_expect(compute() == right);
			storm_watch_look(&watch);
		}
		if (jumps)
			map_and_jump();
		add_ns(&next, 2000000);
	} while (wait_until(&next));
	memset(&spec, 0, sizeof(spec));
	timer_settime(timer, 0, &spec, NULL);
	storm_expect(count > 0);
	return storm_finish();
}
