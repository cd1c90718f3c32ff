/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What it costs to ask another process and to wait for its answer, and nothing
 * more: two processes, a futex each way in shared memory, as heaptap's probes
 * ask heaptap. bench_handshake CPU CPU [COUNT]
 *
 * Prints one JSON object: "median_us", "mean_us" and "p95_us" of the waits.
 */
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define COUNT_MAX 1000000
/* Between two questions the program works: without that the other side would
 * never get to sleep. */
#define WORK_NS 200000

struct page {
	_Atomic uint32_t asked, answered;
};

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static int pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET((size_t)cpu, &set);
	return sched_setaffinity(0, sizeof(set), &set);
}

static void wait_while(_Atomic uint32_t *word, uint32_t value)
{
	while (atomic_load(word) == value)
		syscall(SYS_futex, word, FUTEX_WAIT, value, NULL, NULL, 0);
}

static void wake(_Atomic uint32_t *word)
{
	syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static void answer(struct page *page)
{
	for (uint32_t seen = 0;; seen++) {
		wait_while(&page->asked, seen);
		atomic_store(&page->answered, seen + 1);
		wake(&page->answered);
	}
}

static void work(void)
{
	uint64_t end = now_ns() + WORK_NS;

	while (now_ns() < end)
		;
}

static int by_size(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

int main(int argc, char **argv)
{
	static uint64_t waited[COUNT_MAX];
	struct page *page =
		mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint32_t count = argc == 4 ? (uint32_t)atol(argv[3]) : 5000;
	double sum = 0;
	pid_t child;

	if (argc < 3 || page == MAP_FAILED || count < 1 || count > COUNT_MAX) {
		fputs("usage: bench_handshake CPU CPU [COUNT]\n", stderr);
		return 2;
	}
	child = fork();
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (pin(atoi(argv[2])) == 0)
			answer(page);
		_exit(1);
	}
	if (child < 0 || pin(atoi(argv[1])) < 0) {
		perror("bench_handshake");
		return 1;
	}
	for (uint32_t i = 0; i < count; i++) {
		uint64_t start;

		work();
		start = now_ns();
		atomic_store(&page->asked, i + 1);
		wake(&page->asked);
		wait_while(&page->answered, i);
		waited[i] = now_ns() - start;
		sum += (double)waited[i];
	}
	kill(child, SIGKILL);
	qsort(waited, count, sizeof(waited[0]), by_size);
	printf("{\"median_us\": %.2f, \"mean_us\": %.2f, \"p95_us\": %.2f}\n",
		(double)waited[count / 2] * 1e-3, sum / count * 1e-3,
		(double)waited[count - 1 - count / 20] * 1e-3);
	return 0;
}
