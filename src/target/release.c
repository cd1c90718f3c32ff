/* SPDX-License-Identifier: Apache-2.0 */
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include "heaptap/arch/regs.h"
#include "heaptap/base/clock.h"
#include "heaptap/proc/tasks.h"
#include "target/internal.h"
#include "target/ptrace.h"

#define STOP_BOUND_NS UINT64_C(500000000)

static bool makes_child(int64_t number)
{
	return number == SYS_clone || number == SYS_clone3 || number == SYS_fork ||
		number == SYS_vfork;
}

/* Blocked in a system call that it made itself: it is in no trap of ours and,
 * now that everything is lifted, cannot get into one. */
static bool is_blocked(struct tap_target *target, struct tracee *tracee)
{
	struct tap_task_syscall call = {0};
	pid_t tid = tracee->public.tid;
	struct tap_task task;
	_cleanup_error_ struct tap_error *err = NULL;

	if (tracee->state != TRACEE_RUNNING || tracee->interrupted)
		return false;
	err = tracee_read(tracee, &task);
	if (err || (task.state != 'S' && task.state != 'D'))
		return false;
	if (!tap_task_try_syscall(tid, tid, &call) || !call.blocked || call.number < 0 ||
		area_holds(target, call.pc))
		return false;
	/* A fork under way copies the memory, from before the lift perhaps: its
	 * child is waited for. */
	return !makes_child(call.number) || tracee->vforking;
}

/* A thread that stood in a hit, or in a slot, goes on in the program's own
 * code; a pointer of ours that it has just read, it has not. False: it stands
 * where nothing is known of. */
static bool leave_area(struct tap_target *target, struct tracee *tracee)
{
	struct tap_regs *regs = &tracee->public.regs;
	uint64_t out = area_way_out(target, regs->rip);

	if (out) {
		regs->rip = out;
		tracee->public.regs_changed = true;
	}
	for (unsigned i = 0; i < TAP_DWARF_RIP; i++) {
		uint64_t *reg = tap_regs_dwarf(regs, i);
		struct tap_breakpoint *stub = tap_target_breakpoint_at(target, *reg);

		if (stub && stub->leads_to) {
			*reg = stub->leads_to;
			tracee->public.regs_changed = true;
		}
	}
	return !area_holds(target, regs->rip);
}

/* Every thread that runs is brought to a stop once, so that no hit that began
 * before the lift is still on its way to us. True: all of them are clear. */
static bool rendezvous(struct tap_target *target)
{
	uint64_t deadline = tap_clock_ns() + STOP_BOUND_NS;
	struct tap_map seen = {0};
	struct tap_map_slot *slot;
	bool clear = true;

	for (size_t i = 0; tap_map_next(&target->tracees, &i, &slot);) {
		struct tracee *tracee = (struct tracee *)slot->value;

		if (tap_map_find(&seen, slot->key))
			continue;
		tap_map_put(&seen, slot->key, NULL);
		if (!is_blocked(target, tracee)) {
			int result = tracee_stop(target, tracee, deadline);

			/* What runs after an exec has nothing of ours. */
			if (result == 1 && (!target->executed || tracee->foreign))
				clear &= leave_area(target, tracee);
			else if (result == 0 && tracee->state != TRACEE_STOPPED)
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
	pt_detach(tracee->public.tid, tracee->signal);
}

/* Our memory goes unless somebody could still run in it. */
static struct tap_error *take_areas_out(struct tap_target *target, bool clear)
{
	if (!target->areas.count || target->executed || target->exited)
		return NULL;
	if (!clear)
		return tap_error_new(TAP_ERR_TIMEOUT,
			"a thread of process %d did not stop; heaptap's code stays mapped "
			"there, unused",
			target->pid);
	if (target->pointer_moved || area_find_copy(target, target->pid, target->memory))
		return tap_error_new(TAP_ERR_BUSY,
			"process %d has taken a copy of an allocator's pointer meanwhile: the code "
			"that it leads to stays mapped there, and passes every call on",
			target->pid);
	return area_unmap_all(target);
}

/* Children that came while we were leaving. */
static void clean_orphans(struct tap_target *target)
{
	for (size_t i = 0; i < target->orphans.count; i++)
		pt_detach(target->orphans.items[i].tid, 0);
}

struct tap_error *tap_target_release(struct tap_target *target)
{
	struct tap_error *err = tap_target_lift(target);
	struct tap_map_slot *slot;
	struct tap_error *more;
	bool clear;

	clear = rendezvous(target);
	more = take_areas_out(target, clear);
	for (size_t i = 0; tap_map_next(&target->tracees, &i, &slot);)
		detach(target, (struct tracee *)slot->value);
	clean_orphans(target);
	target_destroy(target);
	if (!err)
		return more;
	tap_error_free(more);
	return err;
}
