/* SPDX-License-Identifier: Apache-2.0 */
/*
 * storm_stacks
 *
 * Coroutines on small stacks of their own that allocate and switch, and a
 * thread that runs out of its stack again and again, is caught by a handler on
 * an alternate stack that allocates, and jumps out.
 */
#include <setjmp.h>
#include <sys/mman.h>
#include <ucontext.h>
#include "storm.h"

#define COROUTINES 8
#define COROUTINE_BYTES 8192
#define OVERFLOW_STACK_BYTES 65536
#define ALTERNATE_BYTES 32768

static ucontext_t scheduler, coroutines[COROUTINES];
static sigjmp_buf home;
static volatile sig_atomic_t overflows;

static void coroutine(int index)
{
	ucontext_t *self = &coroutines[index];

	for (;;) {
		storm_check();
		swapcontext(self, &scheduler);
	}
}

static void make_coroutines(void)
{
	for (int i = 0; i < COROUTINES; i++) {
		getcontext(&coroutines[i]);
		coroutines[i].uc_stack.ss_sp = malloc(COROUTINE_BYTES);
		coroutines[i].uc_stack.ss_size = COROUTINE_BYTES;
		coroutines[i].uc_link = &scheduler;
		makecontext(&coroutines[i], (void (*)(void))coroutine, 1, i);
	}
}

static void on_overflow(int sig)
{
	void *block = malloc(200);

	(void)sig;
	memset(block, 1, 200);
	free(block);
	overflows++;
	siglongjmp(home, 1);
}

static NOINLINE int dig(volatile char *above)
{
	volatile char here[512];

	here[0] = (char)(above[0] + 1);
	if (atomic_load(&storm.end) > 1)
		return 0;
	return dig(here) + here[0];
}

static void *overflow(void *context)
{
	stack_t alternate = { .ss_sp = malloc(ALTERNATE_BYTES), .ss_size = ALTERNATE_BYTES };
	struct sigaction action = { .sa_handler = on_overflow, .sa_flags = SA_ONSTACK };

	sigaltstack(&alternate, NULL);
	sigaction(SIGSEGV, &action, NULL);
	while (!atomic_load(&storm.end)) {
		char top = 0;

		if (sigsetjmp(home, 1) == 0)
			dig(&top);
		storm_check();
		storm_sleep_ms(2);
	}
	return context;
}

int main(void)
{
	pthread_attr_t attr;
	pthread_t digger;
	struct timespec next;

	storm_begin();
	make_coroutines();
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, OVERFLOW_STACK_BYTES);
	pthread_create(&digger, &attr, overflow, NULL);
	say("{\"ready\": true, \"pid\": %d}\n", getpid());
	clock_gettime(CLOCK_MONOTONIC, &next);
	do {
		for (int i = 0; i < COROUTINES; i++)
			swapcontext(&scheduler, &coroutines[i]);
		add_ns(&next, 1000000);
	} while (wait_until(&next));
	atomic_store(&storm.end, 1);
	pthread_join(digger, NULL);
	storm_expect(overflows > 0);
	return storm_finish();
}
