/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ARCH_X86_64_PROBE_CALLS_H
#define ARCH_X86_64_PROBE_CALLS_H

/* The system calls of the probe's slow path. Whoever adds one there adds it to
 * tap_probe_calls, too: a filter of the target may end it for any other. */

#define SYS_FUTEX 202
#define SYS_RESTART_SYSCALL 219
#define SYS_CLOCK_GETTIME 228
#define FUTEX_OP_WAKE 1
#define FUTEX_OP_WAIT_BITSET 9
#define ANY_BIT 0xffffffffu
#define MONOTONIC 1

#endif
