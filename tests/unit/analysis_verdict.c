/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "heaptap/analysis/verdict.h"

/*
 * The rule as a table: kinds of curve, how many runs of each (seeded), and
 * the rates that are promised. Curves rise by 64 MiB and more, so that the
 * thresholds of 1 MiB and 1 % hide nothing.
 */

#define COUNT(array) (sizeof(array) / sizeof(*(array)))
#define MIB (1024.0 * 1024)
#define POINTS_MAX 400
#define INTERVAL_S 0.05

static uint64_t seed;

/* 0 < x < 1 (splitmix64). */
static double uniform(void)
{
	uint64_t x = seed += 0x9e3779b97f4a7c15;

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
	x = (x ^ x >> 27) * 0x94d049bb133111eb;
	return ((double)((x ^ x >> 31) >> 11) + 0.5) / 9007199254740992.0;
}

static double gauss(void)
{
	return sqrt(-2 * log(uniform())) * cos(2 * M_PI * uniform());
}

/* Fills count values of which the curve's size is 1. */
typedef void (*make_curve)(double *values, size_t count, double a, double b);

/* a: noise */
static void linear(double *values, size_t count, double a, double b)
{
	(void)b;
	for (size_t i = 0; i < count; i++)
		values[i] = (double)i / (double)count + a * gauss();
}

/* a: number of steps */
static void stepped(double *values, size_t count, double a, double b)
{
	double phase = uniform();

	(void)b;
	for (size_t i = 0; i < count; i++)
		values[i] = floor((double)i / (double)count * a + phase) / a;
}

/* A leak with ripples, as a cyclic collector makes them. a: their height,
 * b: their number */
static void rippled(double *values, size_t count, double a, double b)
{
	double phase = uniform();

	for (size_t i = 0; i < count; i++)
		values[i] = (double)i / (double)count +
			    a * fmod(b * (double)i / (double)count + phase, 1) + 0.01 * gauss();
}

/* a: teeth, b: phase of the first, or < 0 for any */
static void sawtooth(double *values, size_t count, double a, double b)
{
	double phase = b < 0 ? uniform() : b;

	for (size_t i = 0; i < count; i++)
		values[i] = fmod(a * (double)i / (double)count + phase, 1) + 0.01 * gauss();
}

/* a: time constant as a share of the window */
static void warming(double *values, size_t count, double a, double b)
{
	(void)b;
	for (size_t i = 0; i < count; i++)
		values[i] = 1 - exp(-(double)i / (a * (double)count)) + 0.01 * gauss();
}

/* RSS of a healthy allocator: the highest of a load that stays as it is. */
static void high_water(double *values, size_t count, double a, double b)
{
	double highest = 0;

	(void)a;
	(void)b;
	for (size_t i = 0; i < count; i++) {
		highest = fmax(highest, -log(uniform()));
		values[i] = highest;
	}
}

/* a: what is kept from one value to the next: 0 is noise, 1 a random walk */
static void drifting(double *values, size_t count, double a, double b)
{
	double value = 0;

	(void)b;
	for (size_t i = 0; i < count; i++) {
		value = a * value + gauss();
		values[i] = value;
	}
}

/* a: noise, b: width as a share; somewhere in the middle, ten high */
static void spike(double *values, size_t count, double a, double b)
{
	double start = 0.1 + uniform() * (0.8 - b);

	for (size_t i = 0; i < count; i++) {
		double at = (double)i / (double)count;

		values[i] = a * gauss() + (at >= start && at < start + b ? 10 : 0);
	}
}

/* A cache that is filled once. a: noise, b: when */
static void jump(double *values, size_t count, double a, double b)
{
	for (size_t i = 0; i < count; i++)
		values[i] = a * gauss() + ((double)i / (double)count >= b);
}

static struct tap_verdict_point points[POINTS_MAX];

static void lay(const double *values, size_t count, bool live)
{
	for (size_t i = 0; i < count; i++) {
		double grown = 64 * MIB * values[i];

		points[i] = (struct tap_verdict_point){.t_s = (double)i * INTERVAL_S,
			.rss_bytes = 1000 * MIB + (live ? 0 : grown),
			.live_bytes = live ? grown : NAN};
	}
}

static struct tap_verdict judge(size_t count)
{
	struct tap_verdict_input input = {.points = points,
		.count = count,
		.explained_share = NAN,
		.limit_bytes = UINT64_MAX};
	struct tap_verdict verdict;

	tap_verdict_judge(&input, &verdict);
	return verdict;
}

