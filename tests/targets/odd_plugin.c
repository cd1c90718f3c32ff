/* SPDX-License-Identifier: Apache-2.0 */
/* odd_plugin.so: a module that comes late, with a malloc() of odd's kind that it
 * keeps to itself. */
#include <stddef.h>

#include "odd.h"

#pragma GCC visibility push(hidden)
void *malloc(size_t size);
#pragma GCC visibility pop

void *odd_take(size_t size);
void *late_alloc(size_t size);

__attribute__((used)) static void *malloc_body(size_t size)
{
	return odd_take(size);
}
__asm__(".hidden malloc");
ODD(malloc);

__attribute__((noinline)) void *late_alloc(size_t size)
{
	void *block = malloc(size);

	__asm__ volatile("" : "+r"(block));
	return block;
}
