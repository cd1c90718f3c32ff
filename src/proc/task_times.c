/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <time.h>
#include "heaptap/base/clock.h"
#include "heaptap/proc/root.h"
#include "heaptap/proc/tasks.h"
#include "scan.h"

/* Three numbers: on a CPU, runnable without one, how often it got one
 * (Documentation/scheduler/sched-stats.rst). */
static bool read_schedstat(pid_t pid, const char *name, struct tap_task_times *ret)
{
	char text[256];
	const char *at = text;

	return tap_proc_try_read(pid, name, text, sizeof(text)) &&
		tap_scan_decimal(&at, &ret->run_ns) && tap_scan_char(&at, ' ') &&
		tap_scan_decimal(&at, &ret->wait_ns);
}

bool tap_task_try_times(pid_t pid, pid_t tid, struct tap_task_times *ret)
{
	char name[64], text[4096];

	snprintf(name, sizeof(name), "task/%d/schedstat", (int)tid);
	if (!read_schedstat(pid, name, ret))
		return false;
	snprintf(name, sizeof(name), "task/%d/status", (int)tid);
	return tap_proc_try_read(pid, name, text, sizeof(text)) &&
		tap_scan_number(text, "voluntary_ctxt_switches", &ret->sleeps);
}

bool tap_task_try_own_times(struct tap_task_times *ret)
{
	*ret = (struct tap_task_times){0};
	return read_schedstat(0, "thread-self/schedstat", ret);
}

bool tap_tasks_try_run_ns(pid_t pid, uint64_t *ret)
{
	struct timespec time;
	clockid_t clock;

	if (clock_getcpuclockid(pid, &clock) || clock_gettime(clock, &time))
		return false;
	*ret = (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
	return true;
}
