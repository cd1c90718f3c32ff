/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "heaptap/analysis/verdict.h"
#include "heaptap/base/alloc.h"
#include "heaptap/base/text.h"
#include "curve.h"

#define MIN_GROWTH_BYTES (1024.0 * 1024)
#define MIN_GROWTH_ERRORS 3.0
#define MIN_GROWTH_RSS_SHARE 0.01
#define MIN_EXPLAINED_SHARE 0.5
#define MAX_STOPPED_SHARE 0.5
#define MAX_OVERHEAD 0.2
/* A slope from fewer points is no figure to print. */
#define RATE_POINTS 10

/* A curve on its way to the verdict. */
struct subject {
	enum tap_verdict_signal signal;
	struct tap_curve curve;
	struct tap_curve_shape shape;
	double error_bytes;    /* standard error of its growth */
	double min_growth;     /* 1 MiB, or more */
	char window[TAP_SIZE_TEXT];
};

static const char *name_of(const struct subject *subject)
{
	return subject->signal == TAP_SIGNAL_LIVE ? "live bytes" : "RSS + swap";
}

static char *bytes(char buf[TAP_SIZE_TEXT], double value)
{
	return tap_text_size(buf, (int64_t)fmax(-9e18, fmin(9e18, value)));
}

/* With its sign, for what may be a fall as well. */
static char *change(char buf[TAP_SIZE_TEXT], double value)
{
	char text[TAP_SIZE_TEXT];

	snprintf(buf, TAP_SIZE_TEXT, "%s%.30s", value >= 0 ? "+" : "", bytes(text, value));
	return buf;
}

__attribute__((format(printf, 3, 4))) static void decide(
	struct tap_verdict *ret, enum tap_verdict_state state, const char *format, ...)
{
	va_list args;

	ret->state = state;
	va_start(args, format);
	vsnprintf(ret->reason, sizeof(ret->reason), format, args);
	va_end(args);
}

static double value_of(const struct tap_verdict_point *point, enum tap_verdict_signal signal)
{
	return signal == TAP_SIGNAL_LIVE ? point->live_bytes :
					   point->rss_bytes + point->swap_bytes;
}

static void load(const struct tap_verdict_input *input, enum tap_verdict_signal signal,
	struct subject *ret)
{
	struct tap_curve *curve = &ret->curve;
	double last = -INFINITY;

	*ret = (struct subject){.signal = signal};
	curve->times = tap_alloc((input->count + 1) * sizeof(*curve->times));
	curve->values = tap_alloc((input->count + 1) * sizeof(*curve->values));
	for (size_t i = 0; i < input->count; i++) {
		const struct tap_verdict_point *point = &input->points[i];
		double value = value_of(point, signal);

		if (!isfinite(value) || !isfinite(point->t_s) || point->t_s <= last ||
			point->t_s < input->warmup_s)
			continue;
		last = point->t_s;
		curve->times[curve->count] = last;
		curve->values[curve->count++] = value;
	}
	tap_curve_measure(curve, &ret->shape);
	if (signal == TAP_SIGNAL_LIVE && isfinite(input->live_standard_error_bytes))
		ret->error_bytes = input->live_standard_error_bytes;
	ret->min_growth = MIN_GROWTH_BYTES;
	if (signal == TAP_SIGNAL_RSS)
		ret->min_growth = fmax(ret->min_growth, MIN_GROWTH_RSS_SHARE * ret->shape.level);
	tap_text_duration(ret->window, ret->shape.window_s);
}

static void unload(struct subject *subject)
{
	free(subject->curve.times);
	free(subject->curve.values);
}

/* What a curve that rises rose by: along its slope where it is steady, else
 * from start to end (a single jump has no slope to speak of). */
static double amount_of(const struct subject *subject)
{
	const struct tap_curve_shape *shape = &subject->shape;

	return tap_curve_is_steady(shape) ? shape->growth : fmax(shape->growth, shape->net);
}

static bool is_too_small(const struct subject *subject)
{
	double amount = amount_of(subject);

	return amount < subject->min_growth || amount < MIN_GROWTH_ERRORS * subject->error_bytes;
}

static bool falls_back(const struct subject *subject)
{
	return !tap_curve_is_steady(&subject->shape) &&
	       subject->shape.drawdown >= amount_of(subject) / 2;
}

