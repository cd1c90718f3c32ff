/* SPDX-License-Identifier: Apache-2.0 */
/* A child is stopped with known values in all its registers, is given an
 * injected system call above a signal frame and is let go at once: it finds
 * everything as it was. */
#include <elf.h>
#include <errno.h>
#include <signal.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>
#include "unit.h"
#include "heaptap/arch/cpu.h"

#define RED_ZONE_WORDS 16

/* What the child loads and what it finds afterwards: rax rcx rdx rbx rsi rdi
 * rbp r8 to r14, flags. */
struct registers {
	uint64_t general[14];
	uint64_t flags;
	uint64_t red_zone[RED_ZONE_WORDS];
	uint32_t mxcsr;
	uint32_t x87_control;
	uint8_t vector[16][32];
};

/* Shared between parent and child; the assembly knows its offsets. */
struct shared {
	uint32_t ready;
	uint32_t go;
	uint32_t in_call; /* wait in a system call instead of a loop */
	uint32_t has_avx;
	int32_t pipe[2];
	uint64_t padding;
	struct registers before;
	struct registers after;
};
_Static_assert(offsetof(struct shared, before) == 32, "known to the assembly");
_Static_assert(sizeof(struct registers) == 768, "known to the assembly");

void arch_cpu_child(struct shared *shared);
extern const uint8_t arch_cpu_syscall_ret[], arch_cpu_sigreturn[];

#define EACH_VECTOR(what)                                                                        \
	what(0) what(1) what(2) what(3) what(4) what(5) what(6) what(7) what(8) what(9) what(10) \
		what(11) what(12) what(13) what(14) what(15)
#define LOAD_YMM(n) "vmovdqu 32 + 256 + 32*" #n "(%r15), %ymm" #n "\n"
#define STORE_YMM(n) "vmovdqu %ymm" #n ", 800 + 256 + 32*" #n "(%r15)\n"
#define LOAD_XMM(n) "movups 32 + 256 + 32*" #n "(%r15), %xmm" #n "\n"
#define STORE_XMM(n) "movups %xmm" #n ", 800 + 256 + 32*" #n "(%r15)\n"

/* clang-format off */
__asm__(
	".text\n"
	".globl arch_cpu_syscall_ret, arch_cpu_sigreturn, arch_cpu_child\n"
	"arch_cpu_syscall_ret: syscall\n ret\n"
	"arch_cpu_sigreturn: movq $15, %rax\n syscall\n"
	"arch_cpu_child:\n"
	"push %rbx\n push %rbp\n push %r12\n push %r13\n push %r14\n push %r15\n"
	"mov %rdi, %r15\n"
	"ldmxcsr 32 + 248(%r15)\n fldcw 32 + 252(%r15)\n"
	"cmpl $0, 12(%r15)\n je 1f\n"
	EACH_VECTOR(LOAD_YMM) "jmp 2f\n"
	"1:\n" EACH_VECTOR(LOAD_XMM)
	/* Flags with DF set: the red zone is filled downwards. */
	"2: pushq 32 + 112(%r15)\n popfq\n"
	"mov 32 + 120(%r15), %rax\n lea -8(%rsp), %rdi\n mov $16, %ecx\n rep stosq\n"
	"mov 32(%r15), %rax\n mov 32 + 8(%r15), %rcx\n mov 32 + 16(%r15), %rdx\n"
	"mov 32 + 24(%r15), %rbx\n mov 32 + 32(%r15), %rsi\n mov 32 + 40(%r15), %rdi\n"
	"mov 32 + 48(%r15), %rbp\n mov 32 + 56(%r15), %r8\n mov 32 + 64(%r15), %r9\n"
	"mov 32 + 72(%r15), %r10\n mov 32 + 80(%r15), %r11\n mov 32 + 88(%r15), %r12\n"
	"mov 32 + 96(%r15), %r13\n mov 32 + 104(%r15), %r14\n"
	"movl $1, (%r15)\n"
	"mov 8(%r15), %ecx\n jecxz 3f\n"
	"syscall\n jmp 4f\n"
	/* No flag is touched while it waits. */
	"3: mov 4(%r15), %ecx\n jecxz 3b\n"
	"4: mov %rax, 800(%r15)\n mov %rcx, 800 + 8(%r15)\n mov %rdx, 800 + 16(%r15)\n"
	"mov %rbx, 800 + 24(%r15)\n mov %rsi, 800 + 32(%r15)\n mov %rdi, 800 + 40(%r15)\n"
	"mov %rbp, 800 + 48(%r15)\n mov %r8, 800 + 56(%r15)\n mov %r9, 800 + 64(%r15)\n"
	"mov %r10, 800 + 72(%r15)\n mov %r11, 800 + 80(%r15)\n mov %r12, 800 + 88(%r15)\n"
	"mov %r13, 800 + 96(%r15)\n mov %r14, 800 + 104(%r15)\n"
	"lea -128(%rsp), %rsp\n pushfq\n popq 800 + 112(%r15)\n lea 128(%rsp), %rsp\n cld\n"
	"lea -128(%rsp), %rsi\n lea 800 + 120(%r15), %rdi\n mov $16, %ecx\n rep movsq\n"
	"stmxcsr 800 + 248(%r15)\n fnstcw 800 + 252(%r15)\n"
	"cmpl $0, 12(%r15)\n je 5f\n"
	EACH_VECTOR(STORE_YMM) "vzeroupper\n jmp 6f\n"
	"5:\n" EACH_VECTOR(STORE_XMM)
	"6: pushq $0x1f80\n ldmxcsr (%rsp)\n movq $0x37f, (%rsp)\n fldcw (%rsp)\n pop %rax\n"
	"pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbp\n pop %rbx\n ret\n");
