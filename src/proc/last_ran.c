/* SPDX-License-Identifier: Apache-2.0 */
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include "heaptap/base/clock.h"
#include "heaptap/proc/root.h"
#include "heaptap/proc/tasks.h"
#include "scan.h"

/*
 * se.exec_start is when the scheduler last accounted for a thread: for one
 * that is blocked, when it was switched out. It is in the run queue's task
 * clock, which has an origin of its own and leaves out time spent in
 * interrupts and time stolen by a hypervisor, per CPU: on a machine long up,
 * two CPUs may be seconds apart. So it is compared with our own exec_start on
 * the same CPU, right after a reading of CLOCK_MONOTONIC. What is left is a
 * few microseconds, plus what interrupts and the hypervisor took of that CPU
 * since then; where we may not run on that CPU, the difference between the
 * two as well.
 */

/* "se.exec_start   :   1146591.502406": milliseconds, to the nanosecond. */
static bool read_exec_start(pid_t pid, const char *name, uint64_t *ns_ret)
{
	char text[1024];
	const char *at;
	uint64_t ms, fraction = 0;

	if (!tap_proc_try_read(pid, name, text, sizeof(text)))
		return false;
	at = tap_scan_find(text, "se.exec_start");
	if (!at)
		return false;
	tap_scan_char(&at, ':');
	tap_scan_blanks(&at);
	if (!tap_scan_decimal(&at, &ms) || !tap_scan_char(&at, '.') ||
		!tap_scan_decimal(&at, &fraction) || fraction > 999999 ||
		ms > UINT64_MAX / 1000000 - 1)
		return false;
	*ns_ret = ms * 1000000 + fraction;
	return true;
}

/* The same instant in both clocks. */
static bool read_both_clocks(uint64_t *exec_start_ret, uint64_t *monotonic_ns_ret)
{
	/* Yielding makes the scheduler account for this thread now. */
	sched_yield();
	*monotonic_ns_ret = tap_clock_ns();
	return read_exec_start(0, "thread-self/sched", exec_start_ret);
}

static bool read_both_clocks_of(int cpu, uint64_t *exec_start_ret, uint64_t *monotonic_ns_ret)
{
	cpu_set_t before, wanted;
	bool moved, ok;

	CPU_ZERO(&wanted);
	CPU_SET(cpu, &wanted);
	moved = !sched_getaffinity(0, sizeof(before), &before) &&
		!sched_setaffinity(0, sizeof(wanted), &wanted);
	ok = read_both_clocks(exec_start_ret, monotonic_ns_ret);
	if (moved)
		sched_setaffinity(0, sizeof(before), &before);
	return ok;
}

bool tap_task_try_last_ran(pid_t pid, pid_t tid, uint64_t *monotonic_ns_ret)
{
	char name[64];
	uint64_t ran, own, now;
	int cpu;

	snprintf(name, sizeof(name), "task/%d/sched", (int)tid);
	if (!read_exec_start(pid, name, &ran) || !ran || !tap_task_try_cpu(pid, tid, &cpu) ||
		!read_both_clocks_of(cpu, &own, &now))
		return false;
	if (ran >= own)
		*monotonic_ns_ret = now;
	else
		*monotonic_ns_ret = own - ran < now ? now - (own - ran) : 0;
	return true;
}
