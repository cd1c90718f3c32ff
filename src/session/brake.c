/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include "heaptap/base/clock.h"
#include "session/sampler.h"

/*
 * What stops take of a thread's time is what heaptap works, on its CPU time's
 * word; what they leave to it is what it runs and sleeps. Time in which
 * either waits for a CPU that others have is nobody's: a machine that is busy
 * makes the same stops take longer, not matter more.
 */

/* Five windows in a row make more than a second. A program that was kept waiting
 * by the attach has made up for it by then. */
#define WINDOW_NS UINT64_C(250000000)
#define WINDOWS 5

/* Bound of what two switches between tasks are believed to cost: on one core
 * 4 to 8 us, between two up to 80. */
#define SWITCH_MAX_NS UINT64_C(80000)

/* A stop also costs the switch to the tracer and back, which nobody sees from
 * here. An entry point and its return are so close that the shortest time
 * between two stops is hardly more than that. */
static uint64_t switch_ns(const struct tap_target_stats *stats)
{
	return stats->least_away_ns < SWITCH_MAX_NS ? stats->least_away_ns : SWITCH_MAX_NS;
}

static uint64_t positive(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}

static uint64_t larger(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* Who waits in a probe beside breakpoints sleeps, but not in a call of its own. */
static uint64_t waited_ns(const struct recorder *rec)
{
	return rec->beside ? control_waited_ns(rec->beside) : 0;
}

static uint64_t waits(const struct recorder *rec)
{
	return rec->beside ? atomic_load(&rec->beside->shared->samples) : 0;
}

static void open_window(struct recorder *rec, const struct tap_tracee *tracee, unsigned over)
{
	struct tap_target_stats *stats = tap_target_stats(rec->target);
	struct brake_window *window = &rec->window;

	*window = (struct brake_window){
		.since_ns = tap_clock_ns(),
		.stops = stats->stops,
		.stopped_ns = stats->stopped_ns,
		.over = over,
		.waited_ns = waited_ns(rec),
		.waits = waits(rec),
	};
	window->known = tap_task_try_own_times(&window->tracer) &&
		tap_tasks_try_run_ns(rec->pid, &window->run_ns);
	if (tracee && tracee->tid == rec->busiest &&
		tap_task_try_times(rec->pid, tracee->tid, &window->thread)) {
		window->busiest = tracee->tid;
		window->busiest_stops = tracee->stops;
	}
	stats->least_away_ns = UINT64_MAX;
}

static void keep_held(struct recorder *rec)
{
	const struct tap_target_stats *stats = tap_target_stats(rec->target);

	rec->held_ns += stats->stopped_ns - rec->window.stopped_ns +
		(stats->stops - rec->window.stops) * switch_ns(stats);
}

/* The one busy thread's own time: on a CPU, and asleep in calls of its own,
 * which are the sleeps that are no stops. */
static uint64_t own_of_thread(const struct recorder *rec, const struct tap_task_times *thread,
	uint64_t stops, uint64_t length_ns)
{
	const struct tap_target_stats *stats = tap_target_stats(rec->target);
	const struct tap_task_times *before = &rec->window.thread;
	uint64_t run_ns = thread->run_ns - before->run_ns, away_ns;

	if (thread->sleeps - before->sleeps <= stops + waits(rec) - rec->window.waits)
		return run_ns;
	away_ns = positive(length_ns, stats->stopped_ns - rec->window.stopped_ns);
	return run_ns +
		positive(away_ns,
			thread->wait_ns - before->wait_ns +
				larger(run_ns, stops * switch_ns(stats)));
}

/* Of the window that ends here, at a hit: did stops take more than half? */
static bool is_over_half(struct recorder *rec, const struct tap_tracee *tracee)
{
	const struct brake_window *window = &rec->window;
	uint64_t length_ns = tap_clock_ns() - window->since_ns, run_ns, work_ns, own_ns;
	struct tap_task_times tracer, thread;

	length_ns = positive(length_ns, positive(waited_ns(rec), window->waited_ns));
	if (!window->known || !tap_task_try_own_times(&tracer) ||
		!tap_tasks_try_run_ns(rec->pid, &run_ns))
		return (tap_target_stats(rec->target)->stopped_ns - window->stopped_ns) * 2 > length_ns;
	work_ns = tracer.run_ns - window->tracer.run_ns;
	if (window->busiest && tap_task_try_times(rec->pid, tracee->tid, &thread))
		own_ns = own_of_thread(
			rec, &thread, tracee->stops - window->busiest_stops, length_ns);
	else
		/* Of many threads nobody knows who sleeps: where the tracer does,
		 * nobody is stopped. */
		own_ns = larger(run_ns - window->run_ns,
			positive(length_ns, work_ns + tracer.wait_ns - window->tracer.wait_ns));
	return work_ns > own_ns;
}

void brake_begin(struct recorder *rec)
{
	open_window(rec, NULL, 0);
}

void brake_end(struct recorder *rec)
{
	keep_held(rec);
}

bool brake_is_due(struct recorder *rec, const struct tap_tracee *tracee)
{
	struct brake_window *window = &rec->window;
	bool over;

	if (tap_clock_ns() - window->since_ns < WINDOW_NS)
		return false;
	/* Its stops and sleeps are counted to the same instant only here. */
	if (window->busiest && tracee->tid != window->busiest && window->busiest == rec->busiest)
		return false;
	if (window->busiest != rec->busiest || tracee->tid != rec->busiest)
		window->busiest = 0;
	over = is_over_half(rec, tracee);
	keep_held(rec);
	open_window(rec, tracee, over ? window->over + 1 : 0);
	return window->over >= WINDOWS;
}