/* clang-format on */
_Static_assert(offsetof(struct registers, flags) == 112, "known to the assembly");
_Static_assert(offsetof(struct registers, red_zone) == 120, "known to the assembly");
_Static_assert(offsetof(struct registers, mxcsr) == 248, "known to the assembly");
_Static_assert(offsetof(struct registers, vector) == 256, "known to the assembly");

enum { RAX, RCX, RDX, RBX, RSI, RDI, RBP, R8, R9, R10, R11 };

#define FLAGS UINT64_C(0xed7) /* all status flags, direction, interrupts */

static void prepare(struct shared *shared, bool in_call)
{
	struct registers *before = &shared->before;

	memset(shared, 0, sizeof(*shared));
	shared->in_call = in_call;
	shared->has_avx = __builtin_cpu_supports("avx") != 0;
	for (unsigned i = 0; i < 14; i++)
		before->general[i] = UINT64_C(0x0123456789abcdef) * (2 * i + 3);
	for (unsigned i = 0; i < RED_ZONE_WORDS; i++)
		before->red_zone[i] = UINT64_C(0xfedcba9876543210);
	for (unsigned i = 0; i < sizeof(before->vector); i++)
		before->vector[i / 32][i % 32] = (uint8_t)(i * 7 + 1);
	before->flags = FLAGS;
	before->mxcsr = 0xffc0;       /* flush to zero, denormals are zero, round to zero */
	before->x87_control = 0x0e7f; /* round to zero */
	assert_int_equal(pipe(shared->pipe), 0);
	if (in_call) {
		before->general[RAX] = SYS_read;
		before->general[RDI] = (uint64_t)shared->pipe[0];
		before->general[RSI] = (uint64_t)&shared->padding;
		before->general[RDX] = 1;
	}
}

/* What a system call changes, or the waiting loop. */
static void forget_changed(struct shared *shared)
{
	if (shared->in_call) {
		shared->before.general[RAX] = 1;
		shared->after.general[R11] = shared->before.general[R11];
	}
	shared->after.general[RCX] = shared->before.general[RCX];
	shared->after.flags &= ~UINT64_C(0x10000); /* RF */
	if (!shared->has_avx) {
		for (unsigned i = 0; i < 16; i++)
			memset(shared->after.vector[i] + 16, 0, 16),
				memset(shared->before.vector[i] + 16, 0, 16);
	}
	shared->after.x87_control &= 0xffff;
}

/* The child's life; its exit status says what was not as before. */
static int child(struct shared *shared, bool with_extended)
{
	static uint8_t signal_stack[16384];
	const stack_t stack = {.ss_sp = signal_stack, .ss_size = sizeof(signal_stack)};
	struct registers *before = &shared->before, *after = &shared->after;
	sigset_t mask, mask_after;
	stack_t stack_after;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	alarm(60);
	sigemptyset(&mask);
	sigaddset(&mask, SIGUSR1);
	sigaddset(&mask, SIGRTMAX - 1);
	if (sigprocmask(SIG_SETMASK, &mask, NULL) || sigaltstack(&stack, NULL))
		return 1;
	arch_cpu_child(shared);
	forget_changed(shared);
	sigprocmask(SIG_SETMASK, NULL, &mask_after);
	sigaltstack(NULL, &stack_after);
	if (memcmp(before->general, after->general, sizeof(before->general)))
		return 2;
	if (before->flags != after->flags)
		return 3;
	if (memcmp(before->red_zone, after->red_zone, sizeof(before->red_zone)))
		return 4;
	for (int number = 1; number < 65; number++) {
		if (sigismember(&mask, number) != sigismember(&mask_after, number))
			return 5;
	}
	if (stack_after.ss_sp != stack.ss_sp || stack_after.ss_size != stack.ss_size)
		return 6;
	if (!with_extended) /* then the kernel's initial values are there */
		return after->mxcsr == 0x1f80 && after->x87_control == 0x37f ? 0 : 7;
	if (memcmp(before->vector, after->vector, sizeof(before->vector)))
		return 8;
	if (before->mxcsr != after->mxcsr || before->x87_control != after->x87_control)
		return 9;
	return 0;
}

