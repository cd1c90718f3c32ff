/* SPDX-License-Identifier: Apache-2.0 */
/* Loaded by dlopen_leak. It brings an allocator call of its own. */
#include <stdlib.h>
#include <string.h>

void plugin_leak(size_t size);

static void *volatile last_leak;

__attribute__((noinline)) void plugin_leak(size_t size)
{
	last_leak = calloc(1, size); /* LEAK */
	memset(last_leak, 1, 8);
}
