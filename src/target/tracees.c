/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include "heaptap/base/alloc.h"
#include "heaptap/base/clock.h"
#include "heaptap/proc/tasks.h"
#include "target/internal.h"
#include "target/ptrace.h"
#include "target/restart.h"

#define SIGTRAP_BIT (UINT64_C(1) << (SIGTRAP - 1))
/* The kernel's ERESTART_RESTARTBLOCK, include/linux/errno.h. */
#define RESTART_BLOCK 516
#define PICK_BOUND_NS UINT64_C(20000000)
#define PICK_PATIENT_BOUND_NS UINT64_C(500000000)

struct tracee *tracee_find(struct tap_target *target, pid_t tid)
{
	uint64_t *value = tap_map_find(&target->tracees, (uint64_t)tid);

	return value ? (struct tracee *)*value : NULL;
}

struct tracee *tracee_add(struct tap_target *target, pid_t tid, enum tracee_state state)
{
	struct tracee *tracee = tap_alloc(sizeof(*tracee));

	tracee->public.tid = tid;
	tracee->state = state;
	*tap_map_put(&target->tracees, (uint64_t)tid, NULL) = (uint64_t)tracee;
	return tracee;
}

/* Not freed at once: an event that is being dealt with may name it. */
void tracee_remove(struct tap_target *target, struct tracee *tracee)
{
	tap_map_remove(&target->tracees, (uint64_t)tracee->public.tid, NULL);
	tap_vector_push(&target->gone, tracee);
}

void tracee_destroy(struct tap_target *target, struct tracee *tracee)
{
	if (tracee->public.data && target->free_data)
		target->free_data(tracee->public.data);
	free(tracee);
}

void tracee_continue(struct tap_target *target, struct tracee *tracee, int signal)
{
	if (!signal)
		signal = tracee->signal;
	tracee->signal = 0;
	tracee->blocked_pc = 0;
	if (tracee->public.regs_changed) {
		pt_set_regs(tracee->public.tid, &tracee->public.regs);
		tracee->public.regs_changed = false;
	}
	/* A program's first stop, before its first instruction, took it no time. */
	if (tracee->state == TRACEE_STOPPED) {
		tracee->continued_ns = tap_clock_ns();
		if (tracee->stopped_ns)
			target->stats.stopped_ns += tracee->continued_ns - tracee->stopped_ns;
	}
	tracee->state = TRACEE_RUNNING;
	/* Out of a group stop it would run on: it is to stop again at once. */
	if (tracee->group_stopped && !tracee->interrupted)
		tracee->interrupted = pt_interrupt(tracee->public.tid) == 0;
	pt_continue(tracee->public.tid, signal);
}

bool tracee_is_vfork(const struct tap_task_syscall *call)
{
	return call->number == SYS_vfork || call->number == SYS_clone3 ||
		(call->number == SYS_clone && (call->args[0] & CLONE_VFORK));
}

bool tracee_is_vforking(struct tap_target *target, const struct tracee *tracee)
{
	return tracee->vfork_child && tracee_find(target, tracee->vfork_child);
}

struct tap_error *tracee_read(const struct tracee *tracee, struct tap_task *ret)
{
	return tap_task_read(tracee->public.tid, tracee->public.tid, ret);
}

/* Signals that would be handled, or that end the process, once the thread
 * goes on. */
static bool has_signal_to_come(const struct tracee *tracee)
{
	struct tap_task task;
	_cleanup_error_ struct tap_error *err = tracee_read(tracee, &task);

	return !err && (task.sig_pending & ~task.sig_blocked & ~task.sig_ignored);
}

void tracee_begin_call_anew(struct tracee *tracee)
{
	struct tap_regs *regs = &tracee->public.regs;

	if ((int64_t)regs->rax != -RESTART_BLOCK || (int64_t)regs->orig_rax < 0 ||
		tracee->group_stopped || has_signal_to_come(tracee))
		return;
	if (tap_restart_afresh(regs, &tracee->origin))
		tracee->public.regs_changed = true;
}

