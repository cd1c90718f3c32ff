/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include "heaptap/arch/cpu.h"
#include "heaptap/base/alloc.h"
#include "heaptap/base/clock.h"
#include "heaptap/base/cleanup.h"
#include "heaptap/proc/maps.h"
#include "heaptap/proc/tasks.h"
#include "target/internal.h"
#include "target/ptrace.h"
#include "target/restart.h"

#define XSTATE_MAX_BYTES 16384
#define FRAME_MAX_BYTES (TAP_CPU_FRAME_MAX + 64)
#define FRAME_ALIGN_BYTES 64
#define CALL_BOUND_NS UINT64_C(2000000000)
#define SCAN_PIECE_BYTES (64 << 10)
#define SCAN_MAX_BYTES (64u << 20) /* of one mapping */
#define SYSCALL_STOP (SIGTRAP | 0x80)
#define ALL_SIGNALS UINT64_MAX

/* A system call to be injected. */
struct call {
	long number;
	uint64_t arguments[6];
	bool clones;     /* arguments[1] becomes a stack for the child */
	int exit_code;   /* the child's */
	pid_t child;     /* the one that came of it */
};

/* A signal frame that is to be laid on a thread's stack. */
struct frame {
	const struct tap_regs *resume; /* what its return leads to */
	uint64_t mask;
	const uint8_t *xstate;         /* NULL: as a program begins with */
	size_t xstate_size;
	uint64_t stack;                /* the thread's stack pointer */
	uint64_t end;                  /* what it has to lie below */
};

/* The address of a byte pattern in a mapping, 0 where it is not there. */
static uint64_t scan(struct tap_memory *memory, const struct tap_mapping *mapping,
	const uint8_t *pattern, size_t pattern_size)
{
	_cleanup_free_ uint8_t *piece = tap_alloc(SCAN_PIECE_BYTES);
	uint64_t end = mapping->end;

	if (end - mapping->start > SCAN_MAX_BYTES)
		end = mapping->start + SCAN_MAX_BYTES;
	/* Pieces overlap, so that a pattern across a border is found. */
	for (uint64_t at = mapping->start; at < end; at += SCAN_PIECE_BYTES - 16) {
		/* Not a byte further: what follows need not be executable. */
		size_t wanted = end - at < SCAN_PIECE_BYTES ? (size_t)(end - at) :
							      SCAN_PIECE_BYTES;
		size_t got = tap_memory_read_some(memory, at, piece, wanted);
		uint8_t *found = got ? memmem(piece, got, pattern, pattern_size) : NULL;

		if (found)
			return at + (uint64_t)(found - piece);
	}
	return 0;
}

/* What was found may have been unmapped since. */
static bool is_there(
	struct tap_memory *memory, uint64_t addr, const uint8_t *pattern, size_t pattern_size)
{
	uint8_t bytes[16];

	return addr && pattern_size <= sizeof(bytes) &&
		tap_memory_try_read(memory, addr, bytes, pattern_size) &&
		!memcmp(bytes, pattern, pattern_size);
}

/* Code that is already in the target: a system call behind which a return
 * comes, and the trampoline that ends signal handlers. */
static struct tap_error *find_code(struct tap_target *target)
{
	struct tap_maps maps = {0};
	struct tap_error *err;

	if (is_there(target->memory, target->sigreturn, tap_cpu_sigreturn,
		    sizeof(tap_cpu_sigreturn)) &&
		is_there(target->memory, target->syscall_ret, tap_cpu_syscall_ret,
			sizeof(tap_cpu_syscall_ret)))
		return NULL;
	target->sigreturn = target->syscall_ret = 0;
	err = tap_maps_read(target->pid, &maps);
	if (err)
		return err;
	for (size_t i = 0; i < maps.count; i++) {
		const struct tap_mapping *mapping = &maps.items[i];

		if (!mapping->executable || !mapping->readable || !mapping->inode)
			continue;
		if (!target->sigreturn)
			target->sigreturn = scan(target->memory, mapping, tap_cpu_sigreturn,
				sizeof(tap_cpu_sigreturn));
		if (!target->syscall_ret)
			target->syscall_ret = scan(target->memory, mapping, tap_cpu_syscall_ret,
				sizeof(tap_cpu_syscall_ret));
	}
	tap_maps_deinit(&maps);
	if (!target->syscall_ret || !target->sigreturn)
		return tap_error_new(TAP_ERR_UNSUPPORTED,
			"no system call in process %d can be borrowed: its code has no "
			"'syscall; ret' or no signal return",
			target->pid);
	return NULL;
}

void remote_prepare(struct tap_target *target)
{
	tap_error_free(find_code(target));
}

/* Suspends what filters there are. Also where there is none: another thread may
 * set one for all of them before the call is made. */
static struct tap_error *check_allowed(struct tap_target *target, pid_t tid)
{
	struct tap_task task;
	struct tap_error *err = tap_task_read(tid, tid, &task);

