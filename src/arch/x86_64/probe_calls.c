/* SPDX-License-Identifier: Apache-2.0 */
#include "heaptap/arch/probe.h"
#include "probe_calls.h"

/* The record's futex, its word, and a timespec on the thread's stack. */
#define WAIT_UNKNOWN (1u << 0 | 1u << 2 | 1u << 3)

const struct tap_probe_call tap_probe_calls[TAP_PROBE_CALLS] = {
	{"futex", SYS_FUTEX, {0, FUTEX_OP_WAIT_BITSET, 0, 0, 0, ANY_BIT}, WAIT_UNKNOWN},
	{"futex", SYS_FUTEX, {0, FUTEX_OP_WAKE, 1, 0, 0, 0}, 1u << 0},
	{"clock_gettime", SYS_CLOCK_GETTIME, {MONOTONIC, 0, 0, 0, 0, 0}, 1u << 1},
	/* After a stop without a signal's handler the kernel goes on with the wait
	 * by this one, in its registers (kernel/futex, futex_wait_restart). */
	{"restart_syscall", SYS_RESTART_SYSCALL, {0, FUTEX_OP_WAIT_BITSET, 0, 0, 0, ANY_BIT},
		WAIT_UNKNOWN},
};