static bool is_filtered(const struct tracee *tracee)
{
	struct tap_task_seccomp seccomp;

	return tap_task_try_seccomp(tracee->public.tid, tracee->public.tid, &seccomp) &&
		seccomp.mode != TAP_SECCOMP_NONE;
}

void tracee_restart_call(struct tap_target *target, struct tracee *tracee)
{
	struct tap_regs *regs = &tracee->public.regs;
	uint64_t since = tracee->blocked_pc == regs->rip ? tracee->blocked_since_ns : 0;

	/* It ran when it was interrupted: the call has just begun. Where there is a
	 * filter it had better not be gone on with by another one. */
	if ((int64_t)regs->rax == -RESTART_BLOCK && !since && is_filtered(tracee))
		tracee_begin_call_anew(tracee);
	if (!tap_restart_is_cut_short(regs) || tracee->group_stopped || has_signal_to_come(tracee))
		return;
	if (tap_restart_interrupted(
		    regs, target->memory, tap_clock_ns(), since, &tracee->restarted))
		tracee->public.regs_changed = true;
}

/* Those of one that is being dealt with may have been changed already. */
static int load_regs(struct tracee *tracee)
{
	int err = 0;

	if (!tracee->public.regs_changed)
		err = pt_get_regs(tracee->public.tid, &tracee->public.regs);
	if (!err)
		tap_restart_note_origin(&tracee->public.regs, &tracee->origin);
	return err ? err : 1;
}

/* An interrupt is reported before a signal that is due (kernel/signal.c,
 * get_signal): a thread can stand behind a breakpoint of ours whose SIGTRAP is
 * still to come. It is let go for that; without a tracer it would be killed. */
static bool has_hit_to_come(struct tap_target *target, struct tracee *tracee)
{
	struct tap_task task;
	_cleanup_error_ struct tap_error *err = NULL;

	if (!tap_map_find(&target->breakpoints, tracee->public.regs.rip - 1))
		return false;
	err = tracee_read(tracee, &task);
	return !err && (task.sig_pending & SIGTRAP_BIT);
}

int tracee_stop(struct tap_target *target, struct tracee *tracee, uint64_t deadline_ns)
{
	bool due = false;

	if (tracee->state == TRACEE_STOPPED)
		return load_regs(tracee);
	for (;;) {
		struct tap_event event;
		int status, got;

		/* Any trap swallows an interrupt that is under way
		 * (kernel/signal.c, ptrace_stop): it is asked for again. */
		if (!tracee->interrupted && !due) {
			got = pt_interrupt(tracee->public.tid);
			if (got < 0)
				return got;
			tracee->interrupted = true;
		}
		got = pt_wait(tracee->public.tid, deadline_ns, &status);
		if (got <= 0)
			return got;
		tracee->stopped_ns = tap_clock_ns();
		tracee->interrupted = false;
		if (WIFSTOPPED(status) && status >> 16 == PTRACE_EVENT_STOP &&
			tracee->state != TRACEE_NEW) {
			tracee->state = TRACEE_STOPPED;
			tracee->group_stopped = WSTOPSIG(status) != SIGTRAP;
			got = load_regs(tracee);
			due = got == 1 && has_hit_to_come(target, tracee);
			if (!due)
				return got;
			tracee->state = TRACEE_RUNNING;
			pt_continue(tracee->public.tid, 0);
			continue;
		}
		due = false;
		if (!event_dispatch(target, tracee, status, &event)) {
			if (tracee_is_vforking(target, tracee))
				return 0;
			continue;
		}
		if (event.kind != TAP_EVENT_BREAKPOINT) {
			tap_vector_push(&target->queue, event);
			if (event.tracee == &tracee->public)
				return event.kind == TAP_EVENT_THREAD_NEW ? 0 : -ESRCH;
			continue;
		}
		/* It will hit the breakpoint again when it goes on. */
		tracee->state = TRACEE_STOPPED;
		return 1;
	}
}