static const struct row {
	const char *name;
	make_curve make;
	double a, b;
	enum tap_verdict_state state;
	double at_least, at_most; /* share of the runs that end in this state */
} rows[] = {
	{"exact line", linear, 0, 0, TAP_VERDICT_LEAK, 1, 1},
	{"line, noise 3 %", linear, 0.03, 0, TAP_VERDICT_LEAK, 1, 1},
	{"line, noise 5 %", linear, 0.05, 0, TAP_VERDICT_LEAK, 1, 1},
	{"12 steps", stepped, 12, 0, TAP_VERDICT_LEAK, 1, 1},
	{"7 steps", stepped, 7, 0, TAP_VERDICT_LEAK, 1, 1},
	{"leak with 4 ripples", rippled, 0.2, 4, TAP_VERDICT_LEAK, 1, 1},
	{"leak with 10 ripples", rippled, 0.3, 10, TAP_VERDICT_LEAK, 1, 1},
	{"leak with 20 ripples", rippled, 0.2, 20, TAP_VERDICT_LEAK, 1, 1},

	{"sawtooth, 3 teeth from 0", sawtooth, 3, 0, TAP_VERDICT_FLAT, 1, 1},
	{"sawtooth, 3 teeth", sawtooth, 3, -1, TAP_VERDICT_FLAT, 0.9, 1},
	{"sawtooth, 3 teeth", sawtooth, 3, -1, TAP_VERDICT_LEAK, 0, 0},
	{"sawtooth, 4.6 teeth", sawtooth, 4.6, -1, TAP_VERDICT_FLAT, 1, 1},
	{"sawtooth, 9 teeth", sawtooth, 9, -1, TAP_VERDICT_FLAT, 1, 1},
	{"sawtooth, 17 teeth", sawtooth, 17, -1, TAP_VERDICT_FLAT, 1, 1},
	/* Within one tooth nothing can tell; said in the header. */
	{"sawtooth, half a tooth", sawtooth, 0.5, 0.2, TAP_VERDICT_LEAK, 1, 1},

	{"warm-up", warming, 0.2, 0, TAP_VERDICT_WARMING, 1, 1},
	{"slow warm-up", warming, 0.5, 0, TAP_VERDICT_WARMING, 1, 1},
	{"high-water mark", high_water, 0, 0, TAP_VERDICT_LEAK, 0, 0.01},
	{"random walk", drifting, 1, 0, TAP_VERDICT_LEAK, 0, 0.10},
	{"AR(1) 0.9", drifting, 0.9, 0, TAP_VERDICT_LEAK, 0, 0.02},
	{"noise", drifting, 0, 0, TAP_VERDICT_LEAK, 0, 0},
	{"noise", drifting, 0, 0, TAP_VERDICT_FLAT, 0.97, 1},
	{"one spike", spike, 0.1, 0.05, TAP_VERDICT_LEAK, 0, 0},
	{"one spike", spike, 0.1, 0.05, TAP_VERDICT_FLAT, 0.97, 1},
	{"one wide spike", spike, 0.1, 0.3, TAP_VERDICT_LEAK, 0, 0},
	{"a jump", jump, 0.02, 0.4, TAP_VERDICT_WARMING, 0.97, 1},
	{"an early jump", jump, 0.02, 0.15, TAP_VERDICT_LEAK, 0, 0},
};

static double share_of(const struct row *row, size_t count, bool live)
{
	size_t runs = count > 200 ? 30 : count > 60 ? 100 : 200, hits = 0;
	double values[POINTS_MAX];

	for (size_t run = 0; run < runs; run++) {
		seed = run * 1000003 + count;
		row->make(values, count, row->a, row->b);
		lay(values, count, live);
		hits += judge(count).state == row->state;
	}
	return (double)hits / (double)runs;
}

static void check_rates(size_t count, bool live)
{
	for (size_t i = 0; i < COUNT(rows); i++) {
		const struct row *row = &rows[i];
		double share = share_of(row, count, live);

		if (share < row->at_least || share > row->at_most)
			fail_msg("%s, %zu points: %s in %.1f %% of the runs, not in %.0f to %.0f %%",
				row->name, count, tap_verdict_state_name(row->state), 100 * share,
				100 * row->at_least, 100 * row->at_most);
	}
}

static void rates_at_60_points(void **state)
{
	(void)state;
	check_rates(60, false);
}

static void rates_at_200_points(void **state)
{
	(void)state;
	check_rates(200, true);
}

static void rates_at_400_points(void **state)
{
	(void)state;
	check_rates(400, false);
}

/* Points of a curve that all judgements below share: a clear leak of 64 MiB
 * in live bytes, in 200 points over 10 s. */
static struct tap_verdict_input clear_leak(void)
{
	double values[200];

