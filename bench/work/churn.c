/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Threads that do nothing but malloc and free, as fast as they can, one of
 * which also leaks 1 MiB a second in leak_here(): bench_churn THREADS
 *
 * Says what it has done ten times a second, one JSON object a line: "from" and
 * "to" are CLOCK_MONOTONIC, "ops" the pairs of malloc and free between them,
 * "leaked" all bytes leaked so far. Ends by SIGTERM. Nothing is allocated for
 * that.
 */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define THREADS_MAX 64
#define SLOTS 4096
/* Between two looks at the clock: small, so that a thread slowed down ten
 * thousand times still says what it does. */
#define PIECE 100
#define REPORT_S 0.1
#define LEAK_BYTES 1024
#define LEAKS_PER_S 1024

struct worker {
	_Alignas(64) _Atomic long ops;
	unsigned random;
	void *ring[SLOTS];
};

static struct worker workers[THREADS_MAX];
static volatile sig_atomic_t ended;
static void *volatile kept;

static void end(int signal)
{
	(void)signal;
	ended = 1;
}

static double now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

__attribute__((noinline)) static void leak_here(void)
{
	char *block = malloc(LEAK_BYTES); /* LEAK */

	if (block)
		memset(block, 1, LEAK_BYTES);
	kept = block;
}

__attribute__((noinline)) static void churn(struct worker *w)
{
	for (int i = 0; i < PIECE; i++) {
		unsigned x = w->random = w->random * 1664525 + 1013904223;
		void **slot = &w->ring[x >> 20];

		free(*slot);
		*slot = malloc(16 + (x >> 8 & 511));
		if (*slot)
			*(volatile char *)*slot = 1;
	}
	atomic_store_explicit(&w->ops, atomic_load_explicit(&w->ops, memory_order_relaxed) + PIECE,
		memory_order_relaxed);
}

static void *work(void *worker)
{
	while (!ended)
		churn(worker);
	return NULL;
}

static void report(double from, double to, long ops, long leaked)
{
	char line[160];
	int len = snprintf(line, sizeof(line),
		"{\"from\": %.6f, \"to\": %.6f, \"ops\": %ld, \"leaked\": %ld}\n", from, to, ops,
		leaked);

	if (write(STDOUT_FILENO, line, (size_t)len) < 0)
		ended = 1;
}

static long all_ops(int threads)
{
	long ops = 0;

	for (int i = 0; i < threads; i++)
		ops += atomic_load_explicit(&workers[i].ops, memory_order_relaxed);
	return ops;
}

int main(int argc, char **argv)
{
	int threads = argc == 2 ? atoi(argv[1]) : 1;
	long leaks = 0, before = 0;
	double start, from;
	char ready[64];
	int len = snprintf(ready, sizeof(ready), "{\"ready\": true, \"pid\": %d}\n", getpid());

	if (threads < 1 || threads > THREADS_MAX) {
		fputs("usage: bench_churn THREADS\n", stderr);
		return 2;
	}
	signal(SIGTERM, end);
	for (int i = 0; i < threads; i++)
		workers[i].random = (unsigned)i + 1;
	for (int i = 1; i < threads; i++) {
		pthread_t thread;

		if (pthread_create(&thread, NULL, work, &workers[i]) == 0)
			pthread_detach(thread);
	}
	if (write(STDOUT_FILENO, ready, (size_t)len) < 0)
		return 1;
	for (start = from = now_s(); !ended;) {
		double now;

		churn(&workers[0]);
		now = now_s();
		if ((double)leaks < (now - start) * LEAKS_PER_S) {
			leak_here();
			leaks++;
		}
		if (now - from >= REPORT_S) {
			long ops = all_ops(threads);

			report(from, now, ops - before, leaks * LEAK_BYTES);
			before = ops;
			from = now;
		}
	}
	return 0;
}
