/* SPDX-License-Identifier: Apache-2.0 */
/*
 * recursion LOG: an allocator (rec_alloc) that calls itself eight times before
 * it calls malloc, from a function that recurses as well. One block leaks each
 * time, whichever of the two is counted.
 */
#include "target.h"

static void *volatile last_leak;

NOINLINE void *rec_alloc(size_t size, int depth);

NOINLINE void *rec_alloc(size_t size, int depth)
{
	void *block = depth > 0 ? rec_alloc(size, depth - 1) : malloc(size);

	__asm__ volatile("" : "+r"(block));
	return block;
}

static NOINLINE void leak_site(size_t size, int depth)
{
	if (depth > 0)
		leak_site(size, depth - 1);
	else
		last_leak = rec_alloc(size, 8); /* LEAK */
	__asm__ volatile("");
}

int main(int argc, char **argv)
{
	static struct leak_log leaks = LEAK_LOG_INIT;
	struct timespec next, before;

	if (argc < 2)
		return 2;
	leak_log_open(&leaks, argv[1]);
	catch_terminate();
	say("{\"ready\": true, \"pid\": %d, \"function\": \"leak_site\", \"size\": 1000}\n",
	    getpid());
	clock_gettime(CLOCK_MONOTONIC, &next);
	for (;;) {
		add_ns(&next, 20000000);
		if (!wait_until(&next))
			return 0;
		before = leak_log_begin();
		leak_site(1000, 20);
		leak_log_add(&leaks, before, 1000);
	}
}
