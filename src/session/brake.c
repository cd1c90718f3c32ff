/* SPDX-License-Identifier: Apache-2.0 */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "heaptap/base/cleanup.h"
#include "heaptap/base/clock.h"
#include "heaptap/proc/root.h"
#include "session/recorder.h"

/* One window of which most was taken ends it; of one in which more than half
 * was, the next tells whether that was a burst: a program that was kept
 * waiting makes up for it. */
#define WINDOW_NS UINT64_C(500000000)
/* On a busy machine the time that stops take is lost among all that is waited
 * for. A thread that never sleeps, stops so often, and runs less than it is
 * held is braked as well: one that is paced sleeps between its bursts. */
#define OFTEN 1000
#define SLEEPS_SHARE 0.25
#define TRAP_NS 8e3
/* Bound of what two switches between tasks are believed to cost: on one core
 * 4 to 8 us, between two up to 80. */
#define SWITCH_MAX_NS UINT64_C(80000)

/* Field 39 of /proc/PID/stat: the core that a thread last ran on. */
#define STAT_PROCESSOR 39

/* A stop also costs the switch to the tracer and back, which nobody sees from
 * here. An entry point and its return are so close that the shortest time
 * between two stops is hardly more than that. */
static uint64_t close_window(struct recorder *rec)
{
	struct tap_target_stats *stats = tap_target_stats(rec->target);
	uint64_t switch_ns =
		stats->least_away_ns < SWITCH_MAX_NS ? stats->least_away_ns : SWITCH_MAX_NS;
	uint64_t stopped = stats->stopped_ns - rec->window.stopped_ns +
		(stats->stops - rec->window.stops) * switch_ns;

	rec->held_ns += stopped;
	rec->window.stops = stats->stops;
	rec->window.stopped_ns = stats->stopped_ns;
	rec->window.since_ns = tap_clock_ns();
	stats->least_away_ns = UINT64_MAX;
	return stopped;
}

/* "run wait slices" in ns: what the scheduler has counted of a thread. */
static bool read_schedule(const char *path, pid_t pid, uint64_t *run_ret, uint64_t *wait_ret)
{
	char text[128];
	unsigned long long run, wait;

	if (!tap_proc_try_read(pid, path, text, sizeof(text)) ||
		sscanf(text, "%llu %llu", &run, &wait) != 2)
		return false;
	*run_ret = run;
	*wait_ret = wait;
	return true;
}

/* The busiest thread's side of a window; false where nothing is known of it. */
static bool look_at_busiest(struct recorder *rec, struct brake_look *ret)
{
	uint64_t unused;
	char path[64];

	if (!rec->busiest)
		return false;
	ret->tid = rec->busiest;
	ret->at_ns = tap_clock_ns();
	ret->stops = tap_target_stats(rec->target)->stops;
	ret->held_ns = tap_target_stats(rec->target)->stopped_ns;
	snprintf(path, sizeof(path), "task/%d/schedstat", rec->busiest);
	if (!read_schedule(path, rec->pid, &ret->run_ns, &ret->wait_ns))
		return false;
	snprintf(path, sizeof(path), "task/%d/schedstat", gettid());
	return read_schedule(path, getpid(), &unused, &ret->tracer_wait_ns);
}

/* Did it do hardly anything but stop since the last look? */
static bool is_driven(struct recorder *rec)
{
	struct brake_look now = {0}, then = rec->look;
	double window, awake, held, run;

	if (!look_at_busiest(rec, &now)) {
		rec->look.tid = 0;
		return false;
	}
	rec->look = now;
	if (then.tid != now.tid || now.stops - then.stops < OFTEN)
		return false;
	window = (double)(now.at_ns - then.at_ns);
	run = (double)(now.run_ns - then.run_ns);
	held = (double)(now.held_ns - then.held_ns) +
		(double)(now.tracer_wait_ns - then.tracer_wait_ns);
	awake = run + (double)(now.wait_ns - then.wait_ns) + held;
	/* The larger part of what it runs is the way into a stop and out. */
	run -= (double)(now.stops - then.stops) * TRAP_NS;
	return held > run && awake > window * (1 - SLEEPS_SHARE);
}

void brake_begin(struct recorder *rec)
{
	memset(&rec->window, 0, sizeof(rec->window));
	memset(&rec->look, 0, sizeof(rec->look));
	rec->window.since_ns = tap_clock_ns();
}

void brake_end(struct recorder *rec)
{
	close_window(rec);
}

bool brake_is_due(struct recorder *rec)
{
	uint64_t window_ns = tap_clock_ns() - rec->window.since_ns, stopped_ns;
	bool was_slowed = rec->window.slowed, driven;

	if (window_ns < WINDOW_NS)
		return false;
	stopped_ns = close_window(rec);
	driven = is_driven(rec);
	rec->window.slowed = driven || stopped_ns * 2 > window_ns;
	return rec->window.slowed && (was_slowed || stopped_ns * 3 > window_ns * 2);
}

static int last_core(pid_t pid, pid_t tid)
{
	_cleanup_free_ char *text = NULL;
	_cleanup_error_ struct tap_error *err = NULL;
	char name[64];
	char *at;

	snprintf(name, sizeof(name), "task/%d/stat", tid);
	err = tap_proc_read(pid, name, &text, NULL);
	at = err ? NULL : strrchr(text, ')');
	/* Behind the name comes field 3. */
	for (int field = 2; at && field < STAT_PROCESSOR; field++)
		at = strchr(at + 1, ' ');
	return at ? atoi(at + 1) : -1;
}

void brake_follow_core(struct recorder *rec, pid_t busiest)
{
	static __thread cpu_set_t all;
	static __thread bool known;
	int core = busiest ? last_core(rec->pid, busiest) : -1;
	cpu_set_t one;

	if (!known) {
		sched_getaffinity(0, sizeof(all), &all);
		known = true;
	}
	if (core < 0 || core >= CPU_SETSIZE || !CPU_ISSET(core, &all)) {
		if (rec->pinned)
			sched_setaffinity(0, sizeof(all), &all);
		rec->pinned = 0;
		return;
	}
	CPU_ZERO(&one);
	CPU_SET(core, &one);
	sched_setaffinity(0, sizeof(one), &one);
	rec->pinned = busiest;
}