/* How little a stop disturbs this thread: the smaller the better; negative
 * where it must not be. */
static int disturbance(struct tap_target *target, struct tracee *tracee)
{
	struct tap_task_syscall call = {0};

	if (tracee->foreign || tracee->copied || tracee->signal ||
		tracee->state == TRACEE_NEW || tracee_is_vforking(target, tracee))
		return -1;
	if (tracee->state == TRACEE_STOPPED)
		return 0;
	if (tracee->state == TRACEE_LISTENING)
		return 1;
	if (!tap_task_try_syscall(target->pid, tracee->public.tid, &call) || !call.blocked)
		return 3;
	switch (tap_restart_kind(target->pid, &call)) {
	case TAP_RESTART_KERNEL:
		return 2;
	case TAP_RESTART_BY_HAND:
		return 4;
	default:
		return -1;
	}
}

void tracee_note_call(struct tap_target *target, struct tracee *tracee)
{
	struct tap_task_syscall call = {0};
	uint64_t since;

	if (!tap_task_try_syscall(target->pid, tracee->public.tid, &call) || !call.blocked)
		return;
	if (!tap_task_try_last_ran(target->pid, tracee->public.tid, &since))
		return;
	tracee->blocked_pc = call.pc;
	tracee->blocked_since_ns = since;
}

static int stop_noted(
	struct tap_target *target, struct tracee *tracee, uint64_t deadline_ns, bool *was_running_ret)
{
	*was_running_ret = tracee->state != TRACEE_STOPPED;
	if (*was_running_ret)
		tracee_note_call(target, tracee);
	return tracee_stop(target, tracee, deadline_ns);
}

int tracee_borrow(
	struct tap_target *target, struct tracee *tracee, uint64_t deadline_ns, bool *was_running_ret)
{
	if (tracee->state != TRACEE_STOPPED && disturbance(target, tracee) < 0)
		return 0;
	return stop_noted(target, tracee, deadline_ns, was_running_ret);
}

static struct tracee *least_disturbed(struct tap_target *target, const struct tap_map *tried)
{
	struct tracee *best = NULL;
	struct tap_map_slot *slot;
	int least = INT32_MAX;

	for (size_t i = 0; tap_map_next(&target->tracees, &i, &slot);) {
		struct tracee *tracee = (struct tracee *)slot->value;
		int much;

		if (tap_map_find(tried, slot->key))
			continue;
		much = disturbance(target, tracee);
		if (much >= 0 && much < least) {
			least = much;
			best = tracee;
		}
	}
	return best;
}

/* patient_until_ns: 0, and each is tried for a moment. */
static struct tracee *pick(
	struct tap_target *target, uint64_t patient_until_ns, bool *was_running_ret)
{
	struct tap_map tried = {0};
	struct tracee *tracee;

	while ((tracee = least_disturbed(target, &tried))) {
		pid_t tid = tracee->public.tid;

		tap_map_put(&tried, (uint64_t)tid, NULL);
		if (stop_noted(target, tracee, patient_until_ns ?: tap_clock_ns() + PICK_BOUND_NS,
			    was_running_ret) != 1)
			continue;
		if (!tracee->signal)
			break;
		/* A call in between would lose what it is to be told. */
		tracee_continue(target, tracee, 0);
	}
	tap_map_deinit(&tried);
	return tracee;
}

struct tracee *tracee_pick(struct tap_target *target, bool *was_running_ret)
{
	struct tracee *tracee = pick(target, 0, was_running_ret);

	/* Nobody at once: whoever stops first on a machine that is busy. */
	if (!tracee)
		tracee = pick(target, tap_clock_ns() + PICK_PATIENT_BOUND_NS, was_running_ret);
	return tracee;
}
