/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <limits.h>
#include <linux/kcmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "heaptap/base/clock.h"
#include "heaptap/base/cleanup.h"
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

/* A child of one of our threads that shares the memory and was there before
 * us: it would run into breakpoints with nobody to see to it. */
static void seize_sharing(struct tap_target *target, struct tracee *parent, pid_t tid)
{
	if (tracee_find(target, tid) || !shares_memory(parent->public.tid, tid, 0))
		return;
	if (pt_seize(tid, TRACE_OPTIONS))
		return;
	tracee_add(target, tid, TRACEE_RUNNING)->foreign = true;
	/* If it is a vfork's; it says nothing else of any other. */
	parent->vfork_child = tid;
}

/* Needs CONFIG_PROC_CHILDREN; without it such children are not known. */
static void adopt_of(struct tap_target *target, struct tracee *parent)
{
	_cleanup_free_ char *text = NULL;
	char name[48], *at;
	long tid;

	snprintf(name, sizeof(name), "task/%d/children", parent->public.tid);
	tap_error_free(tap_proc_read(parent->public.tid, name, &text, NULL));
	for (at = text; at && (tid = strtol(at, &at, 10)) > 0 && tid <= INT_MAX;)
		seize_sharing(target, parent, (pid_t)tid);
}

void children_adopt_earlier(struct tap_target *target)
{
	struct tap_map_slot *slot;
	struct tap_map seen = {0};

	for (size_t i = 0; tap_map_next(&target->tracees, &i, &slot);) {
		struct tracee *tracee = (struct tracee *)slot->value;
		size_t before = target->tracees.count;

		if (tap_map_find(&seen, slot->key))
			continue;
		tap_map_put(&seen, slot->key, NULL);
		adopt_of(target, tracee);
		if (target->tracees.count != before)
			i = 0; /* they may have children of their own */
	}
	tap_map_deinit(&seen);
}

bool children_made_by(int64_t number)
{
	return number == SYS_clone || number == SYS_clone3 || number == SYS_fork ||
		number == SYS_vfork;
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
	child->blocks_sigtrap = parent->blocks_sigtrap;
	if (copied)
		child->keeps_area = !clean(target, tid);
	child->copied = copied;
	child->foreign = !thread && !copied;
	if (event == PTRACE_EVENT_VFORK)
		parent->vfork_child = tid;
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
