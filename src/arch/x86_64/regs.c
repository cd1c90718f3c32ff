/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <stddef.h>
#include <sys/user.h>
#include "heaptap/arch/regs.h"

#define SAME_PLACE(ours, theirs)                                                              \
	static_assert(                                                                        \
		offsetof(struct tap_regs, ours) == offsetof(struct user_regs_struct, theirs), \
		#ours " lies where the kernel puts " #theirs)

static_assert(sizeof(struct tap_regs) == sizeof(struct user_regs_struct), "the kernel's size");
SAME_PLACE(r15, r15);
SAME_PLACE(r14, r14);
SAME_PLACE(r13, r13);
SAME_PLACE(r12, r12);
SAME_PLACE(rbp, rbp);
SAME_PLACE(rbx, rbx);
SAME_PLACE(r11, r11);
SAME_PLACE(r10, r10);
SAME_PLACE(r9, r9);
SAME_PLACE(r8, r8);
SAME_PLACE(rax, rax);
SAME_PLACE(rcx, rcx);
SAME_PLACE(rdx, rdx);
SAME_PLACE(rsi, rsi);
SAME_PLACE(rdi, rdi);
SAME_PLACE(orig_rax, orig_rax);
SAME_PLACE(rip, rip);
SAME_PLACE(cs, cs);
SAME_PLACE(eflags, eflags);
SAME_PLACE(rsp, rsp);
SAME_PLACE(ss, ss);
SAME_PLACE(fs_base, fs_base);
SAME_PLACE(gs_base, gs_base);
SAME_PLACE(ds, ds);
SAME_PLACE(es, es);
SAME_PLACE(fs, fs);
SAME_PLACE(gs, gs);

uint64_t *tap_regs_dwarf(struct tap_regs *regs, unsigned number)
{
	uint64_t *const places[TAP_DWARF_REGS] = {
		&regs->rax,
		&regs->rdx,
		&regs->rcx,
		&regs->rbx,
		&regs->rsi,
		&regs->rdi,
		&regs->rbp,
		&regs->rsp,
		&regs->r8,
		&regs->r9,
		&regs->r10,
		&regs->r11,
		&regs->r12,
		&regs->r13,
		&regs->r14,
		&regs->r15,
		&regs->rip,
	};

	return number < TAP_DWARF_REGS ? places[number] : NULL;
}

uint64_t tap_regs_argument(const struct tap_regs *regs, unsigned index)
{
	const uint64_t arguments[] = {
		regs->rdi,
		regs->rsi,
		regs->rdx,
		regs->rcx,
		regs->r8,
		regs->r9,
	};

	assert(index < 6);
	return arguments[index];
}
