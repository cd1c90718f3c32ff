/* SPDX-License-Identifier: Apache-2.0 */
#include <sys/ptrace.h>
#include <sys/wait.h>
#include "heaptap/arch/regs.h"
#include "target/internal.h"
#include "target/ptrace.h"

/* A thread that stood in a hit, or in a slot, goes on in the program's own
 * code; a pointer of ours that it has just read, it has not. False: it stands
 * where nothing is known of. */
static bool leave_area(struct tap_target *target, struct tracee *tracee)
{
	struct tap_regs *regs = &tracee->public.regs;
	uint64_t out;

	/* What runs after an exec has nothing of ours. */
	if (tracee->state != TRACEE_STOPPED || (target->executed && !tracee->foreign))
		return true;
	if (!tracee->public.regs_changed && pt_get_regs(tracee->public.tid, regs))
		return true;
	out = area_way_out(target, regs->rip);
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

static struct tap_error *leave_areas(struct tap_target *target)
{
	struct tap_error *err = NULL;
	struct tap_map_slot *slot;

	for (size_t i = 0; tap_map_next(&target->tracees, &i, &slot);) {
		struct tracee *tracee = (struct tracee *)slot->value;

		if (!leave_area(target, tracee) && !err)
			err = tap_error_new(TAP_ERR_BUSY, "thread %d of process %d stands in it",
				tracee->public.tid, target->pid);
	}
	return err;
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

/* Our memory goes unless somebody could still run in it. Takes over err. */
static struct tap_error *take_areas_out(struct tap_target *target, struct tap_error *err)
{
	if (!target->areas.count || target->executed || target->exited) {
		tap_error_free(err);
		return NULL;
	}
	if (err)
		return tap_error_wrap(err, "heaptap's code stays mapped in process %d, unused",
			target->pid);
	if (target->pointer_moved || area_find_copy(target, target->pid, target->memory))
		return tap_error_new(TAP_ERR_BUSY,
			"process %d has taken a copy of an allocator's pointer meanwhile: the code "
			"that it leads to stays mapped there, and passes every call on",
			target->pid);
	err = area_unmap_all(target);
	/* Who was blocked may have woken up since and forked. */
	if (!err)
		err = rendezvous(target);
	return err;
}

/* Children that came while we were leaving. */
static void clean_orphans(struct tap_target *target)
{
	for (size_t i = 0; i < target->orphans.count; i++)
		pt_detach(target->orphans.items[i].tid, 0);
}

struct tap_error *tap_target_release(struct tap_target *target, int *exit_code_ret)
{
	struct tap_error *err = tap_target_lift(target);
	struct tap_map_slot *slot;
	/* No hit that began before the lift is still on its way to us. */
	struct tap_error *more = rendezvous(target);
	struct tap_error *inside = leave_areas(target);

	if (!more) {
		more = inside;
		inside = NULL;
	}
	tap_error_free(inside);
	more = take_areas_out(target, more);
	for (size_t i = 0; tap_map_next(&target->tracees, &i, &slot);)
		detach(target, (struct tracee *)slot->value);
	clean_orphans(target);
	if (exit_code_ret && target->exited)
		*exit_code_ret = target->exit_code;
	target_destroy(target);
	if (!err)
		return more;
	tap_error_free(more);
	return err;
}