static void write_memory(pid_t pid, uint64_t addr, const void *bytes, size_t size_bytes)
{
	struct iovec from = {(void *)(uintptr_t)bytes, size_bytes};
	struct iovec to = {(void *)(uintptr_t)addr, size_bytes};

	assert_int_equal(process_vm_writev(pid, &from, 1, &to, 1, 0), size_bytes);
}

/* A system call that the stop interrupted begins again. */
static void apply_restart(struct tap_regs *regs)
{
	if ((int64_t)regs->orig_rax >= 0 && (int64_t)regs->rax == -512) {
		regs->rip -= 2;
		regs->rax = regs->orig_rax;
	}
}

static void inject(pid_t pid, bool with_extended, unsigned misaligned)
{
	static uint8_t xsave[TAP_CPU_FRAME_MAX], frame[TAP_CPU_FRAME_MAX];
	struct iovec vector = {xsave, sizeof(xsave)};
	struct tap_regs regs;
	uint64_t mask, at;
	size_t size_bytes;

	assert_int_equal(ptrace(PTRACE_GETREGS, pid, NULL, &regs), 0);
	assert_int_equal(ptrace(PTRACE_GETREGSET, pid, NT_X86_XSTATE, &vector), 0);
	assert_int_equal(ptrace(PTRACE_GETSIGMASK, pid, sizeof(mask), &mask), 0);
	apply_restart(&regs);
	at = ((regs.rsp - 128 - sizeof(frame)) & ~UINT64_C(63)) + misaligned;
	size_bytes = tap_cpu_signal_frame(frame, sizeof(frame), at,
		(uint64_t)(uintptr_t)arch_cpu_sigreturn, &regs, mask, with_extended ? xsave : NULL,
		vector.iov_len);
	assert_in_range(size_bytes, 1, sizeof(frame));
	write_memory(pid, at, frame, size_bytes);
	regs.rip = (uint64_t)(uintptr_t)arch_cpu_syscall_ret;
	regs.rsp = at;
	regs.rax = SYS_getpid;
	regs.orig_rax = UINT64_MAX;
	assert_int_equal(ptrace(PTRACE_SETREGS, pid, NULL, &regs), 0);
}

/* Has the child reached its wait? In a system call it is when it sleeps. */
static bool is_waiting(pid_t pid, const struct shared *shared)
{
	char path[64], text[256] = "";
	FILE *file;
	bool sleeping;

	if (!__atomic_load_n(&shared->ready, __ATOMIC_ACQUIRE))
		return false;
	if (!shared->in_call)
		return true;
	snprintf(path, sizeof(path), "/proc/%d/syscall", pid);
	file = fopen(path, "r");
	assert_non_null(file);
	sleeping = fgets(text, sizeof(text), file) && !strncmp(text, "0 ", 2);
	fclose(file);
	return sleeping;
}

static void undone(bool in_call, bool with_extended, unsigned misaligned)
{
	struct shared *shared = mmap(
		NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int status;
	pid_t pid;

	assert_ptr_not_equal(shared, MAP_FAILED);
	prepare(shared, in_call);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid)
		_exit(child(shared, with_extended));
	while (!is_waiting(pid, shared) && !waitpid(pid, &status, WNOHANG))
		sched_yield();
	assert_int_equal(ptrace(PTRACE_SEIZE, pid, NULL, NULL), 0);
	assert_int_equal(ptrace(PTRACE_INTERRUPT, pid, NULL, NULL), 0);
	assert_int_equal(waitpid(pid, &status, __WALL), pid);
	assert_true(WIFSTOPPED(status));
	inject(pid, with_extended, misaligned);
	assert_int_equal(ptrace(PTRACE_DETACH, pid, NULL, NULL), 0);
	__atomic_store_n(&shared->go, 1, __ATOMIC_RELEASE);
	assert_int_equal(write(shared->pipe[1], "x", 1), 1);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	close(shared->pipe[0]);
	close(shared->pipe[1]);
	munmap(shared, sizeof(*shared));
}

static void running_thread_goes_on_as_it_was(void **state)
{
	(void)state;
	for (unsigned misaligned = 0; misaligned < 64; misaligned += 8)
		undone(false, true, misaligned);
}