/* Rules 1 to 3: the state that the curve alone speaks for. */
static enum tap_verdict_state state_of(const struct subject *subject)
{
	if (subject->curve.count < TAP_VERDICT_MIN_POINTS)
		return TAP_VERDICT_UNKNOWN;
	if (!tap_curve_rises(&subject->shape) || is_too_small(subject) || falls_back(subject))
		return TAP_VERDICT_FLAT;
	return tap_curve_is_steady(&subject->shape) ? TAP_VERDICT_LEAK : TAP_VERDICT_WARMING;
}

static void say_flat(const struct subject *subject, struct tap_verdict *ret)
{
	char grown[TAP_SIZE_TEXT], limit[TAP_SIZE_TEXT];
	double amount = amount_of(subject);

	if (!tap_curve_rises(&subject->shape))
		decide(ret, TAP_VERDICT_FLAT, "%s: no rise over the %s seen (%s)",
			name_of(subject), subject->window, change(grown, subject->shape.net));
	else if (amount < subject->min_growth)
		decide(ret, TAP_VERDICT_FLAT,
			"%s: rose by only %s over the %s seen, less than the %s that counts",
			name_of(subject), bytes(grown, amount), subject->window,
			bytes(limit, subject->min_growth));
	else if (is_too_small(subject))
		decide(ret, TAP_VERDICT_FLAT,
			"%s: rose by %s over the %s seen, within the error of sampling (3 x %s)",
			name_of(subject), bytes(grown, amount), subject->window,
			bytes(limit, subject->error_bytes));
	else
		decide(ret, TAP_VERDICT_FLAT, "%s: rises and falls back over the %s seen (%s)",
			name_of(subject), subject->window, change(grown, subject->shape.net));
}

static void say_warming(const struct subject *subject, struct tap_verdict *ret)
{
	const double *thirds = subject->shape.thirds;
	double steepest = fmax(thirds[0], fmax(thirds[1], thirds[2]));
	char grown[TAP_SIZE_TEXT];

	bytes(grown, amount_of(subject));
	if (steepest > 0 && thirds[2] < steepest / 2)
		decide(ret, TAP_VERDICT_WARMING,
			"%s: rose by %s over the %s seen, but the rise flattens (last third: %.0f %% "
			"of the steepest)",
			name_of(subject), grown, subject->window,
			100 * fmax(0, thirds[2]) / steepest);
	else
		decide(ret, TAP_VERDICT_WARMING,
			"%s: rose by %s over the %s seen, but not in every part of it",
			name_of(subject), grown, subject->window);
}

static void say_leak(const struct tap_verdict_input *input, const struct subject *subject,
	struct tap_verdict *ret)
{
	char grown[TAP_SIZE_TEXT], rate[TAP_SIZE_TEXT], sites[80] = "";
	bool known = isfinite(input->explained_share);
	double percent = fmax(0, fmin(100, 100 * input->explained_share));

	bytes(grown, subject->shape.growth);
	bytes(rate, subject->shape.slope);
	/* Rule 4. A steady rise is neither flat nor warming, whoever makes it. */
	if (known && input->explained_share < MIN_EXPLAINED_SHARE) {
		decide(ret, TAP_VERDICT_UNKNOWN,
			"%s: climbs steadily over the %s seen, by %s (%s/s), but the largest sites "
			"explain only %.0f %% of it",
			name_of(subject), subject->window, grown, rate, percent);
		return;
	}
	if (known)
		snprintf(sites, sizeof(sites), "; the largest sites explain %.0f %% of it",
			percent);
	decide(ret, TAP_VERDICT_LEAK, "%s: climbs steadily over the %s seen, by %s (%s/s)%s",
		name_of(subject), subject->window, grown, rate, sites);
}

static void say_unknown(const struct subject *subject, struct tap_verdict *ret)
{
	if (!subject->curve.count)
		decide(ret, TAP_VERDICT_UNKNOWN, "no memory curve was recorded");
	else
		decide(ret, TAP_VERDICT_UNKNOWN,
			"%s: %zu points over the %s seen are too few, %d are needed",
			name_of(subject), subject->curve.count, subject->window,
			TAP_VERDICT_MIN_POINTS);
}

/* What the trace cannot see may still leak: live bytes that stay say nothing
 * of memory that comes from somewhere else. */
static bool climbs_unseen(const struct subject *live, const struct subject *rss)
{
	return live->signal == TAP_SIGNAL_LIVE && state_of(live) == TAP_VERDICT_FLAT &&
	       state_of(rss) == TAP_VERDICT_LEAK;
}

