/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include "heaptap/base/clock.h"
#include "heaptap/memory/memory.h"
#include "heaptap/proc/cgroup.h"
#include "heaptap/proc/tasks.h"
#include "heaptap/target/peek.h"
#include "target/ptrace.h"
#include "target/restart.h"

#define NS_PER_MS UINT64_C(1000000)

/* PTRACE_EVENT_STOP of <linux/ptrace.h>, in the status's third byte. */
#define EVENT_STOP 128

/* Registers that /proc tells of a blocked thread. */
static void read_blocked(struct tap_peek *peek, const struct tap_task_syscall *call)
{
	if (!call->blocked)
		return;
	memset(&peek->regs, 0, sizeof(peek->regs));
	peek->regs.rip = peek->blocked_pc = call->pc;
	peek->regs.rsp = peek->blocked_sp = call->sp;
	peek->regs.orig_rax = (uint64_t)call->number;
	peek->syscall = call->number;
	peek->how = TAP_PEEK_BLOCKED;
}

static struct tap_error *refused(pid_t tid, int errnum)
{
	struct tap_task task;

	if (errnum == EPERM) {
		_cleanup_error_ struct tap_error *gone = tap_task_read(tid, tid, &task);

		if (gone)
			return tap_error_errno(ESRCH, "thread %d", tid);
	}
	return tap_error_errno(errnum, "cannot attach to thread %d", tid);
}

/* A signal that would be handled as soon as the thread goes on? Then an EINTR
 * is that signal's, not ours. */
static bool has_signal_to_come(pid_t pid, pid_t tid)
{
	struct tap_task task;
	_cleanup_error_ struct tap_error *err = tap_task_read(pid, tid, &task);

	return !err && (task.sig_pending & ~task.sig_blocked & ~task.sig_ignored);
}

/* Until the thread reports our interrupt. Other stops that come first are let
 * pass with their signal. */
static int wait_for_stop(struct tap_peek *peek, uint64_t deadline_ns)
{
	for (;;) {
		int status;
		int got = pt_wait(peek->tid, deadline_ns, &status);

		if (got <= 0)
			return got;
		if (!WIFSTOPPED(status))
			return -ESRCH;
		if (status >> 16 == EVENT_STOP) {
			peek->group_stopped = WSTOPSIG(status) != SIGTRAP;
			return 1;
		}
		pt_continue(peek->tid, WSTOPSIG(status));
	}
}

struct tap_error *tap_peek_begin(pid_t pid, pid_t tid, unsigned timeout_ms, struct tap_peek *ret)
{
	struct tap_task_syscall call = {0};
	struct tap_task task;
	struct tap_error *err;
	bool asleep;
	int result;

	memset(ret, 0, sizeof(*ret));
	ret->pid = pid;
	ret->tid = tid;
	ret->syscall = -1;
	ret->how = TAP_PEEK_NONE;
	ret->begin_ns = tap_clock_ns();
	err = tap_task_read(pid, tid, &task);
	if (err)
		return err;
	asleep = task.state == 'D' || tap_cgroup_is_frozen(pid);
	if (tap_task_try_syscall(pid, tid, &call) && call.blocked &&
		(asleep || tap_restart_kind(pid, &call) != TAP_RESTART_KERNEL)) {
		read_blocked(ret, &call);
		return NULL;
	}
	if (asleep)
		return NULL;
	result = pt_seize(tid, 0);
	if (result < 0)
		return refused(tid, -result);
	result = pt_interrupt(tid);
	if (!result)
		result = wait_for_stop(ret, ret->begin_ns + timeout_ms * NS_PER_MS);
	if (result < 0)
		return tap_error_errno(-result, "thread %d", tid);
	if (!result) {
		/* It sleeps where no stop reaches it. What it holds is let go
		 * when this thread ends; until then it can be read as blocked. */
		if (tap_task_try_syscall(pid, tid, &call))
			read_blocked(ret, &call);
		return NULL;
	}
	result = pt_get_regs(tid, &ret->regs);
	if (result < 0)
		return tap_error_errno(-result, "registers of thread %d", tid);
	ret->how = TAP_PEEK_STOPPED;
	ret->syscall = (int64_t)ret->regs.orig_rax;
	return NULL;
}

/* The call was begun between the look at it and the stop, so that hardly any
 * of its time has passed. */
static void restart_call(struct tap_peek *peek)
{
	_cleanup_memory_ struct tap_memory *memory = NULL;
	_cleanup_error_ struct tap_error *err = NULL;
	struct tap_restart_memo memo = {0};
	struct tap_regs regs = peek->regs;

	/* Out of a group stop such a call ends with EINTR by itself. */
	if ((int64_t)regs.rax != -EINTR || peek->group_stopped ||
		has_signal_to_come(peek->pid, peek->tid))
		return;
	err = tap_memory_open(peek->pid, true, &memory);
	if (!err && tap_restart_interrupted(&regs, memory, tap_clock_ns(), peek->begin_ns, &memo))
		pt_set_regs(peek->tid, &regs);
}

bool tap_peek_end(struct tap_peek *peek)
{
	struct tap_task_syscall call = {0};
	bool still = false;

	if (peek->how == TAP_PEEK_STOPPED) {
		restart_call(peek);
		pt_detach(peek->tid, 0);
		still = true;
		peek->held_ns = tap_clock_ns() - peek->begin_ns;
	} else if (peek->how == TAP_PEEK_BLOCKED) {
		still = tap_task_try_syscall(peek->pid, peek->tid, &call) && call.blocked &&
			call.sp == peek->blocked_sp && call.pc == peek->blocked_pc;
	}
	peek->how = TAP_PEEK_NONE;
	return still;
}
