/* SPDX-License-Identifier: Apache-2.0 */
/*
 * storm_threads [--blocked]
 *
 * 64 threads that come, compute and go. With --blocked all of them block every
 * signal, and the program has handlers of its own for SIGTRAP, SIGSEGV and
 * SIGURG, which it sends to itself; they must all arrive.
 */
#include <sys/syscall.h>
#include "storm.h"

#define THREADS 64

static int blocked;
static atomic_ulong handled[65];
static unsigned long sent;

static void on_signal(int sig)
{
	handled[sig]++;
}

static void *work(void *context)
{
	(void)context;
	for (int i = 0; i < 3; i++)
		storm_check();
	if (blocked) {
		sigset_t now;

		pthread_sigmask(SIG_BLOCK, NULL, &now);
		storm_expect(sigismember(&now, SIGTRAP) == 1 && sigismember(&now, SIGUSR1) == 1);
	}
	return NULL;
}

static void *keep_coming(void *context)
{
	struct storm_watch watch;

	storm_watch_begin(&watch);
	while (!atomic_load(&storm.end)) {
		pthread_t threads[THREADS / 4];

		storm_watch_restart(&watch);
		for (int i = 0; i < THREADS / 4; i++) {
			storm_expect(!pthread_create(&threads[i], NULL, work, NULL));
			storm_watch_look(&watch);
		}
		for (int i = 0; i < THREADS / 4; i++)
			pthread_join(threads[i], NULL);
	}
	return context;
}

static void send_signals(void)
{
	static const int signals[] = { SIGTRAP, SIGSEGV, SIGURG };

	for (int i = 0; i < 3; i++)
		syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), signals[i]);
	__asm__ volatile("int3");
	sent++;
}

int main(int argc, char **argv)
{
	pthread_t makers[4];
	sigset_t all, old;
	struct timespec next;

	blocked = has_option(argc, argv, "--blocked");
	storm_begin();
	if (blocked) {
		signal(SIGTRAP, on_signal);
		signal(SIGSEGV, on_signal);
		signal(SIGURG, on_signal);
	}
	sigfillset(&all);
	if (blocked)
		pthread_sigmask(SIG_SETMASK, &all, &old);
	for (int i = 0; i < 4; i++)
		pthread_create(&makers[i], NULL, keep_coming, NULL);
	if (blocked)
		pthread_sigmask(SIG_SETMASK, &old, NULL);
	say("{\"ready\": true, \"pid\": %d}\n", getpid());
	clock_gettime(CLOCK_MONOTONIC, &next);
	do {
		if (blocked)
			send_signals();
		add_ns(&next, 5000000);
	} while (wait_until(&next));
	atomic_store(&storm.end, 1);
	for (int i = 0; i < 4; i++)
		pthread_join(makers[i], NULL);
	if (blocked)
		storm_expect(handled[SIGTRAP] == 2 * sent && handled[SIGSEGV] == sent &&
			     handled[SIGURG] == sent);
	return storm_finish();
}
