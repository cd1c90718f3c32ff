/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What surrounds a sampled call. Part of the common code that is copied into
 * the target: position-independent, and reaching nothing outside of its own
 * section. Entered by a jump of an instance (probe.c) with, on the stack,
 *
 *	rsp + 0    the instance's descriptor, struct desc of probe_slow.c
 *	rsp + 8    the thread's slot, or 0
 *	rsp + 16   the caller's return address
 */

/* Offsets in struct frame of probe_slow.c; pushed in this order's reverse. */
#define F_R11 0
#define F_R10 8
#define F_R9 16
#define F_R8 24
#define F_RCX 32
#define F_RDX 40
#define F_RSI 48
#define F_RDI 56
#define F_R15 64
#define F_R14 72
#define F_R13 80
#define F_R12 88
#define F_RBP 96
#define F_RBX 104
#define F_RESULT 112
#define F_CELL 120
#define F_CELL_WORD 128
#define F_GAP 136
#define F_INTERVAL 144
#define F_DESC 152
#define F_SLOT 160
#define F_SIZE 152 /* of what is saved here, up to the descriptor */

#define DESC_ORIGINAL 0

	.section tap_probe, "ax", @progbits

	.macro SAVE
	sub $40, %rsp /* result, cell, cell's word, gap, interval */
	push %rbx
	push %rbp
	push %r12
	push %r13
	push %r14
	push %r15
	push %rdi
	push %rsi
	push %rdx
	push %rcx
	push %r8
	push %r9
	push %r10
	push %r11
	mov %rsp, %rbx
	/* Flags that C code takes for granted. */
	cld
	.endm

	.macro LOAD_CALLER_SAVED
	mov F_RDI(%rbx), %rdi
	mov F_RSI(%rbx), %rsi
	mov F_RDX(%rbx), %rdx
	mov F_RCX(%rbx), %rcx
	mov F_R8(%rbx), %r8
	mov F_R9(%rbx), %r9
	mov F_R10(%rbx), %r10
	mov F_R11(%rbx), %r11
	.endm

	.macro STORE_CALLER_SAVED
	mov %rdi, F_RDI(%rbx)
	mov %rsi, F_RSI(%rbx)
	mov %rdx, F_RDX(%rbx)
	mov %rcx, F_RCX(%rbx)
	mov %r8, F_R8(%rbx)
	mov %r9, F_R9(%rbx)
	mov %r10, F_R10(%rbx)
	mov %r11, F_R11(%rbx)
	.endm

	/* Everything as it was at the entry; rax is the descriptor. */
	.macro UNWIND_TO_ENTRY
	mov %rbx, %rsp
	pop %r11
	pop %r10
	pop %r9
	pop %r8
	pop %rcx
	pop %rdx
	pop %rsi
	pop %rdi
	pop %r15
	pop %r14
	pop %r13
	pop %r12
	pop %rbp
	pop %rbx
	add $40, %rsp
	pop %rax
	add $8, %rsp
	movq $0, -16(%rsp) /* the descriptor: an address of ours too */
	.endm

	/* Calls, and takes the return address from the dead part of the stack:
	 * found there later, under somebody else's frame, it would look as if the
	 * thread were inside the probe still. */
	.macro CALL_AND_WIPE where:vararg
	call \where
	movq $0, -8(%rsp)
	.endm

	.globl tap_probe_slow_call
	.hidden tap_probe_slow_call
	.type tap_probe_slow_call, @function
tap_probe_slow_call:
	SAVE
	mov %rsp, %rdi
	and $-16, %rsp
	CALL_AND_WIPE tap_probe_before
	test %eax, %eax
	jnz 1f
	UNWIND_TO_ENTRY
	jmp *DESC_ORIGINAL(%rax)
1:
	/* The call itself, then the look at it; rbx survives both. The original
	 * function finds its arguments, and an aligned stack. */
	mov F_DESC(%rbx), %rax
	LOAD_CALLER_SAVED
	CALL_AND_WIPE *DESC_ORIGINAL(%rax)
	mov %rax, F_RESULT(%rbx)
	/* From here on registers are to be as that function left them. What its
	 * arguments were is needed for the record: kept in place of what it
	 * preserved and is in the registers still. */
	push %rdi
	push %rsi
	push %rdx
	push %rcx
	push %r8
	push %r9
	push %r10
	push %r11
	mov %rbx, %rdi
	CALL_AND_WIPE tap_probe_after
	pop %r11
	pop %r10
	pop %r9
	pop %r8
	pop %rcx
	pop %rdx
	pop %rsi
	pop %rdi
	mov F_RESULT(%rbx), %rax
	mov %rbx, %rsp
	mov F_RBX(%rsp), %rbx
	movq $0, F_DESC(%rsp)
	/* rbp and r12 to r15 are the program's: C code has preserved them. */
	lea F_SIZE + 16(%rsp), %rsp
	ret
	.size tap_probe_slow_call, . - tap_probe_slow_call

	/* A free: nothing follows it. The slot's word is not on the stack. */
	.globl tap_probe_slow_free
	.hidden tap_probe_slow_free
	.type tap_probe_slow_free, @function
tap_probe_slow_free:
	push (%rsp) /* descriptor again: the frame is the same for both */
	movq $0, 8(%rsp)
	SAVE
	mov %rsp, %rdi
	and $-16, %rsp
	CALL_AND_WIPE tap_probe_freeing
	UNWIND_TO_ENTRY
	jmp *DESC_ORIGINAL(%rax)
	.size tap_probe_slow_free, . - tap_probe_slow_free

	.section .note.GNU-stack, "", @progbits
