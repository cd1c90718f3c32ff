/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdlib.h>
#include "heaptap/base/alloc.h"
#include "heaptap/base/cleanup.h"
#include "heaptap/analysis/trend.h"

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void swap(double *a, double *b)
{
	double value = *a;

	*a = *b;
	*b = value;
}

/* Puts the value of that rank in its place, smaller ones in front (Hoare's
 * selection, the pivot from the middle: sorted input is the common one). */
static double select_rank(double *values, size_t count, size_t rank)
{
	size_t low = 0, high = count - 1;

	while (low < high) {
		double pivot = values[low + (high - low) / 2];
		size_t i = low, j = high;

		for (;;) {
			while (values[i] < pivot)
				i++;
			while (pivot < values[j])
				j--;
			if (i >= j)
				break;
			swap(&values[i++], &values[j--]);
		}
		/* Now [low, j] <= pivot <= [j + 1, high]. */
		if (rank <= j)
			high = j;
		else
			low = j + 1;
	}
	return values[rank];
}

double tap_trend_median(double *values, size_t count)
{
	double upper, lower;

	if (!count)
		return 0;
	upper = select_rank(values, count, count / 2);
	if (count % 2)
		return upper;
	lower = values[0];
	for (size_t i = 1; i < count / 2; i++)
		lower = fmax(lower, values[i]);
	return (lower + upper) / 2;
}

/* How many to step over so that at most TAP_TREND_POINTS are looked at. */
static size_t stride_of(size_t count)
{
	return (count + TAP_TREND_POINTS - 1) / TAP_TREND_POINTS;
}

/* What groups of equal values take from the variance. */
static double tie_term(const double *values, size_t count, size_t stride)
{
	_cleanup_free_ double *sorted = tap_alloc((count / stride + 1) * sizeof(*sorted));
	double term = 0;
	size_t n = 0;

	for (size_t i = 0; i < count; i += stride)
		sorted[n++] = values[i];
	qsort(sorted, n, sizeof(*sorted), ascending);
	for (size_t i = 0, end; i < n; i = end) {
		double t;

		for (end = i + 1; end < n && sorted[end] == sorted[i];)
			end++;
		t = (double)(end - i);
		term += t * (t - 1) * (2 * t + 5);
	}
	return term;
}

double tap_trend_p_rising(const double *values, size_t count)
{
	size_t stride = stride_of(count);
	double s = 0, n = 0, variance;

	if (count < 3)
		return 1;
	for (size_t i = 0; i < count; i += stride, n++)
		for (size_t j = i + stride; j < count; j += stride)
			s += (values[j] > values[i]) - (values[j] < values[i]);
	variance = (n * (n - 1) * (2 * n + 5) - tie_term(values, count, stride)) / 18;
	if (variance <= 0)
		return 1;
	/* One step towards 0: S is discrete, the normal distribution is not. */
	s -= (s > 0) - (s < 0);
	return 0.5 * erfc(s / sqrt(variance) / M_SQRT2);
}

double tap_trend_slope(const double *times, const double *values, size_t count)
{
	size_t stride = stride_of(count), n = 0, pairs = 0;
	_cleanup_free_ double *slopes = NULL;

	if (count < 2)
		return 0;
	n = (count + stride - 1) / stride;
	slopes = tap_alloc(n * (n - 1) / 2 * sizeof(*slopes) + sizeof(*slopes));
	for (size_t i = 0; i < count; i += stride)
		for (size_t j = i + stride; j < count; j += stride)
			if (times[j] > times[i])
				slopes[pairs++] = (values[j] - values[i]) / (times[j] - times[i]);
	return tap_trend_median(slopes, pairs);
}
