/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TAP_SESSION_ROOT_STACKS_H
#define TAP_SESSION_ROOT_STACKS_H

/* Where stacks lie, of threads that run and of those that have ended. */

#include "session/root_areas.h"

struct root_stack {
	uint64_t base; /* nothing of it lies below; low where that is not known */
	uint64_t low;  /* what lies below is not in use */
	uint64_t top;  /* exclusive */
	pid_t tid;
};
TAP_VECTOR_TYPE(root_stacks, struct root_stack);

/* By address, without overlap. */
void root_stacks_find(const struct root_place *place, const struct root_thread *threads,
	size_t count, struct root_stacks *ret);
/* Adds the stacks of threads that have ended to dead, which need not be settled.
 * Looks at a bounded part of memory. */
void root_stacks_find_dead(const struct root_place *place, const struct root_thread *threads,
	size_t count, const struct page_set *understood, struct page_set *dead);

#endif
