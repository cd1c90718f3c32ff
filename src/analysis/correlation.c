/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include "heaptap/analysis/correlation.h"

/* Two passes: series with a large mean (gigabytes that vary by kilobytes)
 * lose all figures in the one-pass formula. */
double tap_correlation(const double *x, const double *y, size_t count)
{
	double mean_x = 0, mean_y = 0, xx = 0, yy = 0, xy = 0, r;
	size_t pairs = 0;

	for (size_t i = 0; i < count; i++) {
		if (!isfinite(x[i]) || !isfinite(y[i]))
			continue;
		pairs++;
		mean_x += (x[i] - mean_x) / (double)pairs;
		mean_y += (y[i] - mean_y) / (double)pairs;
	}
	if (pairs < 3)
		return NAN;
	for (size_t i = 0; i < count; i++) {
		double dx = x[i] - mean_x, dy = y[i] - mean_y;

		if (!isfinite(x[i]) || !isfinite(y[i]))
			continue;
		xx += dx * dx;
		yy += dy * dy;
		xy += dx * dy;
	}
	r = xy / (sqrt(xx) * sqrt(yy));
	return isfinite(r) ? fmax(-1, fmin(1, r)) : NAN;
}
