/* SPDX-License-Identifier: Apache-2.0 */
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include "heaptap/base/clock.h"
#include "heaptap/base/log.h"
#include "heaptap/proc/tasks.h"
#include "target/internal.h"
#include "target/ptrace.h"

#define STOP_BOUND_NS UINT64_C(500000000)

/* Blocked in a system call that it made itself: it is in no trap of ours and,
 * now that everything is lifted, cannot get into one. */
static bool is_blocked(struct tap_target *target, struct tracee *tracee)
{
	struct tap_task_syscall call = {0};
	struct tap_task task;
	_cleanup_error_ struct tap_error *err = NULL;

	if (tracee->state != TRACEE_RUNNING)
		return false;
	err = tap_task_read(target->pid, tracee->public.tid, &task);
	/* One that is uninterruptible does not report an interrupt of before: it
	 * may be the parent of a vfork, whose child is held here. */
	if (err || (task.state != 'D' && (task.state != 'S' || tracee->interrupted)))
		return false;
	return tap_task_try_syscall(target->pid, tracee->public.tid, &call) && call.blocked &&
		call.number >= 0 && !area_holds(target, call.pc);
}

/* A thread that stood in a hit, or in a slot, goes on in the program's own
 * code. */
static void leave_area(struct tap_target *target, struct tracee *tracee)
{
	uint64_t out = area_way_out(target, tracee->public.regs.rip);

	if (out) {
		tracee->public.regs.rip = out;
		tracee->public.regs_changed = true;
	}
}

/* Every thread that runs is brought to a stop once, so that no hit that began
 * before the lift is still on its way to us. True: all of them are clear. */
static bool rendezvous(struct tap_target *target)
{
	uint64_t deadline = tap_clock_ns() + STOP_BOUND_NS;
	struct tap_map seen = {0};
	struct tap_map_slot *slot;
	bool clear = true;

	/* All at once: each has to be run by a processor before it stops. */
	for (size_t i = 0; tap_map_next(&target->tracees, &i, &slot);) {
		struct tracee *tracee = (struct tracee *)slot->value;

		if (tracee->state == TRACEE_RUNNING && !tracee->interrupted &&
			!is_blocked(target, tracee))
			tracee->interrupted = pt_interrupt(tracee->public.tid) == 0;
	}
	for (size_t i = 0; tap_map_next(&target->tracees, &i, &slot);) {
		struct tracee *tracee = (struct tracee *)slot->value;

		if (tap_map_find(&seen, slot->key))
			continue;
		tap_map_put(&seen, slot->key, NULL);
		if (!is_blocked(target, tracee)) {
			int result = tracee_stop(target, tracee, deadline);

			if (result == 1)
				leave_area(target, tracee);
			else if (result == 0 && tracee->state != TRACEE_STOPPED &&
				!is_blocked(target, tracee))
				clear = false;
		}
		i = 0; /* stopping one may have brought or taken others */
	}
	tap_map_deinit(&seen);
	return clear;
}

static void detach(struct tap_target *target, struct tracee *tracee)
{
	if (tracee->state != TRACEE_STOPPED) {
		target->stats.left_blocked++;
		return;
	}
	if (!tracee->public.regs_changed && !pt_get_regs(tracee->public.tid, &tracee->public.regs))
		tracee_restart_call(target, tracee);
	if (tracee->public.regs_changed)
		pt_set_regs(tracee->public.tid, &tracee->public.regs);
	pt_detach(tracee->public.tid, 0);
}

/* Children that came while we were leaving. */
static void clean_orphans(struct tap_target *target)
{
	for (size_t i = 0; i < target->orphans.count; i++)
		pt_detach(target->orphans.items[i].tid, 0);
}

struct tap_error *tap_target_release(struct tap_target *target)
{
	struct tap_error *err = NULL, *more = NULL;
	struct tap_map_slot *slot;

	if (!target->exited && !target->executed) {
		err = tap_target_lift(target);
		if (!rendezvous(target))
			more = tap_error_new(TAP_ERR_TIMEOUT,
				"a thread of process %d did not stop; heaptap's code stays mapped "
				"there, unused",
				target->pid);
		else if (!err)
			more = area_unmap_all(target);
	}
	for (size_t i = 0; tap_map_next(&target->tracees, &i, &slot);)
		detach(target, (struct tracee *)slot->value);
	clean_orphans(target);
	target_destroy(target);
	if (!err)
		return more;
	tap_error_free(more);
	return err;
}
