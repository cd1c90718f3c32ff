/* SPDX-License-Identifier: Apache-2.0 */
/* odd_plugin.so: late_malloc(), a function of odd's kind in a module that comes
 * late. */
#include <stddef.h>

#include "odd.h"

void *odd_take(size_t size);

__attribute__((used)) static void *late_malloc_body(size_t size)
{
	return odd_take(size);
}
ODD(late_malloc);
