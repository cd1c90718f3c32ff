/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_ANALYSIS_VERDICT_H
#define HEAPTAP_ANALYSIS_VERDICT_H

/*
 * When may heaptap say "leak"? A false alarm costs trust, a missed leak costs
 * the night. A trend test alone calls healthy curves climbing (warm-up always,
 * a high-water mark more often than not), so that more is asked of a leak:
 *
 *  1. at least 60 points;
 *  2. a rise by Mann-Kendall at p < 0.01; every third of the window rises
 *     (Theil-Sen) in more than one step, the last at least half as steeply as
 *     the steepest; and the rise is kept: the curve does not fall back behind
 *     it later (a sawtooth of three teeth rises in every third as well);
 *  3. growth of at least 1 MiB and at least 3 standard errors in the curve
 *     that decides; where that is RSS + swap alone, also at least 1 % of it;
 *  4. in a trace, a few sites explain at least half of the growth.
 *
 * The verdict is on RSS + swap. In a trace the curve of net live bytes (what
 * was allocated since the start less what was freed, older blocks included)
 * is the finer signal and decides: RSS comes in steps of an arena.
 *
 * What no window can tell: one tooth of a sawtooth that is longer than the
 * window is a leak for as long as it is seen. The reason names the window.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "heaptap/proc/cgroup.h"

#define TAP_VERDICT_MIN_POINTS 60

enum tap_verdict_state {
	/* Too few points, no allocator call seen, stopped for more than half of
	 * the time, or a steady rise that no few sites explain. */
	TAP_VERDICT_UNKNOWN,
	TAP_VERDICT_FLAT,    /* no rise worth the name, or one that falls back */
	TAP_VERDICT_WARMING, /* rose, but not throughout: flattening, or in a jump */
	TAP_VERDICT_LEAK,
};

/* Which curve decided. */
enum tap_verdict_signal {
	TAP_SIGNAL_NONE,
	TAP_SIGNAL_LIVE,
	TAP_SIGNAL_RSS,
};

struct tap_verdict_point {
	double t_s; /* since the start; ascending */
	double rss_bytes;
	double swap_bytes;
	double live_bytes; /* net of older blocks that were freed; NAN where not recorded */
};

struct tap_verdict_input {
	const struct tap_verdict_point *points;
	size_t count;
	double warmup_s;      /* points with t_s below are left out */
	double stopped_share; /* of the time that heaptap held the target still, 0 to 1 */
	double overhead;      /* share of the target's time that heaptap took, 0 to 1 */
	double live_standard_error_bytes; /* of the live curve's last value; 0: every call seen */
	/* Share of the live curve's growth that the few largest sites explain, 0
	 * to 1 and above; NAN where there are no sites (watch). */
	double explained_share;
	bool no_calls; /* a trace that saw no allocator call at all */
	/* As of struct tap_cgroup: tightest_bytes, free_bytes, kind. */
	uint64_t limit_bytes;
	uint64_t limit_free_bytes;
	enum tap_limit_kind limit_kind;
};

struct tap_verdict {
	enum tap_verdict_state state;
	char reason[256]; /* in words; names the window and the curve */
	enum tap_verdict_signal signal;
	double growth_bytes_per_s; /* of the curve that decided; negative where it falls */
	bool growth_known;
	uint64_t limit_bytes; /* UINT64_MAX where limit_kind is NONE */
	enum tap_limit_kind limit_kind;
	double time_to_limit_s; /* of a leak at its rate; < 0 where it cannot be said */
};

/* Values that are not finite and points out of order are left out. */
void tap_verdict_judge(const struct tap_verdict_input *input, struct tap_verdict *ret);

/* "unknown", "flat", "warming", "leak" */
const char *tap_verdict_state_name(enum tap_verdict_state state);
/* "live", "rss"; NULL for NONE */
const char *tap_verdict_signal_name(enum tap_verdict_signal signal);
/* "cgroup", "machine"; NULL for NONE */
const char *tap_limit_kind_name(enum tap_limit_kind kind);

#endif
