/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_TESTS_STORM_H
#define HEAPTAP_TESTS_STORM_H

/*
 * What the storms share: a computation by allocations whose result is known,
 * a thread that spins in it and measures for how long it was held at most, and
 * the report of both. Time that it waited for a processor is none of ours and
 * is taken off.
 */

#include <stdatomic.h>
#include "target.h"

static struct {
	atomic_ulong rounds, wrong;
	_Atomic double largest_gap;
	atomic_int end;
	unsigned int right;
	pthread_t spinner;
} storm;

static NOINLINE unsigned int storm_compute(void)
{
	unsigned int sum = 1;

	for (unsigned int i = 0; i < 40; i++) {
		size_t words = 4 + i * 7 % 50;
		unsigned int *block = i % 3 ? malloc(sizeof(*block) * words) :
					      calloc(words, sizeof(*block));

		for (unsigned int k = 0; k < words; k++)
			block[k] = sum + k * i;
		if (i % 4 == 0) {
			block = realloc(block, sizeof(*block) * words * 2);
			for (unsigned int k = 0; k < words; k++)
				block[words + k] = block[k] ^ i;
			words *= 2;
		}
		for (unsigned int k = 0; k < words; k++)
			sum = sum * 16777619u ^ block[k];
		free(block);
	}
	return sum;
}

static void storm_check(void)
{
	unsigned int got = storm_compute();

	atomic_fetch_add(&storm.rounds, 1);
	if (got != storm.right)
		atomic_fetch_add(&storm.wrong, 1);
}

static void storm_expect(int right)
{
	if (!right)
		atomic_fetch_add(&storm.wrong, 1);
}

/* Seconds that this thread could have run and did not. */
static double storm_run_delay(int fd)
{
	char text[96];
	ssize_t got = pread(fd, text, sizeof(text) - 1, 0);
	unsigned long long ran = 0, waited = 0;

	text[got > 0 ? got : 0] = 0;
	sscanf(text, "%llu %llu", &ran, &waited);
	return (double)waited * 1e-9;
}

/* How long a thread was held: the time between two looks of its own. */
struct storm_watch {
	int fd;
	double last, looked, delay;
};

static void storm_watch_begin(struct storm_watch *watch)
{
	watch->fd = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
	watch->last = watch->looked = now_s();
	watch->delay = storm_run_delay(watch->fd);
}

/* What was before is not counted. */
static inline void storm_watch_restart(struct storm_watch *watch)
{
	watch->last = watch->looked = now_s();
	watch->delay = storm_run_delay(watch->fd);
}

static void storm_watch_look(struct storm_watch *watch)
{
	double now = now_s(), gap = now - watch->last, delayed;

	watch->last = now;
	if (gap < 0.02 && now - watch->looked < 0.05)
		return;
	delayed = storm_run_delay(watch->fd);
	gap -= delayed - watch->delay;
	watch->delay = delayed;
	watch->looked = now;
	if (gap > atomic_load(&storm.largest_gap))
		atomic_store(&storm.largest_gap, gap);
}

static void *storm_spin(void *context)
{
	struct storm_watch watch;

	(void)context;
	storm_watch_begin(&watch);
	while (!atomic_load(&storm.end)) {
		storm_check();
		storm_watch_look(&watch);
	}
	close(watch.fd);
	return NULL;
}

static void storm_begin(void)
{
	storm.right = storm_compute();
	catch_terminate();
	pthread_create(&storm.spinner, NULL, storm_spin, NULL);
}

/* Says what came out. The digest depends on nothing but the program. */
static int storm_finish(void)
{
	atomic_store(&storm.end, 1);
	pthread_join(storm.spinner, NULL);
	say("{\"done\": true, \"digest\": %u, \"rounds\": %lu, \"wrong\": %lu, \"gap_s\": %.4f}\n",
	    storm.right, atomic_load(&storm.rounds), atomic_load(&storm.wrong),
	    atomic_load(&storm.largest_gap));
	return atomic_load(&storm.wrong) != 0;
}

static inline void storm_sleep_ms(long ms)
{
	struct timespec ts = { ms / 1000, ms % 1000 * 1000000 };

	while (nanosleep(&ts, &ts) && errno == EINTR)
		;
}

#endif
