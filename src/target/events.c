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
		target->exit_code = end.exit_code;
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
	/* All other threads are gone; whoever did it has the leader's number
	 * and nothing of what the leader was about. */
	tracee->public.regs_changed = tracee->group_stopped = false;
	tracee->signal = tracee->vfork_child = 0;
	tracee->again_addr = 0;
	for (size_t i = 0; tap_map_next(&target->tracees, &i, &slot);) {
		struct tracee *other = (struct tracee *)slot->value;

		if (other == tracee || other->foreign || other->copied)
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

	/* signal(7): some calls end with EINTR when SIGCONT comes. */
	tracee->was_group_stopped = tracee->state == TRACEE_LISTENING;
	tracee->state = TRACEE_STOPPED;
	tracee->group_stopped = is_stop_signal(signal);
	if (fresh) {
		pt_get_regs(tracee->public.tid, &tracee->public.regs);
		ret->kind = TAP_EVENT_THREAD_NEW;
		ret->tracee = &tracee->public;
		return true;
	}
	if (tracee->group_stopped) {
		tracee->state = TRACEE_LISTENING;
		pt_listen(tracee->public.tid);
		return false;
	}
	if (!pt_get_regs(tracee->public.tid, &tracee->public.regs)) {
		tap_restart_note_origin(&tracee->public.regs, &tracee->origin);
		if (!tracee->was_group_stopped)
			tracee_restart_call(target, tracee);
	}
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
	sigtrap_put_back(target, tracee);
	return true;
}

/* A signal that a tracer alone gets to see: without one it would have been
 * dropped at once, and no call would have ended because of it. */
static bool is_ignored(const struct tracee *tracee, int signal)
{
	struct tap_task task;
	_cleanup_error_ struct tap_error *err = tracee_read(tracee, &task);
	uint64_t bit = UINT64_C(1) << (signal - 1);

	if (err || (task.sig_caught & bit))
		return false;
	if (signal == SIGCONT && tracee->was_group_stopped)
		return false;
	return (task.sig_ignored & bit) || signal == SIGCHLD || signal == SIGURG ||
		signal == SIGWINCH || signal == SIGCONT;
}

static bool hit(struct tracee *tracee, struct tap_breakpoint *breakpoint, struct tap_event *ret)
{
	ret->kind = TAP_EVENT_BREAKPOINT;
	ret->tracee = &tracee->public;
	ret->breakpoint = breakpoint;
	return true;
}

/* A handler's frame must not keep a PC that lies in memory of ours: the area
 * goes, the frame stays. True where the thread stands in front of a stub's
 * breakpoint: that is a hit, taken now. */
static bool leave_area(struct tap_target *target, struct tracee *tracee, struct tap_event *ret)
{
	struct tap_regs *regs = &tracee->public.regs;
	struct tap_breakpoint *stub = tap_target_breakpoint_at(target, regs->rip);
	uint64_t out;

	if (stub && stub->leads_to && stub->planted)
		return hit(tracee, stub, ret);
	out = area_way_out(target, regs->rip);
	if (!out)
		return false;
	if (tap_target_breakpoint_at(target, out)) {
		tracee->again_addr = out;
		tracee->again_sp = regs->rsp;
	}
	regs->rip = out;
	tracee->public.regs_changed = true;
	return false;
}

static bool on_signal(
	struct tap_target *target, struct tracee *tracee, int signal, struct tap_event *ret)
{
	struct tap_regs *regs = &tracee->public.regs;

	tracee->signal = signal;
	if (!pt_get_regs(tracee->public.tid, regs)) {
		if (leave_area(target, tracee, ret))
			return true;
		if ((int64_t)regs->rax == -EINTR && (int64_t)regs->orig_rax >= 0 &&
			is_ignored(tracee, signal))
			tracee_restart_call(target, tracee);
	}
	if (signal == SIGCONT)
		tracee->was_group_stopped = false;
	tracee_continue(target, tracee, 0);
	return false;
}

/* The PC is at a breakpoint: a hit, unless it was one already when a signal
 * took the thread out of the slot. */
static bool on_breakpoint(struct tap_target *target, struct tracee *tracee, struct tap_event *ret)
{
	const struct tap_regs *regs = &tracee->public.regs;
	struct tap_breakpoint *breakpoint = tap_target_breakpoint_at(target, regs->rip);

	if (tracee->again_addr == regs->rip && tracee->again_sp == regs->rsp) {
		tracee->again_addr = 0;
		breakpoint_step_over(target, tracee, breakpoint);
		tracee_continue(target, tracee, 0);
		return false;
	}
	return hit(tracee, breakpoint, ret);
}

bool event_dispatch(struct tap_target *target, struct tracee *tracee, int status,
	struct tap_event *ret)
{
	bool event = false;

	*ret = (struct tap_event){0};
	target->stats.stops++;
	tracee->public.stops++;
	tracee->interrupted = false;
	tracee->vfork_child = 0;
	if (tracee->copied) {
		if (WIFSTOPPED(status))
			children_let_go(target, tracee);
		tracee_remove(target, tracee);
		return false;
	}
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
	case PTRACE_EVENT_VFORK_DONE:
		tracee->state = TRACEE_STOPPED;
		tracee_continue(target, tracee, 0);
		return false;
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
	if (WSTOPSIG(status) == SIGTRAP && event_rewind(target, tracee))
		return on_breakpoint(target, tracee, ret);
	if (WSTOPSIG(status) == SIGTRAP && sigtrap_is_ignored(target)) {
		tracee_continue(target, tracee, 0);
		return false;
	}
	return on_signal(target, tracee, WSTOPSIG(status), ret);
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

static void next(struct tap_target *target, struct tap_event *ret)
{
	for (;;) {
		struct tracee *tracee;
		int status;
		pid_t tid;

		if (take_queued(target, ret))
			return;
		if (target_take_kick()) {
			*ret = (struct tap_event){.kind = TAP_EVENT_TICK};
			return;
		}
		tid = waitpid(-1, &status, __WALL | __WNOTHREAD);
		if (tid < 0 && errno == EINTR)
			continue;
		if (tid < 0) {
			/* Reaped by somebody else, or never seen to end. */
			*ret = (struct tap_event){.kind = TAP_EVENT_EXIT, .exit_code = -1};
			target->exited = true;
			target->exit_code = -1;
			return;
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
			return;
	}
}

struct tap_error *tap_target_next(struct tap_target *target, struct tap_event *ret)
{
	/* Events that wait may name tracees that are gone. */
	if (!target->queue.count)
		free_gone(target);
	next(target, ret);
	if (ret->tracee)
		((struct tracee *)ret->tracee)->in_event = true;
	return NULL;
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
		if (!event_dispatch(target, tracee, status, &event))
			continue;
		if (target->deal)
			target->deal(target->deal_context, &event);
		tap_target_go(target, &event);
	}
}

void tap_target_go(struct tap_target *target, const struct tap_event *event)
{
	struct tracee *tracee = (struct tracee *)event->tracee;

	if (tracee)
		tracee->in_event = false;
	if (!tracee || event->kind == TAP_EVENT_THREAD_EXIT || event->kind == TAP_EVENT_EXEC)
		return;
	/* All were stopped and let go since. */
	if (tracee->state != TRACEE_STOPPED)
		return;
	if (event->kind == TAP_EVENT_BREAKPOINT)
		breakpoint_step_over(target, tracee, event->breakpoint);
	tracee_continue(target, tracee, 0);
}
