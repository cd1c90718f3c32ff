/* SPDX-License-Identifier: Apache-2.0 */
/*
 * many_threads [--threads N] [--calls N]
 *
 * Threads that wait until a line comes on standard input; all of them at once
 * then ask for N blocks each, which they give back, and wait for the next line.
 * What they have asked for together is said each time: {"worked": true,
 * "blocks": ..., "bytes": ...}. Their stacks, and with them what tells threads
 * apart, lie anywhere.
 */
#include <sys/mman.h>
#include "target.h"

#define THREADS_MAX 1024
#define STACK_BYTES (256UL << 10)
#define WORK_STEPS 200
#define SOMEWHERE 0x100000000000UL
#define SOMEWHERE_BITS 42

static struct {
	unsigned long long blocks, bytes;
	unsigned long long apart[6]; /* cache lines */
} counts[THREADS_MAX];
static pthread_barrier_t begin, end;
static unsigned long calls;

static NOINLINE void take_and_give(size_t size)
{
	void *block = malloc(size);

	__asm__ volatile("" : "+r"(block));
	free(block);
}

static void *work(void *context)
{
	size_t self = (size_t)context;

	for (;;) {
		pthread_barrier_wait(&begin);
		if (target_stop)
			return NULL;
		for (unsigned long step = self; step < self + calls; step++) {
			size_t size = 50 + step * 61 % 400;

			take_and_give(size);
			counts[self].blocks++;
			counts[self].bytes += size;
			for (int i = 0; i < WORK_STEPS; i++)
				__asm__ volatile("");
		}
		pthread_barrier_wait(&end);
	}
}

/* Each run the same ones. */
static void *stack_somewhere(void)
{
	static uint64_t random = 1;
	void *stack;

	do {
		random = random * 6364136223846793005u + 1442695040888963407u;
		stack = mmap((void *)(SOMEWHERE + (random >> (64 - SOMEWHERE_BITS) & ~0xfffUL)),
			     STACK_BYTES, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1,
			     0);
	} while (stack == MAP_FAILED);
	return stack;
}

static int next_line(void)
{
	char letter;
	ssize_t n;

	do
		n = read(STDIN_FILENO, &letter, 1);
	while (n == 1 && letter != '\n');
	return n == 1;
}

int main(int argc, char **argv)
{
	static pthread_t workers[THREADS_MAX];
	int threads = atoi(option(argc, argv, "--threads", "256"));
	pthread_attr_t attr;

	calls = strtoul(option(argc, argv, "--calls", "4000"), NULL, 0);
	if (threads < 1 || threads > THREADS_MAX) {
		fprintf(stderr, "usage: many_threads [--threads N] [--calls N]\n");
		return 2;
	}
	pthread_barrier_init(&begin, NULL, (unsigned int)threads + 1);
	pthread_barrier_init(&end, NULL, (unsigned int)threads + 1);
	pthread_attr_init(&attr);
	for (int i = 0; i < threads; i++)
		if (pthread_attr_setstack(&attr, stack_somewhere(), STACK_BYTES) ||
		    pthread_create(&workers[i], &attr, work, (void *)(size_t)i))
			return 2;
	say("{\"ready\": true, \"pid\": %d, \"threads\": %d}\n", getpid(), threads);
	while (next_line()) {
		unsigned long long blocks = 0, bytes = 0;

		pthread_barrier_wait(&begin);
		pthread_barrier_wait(&end);
		for (int i = 0; i < threads; i++) {
			blocks += counts[i].blocks;
			bytes += counts[i].bytes;
		}
		say("{\"worked\": true, \"blocks\": %llu, \"bytes\": %llu}\n", blocks, bytes);
	}
	target_stop = 1;
	pthread_barrier_wait(&begin);
	for (int i = 0; i < threads; i++)
		pthread_join(workers[i], NULL);
	say("{\"done\": true}\n");
	return 0;
}
