/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TARGET_RESTART_H
#define TARGET_RESTART_H

/*
 * System calls that go on as if no stop had been there.
 *
 * Most blocked calls are restarted by the kernel after a stop. Some end with
 * EINTR instead (signal(7), "Interruption of system calls ... by stop
 * signals"): those are left alone where they can be, and called again by hand
 * where a stop could not be avoided, with the time that they had left.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "heaptap/arch/regs.h"
#include "heaptap/memory/memory.h"
#include "heaptap/proc/tasks.h"

/* What lies below a thread's stack pointer and is not free: the red zone, the
 * timespec of a call that is made again, and at the far end what an injected
 * call points to. As little as can be: a stack may be small. */
#define TAP_RESTART_ROOM_BYTES 224
#define TAP_RESTART_ARGUMENT_BYTES 32 /* after alignment to 16 */

enum tap_restart_kind {
	TAP_RESTART_KERNEL,  /* the kernel restarts it */
	TAP_RESTART_BY_HAND, /* ends with EINTR, can be called again with its time left */
	TAP_RESTART_NEVER,   /* ends early and its time left cannot be given: do not stop it */
};

/* What a stop would do to a thread of pid that is blocked in call. */
enum tap_restart_kind tap_restart_kind(pid_t pid, const struct tap_task_syscall *call);

/* Regs of a thread that was stopped inside a system call, as seen in the
 * stop. Where the kernel would restart the call only if the registers stay as
 * they are, and they will not (a call is injected), the same is done by hand.
 * True: regs were changed. */
bool tap_restart_kernel_by_hand(struct tap_regs *regs);

/* What a thread's restart_syscall stands for, where it was seen to begin. */
struct tap_restart_origin {
	uint64_t pc;
	uint64_t number;
};

/* Takes a note of a stop inside a call that the kernel counts the time of. */
void tap_restart_note_origin(const struct tap_regs *regs, struct tap_restart_origin *origin);

/* As tap_restart_kernel_by_hand(), for registers that are taken up behind a
 * signal return, where the kernel has forgotten how to go on with a call that
 * it counts the time of: it begins afresh. */
bool tap_restart_afresh(struct tap_regs *regs, const struct tap_restart_origin *origin);

/* A call that was made again by hand, in case it is interrupted once more.
 * Zero-initialised it is none. One for each thread. */
struct tap_restart_memo {
	uint64_t pc;       /* behind the system call instruction */
	uint64_t original; /* the timeout argument as the program gave it */
	uint64_t value;    /* and as it was set */
	uint64_t end_ns;   /* when the call is to end */
};

/* Has a stop ended the call of these registers with EINTR, or is it one that the
 * kernel would make again with its whole time? */
bool tap_restart_is_cut_short(const struct tap_regs *regs);

/* Where the stop alone made the call end so: regs are set so that it
 * is made again with the time that it has left at now_ns. since_ns: when the
 * call began, 0 where that is not known (it gets its whole time again, once).
 * The far side of the stack's red zone takes an adjusted timespec. False:
 * nothing of the kind. The caller knows that no signal is about to be
 * handled. */
bool tap_restart_interrupted(struct tap_regs *regs, struct tap_memory *memory, uint64_t now_ns,
	uint64_t since_ns, struct tap_restart_memo *memo);

#endif
