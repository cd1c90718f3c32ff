/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_TESTS_ODD_H
#define HEAPTAP_TESTS_ODD_H

/* A function that calls another one, name_body(), and looks as if it could go on
 * at its second instruction. */
#define ODD(name)                                                                                  \
	__asm__(".pushsection .text\n"                                                             \
		"	.p2align 4\n"                                                               \
		"	.globl " #name "\n"                                                         \
		"	.type " #name ", @function\n" #name ":\n"                                   \
		"	.cfi_startproc\n"                                                           \
		"	push %rbx\n"                                                                \
		"	.cfi_adjust_cfa_offset 8\n"                                                 \
		"1:	mov %rdi, %rbx\n"                                                           \
		"	nop\n"                                                                      \
		"	call " #name "_body\n"                                                      \
		"	pop %rbx\n"                                                                 \
		"	.cfi_adjust_cfa_offset -8\n"                                                \
		"	ret\n"                                                                      \
		"	jmp 1b\n"                                                                   \
		"	.cfi_endproc\n"                                                             \
		"	.size " #name ", .-" #name "\n"                                             \
		".popsection\n")

#endif
