/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TARGET_SECCOMP_H
#define TARGET_SECCOMP_H

/*
 * What a seccomp filter answers to a system call, without making it: pure
 * functions over the instructions that PTRACE_SECCOMP_GET_FILTER gives, which
 * are classic BPF (kernel: seccomp_check_filter() of kernel/seccomp.c says
 * which of it, bpf_check_classic() of net/core/filter.c the rest).
 *
 * Of a call that is still to be made not everything is known: from where, with
 * which addresses. A filter is run over what is known and what is not at once,
 * each instruction one time at most: where it decides by something unknown,
 * both ways are followed, and the strictest answer counts. It is never more
 * lenient than the kernel's own; it may be stricter. Instructions that the
 * kernel would have refused are answered as the strictest there is.
 */

#include <stddef.h>
#include <stdint.h>
#include <linux/filter.h>
#include <linux/seccomp.h>

/* Filters read struct seccomp_data in words of 32 bits. */
#define SECCOMP_WORDS (sizeof(struct seccomp_data) / sizeof(uint32_t))

/* A system call as a filter sees it. */
struct seccomp_call {
	struct seccomp_data data;
	uint16_t unknown; /* bit n: the n-th word of data can be anything */
};

/* Marks the instruction pointer, or an argument (0 to 5), as unknown. */
void seccomp_forget_pc(struct seccomp_call *call);
void seccomp_forget_argument(struct seccomp_call *call, unsigned index);

/* The strictest answer to the call that is possible: an action and its data, as
 * SECCOMP_RET_ACTION_FULL and SECCOMP_RET_DATA part them. */
uint32_t seccomp_evaluate(
	const struct sock_filter *insns, size_t count, const struct seccomp_call *call);

/* Of two filters' answers the one that the kernel follows. */
uint32_t seccomp_stricter(uint32_t a, uint32_t b);

/* What an answer does to the call or its thread, for a message: "would end the
 * process for it". */
const char *seccomp_action_text(uint32_t answer);

#endif
