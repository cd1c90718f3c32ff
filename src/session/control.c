/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <string.h>
#include <x86intrin.h>
#include "heaptap/base/clock.h"
#include "session/sampler.h"

#define WINDOW_NS UINT64_C(20000000)
#define DEFAULT_OVERHEAD 0.05
#define RISE_MAX 8.0
/* One answer that came late, on a machine that is busy, is no cost that a larger
 * interval would save: what counts is half a second and this window, both. */
#define SMOOTH_NS 500e6
#define NS_PER_S 1e9

/* xorshift64*: gaps need not be hard to foresee. */
static double draw(struct sampler *s)
{
	uint64_t x = s->random;

	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	s->random = x;
	return ((double)((x * UINT64_C(2685821657736338717)) >> 11) + 0.5) * 0x1p-53;
}

int64_t control_draw(struct sampler *s, double interval_bytes)
{
	double gap;

	if (interval_bytes <= 0)
		return 0;
	gap = -interval_bytes * log(draw(s));
	return gap < (double)TAP_PROBE_LARGEST_GAP ? (int64_t)gap : TAP_PROBE_LARGEST_GAP;
}

static void open_window(struct sampler *s)
{
	s->window.since_ns = tap_clock_ns();
	s->window.ticks = __rdtsc();
	s->window.waited_ticks = atomic_load(&s->shared->waited_ticks);
	s->window.samples = 0;
	s->window.bytes = 0;
}

void control_begin(struct sampler *s)
{
	const struct tap_trace_options *options = s->rec->options;

	s->interval_bytes = options->exact ? 0 : (double)options->sample_bytes;
	s->pass_ticks = tap_probe_pass_ticks();
	open_window(s);
	s->began_ns = s->window.since_ns;
	s->began_ticks = s->window.ticks;
}

void control_adjust(struct sampler *s)
{
	const struct tap_trace_options *options = s->rec->options;
	double budget = options->overhead > 0 ? options->overhead : DEFAULT_OVERHEAD;
	uint64_t waited = atomic_load(&s->shared->waited_ticks) - s->window.waited_ticks;
	uint64_t ticks = __rdtsc() - s->window.ticks;
	uint64_t length_ns = tap_clock_ns() - s->window.since_ns;
	double share = ticks ? (double)waited / (double)ticks : 0;

	if (length_ns < WINDOW_NS)
		return;
	s->recent_share += (share - s->recent_share) * -expm1(-(double)length_ns / SMOOTH_NS);
	if (!options->exact && !options->sample_bytes && share > budget &&
		s->recent_share > budget && s->window.samples > 0) {
		double rise = fmin(share / budget, RISE_MAX);
		/* From every call on: as many bytes as would have made fewer
		 * samples by as much as the cost is too high. */
		double from = s->interval_bytes > 0 ? s->interval_bytes :
						      s->window.bytes / s->window.samples;

		s->interval_bytes = from * rise;
	}
	open_window(s);
}

void control_overhead(const struct sampler *s, double *fixed_ret, double *samples_ret)
{
	const struct tap_ledger_totals *totals = tap_ledger_totals(s->rec->ledger);
	double ticks = (double)(__rdtsc() - s->began_ticks);
	/* Each block passes once when it comes and once when it goes. */
	double passes = totals->allocated_blocks + totals->freed_blocks + totals->unseen_freed_blocks;

	*samples_ret = (double)atomic_load(&s->shared->waited_ticks) / ticks;
	*fixed_ret = passes * s->pass_ticks / ticks;
}
