/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_ANALYSIS_TIMELINE_H
#define HEAPTAP_ANALYSIS_TIMELINE_H

/*
 * A timeline of bounded length for a recording of unknown length: when 400
 * points are there, every second one is dropped and the interval doubles. The
 * points stay evenly spaced, and are vectors (base/vector.h) of the caller's
 * own type.
 *
 *	if (tap_timeline_is_due(&timeline, t_s)) {
 *		tap_vector_push(&points, point);
 *		tap_timeline_thin(&timeline, &points);
 *	}
 */

#include <stdbool.h>
#include <stddef.h>

#define TAP_TIMELINE_POINTS 400

struct tap_timeline {
	double interval_s;
	double tick_s; /* the interval at the start: how often the caller asks */
	double next_s; /* when the next point is due */
};

/* max(50 ms, duration / 200); 50 ms where the duration is not known (0). */
double tap_timeline_interval(double duration_s);

void tap_timeline_init(struct tap_timeline *timeline, double interval_s);

/* Is a point wanted at t_s (seconds since the start)? If so the next one is
 * due an interval later; one that was missed is not made up for. */
bool tap_timeline_is_due(struct tap_timeline *timeline, double t_s);

#define tap_timeline_thin(timeline, vec)                                                           \
	((vec)->count = tap_timeline_thin_items(                                                   \
		 (timeline), (vec)->items, (vec)->count, sizeof(*(vec)->items)))

/* What tap_timeline_thin() does; the new count. */
size_t tap_timeline_thin_items(
	struct tap_timeline *timeline, void *items, size_t count, size_t item_size);

#endif
