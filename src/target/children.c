/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <linux/kcmp.h>
#include <stdio.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "heaptap/base/clock.h"
#include "heaptap/base/log.h"
#include "heaptap/proc/root.h"
#include "target/internal.h"
#include "target/ptrace.h"

static bool is_thread(struct tap_target *target, pid_t tid)
{
	char name[32], path[256];

	snprintf(name, sizeof(name), "task/%d", tid);
	return access(tap_proc_path(path, sizeof(path), target->pid, name), F_OK) == 0;
}

/* Where kcmp is missing (CONFIG_KCMP), a child that is no vfork's is taken
 * for one with memory of its own: wrong, it costs breakpoints, no harm. */
static bool shares_memory(pid_t parent, pid_t child, int event)
{
	long result = syscall(SYS_kcmp, parent, child, KCMP_VM, 0, 0);

	return result < 0 ? event == PTRACE_EVENT_VFORK : result == 0;
}

static bool take_orphan(struct tap_target *target, pid_t tid, int *status_ret)
{
	for (size_t i = 0; i < target->orphans.count; i++) {
		if (target->orphans.items[i].tid != tid)
			continue;
		*status_ret = target->orphans.items[i].status;
		target->orphans.items[i] = target->orphans.items[--target->orphans.count];
		return true;
	}
	return false;
}

static void say(struct tap_target *target, pid_t tid, const struct tap_error *err)
{
	if (err)
		tap_log_warn("process %d, a child of %d: %s", tid, target->pid, err->message);
}

/* A process with a copy of the memory: nothing of ours may run in it. It does
 * not run before its first stop, which may be long in coming; memory can be
 * written at once. */
static bool clean(struct tap_target *target, pid_t tid)
{
	_cleanup_memory_ struct tap_memory *memory = NULL;
	_cleanup_error_ struct tap_error *err = tap_memory_open(tid, true, &memory);
	bool all_ours = !err && breakpoints_disinfect(target, memory);

	say(target, tid, err);
	return all_ours && !target->pointer_moved;
}

void children_let_go(struct tap_target *target, struct tracee *tracee)
{
	_cleanup_memory_ struct tap_memory *memory = NULL;
	_cleanup_error_ struct tap_error *err = NULL;
	pid_t tid = tracee->public.tid;

	if (target->areas.count && !tracee->keeps_area)
		err = tap_memory_open(tid, true, &memory);
	if (memory && !area_find_copy(target, tid, memory))
		err = area_unmap_in_child(target, tid, memory);
	say(target, tid, err);
	pt_detach(tid, 0);
}

bool children_adopt(
	struct tap_target *target, struct tracee *parent, int event, struct tap_event *ret)
{
	unsigned long message = 0;
	struct tracee *child;
	bool thread, copied;
	int status;
	pid_t tid;

	if (pt_get_event(parent->public.tid, &message))
		return false;
	tid = (pid_t)message;
	thread = is_thread(target, tid);
	copied = !thread && !shares_memory(parent->public.tid, tid, event);
	child = tracee_add(target, tid, TRACEE_NEW);
	if (copied)
		child->keeps_area = !clean(target, tid);
	child->copied = copied;
	child->foreign = !thread && !copied;
	if (!take_orphan(target, tid, &status))
		return false;
	child->stopped_ns = tap_clock_ns();
	return event_dispatch(target, child, status, ret);
}

void children_handle_orphan(struct tap_target *target, pid_t tid, int status)
{
	struct orphan orphan = {tid, status};

	if (WIFSTOPPED(status))
		tap_vector_push(&target->orphans, orphan);
}
