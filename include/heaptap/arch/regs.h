/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_ARCH_REGS_H
#define HEAPTAP_ARCH_REGS_H

/*
 * General registers of a thread. The layout is the kernel's (NT_PRSTATUS,
 * struct user_regs_struct of <sys/user.h>), asserted in arch/x86_64/regs.c,
 * so that ptrace reads and writes it in place. Never the extended state.
 */

#include <stdbool.h>
#include <stdint.h>

struct tap_regs {
	uint64_t r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8;
	uint64_t rax, rcx, rdx, rsi, rdi, orig_rax;
	uint64_t rip, cs, eflags, rsp, ss;
	uint64_t fs_base, gs_base, ds, es, fs, gs;
};

/* DWARF numbers of the x86-64 psABI, figure 3.36: 0 rax, 1 rdx, 2 rcx, 3 rbx,
 * 4 rsi, 5 rdi, 6 rbp, 7 rsp, 8 to 15 r8 to r15, 16 return address (rip). */
#define TAP_DWARF_REGS 17
#define TAP_DWARF_RBX 3
#define TAP_DWARF_RBP 6
#define TAP_DWARF_RSP 7
#define TAP_DWARF_RIP 16

/* NULL for a number of no general register. */
uint64_t *tap_regs_dwarf(struct tap_regs *regs, unsigned number);

/* The calling convention at a function's first instruction (System V). */
uint64_t tap_regs_argument(const struct tap_regs *regs, unsigned index); /* 0 to 5 */

#endif