	if (err)
		return err;
	if (task.shadow_stack)
		return tap_error_new(TAP_ERR_UNSUPPORTED,
			"thread %d has a shadow stack: nothing can be injected", tid);
	if (pt_set_options(tid, TRACE_OPTIONS | PTRACE_O_SUSPEND_SECCOMP) && task.seccomp)
		return tap_error_advise(
			tap_error_new(TAP_ERR_UNSUPPORTED,
				"process %d filters its system calls (seccomp)", target->pid),
			"run heaptap as root, which may suspend the filter for its own call");
	return NULL;
}

/* The kernel asks for no more room when it delivers a signal; but a thread may
 * have blocked them all because its stack is small. */
static bool has_room(pid_t tid, uint64_t at, uint64_t rsp)
{
	struct tap_maps maps = {0};
	_cleanup_error_ struct tap_error *err = tap_maps_read(tid, &maps);
	const struct tap_mapping *mapping = err ? NULL : tap_maps_find(&maps, rsp - 1);
	bool room = mapping && mapping->writable &&
		(at >= mapping->start || !strcmp(mapping->path, "[stack]"));

	tap_maps_deinit(&maps);
	return room;
}

static struct tap_error *lay(struct tap_target *target, pid_t tid, struct tap_memory *memory,
	const struct frame *frame, uint64_t *at_ret)
{
	_cleanup_free_ uint8_t *bytes = tap_alloc(FRAME_MAX_BYTES);
	uint64_t at = 0;
	size_t size;

	/* Twice: its size, which is the same for every aligned place, says where
	 * it begins. */
	for (int i = 0; i < 2; i++) {
		size = tap_cpu_signal_frame(bytes, FRAME_MAX_BYTES, at, target->sigreturn,
			frame->resume, frame->mask, frame->xstate, frame->xstate_size);
		if (!size)
			return tap_error_new(TAP_ERR_UNSUPPORTED,
				"the vector registers of thread %d do not fit a signal frame", tid);
		at = (frame->end - size) & ~(uint64_t)(FRAME_ALIGN_BYTES - 1);
	}
	if (!has_room(tid, at, frame->stack))
		return tap_error_new(
			TAP_ERR_UNSUPPORTED, "the stack of thread %d has no room", tid);
	*at_ret = at;
	return tap_error_wrap(tap_memory_write(memory, at, bytes, size),
		"the stack of thread %d has no room", tid);
}

/* Lays the frame that undoes the call by itself: where we are killed half
 * way, the kernel returns the thread to `resume` all the same. */
static struct tap_error *lay_frame(struct tap_target *target, pid_t tid, struct tap_memory *memory,
	const struct tap_regs *resume, uint64_t mask, uint64_t *at_ret)
{
	_cleanup_free_ uint8_t *xstate = tap_alloc(XSTATE_MAX_BYTES);
	struct frame frame = {
		.resume = resume,
		.mask = mask,
		.xstate = xstate,
		.stack = resume->rsp,
		.end = resume->rsp - TAP_RESTART_ROOM_BYTES,
	};

	if (pt_get_xstate(tid, xstate, XSTATE_MAX_BYTES, &frame.xstate_size))
		return tap_error_new(TAP_ERR_UNSUPPORTED,
			"the vector registers of thread %d cannot be read", tid);
	return lay(target, tid, memory, &frame, at_ret);
}

/* A stack for a child, which leads to its end. */
static struct tap_error *lay_child(struct tap_target *target, pid_t tid, struct tap_memory *memory,
	const struct tap_regs *stopped, uint64_t below, struct call *call)
{
	struct tap_regs exit = *stopped;
	const struct frame frame = {
		.resume = &exit,
		.mask = ALL_SIGNALS,
		.stack = stopped->rsp,
		.end = below,
	};

	exit.rip = target->syscall_ret;
	exit.rax = SYS_exit_group;
	exit.rdi = (uint64_t)call->exit_code;
	exit.rsp = below;
	return lay(target, tid, memory, &frame, &call->arguments[1]);
}

/* Stops on the way to the exit of an injected call that are not its own. The
 * signal to go on with: SIGSTOP comes in spite of the mask, and is not ours to
 * swallow; the group stop that follows is left to whoever continues the
 * thread. */
static int pass(struct tap_target *target, pid_t tid, int status, struct call *call)
{
	struct tracee *tracee = tracee_find(target, tid);
	unsigned long message;

	if (status >> 16 == 0)
		return WSTOPSIG(status);
	if (status >> 16 == PTRACE_EVENT_CLONE && call->clones && !pt_get_event(tid, &message))
		call->child = (pid_t)message;
	if (status >> 16 == PTRACE_EVENT_STOP && WSTOPSIG(status) != SIGTRAP && tracee)
		tracee->group_stopped = true;
	return 0;
}