static void thread_in_a_system_call_goes_on_as_it_was(void **state)
{
	(void)state;
	undone(true, true, 0);
	undone(true, true, 16);
}

static void without_extended_state_the_rest_is_as_it_was(void **state)
{
	(void)state;
	undone(true, false, 0);
	undone(true, false, 8);
}

static void trampolines_are_what_is_looked_for(void **state)
{
	(void)state;
	assert_memory_equal(tap_cpu_syscall_ret, arch_cpu_syscall_ret, sizeof(tap_cpu_syscall_ret));
	assert_memory_equal(tap_cpu_sigreturn, arch_cpu_sigreturn, sizeof(tap_cpu_sigreturn));
}

static void frame_has_a_bound(void **state)
{
	static uint8_t frame[2048], xsave[1024];
	const struct tap_regs regs = {.rip = 1};
	size_t size_bytes;

	(void)state;
	size_bytes = tap_cpu_signal_frame(frame, sizeof(frame), 4096, 1, &regs, 0, NULL, 0);
	assert_int_equal(size_bytes, 312);
	assert_int_equal(tap_cpu_signal_frame(frame, 311, 4096, 1, &regs, 0, NULL, 0), 0);
	assert_int_equal(tap_cpu_signal_frame(frame, 2048, 4096, 1, &regs, 0, xsave, 575), 0);
	size_bytes = tap_cpu_signal_frame(frame, 2048, 4096, 1, &regs, 0, xsave, 576);
	assert_int_equal(size_bytes, 320 + 576 + 4);
	assert_int_equal(
		tap_cpu_signal_frame(frame, size_bytes - 1, 4096, 1, &regs, 0, xsave, 576), 0);
	/* Features that the state has no bytes for. */
	memset(xsave + 512, 0xff, 8);
	assert_int_equal(tap_cpu_signal_frame(frame, 2048, 4096, 1, &regs, 0, xsave, 576), 0);
}

static void stub_traps_and_goes_on_to_the_original(void **state)
{
	static const uint8_t wanted[TAP_CPU_STUB] = {0xcc, 0xff, 0x25, 0, 0, 0, 0, 0x88, 0x77, 0x66,
		0x55, 0x44, 0x33, 0x22, 0x11, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc,
		0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc};
	uint8_t code[TAP_CPU_STUB], *page;

	(void)state;
	tap_cpu_stub(code, UINT64_C(0x1122334455667788));
	assert_memory_equal(code, wanted, sizeof(code));
	page = mmap(
		NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(page, MAP_FAILED);
	tap_cpu_stub(page, (uint64_t)(uintptr_t)getpid);
	/* Behind its breakpoint. */
	assert_int_equal(((pid_t(*)(void))(uintptr_t)(page + 1))(), getpid());
	munmap(page, 4096);
}

static void registers_by_number(void **state)
{
	static const size_t offsets[TAP_DWARF_REGS] = {
		offsetof(struct tap_regs, rax),
		offsetof(struct tap_regs, rdx),
		offsetof(struct tap_regs, rcx),
		offsetof(struct tap_regs, rbx),
		offsetof(struct tap_regs, rsi),
		offsetof(struct tap_regs, rdi),
		offsetof(struct tap_regs, rbp),
		offsetof(struct tap_regs, rsp),
		offsetof(struct tap_regs, r8),
		offsetof(struct tap_regs, r9),
		offsetof(struct tap_regs, r10),
		offsetof(struct tap_regs, r11),
		offsetof(struct tap_regs, r12),
		offsetof(struct tap_regs, r13),
		offsetof(struct tap_regs, r14),
		offsetof(struct tap_regs, r15),
		offsetof(struct tap_regs, rip),
	};
	struct tap_regs regs = {.rdi = 1, .rsi = 2, .rdx = 3, .rcx = 4, .r8 = 5, .r9 = 6};

	(void)state;
	for (unsigned i = 0; i < TAP_DWARF_REGS; i++)
		assert_ptr_equal(tap_regs_dwarf(&regs, i), (char *)&regs + offsets[i]);
	assert_null(tap_regs_dwarf(&regs, TAP_DWARF_REGS));
	for (unsigned i = 0; i < 6; i++)
		assert_int_equal(tap_regs_argument(&regs, i), i + 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(running_thread_goes_on_as_it_was),
		cmocka_unit_test(thread_in_a_system_call_goes_on_as_it_was),
		cmocka_unit_test(without_extended_state_the_rest_is_as_it_was),
		cmocka_unit_test(trampolines_are_what_is_looked_for),
		cmocka_unit_test(frame_has_a_bound),
		cmocka_unit_test(stub_traps_and_goes_on_to_the_original),
		cmocka_unit_test(registers_by_number),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
