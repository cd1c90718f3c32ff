/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_ARCH_CPU_H
#define HEAPTAP_ARCH_CPU_H

/*
 * What the ptrace code must know of a CPU and cannot say in C: the frame that
 * makes an injected system call undo itself, and the code of a stub.
 */

#include <stddef.h>
#include <stdint.h>
#include "heaptap/arch/regs.h"

/* Where to look for a system call instruction followed by a return. */
extern const uint8_t tap_cpu_syscall_ret[3];
/* mov $15,%rax; syscall: rt_sigreturn's trampoline, followed by nothing. */
extern const uint8_t tap_cpu_sigreturn[9];

/* The calling convention as a seccomp filter sees it (linux/audit.h), and the
 * number of the call that the trampoline makes. */
extern const uint32_t tap_cpu_audit_arch;
extern const int tap_cpu_sigreturn_number;

/* A signal frame whose return restores `regs` and the signal mask, to be laid
 * at `at` with the trampoline's address in its first word: where rsp points
 * when the injected call's `ret` runs. `at` needs no alignment for the kernel;
 * let it be 16-byte aligned all the same, as a stack is.
 * The thread's signal stack stays as it is, orig_rax becomes -1.
 * xsave: the thread's extended state (NT_X86_XSTATE, as PTRACE_GETREGSET gives
 * it), which is carried along. NULL: the kernel sets the thread's extended
 * state to its initial values: vector registers are lost, and so are MXCSR and
 * the x87 control word (rounding, flush-to-zero), which a program may rely on
 * across a system call. Pass it wherever it can be read.
 * Returns the size; 0 where capacity is too small (TAP_CPU_FRAME_MAX always
 * suffices for what ptrace gives up to 11 KiB of state) or xsave is cut off.
 * The layout is struct rt_sigframe of arch/x86/include/asm/sigframe.h, its
 * ucontext alone. */
#define TAP_CPU_FRAME_MAX 16384
size_t tap_cpu_signal_frame(uint8_t *frame, size_t capacity, uint64_t at, uint64_t trampoline,
	const struct tap_regs *regs, uint64_t signal_mask, const uint8_t *xsave, size_t xsave_bytes);

/* A stub for one entry of an allocator table: a breakpoint, then a jump to
 * `original`. Its size is TAP_CPU_STUB bytes. */
#define TAP_CPU_STUB 32
void tap_cpu_stub(uint8_t code[TAP_CPU_STUB], uint64_t original);

#endif
