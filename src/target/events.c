/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include "heaptap/base/clock.h"
#include "heaptap/proc/tasks.h"
#include "target/internal.h"
#include "target/ptrace.h"

#define SYSCALL_STOP (SIGTRAP | 0x80) /* with PTRACE_O_TRACESYSGOOD */

static bool is_stop_signal(int signal)
{
	return signal == SIGSTOP || signal == SIGTSTP || signal == SIGTTIN || signal == SIGTTOU;
}

static int exit_code(int status)
{
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static bool on_end(
	struct tap_target *target, struct tracee *tracee, int status, struct tap_event *ret)
{
	bool leader = tracee->public.tid == target->pid;

	tracee_remove(target, tracee);
	ret->kind = TAP_EVENT_THREAD_EXIT;
	ret->tracee = &tracee->public;
	if (leader) {
		/* The kernel reports a leader only after all its threads. */
		struct tap_event end = {.kind = TAP_EVENT_EXIT, .exit_code = exit_code(status)};

		target->exited = true;
		tap_vector_push(&target->queue, end);
	}
	return true;
}

static bool on_exec(struct tap_target *target, struct tracee *tracee, struct tap_event *ret)
{
	struct tap_map_slot *slot;

	if (tracee->foreign) {
		/* The child of a vfork has memory of its own now. */
		pt_detach(tracee->public.tid, 0);
		tracee_remove(target, tracee);
		ret->kind = TAP_EVENT_THREAD_EXIT;
		ret->tracee = &tracee->public;
		return true;
	}
	/* All other threads are gone; whoever did it has the leader's number. */
	for (size_t i = 0; tap_map_next(&target->tracees, &i, &slot);) {
		struct tracee *other = (struct tracee *)slot->value;

		if (other == tracee || other->foreign)
			continue;
		tracee_remove(target, other);
		i = 0;
	}
	target->executed = true;
	tracee->state = TRACEE_STOPPED;
	ret->kind = TAP_EVENT_EXEC;
	ret->tracee = &tracee->public;
	return true;
}

/* PTRACE_EVENT_STOP: a new thread's first, a group stop, or our interrupt. */
static bool on_event_stop(
	struct tap_target *target, struct tracee *tracee, int signal, struct tap_event *ret)
{
	bool fresh = tracee->state == TRACEE_NEW;

	tracee->state = TRACEE_STOPPED;
	if (fresh) {
		ret->kind = TAP_EVENT_THREAD_NEW;
		ret->tracee = &tracee->public;
		return true;
	}
	tracee->group_stopped = is_stop_signal(signal);
	if (tracee->group_stopped) {
		tracee->state = TRACEE_LISTENING;
		pt_listen(tracee->public.tid);
		return false;
	}
	if (!pt_get_regs(tracee->public.tid, &tracee->public.regs))
		tracee_restart_call(target, tracee);
	tracee_continue(target, tracee, 0);
	return false;
}

bool event_rewind(struct tap_target *target, struct tracee *tracee)
{
	struct tap_regs *regs = &tracee->public.regs;
	siginfo_t info;

	if (pt_get_regs(tracee->public.tid, regs))
		return false;
	if (!tap_map_find(&target->breakpoints, regs->rip - 1))
		return false;
	/* The program may send itself SIGTRAP; a breakpoint's comes from the
	 * kernel (arch/x86/kernel/traps.c, do_int3). */
	if (pt_get_siginfo(tracee->public.tid, &info) || info.si_code != SI_KERNEL)
		return false;
	regs->rip--;
	tracee->public.regs_changed = true;
	return true;
}

/* A signal that a tracer alone gets to see: without one it would have been
 * dropped at once, and no call would have ended because of it. */
static bool is_ignored(struct tap_target *target, pid_t tid, int signal)
{
	struct tap_task task;
	_cleanup_error_ struct tap_error *err = tap_task_read(target->pid, tid, &task);
	uint64_t bit = UINT64_C(1) << (signal - 1);

	if (err || (task.sig_caught & bit))
		return false;
	return (task.sig_ignored & bit) || signal == SIGCHLD || signal == SIGURG ||
		signal == SIGWINCH || signal == SIGCONT;
}

static void on_signal(struct tap_target *target, struct tracee *tracee, int signal)
{
	struct tap_regs *regs = &tracee->public.regs;
	uint64_t out;

	if (pt_get_regs(tracee->public.tid, regs)) {
		tracee_continue(target, tracee, signal);
		return;
	}
	/* A handler's frame must not keep a PC that lies in memory of ours. */
	out = area_way_out(target, regs->rip);
	if (out) {
		regs->rip = out;
		tracee->public.regs_changed = true;
	}
	if ((int64_t)regs->rax == -EINTR && (int64_t)regs->orig_rax >= 0 &&
		is_ignored(target, tracee->public.tid, signal))
		tracee_restart_call(target, tracee);
	tracee_continue(target, tracee, signal);
}

bool event_dispatch(struct tap_target *target, struct tracee *tracee, int status,
	struct tap_event *ret)
{
	bool event = false;

	*ret = (struct tap_event){0};
	target->stats.stops++;
	tracee->interrupted = false;
	if (!WIFSTOPPED(status))
		return on_end(target, tracee, status, ret);
	switch (status >> 16) {
	case PTRACE_EVENT_CLONE:
	case PTRACE_EVENT_FORK:
	case PTRACE_EVENT_VFORK:
		tracee->state = TRACEE_STOPPED;
		event = children_adopt(target, tracee, status >> 16, ret);
		tracee_continue(target, tracee, 0);
		return event;
	case PTRACE_EVENT_EXEC:
		return on_exec(target, tracee, ret);
	case PTRACE_EVENT_STOP:
		return on_event_stop(target, tracee, WSTOPSIG(status), ret);
	}
	tracee->state = TRACEE_STOPPED;
	if (WSTOPSIG(status) == SYSCALL_STOP) {
		tracee_continue(target, tracee, 0);
		return false;
	}
	if (WSTOPSIG(status) == SIGTRAP && event_rewind(target, tracee)) {
		ret->kind = TAP_EVENT_BREAKPOINT;
		ret->tracee = &tracee->public;
		ret->breakpoint =
			(struct tap_breakpoint *)*tap_map_find(&target->breakpoints, tracee->public.regs.rip);
		return true;
	}
	on_signal(target, tracee, WSTOPSIG(status));
	return false;
}

static void free_gone(struct tap_target *target)
{
	for (size_t i = 0; i < target->gone.count; i++)
		tracee_destroy(target, target->gone.items[i]);
	target->gone.count = 0;
}

static bool take_queued(struct tap_target *target, struct tap_event *ret)
{
	if (!target->queue.count)
		return false;
	*ret = target->queue.items[0];
	target->queue.count--;
	for (size_t i = 0; i < target->queue.count; i++)
		target->queue.items[i] = target->queue.items[i + 1];
	return true;
}

struct tap_error *tap_target_next(struct tap_target *target, struct tap_event *ret)
{
	bool queued_gone = target->queue.count != 0;

	/* Events that wait may name tracees that are gone. */
	if (!queued_gone)
		free_gone(target);
	for (;;) {
		struct tracee *tracee;
		int status;
		pid_t tid;

		if (take_queued(target, ret))
			return NULL;
		if (target_take_kick()) {
			*ret = (struct tap_event){.kind = TAP_EVENT_TICK};
			return NULL;
		}
		tid = waitpid(-1, &status, __WALL | __WNOTHREAD);
		if (tid < 0 && errno == EINTR)
			continue;
		if (tid < 0) {
			/* Reaped by somebody else, or never seen to end. */
			*ret = (struct tap_event){.kind = TAP_EVENT_EXIT, .exit_code = -1};
			target->exited = true;
			return NULL;
		}
		tracee = tracee_find(target, tid);
		if (!tracee) {
			children_handle_orphan(target, tid, status);
			continue;
		}
		tracee->stopped_ns = tap_clock_ns();
		if (tracee->continued_ns &&
			tracee->stopped_ns - tracee->continued_ns < target->stats.least_away_ns)
			target->stats.least_away_ns = tracee->stopped_ns - tracee->continued_ns;
		if (event_dispatch(target, tracee, status, ret))
			return NULL;
	}
}

void events_serve(struct tap_target *target)
{
	struct tap_event event;
	int status;
	pid_t tid;

	while ((tid = waitpid(-1, &status, __WALL | __WNOTHREAD | WNOHANG)) > 0) {
		struct tracee *tracee = tracee_find(target, tid);

		if (!tracee) {
			children_handle_orphan(target, tid, status);
			continue;
		}
		tracee->stopped_ns = tap_clock_ns();
		if (event_dispatch(target, tracee, status, &event))
			tap_target_go(target, &event);
	}
}

void tap_target_go(struct tap_target *target, const struct tap_event *event)
{
	struct tracee *tracee = (struct tracee *)event->tracee;

	if (!tracee || event->kind == TAP_EVENT_THREAD_EXIT || event->kind == TAP_EVENT_EXEC)
		return;
	if (event->kind == TAP_EVENT_BREAKPOINT)
		breakpoint_step_over(target, tracee, event->breakpoint);
	tracee_continue(target, tracee, 0);
}
