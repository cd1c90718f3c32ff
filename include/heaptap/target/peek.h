/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_TARGET_PEEK_H
#define HEAPTAP_TARGET_PEEK_H

/*
 * One thread held still for as long as its registers and stack are read, and
 * let go as if nothing had been there.
 *
 * A thread that can be stopped without a trace is: PTRACE_SEIZE and
 * PTRACE_INTERRUPT, then PTRACE_DETACH. One that is blocked in a system call
 * which a stop would end early (target/restart.h), one in uninterruptible
 * sleep or in a frozen cgroup is not touched: /proc tells its stack pointer
 * and PC, and tap_peek_end() says whether it stood still meanwhile.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "heaptap/arch/regs.h"
#include "heaptap/base/error.h"

enum tap_peek_how {
	TAP_PEEK_STOPPED, /* stopped by ptrace: all registers are known */
	TAP_PEEK_BLOCKED, /* blocked, untouched: rsp and rip alone are known */
	TAP_PEEK_NONE,    /* neither: runs, and did not stop in time */
};

struct tap_peek {
	pid_t pid, tid;
	enum tap_peek_how how;
	struct tap_regs regs;
	bool group_stopped;   /* by SIGSTOP or the like; it stays so */
	int64_t syscall;      /* number of the system call it is blocked in, -1 for none */
	uint64_t held_ns;     /* set by tap_peek_end(): how long it was held */
	/* private */
	uint64_t begin_ns;
	uint64_t blocked_sp, blocked_pc;
};

/* GONE where the thread ended; PERMISSION (errnum set) where ptrace is
 * refused; BUSY where another traces it. Takes at most timeout_ms. Begin and
 * end are called from the same thread. */
struct tap_error *tap_peek_begin(pid_t pid, pid_t tid, unsigned timeout_ms, struct tap_peek *ret);

/* Lets the thread go. True: it stood still all the time. */
bool tap_peek_end(struct tap_peek *peek);

#endif
