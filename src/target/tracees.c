/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include "heaptap/base/alloc.h"
#include "heaptap/base/clock.h"
#include "heaptap/proc/tasks.h"
#include "target/internal.h"
#include "target/ptrace.h"
#include "target/restart.h"

#define PICK_BOUND_NS UINT64_C(20000000)
#define PICK_ALL_BOUND_NS UINT64_C(500000000)
#define PICK_PAUSE_NS 2000000
#define WAIT_SLICE_NS UINT64_C(3000000)

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
	if (tracee->public.regs_changed) {
		pt_set_regs(tracee->public.tid, &tracee->public.regs);
		tracee->public.regs_changed = false;
	}
	if (tracee->state == TRACEE_STOPPED) {
		tracee->continued_ns = tap_clock_ns();
		target->stats.stopped_ns += tracee->continued_ns - tracee->stopped_ns;
	}
	tracee->state = TRACEE_RUNNING;
	/* Out of a group stop it would run on: it is to stop again at once. */
	if (tracee->group_stopped && !tracee->interrupted)
		tracee->interrupted = pt_interrupt(tracee->public.tid) == 0;
	pt_continue(tracee->public.tid, signal);
}

/* Signals that would be handled, or that end the process, once the thread
 * goes on. */
static bool has_signal_to_come(struct tap_target *target, pid_t tid)
{
	struct tap_task task;
	_cleanup_error_ struct tap_error *err = tap_task_read(target->pid, tid, &task);

	return !err && (task.sig_pending & ~task.sig_blocked & ~task.sig_ignored);
}

void tracee_restart_call(struct tap_target *target, struct tracee *tracee)
{
	struct tap_regs *regs = &tracee->public.regs;
	uint64_t now = tap_clock_ns();
	uint64_t pc = regs->rip;

	if ((int64_t)regs->rax != -EINTR || (int64_t)regs->orig_rax < 0 ||
		has_signal_to_come(target, tracee->public.tid))
		return;
	if (tracee->restarted_pc != pc) {
		tracee->restarted_pc = pc;
		tracee->restarted_since_ns = now;
	}
	if (tap_restart_interrupted(regs, target->memory, now - tracee->restarted_since_ns)) {
		/* The time that was left is now counted from here. */
		tracee->restarted_since_ns = now;
		tracee->public.regs_changed = true;
	}
}

bool tracee_is_vfork(const struct tap_task_syscall *call)
{
	return call->number == SYS_vfork || call->number == SYS_clone3 ||
		(call->number == SYS_clone && (call->args[0] & CLONE_VFORK));
}

/* For as long as a vfork's child runs in the same memory: if that is held
 * here, for ever. */
static bool waits_for_child(struct tap_target *target, pid_t tid)
{
	struct tap_task_syscall call = {0};

	return tap_task_try_syscall(target->pid, tid, &call) && call.blocked &&
		tracee_is_vfork(&call);
}

/* As pt_wait(); 0 also where that wait has no end. */
static int wait_for_stop(
	struct tap_target *target, pid_t tid, uint64_t deadline_ns, int *status_ret)
{
	for (;;) {
		uint64_t slice = tap_clock_ns() + WAIT_SLICE_NS;
		int got = pt_wait(tid, slice < deadline_ns ? slice : deadline_ns, status_ret);

		if (got || slice >= deadline_ns || waits_for_child(target, tid))
			return got;
	}
}

int tracee_stop(struct tap_target *target, struct tracee *tracee, uint64_t deadline_ns)
{
	if (tracee->state == TRACEE_STOPPED)
		return 1;
	for (;;) {
		struct tap_event event;
		int status, got;

		/* Any trap swallows an interrupt that is under way
		 * (kernel/signal.c, ptrace_stop): it is asked for again. But one
		 * that stands in a trap already would stop once more when it is
		 * let go. */
		got = pt_wait(tracee->public.tid, 0, &status);
		if (!got && !tracee->interrupted) {
			got = pt_interrupt(tracee->public.tid);
			if (got < 0)
				return got;
			tracee->interrupted = true;
		}
		if (!got)
			got = wait_for_stop(target, tracee->public.tid, deadline_ns, &status);
		if (got <= 0)
			return got;
		tracee->stopped_ns = tap_clock_ns();
		tracee->interrupted = false;
		if (WIFSTOPPED(status) && status >> 16 == PTRACE_EVENT_STOP &&
			tracee->state != TRACEE_NEW) {
			tracee->state = TRACEE_STOPPED;
			tracee->group_stopped = WSTOPSIG(status) != SIGTRAP;
			return pt_get_regs(tracee->public.tid, &tracee->public.regs) ?: 1;
		}
		if (!event_dispatch(target, tracee, status, &event))
			continue;
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

	if (tracee->foreign || tracee->state == TRACEE_NEW)
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

/* When a blocked thread's call began, for the time that it has left. */
static void note_call(struct tap_target *target, struct tracee *tracee)
{
	struct tap_task_syscall call = {0};
	uint64_t since;

	if (!tap_task_try_syscall(target->pid, tracee->public.tid, &call) || !call.blocked)
		return;
	if (!tap_task_try_last_ran(target->pid, tracee->public.tid, &since))
		return;
	tracee->restarted_pc = call.pc;
	tracee->restarted_since_ns = since;
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

static struct tracee *try_pick(struct tap_target *target, bool *was_running_ret)
{
	struct tap_map tried = {0};
	struct tracee *tracee;

	while ((tracee = least_disturbed(target, &tried))) {
		pid_t tid = tracee->public.tid;

		tap_map_put(&tried, (uint64_t)tid, NULL);
		*was_running_ret = tracee->state != TRACEE_STOPPED;
		if (*was_running_ret)
			note_call(target, tracee);
		if (tracee_stop(target, tracee, tap_clock_ns() + PICK_BOUND_NS) == 1)
			break;
	}
	tap_map_deinit(&tried);
	return tracee;
}

struct tracee *tracee_pick(struct tap_target *target, bool *was_running_ret)
{
	uint64_t deadline = tap_clock_ns() + PICK_ALL_BOUND_NS;
	struct timespec pause = {0, PICK_PAUSE_NS};
	struct tracee *tracee;

	/* Those that were there may have ended, and new ones not have begun. */
	while (!(tracee = try_pick(target, was_running_ret)) && tap_clock_ns() < deadline) {
		/* A hit is not for us to lose. */
		if (!target->breakpoints.count)
			events_serve(target);
		nanosleep(&pause, NULL);
	}
	return tracee;
}
