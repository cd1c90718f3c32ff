/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_ANALYSIS_CURVE_H
#define HEAPTAP_ANALYSIS_CURVE_H

/* The shape of a curve of memory over time: what the verdict is made of. */

#include <stdbool.h>
#include <stddef.h>

struct tap_curve {
	double *times; /* seconds, ascending */
	double *values;
	size_t count;
};

struct tap_curve_shape {
	double window_s;
	double level;     /* where it starts: the median of the first tenth */
	double slope;     /* Theil-Sen over all of it, per second */
	double growth;    /* slope times window */
	double net;       /* from the median of the first tenth to that of the last */
	double drawdown;  /* the deepest fall from what was reached before, spikes aside */
	double p_rising;  /* Mann-Kendall */
	double thirds[3]; /* Theil-Sen slopes */
	size_t heights;   /* new heights reached in a third, in the one with fewest */
	/* Of the rise, what the curve never falls below again, in the third that
	 * keeps least: about 1 for a straight rise, about 0 for a sawtooth. */
	double kept;
};

void tap_curve_measure(const struct tap_curve *curve, struct tap_curve_shape *ret);

/* Rises by the trend test, at all. */
bool tap_curve_rises(const struct tap_curve_shape *shape);
/* Every third rises in more than one step and keeps what it gained, the last
 * at least half as steeply as the steepest. */
bool tap_curve_is_steady(const struct tap_curve_shape *shape);

#endif