static void set_rate(const struct subject *deciding, struct tap_verdict *ret)
{
	if (deciding->curve.count < RATE_POINTS)
		return;
	ret->signal = deciding->signal;
	ret->growth_known = true;
	ret->growth_bytes_per_s = deciding->shape.slope;
}

static void judge_curve(const struct tap_verdict_input *input, const struct subject *deciding,
	const struct subject *rss, struct tap_verdict *ret)
{
	char grown[TAP_SIZE_TEXT];

	if (climbs_unseen(deciding, rss)) {
		set_rate(rss, ret);
		decide(ret, TAP_VERDICT_UNKNOWN,
			"live bytes stay flat over the %s seen, but RSS + swap climbs by %s: memory "
			"from elsewhere, fragmentation, or old memory touched anew",
			rss->window, bytes(grown, rss->shape.growth));
		return;
	}
	switch (state_of(deciding)) {
	case TAP_VERDICT_UNKNOWN:
		say_unknown(deciding, ret);
		break;
	case TAP_VERDICT_FLAT:
		say_flat(deciding, ret);
		break;
	case TAP_VERDICT_WARMING:
		say_warming(deciding, ret);
		break;
	case TAP_VERDICT_LEAK:
		say_leak(input, deciding, ret);
		break;
	}
}

static void set_limit(const struct tap_verdict_input *input, struct tap_verdict *ret)
{
	ret->limit_kind = input->limit_kind;
	ret->limit_bytes = input->limit_kind == TAP_LIMIT_NONE ? UINT64_MAX : input->limit_bytes;
	ret->time_to_limit_s = -1;
	/* A target that heaptap slows down leaks more slowly than it will. */
	if (ret->state != TAP_VERDICT_LEAK || input->limit_kind == TAP_LIMIT_NONE ||
		!(input->overhead <= MAX_OVERHEAD) || ret->growth_bytes_per_s <= 0)
		return;
	ret->time_to_limit_s = (double)input->limit_free_bytes / ret->growth_bytes_per_s;
}

void tap_verdict_judge(const struct tap_verdict_input *input, struct tap_verdict *ret)
{
	struct subject live, rss, *deciding;
	char grown[TAP_SIZE_TEXT];

	*ret = (struct tap_verdict){.state = TAP_VERDICT_UNKNOWN};
	load(input, TAP_SIGNAL_LIVE, &live);
	load(input, TAP_SIGNAL_RSS, &rss);
	/* Live bytes of a trace that saw no call are a flat line of zeros. */
	deciding = !input->no_calls && live.curve.count &&
				(live.curve.count >= TAP_VERDICT_MIN_POINTS ||
					rss.curve.count < TAP_VERDICT_MIN_POINTS) ?
		&live :
		&rss;
	set_rate(deciding, ret);
	if (input->stopped_share > MAX_STOPPED_SHARE)
		decide(ret, TAP_VERDICT_UNKNOWN,
			"the process was held still for %.0f %% of the %s seen: a stopped process does "
			"not leak",
			100 * fmin(1, input->stopped_share), deciding->window);
	else if (input->no_calls)
		decide(ret, TAP_VERDICT_UNKNOWN,
			"no allocator call was seen over the %s seen (RSS + swap: %s)", rss.window,
			change(grown, rss.shape.net));
	else
		judge_curve(input, deciding, &rss, ret);
	set_limit(input, ret);
	unload(&live);
	unload(&rss);
}

const char *tap_verdict_state_name(enum tap_verdict_state state)
{
	static const char *const names[] = {
		[TAP_VERDICT_UNKNOWN] = "unknown",
		[TAP_VERDICT_FLAT] = "flat",
		[TAP_VERDICT_WARMING] = "warming",
		[TAP_VERDICT_LEAK] = "leak",
	};

	return names[state];
}

const char *tap_verdict_signal_name(enum tap_verdict_signal signal)
{
	static const char *const names[] = {
		[TAP_SIGNAL_NONE] = NULL,
		[TAP_SIGNAL_LIVE] = "live",
		[TAP_SIGNAL_RSS] = "rss",
	};

	return names[signal];
}

const char *tap_limit_kind_name(enum tap_limit_kind kind)
{
	static const char *const names[] = {
		[TAP_LIMIT_NONE] = NULL,
		[TAP_LIMIT_CGROUP] = "cgroup",
		[TAP_LIMIT_MACHINE] = "machine",
	};

	return names[kind];
}
