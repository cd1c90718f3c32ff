/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_PYTHON_WALK_H
#define HEAPTAP_PYTHON_WALK_H

/* Walking a linked list that may be a circle: Brent's algorithm. */

#include <stdbool.h>
#include <stdint.h>

struct tap_python_walk {
	uint64_t mark;
	uint32_t steps;
	uint32_t next_mark;
};

/* Called with each node before it is used: false ends the walk, at the end of
 * the list, in a circle, or after limit nodes. */
static inline bool tap_python_walk_on(struct tap_python_walk *walk, uint64_t addr, uint32_t limit)
{
	if (!addr || walk->steps >= limit || (walk->steps && addr == walk->mark))
		return false;
	if (walk->steps == walk->next_mark) {
		walk->mark = addr;
		walk->next_mark = walk->next_mark * 2 + 1;
	}
	walk->steps++;
	return true;
}

#endif