/* To the exit of the injected call. */
static int run_call(struct tap_target *target, pid_t tid, struct call *call)
{
	uint64_t deadline = tap_clock_ns() + CALL_BOUND_NS;
	int seen = 0, signal = 0;

	while (seen < 2) {
		int status, result = pt_syscall(tid, signal);

		if (result < 0)
			return result;
		result = pt_wait(tid, deadline, &status);
		if (result <= 0)
			return result ? result : -ETIMEDOUT;
		if (!WIFSTOPPED(status))
			return -ESRCH;
		signal = 0;
		if (WSTOPSIG(status) == SYSCALL_STOP)
			seen++;
		else
			signal = pass(target, tid, status, call);
	}
	return 0;
}

static struct tap_error *inject(struct tap_target *target, pid_t tid, struct tap_memory *memory,
	const struct tap_regs *stopped, struct call *call, int64_t *result_ret)
{
	static const struct tap_restart_origin unknown;
	const struct tracee *tracee = tracee_find(target, tid);
	struct tap_regs regs = *stopped, resume = *stopped, undo = *stopped;
	uint64_t mask, at = 0;
	struct tap_error *err;
	int result;

	if (pt_get_sigmask(tid, &mask))
		return tap_error_errno(ESRCH, "signal mask of thread %d", tid);
	/* The registers will not be as the kernel left them: it cannot restart
	 * an interrupted call by itself. */
	tap_restart_kernel_by_hand(&resume);
	tap_restart_afresh(&undo, tracee ? &tracee->origin : &unknown);
	err = lay_frame(target, tid, memory, &undo, mask, &at);
	if (!err && call->clones)
		err = lay_child(target, tid, memory, stopped, at, call);
	if (err)
		return err;
	regs.rip = target->syscall_ret;
	regs.rsp = at;
	regs.rax = (uint64_t)call->number;
	regs.orig_rax = UINT64_MAX;
	regs.rdi = call->arguments[0];
	regs.rsi = call->arguments[1];
	regs.rdx = call->arguments[2];
	regs.r10 = call->arguments[3];
	regs.r8 = call->arguments[4];
	regs.r9 = call->arguments[5];
	/* Registers before the mask, and at the end the mask before the
	 * registers: whenever we are killed the frame is still in force. */
	result = pt_set_regs(tid, &regs);
	if (!result)
		result = pt_set_sigmask(tid, ALL_SIGNALS);
	if (!result)
		result = run_call(target, tid, call);
	if (!result)
		result = pt_get_regs(tid, &regs);
	*result_ret = (int64_t)regs.rax;
	pt_set_sigmask(tid, mask);
	pt_set_regs(tid, &resume);
	if (result)
		return tap_error_errno(
			-result, "injected system call %ld in thread %d", call->number, tid);
	return NULL;
}

static struct tap_error *make_call(struct tap_target *target, pid_t tid, struct tap_memory *memory,
	const struct tap_regs *stopped, struct call *call, int64_t *result_ret)
{
	struct tap_error *err = find_code(target);

	if (!err)
		err = check_allowed(target, tid);
	if (err)
		return err;
	err = inject(target, tid, memory, stopped, call, result_ret);
	/* However it went: the program's filters are in force again. */
	pt_set_options(tid, TRACE_OPTIONS);
	return err;
}

struct tap_error *remote_call(struct tap_target *target, pid_t tid, struct tap_memory *memory,
	const struct tap_regs *stopped, long number, const uint64_t arguments[6],
	int64_t *result_ret)
{
	struct call call = {.number = number};

	memcpy(call.arguments, arguments, sizeof(call.arguments));
	return make_call(target, tid, memory, stopped, &call, result_ret);
}

struct tap_error *remote_clone(struct tap_target *target, pid_t tid, const struct tap_regs *stopped,
	uint64_t flags, int exit_code, pid_t *child_ret, int64_t *result_ret)
{
	struct call call = {
		.number = SYS_clone,
		.arguments = {flags},
		.clones = true,
		.exit_code = exit_code,
	};
	struct tap_error *err =
		make_call(target, tid, target->memory, stopped, &call, result_ret);

	*child_ret = call.child;
	return err;
}

struct tap_error *remote_call_in(struct tap_target *target, struct tracee *tracee, long number,
	const uint64_t arguments[6], int64_t *result_ret)
{
	struct tap_error *err;

	tracee_restart_call(target, tracee);
	leave_critical_section(target, tracee);
	err = remote_call(target, tracee->public.tid, target->memory, &tracee->public.regs, number,
		arguments, result_ret);
	/* The call has left them as they were; to the kernel they are others. */
	if (tap_restart_kernel_by_hand(&tracee->public.regs))
		tracee->public.regs_changed = true;
	return err;
}

struct tap_error *remote_call_anywhere(
	struct tap_target *target, long number, const uint64_t arguments[6], int64_t *result_ret)
{
	bool was_running = false;
	struct tracee *tracee = tracee_pick(target, &was_running);
	struct tap_error *err;

	if (!tracee)
		return tap_error_new(TAP_ERR_TIMEOUT,
			"no thread of process %d can be stopped without a system call of its own "
			"ending early",
			target->pid);
	err = remote_call_in(target, tracee, number, arguments, result_ret);
	if (was_running)
		tracee_continue(target, tracee, 0);
	return err;
}
