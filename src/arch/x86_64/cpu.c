/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <cpuid.h>
#include <linux/audit.h>
#include <string.h>
#include <sys/syscall.h>
#include "heaptap/arch/cpu.h"

const uint8_t tap_cpu_syscall_ret[3] = {0x0f, 0x05, 0xc3};
const uint8_t tap_cpu_sigreturn[9] = {0x48, 0xc7, 0xc0, 0x0f, 0x00, 0x00, 0x00, 0x0f, 0x05};

const uint32_t tap_cpu_audit_arch = AUDIT_ARCH_X86_64;
const int tap_cpu_sigreturn_number = SYS_rt_sigreturn;

/* uc_flags, of arch/x86/include/uapi/asm/ucontext.h */
#define UC_FP_XSTATE 0x1
#define UC_SIGCONTEXT_SS 0x2
#define UC_STRICT_RESTORE_SS 0x4

/* struct rt_sigframe up to the end of its ucontext: the rest, a siginfo, is
 * for a handler and there is none. A signal stack of all zeros is too small
 * to be taken, so the thread's own stays. */
struct frame {
	uint64_t trampoline;
	uint64_t uc_flags, uc_link;
	uint64_t stack_pointer, stack_flags, stack_size;
	uint64_t r8, r9, r10, r11, r12, r13, r14, r15;
	uint64_t rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip, eflags;
	uint16_t cs, gs, fs, ss;
	uint64_t err, trapno, oldmask, cr2;
	uint64_t fpstate;
	uint64_t reserved[8];
	uint64_t signal_mask;
};
static_assert(sizeof(struct frame) == 312, "no padding in the kernel's frame");

/* struct _fpx_sw_bytes: in the last bytes of the legacy area it tells the
 * kernel how much lies behind that area. A second magic word ends it all. */
struct extended {
	uint32_t magic1;
	uint32_t extended_size;
	uint64_t features;
	uint32_t xstate_size;
	uint32_t padding[7];
};
#define EXTENDED_AT 464
#define MAGIC1 0x46505853u
#define MAGIC2 0x46505845u
static_assert(EXTENDED_AT + sizeof(struct extended) == 512, "ends the legacy area");

/* The header behind the legacy area: which features are there, then words
 * that must be zero in the format of a signal frame. */
#define HEADER_AT 512
#define HEADER_END 576
#define LEGACY_FEATURES UINT64_C(3) /* x87 and SSE, always there */

#define XSAVE_ALIGN 64

/* How far the features of an extended state reach. ptrace hands out room for
 * all that the processor has, while the kernel takes from a signal frame only
 * as much as this thread may use: on a processor with tiles that is less, and
 * a frame that says more is restored without its vector registers. */
static size_t features_end(uint64_t features)
{
	size_t end = HEADER_END;

	for (unsigned i = 2; i < 63; i++) {
		unsigned size, offset, c, d;

		if (!(features & (UINT64_C(1) << i)))
			continue;
		if (!__get_cpuid_count(0xd, i, &size, &offset, &c, &d))
			continue;
		if ((size_t)offset + size > end)
			end = (size_t)offset + size;
	}
	return end;
}

static void fill(
	struct frame *frame, uint64_t trampoline, const struct tap_regs *regs, uint64_t signal_mask)
{
	*frame = (struct frame){
		.trampoline = trampoline,
		.uc_flags = UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS,
		.r8 = regs->r8,
		.r9 = regs->r9,
		.r10 = regs->r10,
		.r11 = regs->r11,
		.r12 = regs->r12,
		.r13 = regs->r13,
		.r14 = regs->r14,
		.r15 = regs->r15,
		.rdi = regs->rdi,
		.rsi = regs->rsi,
		.rbp = regs->rbp,
		.rbx = regs->rbx,
		.rdx = regs->rdx,
		.rax = regs->rax,
		.rcx = regs->rcx,
		.rsp = regs->rsp,
		.rip = regs->rip,
		.eflags = regs->eflags,
		.cs = (uint16_t)regs->cs,
		.ss = (uint16_t)regs->ss,
		.signal_mask = signal_mask,
	};
}

/* Copies the extended state to `to` in the form of a signal frame. */
static void fill_extended(uint8_t *to, const uint8_t *xsave, size_t xstate_size, uint64_t features)
{
	struct extended extended = {
		.magic1 = MAGIC1,
		.extended_size = (uint32_t)(xstate_size + sizeof(uint32_t)),
		.features = features | LEGACY_FEATURES,
		.xstate_size = (uint32_t)xstate_size,
	};
	uint32_t magic2 = MAGIC2;

	memcpy(to, xsave, xstate_size);
	memcpy(to + EXTENDED_AT, &extended, sizeof(extended));
	memset(to + HEADER_AT + 8, 0, HEADER_END - HEADER_AT - 8);
	memcpy(to + xstate_size, &magic2, sizeof(magic2));
}

size_t tap_cpu_signal_frame(uint8_t *bytes, size_t capacity, uint64_t at, uint64_t trampoline,
	const struct tap_regs *regs, uint64_t signal_mask, const uint8_t *xsave, size_t xsave_bytes)
{
	size_t size_bytes = sizeof(struct frame), xstate_size, xstate_at;
	struct frame frame;
	uint64_t features;

	fill(&frame, trampoline, regs, signal_mask);
	if (xsave) {
		if (xsave_bytes < HEADER_END)
			return 0;
		memcpy(&features, xsave + HEADER_AT, sizeof(features));
		xstate_size = features_end(features);
		/* XRSTOR demands the alignment, of the address in the target. */
		xstate_at = sizeof(frame) + (size_t)(-(at + sizeof(frame)) % XSAVE_ALIGN);
		size_bytes = xstate_at + xstate_size + sizeof(uint32_t);
		if (xstate_size > xsave_bytes || size_bytes > capacity)
			return 0;
		frame.uc_flags |= UC_FP_XSTATE;
		frame.fpstate = at + xstate_at;
		memset(bytes, 0, xstate_at);
		fill_extended(bytes + xstate_at, xsave, xstate_size, features);
	}
	if (size_bytes > capacity)
		return 0;
	memcpy(bytes, &frame, sizeof(frame));
	return size_bytes;
}

void tap_cpu_stub(uint8_t code[TAP_CPU_STUB], uint64_t original)
{
	/* int3; jmp *0(%rip) */
	static const uint8_t head[] = {0xcc, 0xff, 0x25, 0, 0, 0, 0};

	memset(code, 0xcc, TAP_CPU_STUB);
	memcpy(code, head, sizeof(head));
	memcpy(code + sizeof(head), &original, sizeof(original));
}
