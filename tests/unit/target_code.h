/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_TESTS_TARGET_CODE_H
#define HEAPTAP_TESTS_TARGET_CODE_H

/* Functions whose first instructions are known, and a call that looks at
 * every register. To be included once. */

void code_push(void);   /* emulated */
void code_lea(void);    /* emulated, reads the stack pointer */
void code_vector(void); /* runs out of line */
void code_far(void);    /* runs out of line, with an operand relative to rip */
long code_constant(void);
long code_count(long *counter); /* lock incq: out of line, must run once */

/* Calls function with known values in all registers. 0 where every one of
 * them, the flags and the vector registers, is as it was; rax may change. */
long code_checked_call(void (*function)(void));

__asm__(".pushsection .text\n"
	".macro code_function name\n"
	".globl \\name\n.type \\name, @function\n.balign 16\n\\name:\n"
	".endm\n"
	"code_function code_push\n push %rbp\n pop %rbp\n ret\n"
	"code_function code_lea\n lea 8(%rsp), %rax\n ret\n"
	"code_function code_vector\n movdqa %xmm15, %xmm15\n ret\n"
	"code_function code_far\n movq code_double(%rip), %xmm7\n movq %r9, %xmm7\n ret\n"
	"code_function code_constant\n movsd code_double(%rip), %xmm0\n"
	" cvttsd2si %xmm0, %rax\n ret\n"
	"code_function code_count\n lock incq (%rdi)\n mov (%rdi), %rax\n ret\n"
	".balign 16\ncode_double: .double 42\n"
	"code_function code_checked_call\n"
	" push %rbx\n push %rbp\n push %r12\n push %r13\n push %r14\n push %r15\n"
	" sub $24, %rsp\n mov %rdi, (%rsp)\n"
	".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"
	" mov $0x100+\\n, %eax\n movq %rax, %xmm\\n\n"
	".endr\n"
	" mov $0x107, %r9d\n"
	" mov $1, %ecx\n mov $2, %edx\n mov $3, %esi\n mov $4, %edi\n mov $5, %r8d\n"
	" mov $7, %r10d\n mov $8, %r11d\n mov $9, %ebx\n mov $10, %ebp\n"
	" mov $12, %r12d\n mov $13, %r13d\n mov $14, %r14d\n mov $15, %r15d\n"
	" cmp $-1, %edi\n stc\n pushfq\n popq 8(%rsp)\n"
	" call *(%rsp)\n"
	" pushfq\n popq 16(%rsp)\n"
	" cmp $1, %rcx\n jne 9f\n cmp $2, %rdx\n jne 9f\n cmp $3, %rsi\n jne 9f\n"
	" cmp $4, %rdi\n jne 9f\n cmp $5, %r8\n jne 9f\n cmp $0x107, %r9\n jne 9f\n"
	" cmp $7, %r10\n jne 9f\n cmp $8, %r11\n jne 9f\n cmp $9, %rbx\n jne 9f\n"
	" cmp $10, %rbp\n jne 9f\n cmp $12, %r12\n jne 9f\n cmp $13, %r13\n jne 9f\n"
	" cmp $14, %r14\n jne 9f\n cmp $15, %r15\n jne 9f\n"
	".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"
	" movq %xmm\\n, %rax\n cmp $0x100+\\n, %rax\n jne 9f\n"
	".endr\n"
	" mov 16(%rsp), %rax\n cmp 8(%rsp), %rax\n jne 9f\n"
	" xor %eax, %eax\n jmp 8f\n"
	"9: mov $1, %eax\n"
	"8: add $24, %rsp\n"
	" pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbp\n pop %rbx\n ret\n"
	".purgem code_function\n"
	".popsection\n");

/* A tracing with breakpoints at three of them. */
static inline struct tracing tracing_of_code(pid_t pid)
{
	return (struct tracing){
		.pid = pid,
		.points = {code_push, code_vector, (any_function *)code_constant},
	};
}

#endif
