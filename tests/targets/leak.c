/* SPDX-License-Identifier: Apache-2.0 */
/*
 * leak LOG [--size N] [--rate N] [--threads N] [--ring N] [--share] [--leak-off]
 *
 * One site leaks, ten replace the oldest block of a full ring, in size classes
 * of their own or (--share) in that of the leak. rate: leaks a second, of all
 * threads together. With more than one thread the main thread only waits.
 */
#include "target.h"

#define SITES 10
#define RING_MAX 32

struct worker {
	void *ring[SITES][RING_MAX];
	unsigned int step;
	pthread_t thread;
};

static struct leak_log leaks = LEAK_LOG_INIT;
static size_t leak_size = 1000;
static unsigned int ring = RING_MAX;
static int share_class, leak_off;
static long period_ns;
static void *volatile last_leak;

static NOINLINE void leak_site(size_t size)
{
	last_leak = malloc(size); /* LEAK */
	memset(last_leak, 0x5a, 8);
	__asm__ volatile("" ::: "memory");
}

/* Each healthy site is a function of its own. */
#define HEALTHY(n)                                                                     \
	static NOINLINE void healthy_##n(void **slot, size_t size)                      \
	{                                                                               \
		free(*slot);                                                            \
		*slot = malloc(size);                                                   \
		((volatile char *)*slot)[0] = n;                                        \
	}
HEALTHY(0)
HEALTHY(1)
HEALTHY(2)
HEALTHY(3)
HEALTHY(4)
HEALTHY(5)
HEALTHY(6)
HEALTHY(7)
HEALTHY(8)
HEALTHY(9)

static void (*const healthy[SITES])(void **, size_t) = {
	healthy_0, healthy_1, healthy_2, healthy_3, healthy_4,
	healthy_5, healthy_6, healthy_7, healthy_8, healthy_9,
};

static size_t healthy_size(int site)
{
	return share_class ? leak_size : leak_size + 64 + 48 * (size_t)site;
}

static NOINLINE void churn(struct worker *worker)
{
	unsigned int slot = worker->step++ % ring;

	for (int i = 0; i < SITES; i++)
		healthy[i](&worker->ring[i][slot], healthy_size(i));
}

static NOINLINE void work(struct worker *worker)
{
	churn(worker);
	if (!leak_off) {
		leak_site(leak_size);
		leak_log_add(&leaks, leak_size);
	}
}

static void fill(struct worker *worker)
{
	for (unsigned int i = 0; i < ring; i++)
		churn(worker);
}

static pthread_barrier_t filled;

static void *run_thread(void *arg)
{
	struct worker *worker = arg;
	struct timespec next;

	fill(worker);
	pthread_barrier_wait(&filled);
	clock_gettime(CLOCK_MONOTONIC, &next);
	while (!target_stop) {
		add_ns(&next, period_ns);
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
		work(worker);
	}
	return NULL;
}

static void say_ready(int threads)
{
	say("{\"ready\": true, \"pid\": %d, \"function\": \"leak_site\", \"size\": %zu, "
	    "\"threads\": %d}\n",
	    getpid(), leak_size, threads);
}

static void run_threads(struct worker *workers, int threads)
{
	pthread_barrier_init(&filled, NULL, (unsigned int)threads + 1);
	for (int i = 0; i < threads; i++)
		pthread_create(&workers[i].thread, NULL, run_thread, &workers[i]);
	pthread_barrier_wait(&filled);
	say_ready(threads);
	wait_for_end();
	target_stop = 1;
	for (int i = 0; i < threads; i++)
		pthread_join(workers[i].thread, NULL);
}

static void run_alone(struct worker *worker)
{
	struct timespec next;

	fill(worker);
	say_ready(1);
	clock_gettime(CLOCK_MONOTONIC, &next);
	for (;;) {
		add_ns(&next, period_ns);
		if (!wait_until(&next))
			return;
		work(worker);
	}
}

int main(int argc, char **argv)
{
	int threads = atoi(option(argc, argv, "--threads", "1"));
	double rate = atof(option(argc, argv, "--rate", "50"));
	static struct worker workers[64];

	ring = (unsigned int)atoi(option(argc, argv, "--ring", "32"));
	if (argc < 2 || threads < 1 || threads > 64 || rate <= 0 ||
	    ring < 1 || ring > RING_MAX) {
		fprintf(stderr, "usage: leak LOG [--size N] [--rate N] [--threads N] [--share]\n");
		return 2;
	}
	leak_size = strtoul(option(argc, argv, "--size", "1000"), NULL, 0);
	share_class = has_option(argc, argv, "--share");
	leak_off = has_option(argc, argv, "--leak-off");
	period_ns = (long)(1e9 * threads / rate);
	leak_log_open(&leaks, argv[1]);
	catch_terminate();
	if (threads == 1)
		run_alone(&workers[0]);
	else
		run_threads(workers, threads);
	say("{\"done\": true, \"blocks\": %llu, \"bytes\": %llu}\n",
	    (unsigned long long)leaks.blocks, (unsigned long long)leaks.bytes);
	return 0;
}
