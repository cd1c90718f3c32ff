/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"
#include <math.h>
#include "heaptap/analysis/correlation.h"
#include "heaptap/analysis/timeline.h"
#include "heaptap/analysis/trend.h"
#include "heaptap/base/vector.h"

#define COUNT(array) (sizeof(array) / sizeof(*(array)))

static void the_median_of_any_order(void **state)
{
	uint32_t random = 7;

	(void)state;
	assert_true(tap_trend_median(NULL, 0) == 0);
	for (int round = 0; round < 2000; round++) {
		double values[15], median;
		size_t count = 1 + (size_t)round % COUNT(values), below = 0, above = 0;

		for (size_t i = 0; i < count; i++) {
			random = random * 1664525 + 1013904223;
			values[i] = random >> 29;
		}
		median = tap_trend_median(values, count);
		for (size_t i = 0; i < count; i++) {
			below += values[i] < median;
			above += values[i] > median;
		}
		assert_true(below <= count / 2 && above <= count / 2);
	}
}

/* S and its variance worked out by hand. */
static void mann_kendall_by_hand(void **state)
{
	static const double rising[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
	static const double falling[] = {5, 4, 3, 2, 1};
	static const double level[] = {3, 3, 3, 3};
	static const double tied[] = {1, 1, 2, 2};

	(void)state;
	/* S = 45, variance 125: z = 44 / sqrt(125) */
	assert_float_equal(tap_trend_p_rising(rising, COUNT(rising)),
		0.5 * erfc(44 / sqrt(125.0) / M_SQRT2), 1e-12);
	assert_true(tap_trend_p_rising(falling, COUNT(falling)) > 0.95);
	assert_true(tap_trend_p_rising(level, COUNT(level)) == 1);
	/* S = 4, variance (4*3*13 - 2 * 2*1*9) / 18 = 120 / 18 */
	assert_float_equal(tap_trend_p_rising(tied, COUNT(tied)),
		0.5 * erfc(3 / sqrt(120.0 / 18) / M_SQRT2), 1e-12);
	assert_true(tap_trend_p_rising(rising, 2) == 1);
}

static void theil_sen_shrugs_off_a_spike(void **state)
{
	double times[1000], values[1000];

	(void)state;
	for (size_t i = 0; i < COUNT(times); i++) {
		times[i] = (double)i * 0.5;
		values[i] = 3 * times[i] + 7;
	}
	values[40] = 1e12;
	assert_float_equal(tap_trend_slope(times, values, 100), 3, 1e-9);
	/* More than are looked at: thinned evenly. */
	assert_float_equal(tap_trend_slope(times, values, COUNT(times)), 3, 1e-9);
	assert_true(tap_trend_p_rising(values, COUNT(values)) < 1e-9);
	assert_true(tap_trend_slope(times, values, 1) == 0);
}

static void correlation_leaves_out_what_is_not_there(void **state)
{
	static const double x[] = {1, 2, NAN, 4, 5};
	static const double up[] = {1e12 + 2, 1e12 + 4, 5, 1e12 + 8, 1e12 + 10};
	static const double down[] = {-1, -2, 0, -4, -5};
	static const double level[] = {6, 6, 6, 6, 6};
	static const double mostly[] = {NAN, INFINITY, 1, NAN, 2};

	(void)state;
	assert_float_equal(tap_correlation(x, up, COUNT(x)), 1, 1e-9);
	assert_float_equal(tap_correlation(x, down, COUNT(x)), -1, 1e-9);
	assert_true(isnan(tap_correlation(x, level, COUNT(x))));
	assert_true(isnan(tap_correlation(x, mostly, COUNT(x))));
	assert_true(isnan(tap_correlation(x, up, 0)));
}

/* However long it runs there are 200 to 400 points, evenly spaced. */
static void a_timeline_stays_bounded(void **state)
{
	struct tap_timeline timeline;
	TAP_VECTOR(double) points = {0};

	(void)state;
	assert_float_equal(tap_timeline_interval(0), 0.05, 1e-12);
	assert_float_equal(tap_timeline_interval(10), 0.05, 1e-12);
	assert_float_equal(tap_timeline_interval(100), 0.5, 1e-12);
	tap_timeline_init(&timeline, 1);
	for (int tick = 0; tick < 20000; tick++) {
		if (!tap_timeline_is_due(&timeline, tick))
			continue;
		tap_vector_push(&points, (double)tick);
		tap_timeline_thin(&timeline, &points);
		assert_true(points.count < TAP_TIMELINE_POINTS);
	}
	assert_true(points.count >= TAP_TIMELINE_POINTS / 2);
	assert_true(points.items[0] == 0);
	for (size_t i = 1; i < points.count; i++)
		assert_float_equal(
			points.items[i] - points.items[i - 1], timeline.interval_s, 1e-9);
	tap_vector_free(&points);
}

/* After a pause (SIGSTOP, a suspended machine) no burst makes up for it. */
static void missed_points_are_not_made_up_for(void **state)
{
	struct tap_timeline timeline;

	(void)state;
	tap_timeline_init(&timeline, 1);
	assert_true(tap_timeline_is_due(&timeline, 0));
	assert_false(tap_timeline_is_due(&timeline, 0.5));
	assert_true(tap_timeline_is_due(&timeline, 0.99));
	assert_true(tap_timeline_is_due(&timeline, 100));
	assert_false(tap_timeline_is_due(&timeline, 100.5));
	assert_true(tap_timeline_is_due(&timeline, 101));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_median_of_any_order),
		cmocka_unit_test(mann_kendall_by_hand),
		cmocka_unit_test(theil_sen_shrugs_off_a_spike),
		cmocka_unit_test(correlation_leaves_out_what_is_not_there),
		cmocka_unit_test(a_timeline_stays_bounded),
		cmocka_unit_test(missed_points_are_not_made_up_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
