/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TARGET_PTRACE_H
#define TARGET_PTRACE_H

/* The ptrace requests that are used, typed. Each returns 0 or a negative
 * errno; -ESRCH is ordinary (the tracee died, or is not stopped). */

#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "heaptap/arch/regs.h"

/* Options of every tracee. Never PTRACE_O_EXITKILL: the target outlives us. */
#define TRACE_OPTIONS                                                                              \
	(PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK |  \
		PTRACE_O_TRACEVFORKDONE | PTRACE_O_TRACEEXEC)

int pt_seize(pid_t tid, unsigned long options);
int pt_interrupt(pid_t tid);
int pt_continue(pid_t tid, int signal);
int pt_syscall(pid_t tid, int signal); /* to the next entry or exit of a system call */
int pt_listen(pid_t tid);
int pt_detach(pid_t tid, int signal);
int pt_get_regs(pid_t tid, struct tap_regs *regs);
int pt_set_regs(pid_t tid, const struct tap_regs *regs);
int pt_get_xstate(pid_t tid, uint8_t *buf, size_t capacity, size_t *size_ret);
int pt_get_sigmask(pid_t tid, uint64_t *mask_ret);
int pt_set_sigmask(pid_t tid, uint64_t mask);
int pt_get_siginfo(pid_t tid, siginfo_t *info);
int pt_get_event(pid_t tid, unsigned long *message_ret);
/* Where the thread's struct rseq lies; 0: it has registered none. */
int pt_get_rseq(pid_t tid, uint64_t *addr_ret);
/* The number of instructions of a seccomp filter, the youngest is 0; insns may
 * be NULL. -ENOENT behind the last, -EACCES without CAP_SYS_ADMIN in the initial
 * user namespace, or where we are filtered ourselves. */
struct sock_filter;
int pt_get_seccomp_filter(pid_t tid, unsigned long index, struct sock_filter *insns);
int pt_set_options(pid_t tid, unsigned long options);

/* Waits for a stop of tid alone: > 0 where *status_ret is set, 0 where the
 * time passed, negative errno where it is gone (its status was taken, or it
 * was never ours). */
int pt_wait(pid_t tid, uint64_t deadline_ns, int *status_ret);

#endif
