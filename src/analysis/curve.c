/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <string.h>
#include "heaptap/analysis/trend.h"
#include "heaptap/base/alloc.h"
#include "heaptap/base/cleanup.h"
#include "curve.h"

#define P_RISING 0.01
#define BLOCKS 30
#define KEPT_SHARE 0.2
#define MIN_HEIGHTS 2

static double median_of(const double *values, size_t count)
{
	_cleanup_free_ double *copy = tap_alloc((count + 1) * sizeof(*copy));

	memcpy(copy, values, count * sizeof(*copy));
	return tap_trend_median(copy, count);
}

/* The window in 30 blocks, each its median: one sample that dips or spikes
 * does not count. */
static void find_blocks(const struct tap_curve *curve, double blocks[BLOCKS])
{
	for (size_t block = 0; block < BLOCKS; block++) {
		size_t start = block * curve->count / BLOCKS;
		size_t end = (block + 1) * curve->count / BLOCKS;

		blocks[block] = median_of(curve->values + start, end - start);
	}
}

static double deepest_fall(const double blocks[BLOCKS])
{
	double reached = -INFINITY, fall = 0;

	for (size_t block = 0; block < BLOCKS; block++) {
		reached = fmax(reached, blocks[block]);
		fall = fmax(fall, reached - blocks[block]);
	}
	return fall;
}

/*
 * What was never given back: the lower envelope seen from the end, the least
 * block from each on. Of a leak it rises in every third as the curve does,
 * ripples or not; of a sawtooth only after the last tooth has begun, though
 * with three teeth every third of the curve itself rises.
 */
static double kept_share(double blocks[BLOCKS], const double thirds[3], double window_s)
{
	double share = INFINITY;

	for (size_t block = BLOCKS - 1; block-- > 0;)
		blocks[block] = fmin(blocks[block], blocks[block + 1]);
	for (size_t third = 0; third < 3; third++) {
		size_t start = third * BLOCKS / 3, end = (third + 1) * BLOCKS / 3;
		double kept = blocks[end < BLOCKS ? end : BLOCKS - 1] - blocks[start];
		double rise = thirds[third] * window_s / 3;

		share = fmin(share, rise > 0 ? kept / rise : 0);
	}
	return share;
}

/* How many times a curve that stands still most of the time comes to a new
 * height: one step is enough to tilt the slope of a third that is level
 * otherwise. count for a curve that moves all the time. */
static size_t count_heights(const double *values, size_t count)
{
	double highest = count ? values[0] : 0;
	size_t heights = 0, moves = 0;

	for (size_t i = 1; i < count; i++) {
		moves += values[i] != values[i - 1];
		if (values[i] <= highest)
			continue;
		highest = values[i];
		heights++;
	}
	return moves > count / 2 ? count : heights;
}

static void measure_blocks(const struct tap_curve *curve, struct tap_curve_shape *ret)
{
	double blocks[BLOCKS];

	if (curve->count < BLOCKS)
		return;
	find_blocks(curve, blocks);
	ret->drawdown = deepest_fall(blocks);
	ret->kept = kept_share(blocks, ret->thirds, ret->window_s);
}

void tap_curve_measure(const struct tap_curve *curve, struct tap_curve_shape *ret)
{
	size_t count = curve->count, tenth = (count + 9) / 10, heights;

	*ret = (struct tap_curve_shape){.p_rising = 1};
	if (!count)
		return;
	ret->window_s = curve->times[count - 1] - curve->times[0];
	ret->level = median_of(curve->values, tenth);
	ret->net = median_of(curve->values + count - tenth, tenth) - ret->level;
	ret->slope = tap_trend_slope(curve->times, curve->values, count);
	ret->growth = ret->slope * ret->window_s;
	ret->heights = count;
	ret->p_rising = tap_trend_p_rising(curve->values, count);
	for (size_t third = 0; third < 3; third++) {
		size_t start = third * count / 3, end = (third + 1) * count / 3;

		/* One point in common, so that no rise between two is lost. */
		if (end < count)
			end++;
		ret->thirds[third] = tap_trend_slope(
			curve->times + start, curve->values + start, end - start);
		heights = count_heights(curve->values + start, end - start);
		if (heights < ret->heights)
			ret->heights = heights;
	}
	measure_blocks(curve, ret);
}

bool tap_curve_rises(const struct tap_curve_shape *shape)
{
	return shape->p_rising < P_RISING && (shape->slope > 0 || shape->net > 0);
}

bool tap_curve_is_steady(const struct tap_curve_shape *shape)
{
	double steepest = fmax(shape->thirds[0], fmax(shape->thirds[1], shape->thirds[2]));

	return shape->thirds[0] > 0 && shape->thirds[1] > 0 && shape->thirds[2] > 0 &&
	       shape->thirds[2] >= steepest / 2 && shape->kept >= KEPT_SHARE &&
	       shape->heights >= MIN_HEIGHTS;
}
