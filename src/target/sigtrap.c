/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program's own arrangement for SIGTRAP. A breakpoint in a thread that
 * blocks the signal, or in a program that ignores it, makes the kernel unblock
 * it and set the default action (kernel/signal.c, force_sig_info_to_task). Both
 * are put back at each hit, while the thread stands there.
 */
#include <assert.h>
#include <signal.h>
#include <sys/syscall.h>
#include "heaptap/base/log.h"
#include "heaptap/proc/tasks.h"
#include "target/internal.h"
#include "target/ptrace.h"
#include "target/restart.h"

#define SIGTRAP_BIT (UINT64_C(1) << (SIGTRAP - 1))
#define KERNEL_SIGSET_BYTES 8
static_assert(sizeof(struct kernel_sigaction) <= TAP_RESTART_ARGUMENT_BYTES, "room for it");

/* rt_sigaction() in a stopped thread: the action that is in force goes to *old
 * (where not NULL), *new (where not NULL) takes its place. The structure lies
 * above the frame of the injected call meanwhile. */
static struct tap_error *change_action(struct tap_target *target, struct tracee *tracee,
	const struct kernel_sigaction *new, struct kernel_sigaction *old)
{
	uint64_t at = (tracee->public.regs.rsp - TAP_RESTART_ROOM_BYTES + 15) & ~15ull;
	struct tap_error *err = NULL;
	int64_t result = 0;

	if (new)
		err = tap_memory_write(target->memory, at, new, sizeof(*new));
	if (!err)
		err = remote_call(target, tracee->public.tid, target->memory, &tracee->public.regs,
			SYS_rt_sigaction,
			(uint64_t[]){SIGTRAP, new ? at : 0, old ? at : 0, KERNEL_SIGSET_BYTES, 0, 0},
			&result);
	if (!err && result)
		err = tap_error_errno((int)-result, "the action of SIGTRAP in process %d", target->pid);
	if (!err && old && !tap_memory_try_read(target->memory, at, old, sizeof(*old)))
		err = tap_error_new(TAP_ERR_FAULT, "the action of SIGTRAP in process %d", target->pid);
	return err;
}

static struct tap_error *read_action(struct tap_target *target)
{
	bool was_running = false;
	struct tracee *tracee = tracee_pick(target, &was_running);
	struct tap_error *err;

	if (!tracee)
		return tap_error_new(TAP_ERR_TIMEOUT,
			"no thread of process %d can be stopped to look at SIGTRAP", target->pid);
	tracee_restart_call(target, tracee);
	leave_critical_section(target, tracee);
	err = change_action(target, tracee, NULL, &target->sigtrap_action);
	/* The call has left the registers as they were; to the kernel they are
	 * others. */
	if (tap_restart_kernel_by_hand(&tracee->public.regs))
		tracee->public.regs_changed = true;
	if (was_running)
		tracee_continue(target, tracee, 0);
	return err;
}

struct tap_error *tap_target_keep_sigtrap(struct tap_target *target)
{
	struct tap_error *err = read_action(target);
	struct tap_map_slot *slot;

	if (err)
		return err;
	target->keeps_sigtrap = true;
	for (size_t i = 0; tap_map_next(&target->tracees, &i, &slot);) {
		struct tracee *tracee = (struct tracee *)slot->value;
		struct tap_task task;
		_cleanup_error_ struct tap_error *gone = tracee_read(tracee, &task);

		tracee->blocks_sigtrap = !gone && (task.sig_blocked & SIGTRAP_BIT);
	}
	return NULL;
}

bool sigtrap_is_ignored(const struct tap_target *target)
{
	return target->keeps_sigtrap && target->sigtrap_action.handler == (uint64_t)SIG_IGN;
}

void sigtrap_put_back(struct tap_target *target, struct tracee *tracee)
{
	_cleanup_error_ struct tap_error *err = NULL;
	uint64_t mask;

	if (!target->keeps_sigtrap || (!tracee->blocks_sigtrap && !sigtrap_is_ignored(target)))
		return;
	err = change_action(target, tracee, &target->sigtrap_action, NULL);
	if (err)
		tap_log_warn("%s", err->message);
	if (tracee->blocks_sigtrap && !pt_get_sigmask(tracee->public.tid, &mask))
		pt_set_sigmask(tracee->public.tid, mask | SIGTRAP_BIT);
}