	seed = 1;
	linear(values, COUNT(values), 0.02, 0);
	lay(values, COUNT(values), true);
	for (size_t i = 0; i < COUNT(values); i++)
		points[i].rss_bytes += points[i].live_bytes;
	return (struct tap_verdict_input){.points = points,
		.count = COUNT(values),
		.explained_share = 0.9,
		.limit_bytes = (uint64_t)(4096 * MIB),
		.limit_free_bytes = (uint64_t)(640 * MIB),
		.limit_kind = TAP_LIMIT_CGROUP};
}

#define assert_verdict(input, wanted, words)                                                       \
	do {                                                                                       \
		struct tap_verdict verdict_;                                                       \
		tap_verdict_judge(input, &verdict_);                                               \
		if (verdict_.state != (wanted) || !strstr(verdict_.reason, words))                 \
			fail_msg("line %d: %s: %s", __LINE__,                                      \
				tap_verdict_state_name(verdict_.state), verdict_.reason);          \
	} while (0)

static void a_leak_names_its_pace_and_its_end(void **state)
{
	struct tap_verdict_input input = clear_leak();
	struct tap_verdict verdict;

	(void)state;
	tap_verdict_judge(&input, &verdict);
	assert_int_equal(verdict.state, TAP_VERDICT_LEAK);
	assert_int_equal(verdict.signal, TAP_SIGNAL_LIVE);
	assert_true(verdict.growth_known);
	assert_true(fabs(verdict.growth_bytes_per_s / (6.4 * MIB) - 1) < 0.03);
	assert_true(fabs(verdict.time_to_limit_s / 100 - 1) < 0.03);
	assert_int_equal(verdict.limit_kind, TAP_LIMIT_CGROUP);
	assert_non_null(strstr(verdict.reason, "over the 10"));
	assert_non_null(strstr(verdict.reason, "90 %"));
	/* A slowed target leaks slower. */
	input.overhead = 0.3;
	tap_verdict_judge(&input, &verdict);
	assert_int_equal(verdict.state, TAP_VERDICT_LEAK);
	assert_true(verdict.time_to_limit_s < 0);
	input.overhead = 0;
	input.limit_kind = TAP_LIMIT_NONE;
	tap_verdict_judge(&input, &verdict);
	assert_true(verdict.time_to_limit_s < 0);
}

static void what_cannot_be_known_is_unknown(void **state)
{
	struct tap_verdict_input input = clear_leak();
	struct tap_verdict verdict;

	(void)state;
	input.count = 59;
	assert_verdict(&input, TAP_VERDICT_UNKNOWN, "59 points over the 2.9");
	input.count = 0;
	assert_verdict(&input, TAP_VERDICT_UNKNOWN, "no memory curve");
	tap_verdict_judge(&input, &verdict);
	assert_false(verdict.growth_known);
	assert_int_equal(verdict.signal, TAP_SIGNAL_NONE);
	input = clear_leak();
	input.warmup_s = 7.5;
	assert_verdict(&input, TAP_VERDICT_UNKNOWN, "50 points");
	input = clear_leak();
	input.stopped_share = 0.51;
	assert_verdict(&input, TAP_VERDICT_UNKNOWN, "held still for 51 %");
	input = clear_leak();
	input.explained_share = 0.3;
	assert_verdict(&input, TAP_VERDICT_UNKNOWN, "only 30 %");
}

/* No call was seen: no word on live bytes, and never "flat". */
static void a_trace_without_calls_is_never_flat(void **state)
{
	struct tap_verdict_input input = clear_leak();

	(void)state;
	for (size_t i = 0; i < input.count; i++) {
		points[i].live_bytes = 0;
		points[i].rss_bytes = 1000 * MIB;
	}
	input.no_calls = true;
	assert_verdict(&input, TAP_VERDICT_UNKNOWN, "no allocator call was seen over the 10");
}

static void small_growth_is_flat_with_its_figure(void **state)
{
	struct tap_verdict_input input = clear_leak();
	double growth = 0.5 * MIB;

	(void)state;
	for (size_t i = 0; i < input.count; i++)
		points[i].live_bytes = growth * (double)i / (double)input.count;
	for (size_t i = 0; i < input.count; i++)
		points[i].rss_bytes = 1000 * MIB;
	assert_verdict(&input, TAP_VERDICT_FLAT, "rose by only 509 KiB");
	/* Growth within the error of sampling. */
	input = clear_leak();
	for (size_t i = 0; i < input.count; i++)
		points[i].rss_bytes = 1000 * MIB;
	input.live_standard_error_bytes = 22 * MIB;
	assert_verdict(&input, TAP_VERDICT_FLAT, "error of sampling");
	input.live_standard_error_bytes = 20 * MIB;
	assert_verdict(&input, TAP_VERDICT_LEAK, "");
	/* RSS alone: less than 1 % of it. */
	for (size_t i = 0; i < input.count; i++) {
		points[i].live_bytes = NAN;
		points[i].rss_bytes = 1000 * MIB + 8 * MIB * (double)i / (double)input.count;
	}
	input.explained_share = NAN;
	assert_verdict(&input, TAP_VERDICT_FLAT, "RSS + swap: rose by only 8.0 MiB");
}

