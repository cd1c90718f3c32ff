/* SPDX-License-Identifier: Apache-2.0 */
/* stuck [BLOCKS [BYTES]]: leaks so many blocks, then only waits. */
#include "target.h"

static void *volatile last_leak;

static NOINLINE void leak_site(size_t size)
{
	last_leak = malloc(size); /* LEAK */
	memset(last_leak, 0x5a, size);
}

static NOINLINE void wait_here(void)
{
	pause(); /* WAIT */
	__asm__ volatile("");
}

static NOINLINE void outer(int depth)
{
	if (depth > 0)
		outer(depth - 1);
	else
		wait_here();
	__asm__ volatile("");
}

int main(int argc, char **argv)
{
	int blocks = argc > 1 ? atoi(argv[1]) : 1000;
	size_t size = argc > 2 ? strtoul(argv[2], NULL, 0) : 100;

	for (int i = 0; i < blocks; i++)
		leak_site(size);
	say("{\"ready\": true, \"pid\": %d, \"function\": \"leak_site\", \"blocks\": %d, "
	    "\"bytes\": %zu}\n",
	    getpid(), blocks, (size_t)blocks * size);
	for (;;)
		outer(3);
}
