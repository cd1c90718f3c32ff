/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_TESTS_ARCH_NATIVE_H
#define HEAPTAP_TESTS_ARCH_NATIVE_H

/*
 * Runs instructions on the real processor from a given state of the general
 * registers: two breakpoint signals, the handler of which exchanges the
 * interrupted registers. Code and data lie below 2 GB, so that a bare 32-bit
 * displacement is an address as well.
 */

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <asm/prctl.h>
#include <ucontext.h>
#include <unistd.h>
#include "unit.h"
#include "heaptap/arch/regs.h"

#define NATIVE_CODE 8192u
#define NATIVE_DATA 16384u

static struct {
	uint8_t *code; /* NATIVE_CODE bytes, filled with breakpoints */
	uint8_t *data; /* right behind */
	uint8_t *far;  /* NATIVE_CODE bytes more than 2 GB away */
	bool running;
	int signal; /* that ended it */
	struct tap_regs regs;
	gregset_t caller;
} native;

static const struct {
	int greg;
	size_t offset;
} native_places[] = {
	{REG_R8, offsetof(struct tap_regs, r8)},
	{REG_R9, offsetof(struct tap_regs, r9)},
	{REG_R10, offsetof(struct tap_regs, r10)},
	{REG_R11, offsetof(struct tap_regs, r11)},
	{REG_R12, offsetof(struct tap_regs, r12)},
	{REG_R13, offsetof(struct tap_regs, r13)},
	{REG_R14, offsetof(struct tap_regs, r14)},
	{REG_R15, offsetof(struct tap_regs, r15)},
	{REG_RDI, offsetof(struct tap_regs, rdi)},
	{REG_RSI, offsetof(struct tap_regs, rsi)},
	{REG_RBP, offsetof(struct tap_regs, rbp)},
	{REG_RBX, offsetof(struct tap_regs, rbx)},
	{REG_RDX, offsetof(struct tap_regs, rdx)},
	{REG_RAX, offsetof(struct tap_regs, rax)},
	{REG_RCX, offsetof(struct tap_regs, rcx)},
	{REG_RSP, offsetof(struct tap_regs, rsp)},
	{REG_RIP, offsetof(struct tap_regs, rip)},
	{REG_EFL, offsetof(struct tap_regs, eflags)},
};
#define NATIVE_PLACES (sizeof(native_places) / sizeof(native_places[0]))

static uint64_t *native_place(struct tap_regs *regs, size_t i)
{
	return (uint64_t *)((char *)regs + native_places[i].offset);
}

static void native_handler(int number, siginfo_t *info, void *context)
{
	greg_t *gregs = ((ucontext_t *)context)->uc_mcontext.gregs;

	(void)info;
	if (!native.running) {
		if (number != SIGTRAP)
			abort();
		memcpy(native.caller, gregs, sizeof(native.caller));
		for (size_t i = 0; i < NATIVE_PLACES; i++)
			gregs[native_places[i].greg] = (greg_t)*native_place(&native.regs, i);
	} else {
		for (size_t i = 0; i < NATIVE_PLACES; i++)
			*native_place(&native.regs, i) = (uint64_t)gregs[native_places[i].greg];
		native.signal = number;
		memcpy(gregs, native.caller, sizeof(native.caller));
	}
	native.running = !native.running;
}

/* Runs from *regs until a breakpoint or a fault; returns the signal. After a
 * breakpoint rip is that of the breakpoint itself. */
static int native_run(struct tap_regs *regs)
{
	native.regs = *regs;
	__asm__ volatile("int3" ::
				 : "memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6",
			 "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14",
			 "xmm15");
	*regs = native.regs;
	if (native.signal == SIGTRAP)
		regs->rip--;
	return native.signal;
}

static int native_setup(void **state)
{
	static uint8_t signal_stack[65536];
	const stack_t stack = {.ss_sp = signal_stack, .ss_size = sizeof(signal_stack)};
	struct sigaction action = {
		.sa_sigaction = native_handler,
		.sa_flags = SA_SIGINFO | SA_ONSTACK,
	};
	const int signals[] = {SIGTRAP, SIGSEGV, SIGBUS, SIGILL};
	const int rwx = PROT_READ | PROT_WRITE | PROT_EXEC;

	(void)state;
	native.code = mmap(NULL, NATIVE_CODE + NATIVE_DATA, rwx,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	native.far = mmap(NULL, NATIVE_CODE, rwx, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (native.code == MAP_FAILED || native.far == MAP_FAILED)
		return -1;
	native.data = native.code + NATIVE_CODE;
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
		if (sigaction(signals[i], &action, NULL))
			return -1;
	}
	if (sigaltstack(&stack, NULL))
		return -1;
	return (int)syscall(SYS_arch_prctl, ARCH_SET_GS, native.data + 512);
}

static uint64_t native_fs_base(void)
{
	uint64_t base;

	syscall(SYS_arch_prctl, ARCH_GET_FS, &base);
	return base;
}

#endif