/* Under a memory limit RSS stands still and swap climbs. */
static void swap_under_a_limit_counts(void **state)
{
	struct tap_verdict_input input = clear_leak();
	double values[200];

	(void)state;
	seed = 5;
	linear(values, COUNT(values), 0.03, 0);
	for (size_t i = 0; i < COUNT(values); i++)
		points[i] = (struct tap_verdict_point){.t_s = points[i].t_s,
			.rss_bytes = 256 * MIB,
			.swap_bytes = 64 * MIB * (1 + values[i]),
			.live_bytes = NAN};
	input.explained_share = NAN;
	assert_verdict(&input, TAP_VERDICT_LEAK, "RSS + swap");
}

/* RSS comes in steps of an arena; live bytes are what decides. */
static void live_bytes_decide_where_they_are_there(void **state)
{
	struct tap_verdict_input input = clear_leak();
	struct tap_verdict verdict;

	(void)state;
	for (size_t i = 0; i < input.count; i++)
		points[i].rss_bytes = 1000 * MIB;
	assert_verdict(&input, TAP_VERDICT_LEAK, "live bytes");
	/* A full deque: each block takes the place of an older one. */
	for (size_t i = 0; i < input.count; i++)
		points[i].live_bytes = 4096 * gauss();
	assert_verdict(&input, TAP_VERDICT_FLAT, "live bytes");
	/* But memory that no traced allocator hands out is not called flat. */
	for (size_t i = 0; i < input.count; i++)
		points[i].rss_bytes += (double)i * MIB;
	assert_verdict(&input, TAP_VERDICT_UNKNOWN, "RSS + swap climbs");
	tap_verdict_judge(&input, &verdict);
	assert_int_equal(verdict.signal, TAP_SIGNAL_RSS);
}

/* 200 KB/s over 10 s, as a web worker leaks it, on top of what its requests
 * allocate and free. */
static void a_small_steady_leak_is_found(void **state)
{
	struct tap_verdict_input input = clear_leak();
	double values[200];

	(void)state;
	for (int run = 0; run < 50; run++) {
		seed = (uint64_t)run;
		rippled(values, COUNT(values), 0.15, 3 + run % 20);
		for (size_t i = 0; i < COUNT(values); i++) {
			points[i].rss_bytes = 50 * MIB + floor(values[i] * 2) * MIB;
			points[i].live_bytes = 2e6 * values[i];
		}
		assert_verdict(&input, TAP_VERDICT_LEAK, "live bytes");
	}
}

static void garbage_is_survived(void **state)
{
	static const double odd[] = {NAN, INFINITY, -INFINITY, 1e308, -1e308, 0};
	struct tap_verdict_input input = clear_leak();
	struct tap_verdict verdict;

	(void)state;
	seed = 3;
	for (int round = 0; round < 200; round++) {
		for (size_t i = 0; i < input.count; i++) {
			points[i].t_s = odd[(size_t)(uniform() * COUNT(odd))];
			if (uniform() < 0.8)
				points[i].t_s = (double)i;
			points[i].rss_bytes = odd[(size_t)(uniform() * COUNT(odd))];
			points[i].live_bytes = odd[(size_t)(uniform() * COUNT(odd))];
		}
		tap_verdict_judge(&input, &verdict);
		assert_true(strlen(verdict.reason) > 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rates_at_60_points),
		cmocka_unit_test(rates_at_200_points),
		cmocka_unit_test(rates_at_400_points),
		cmocka_unit_test(a_leak_names_its_pace_and_its_end),
		cmocka_unit_test(what_cannot_be_known_is_unknown),
		cmocka_unit_test(a_trace_without_calls_is_never_flat),
		cmocka_unit_test(small_growth_is_flat_with_its_figure),
		cmocka_unit_test(swap_under_a_limit_counts),
		cmocka_unit_test(live_bytes_decide_where_they_are_there),
		cmocka_unit_test(a_small_steady_leak_is_found),
		cmocka_unit_test(garbage_is_survived),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
