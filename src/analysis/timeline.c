/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <string.h>
#include "heaptap/analysis/timeline.h"

#define SHORTEST_S 0.05

double tap_timeline_interval(double duration_s)
{
	return fmax(SHORTEST_S, duration_s / 200);
}

void tap_timeline_init(struct tap_timeline *timeline, double interval_s)
{
	timeline->interval_s = interval_s;
	timeline->tick_s = interval_s;
	timeline->next_s = 0;
}

bool tap_timeline_is_due(struct tap_timeline *timeline, double t_s)
{
	/* A clock that wakes a little early must not lose every other point. */
	if (t_s < timeline->next_s - timeline->tick_s / 4)
		return false;
	timeline->next_s += timeline->interval_s;
	if (timeline->next_s <= t_s)
		timeline->next_s = t_s + timeline->interval_s;
	return true;
}

size_t tap_timeline_thin_items(
	struct tap_timeline *timeline, void *items, size_t count, size_t item_size)
{
	char *bytes = items;
	size_t kept = 0;

	if (count < TAP_TIMELINE_POINTS)
		return count;
	for (size_t i = 0; i < count; i += 2)
		memmove(bytes + kept++ * item_size, bytes + i * item_size, item_size);
	/* Where the last point stays, the next is due two intervals behind it. */
	timeline->next_s += count % 2 ? timeline->interval_s : 0;
	timeline->interval_s *= 2;
	return kept;
}
