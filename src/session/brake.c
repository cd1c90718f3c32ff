/* SPDX-License-Identifier: Apache-2.0 */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "heaptap/base/cleanup.h"
#include "heaptap/base/clock.h"
#include "heaptap/proc/root.h"
#include "heaptap/proc/tasks.h"
#include "session/recorder.h"

/* One window of which most was taken ends it; of one in which more than half
 * was, the next tells whether that was a burst: a program that was kept
 * waiting makes up for it. */
#define WINDOW_NS UINT64_C(500000000)
/* On a busy machine the time that stops take is lost among all that is waited
 * for. A thread that stops so often and was never seen asleep in a system
 * call of its own for three windows is braked as well: one that is paced sleeps
 * between bursts. */
#define OFTEN 1000
#define LOOKS_LEAST 3
#define WINDOWS_DRIVEN 3

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

void brake_look(struct recorder *rec)
{
	struct tap_task_syscall call = {0};

	if (!rec->busiest || !tap_task_try_syscall(rec->pid, rec->busiest, &call))
		return;
	rec->looks++;
	rec->asleep += call.blocked && call.number >= 0;
}

/* What the looks of this window say of the busiest thread. */
enum pace {
	PACE_UNKNOWN,
	PACE_SLEEPS, /* stops are long against its work, but it has time to spare */
	PACE_DRIVEN, /* it does hardly anything but stop */
};

static enum pace close_looks(struct recorder *rec, uint64_t stops)
{
	enum pace pace = PACE_UNKNOWN;

	/* Too few looks are no evidence. */
	if (rec->busiest)
		pace = rec->asleep || stops < OFTEN || rec->looks < LOOKS_LEAST ? PACE_SLEEPS :
										  PACE_DRIVEN;
	rec->looks = rec->asleep = 0;
	return pace;
}

void brake_begin(struct recorder *rec)
{
	memset(&rec->window, 0, sizeof(rec->window));
	rec->looks = rec->asleep = rec->driven = 0;
	rec->window.since_ns = tap_clock_ns();
}

void brake_end(struct recorder *rec)
{
	close_window(rec);
}

bool brake_is_due(struct recorder *rec)
{
	uint64_t window_ns = tap_clock_ns() - rec->window.since_ns, stopped_ns;
	uint64_t stops = tap_target_stats(rec->target)->stops - rec->window.stops;
	bool was_slowed = rec->window.slowed;
	enum pace pace;

	if (window_ns < WINDOW_NS)
		return false;
	stopped_ns = close_window(rec);
	pace = close_looks(rec, stops);
	rec->driven = pace == PACE_DRIVEN ? rec->driven + 1 : 0;
	rec->window.slowed = pace == PACE_UNKNOWN && stopped_ns * 2 > window_ns;
	return rec->driven == WINDOWS_DRIVEN ||
		(rec->window.slowed && was_slowed) ||
		(pace != PACE_SLEEPS && stopped_ns * 4 > window_ns * 3);
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
