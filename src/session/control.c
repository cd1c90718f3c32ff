/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <time.h>
#include <x86intrin.h>
#include "heaptap/base/clock.h"
#include "heaptap/proc/tasks.h"
#include "session/sampler.h"

#define WINDOW_NS UINT64_C(20000000)
#define DEFAULT_OVERHEAD 0.05
/* Between two windows; more where so many samples came that some would have all
 * the same. */
#define RISE_MAX 8.0
#define KEEP_SAMPLES 4.0
#define SHARE_MAX 0.99
/* One answer that came late, on a machine that is busy, is no cost that a larger
 * interval would save: what counts is half a second and this window, both. */
#define SMOOTH_NS 500e6
/* Of what samples may take: how much is aimed at, so that it stays below when
 * the program allocates a little more. */
#define AIM 0.5
/* A few waits say little. */
#define SAMPLES_LEAST 16
#define LONG_WINDOW_NS 200e6
/* Samples that cost less than a quarter of what they may: the interval falls
 * again, by half at most, down to where every call is one. */
#define FALL_BELOW 0.25
#define FALL_MAX 0.5
#define SMALLEST_INTERVAL 16.0
/* What is believed of the threads' waits at most, in times of what heaptap worked
 * for them: two switches between tasks are the rest. Where more threads run
 * than there are processors, each waits for its turn as well, and so may we;
 * the others use that time. */
#define WAITS_MAX 4

/* xorshift64*: gaps need not be hard to foresee. */
uint64_t control_random(uint64_t *random)
{
	uint64_t x = *random;

	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	*random = x;
	return x * UINT64_C(2685821657736338717);
}

int64_t control_draw(uint64_t *random, double interval_bytes)
{
	double gap;

	if (interval_bytes <= 0)
		return 0;
	gap = -interval_bytes * log(((double)(control_random(random) >> 11) + 0.5) * 0x1p-53);
	return gap < (double)TAP_PROBE_LARGEST_GAP ? (int64_t)gap : TAP_PROBE_LARGEST_GAP;
}

static uint64_t own_run_ns(void)
{
	struct timespec ran = {0, 0};

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ran);
	return (uint64_t)ran.tv_sec * UINT64_C(1000000000) + (uint64_t)ran.tv_nsec;
}

void control_begin_work(struct sampler *s)
{
	s->work_since_ns = own_run_ns();
}

void control_end_work(struct sampler *s)
{
	s->work_ns += own_run_ns() - s->work_since_ns;
}

static struct sampler_times now(const struct sampler *s)
{
	struct sampler_times now = {
		.ns = tap_clock_ns(),
		.ticks = __rdtsc(),
		.waited_ticks = atomic_load(&s->shared->waited_ticks),
		.work_ns = s->work_ns,
	};

	if (!tap_tasks_try_run_ns(s->rec->pid, &now.target_run_ns))
		now.target_run_ns = 0;
	return now;
}

/* What samples took of the target's time since then, and passes through the
 * probes: so many, of pass_ticks each. The target's time is what went by, or
 * where several of its threads run at once, what they ran. */
static void shares(const struct sampler *s, const struct sampler_times *since, double passes,
	double *fixed_ret, double *samples_ret)
{
	struct sampler_times until = now(s);
	double ns = fmax((double)(until.ns - since->ns), 1);
	double ticks_per_ns = (double)(until.ticks - since->ticks) / ns;
	double waited_ns = (double)(until.waited_ticks - since->waited_ticks) / ticks_per_ns;
	double work_ns = (double)(until.work_ns - since->work_ns);
	double ran_ns = (double)until.target_run_ns - (double)since->target_run_ns;

	waited_ns = fmin(waited_ns, WAITS_MAX * work_ns);
	ns = fmax(ns, ran_ns + waited_ns);
	*samples_ret = waited_ns / ns;
	*fixed_ret = passes * s->pass_ticks / ticks_per_ns / ns;
}

static void open_window(struct sampler *s)
{
	s->window.since = now(s);
	s->window.samples = 0;
	s->window.bytes = 0;
}

void control_begin(struct sampler *s)
{
	const struct tap_trace_options *options = s->rec->options;

	s->interval_bytes = options->exact ? 0 : (double)options->sample_bytes;
	s->pass_ticks = tap_probe_pass_ticks();
	open_window(s);
	s->began = s->window.since;
	s->began_ns = s->began.ns;
}

/* By how much larger an interval would have kept well within the budget. What the samples
 * took the program would have had for itself, and asked for memory in it. */
static double rise(double share, double budget, double samples)
{
	double taken = fmin(share, SHARE_MAX);

	budget *= AIM;
	return fmin(taken / (1 - taken) * (1 - budget) / budget,
		fmax(RISE_MAX, samples / KEEP_SAMPLES));
}

uint64_t control_waited_ns(const struct sampler *s)
{
	uint64_t ticks = __rdtsc() - s->began.ticks, ns = tap_clock_ns() - s->began.ns;
	uint64_t waited = atomic_load(&s->shared->waited_ticks) - s->began.waited_ticks;

	return s->began.ns && ticks ? (uint64_t)((double)waited * (double)ns / (double)ticks) : 0;
}

void control_adjust(struct sampler *s)
{
	const struct tap_trace_options *options = s->rec->options;
	double budget = options->overhead > 0 ? options->overhead : DEFAULT_OVERHEAD;
	double fixed, share, length_ns = (double)(tap_clock_ns() - s->window.since.ns);

	if (length_ns < WINDOW_NS ||
		(s->window.samples < SAMPLES_LEAST && length_ns < LONG_WINDOW_NS))
		return;
	shares(s, &s->window.since, 0, &fixed, &share);
	s->recent_share += (share - s->recent_share) * -expm1(-length_ns / SMOOTH_NS);
	if (!options->exact && !options->sample_bytes && share > budget &&
		s->recent_share > budget && s->window.samples > 0) {
		/* From every call on: as if each had asked for their mean. */
		double from = s->interval_bytes > 0 ? s->interval_bytes :
						      s->window.bytes / s->window.samples;

		s->interval_bytes = from * rise(share, budget, s->window.samples);
		s->changed_ns = s->window.since.ns;
	} else if (!options->exact && !options->sample_bytes && share < FALL_BELOW * budget &&
		s->recent_share < FALL_BELOW * budget &&
		(double)(tap_clock_ns() - s->changed_ns) >= SMOOTH_NS) {
		s->changed_ns = tap_clock_ns();
		s->interval_bytes *= fmax(s->recent_share / (AIM * budget), FALL_MAX);
		if (s->interval_bytes < SMALLEST_INTERVAL)
			s->interval_bytes = 0;
	}
	open_window(s);
}

void control_overhead(const struct sampler *s, double *fixed_ret, double *samples_ret)
{
	const struct tap_ledger_totals *totals = tap_ledger_totals(s->rec->ledger);

	/* Each block passes once when it comes and once when it goes. */
	shares(s, &s->began,
		totals->allocated_blocks + totals->freed_blocks + totals->unseen_freed_blocks,
		fixed_ret, samples_ret);
}
