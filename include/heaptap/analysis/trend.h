/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_ANALYSIS_TREND_H
#define HEAPTAP_ANALYSIS_TREND_H

/*
 * Does a series rise, and how fast? Rank statistics, which a spike or a heavy
 * tail cannot lead astray. All of it is O(n^2): callers hand over at most a
 * few hundred points (TAP_TREND_POINTS; what is above is thinned out evenly).
 * Values and times must be finite, times ascending.
 */

#include <stddef.h>

#define TAP_TREND_POINTS 400

/* The Mann-Kendall test (Mann 1945, Kendall 1975) with the correction for
 * ties: the probability that values without a trend rise at least as much as
 * these. 1 where nothing can be said (fewer than 3 values, all equal). */
double tap_trend_p_rising(const double *values, size_t count);

/* The Theil-Sen estimator (Sen 1968): the median of the slopes of all pairs,
 * in value units per time unit. 0 where there is no pair. */
double tap_trend_slope(const double *times, const double *values, size_t count);

/* The median; changes the order of values. 0 where there are none. */
double tap_trend_median(double *values, size_t count);

#endif
