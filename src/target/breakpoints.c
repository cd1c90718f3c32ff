/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include "heaptap/arch/cpu.h"
#include "heaptap/arch/insn.h"
#include "heaptap/base/alloc.h"
#include "target/internal.h"

#define INSN_READ_BYTES (TAP_INSN_MAX + 1)

void *tap_breakpoint_owner(const struct tap_breakpoint *breakpoint)
{
	return breakpoint->owner;
}

void tap_breakpoint_set_owner(struct tap_breakpoint *breakpoint, void *owner)
{
	breakpoint->owner = owner;
}

uint64_t tap_breakpoint_addr(const struct tap_breakpoint *breakpoint)
{
	return breakpoint->addr;
}

struct tap_breakpoint *tap_target_breakpoint_at(const struct tap_target *target, uint64_t addr)
{
	uint64_t *value = tap_map_find(&target->breakpoints, addr);

	return value ? (struct tap_breakpoint *)*value : NULL;
}

/* Callbacks of the emulator. */
static bool read_memory(void *context, uint64_t addr, void *buf, size_t size_bytes)
{
	return tap_memory_try_read(context, addr, buf, size_bytes);
}

static bool write_memory(void *context, uint64_t addr, const void *buf, size_t size_bytes)
{
	_cleanup_error_ struct tap_error *err = tap_memory_write(context, addr, buf, size_bytes);

	return !err;
}

/* Callbacks for finding out whether an instruction is one of the emulated:
 * every address holds zeros and takes anything. */
static bool read_zeros(void *context, uint64_t addr, void *buf, size_t size_bytes)
{
	(void)context;
	(void)addr;
	memset(buf, 0, size_bytes);
	return true;
}

static bool write_nowhere(void *context, uint64_t addr, const void *buf, size_t size_bytes)
{
	(void)context;
	(void)addr;
	(void)buf;
	(void)size_bytes;
	return true;
}

static bool is_emulated(const struct tap_insn *insn)
{
	static const struct tap_insn_memory nowhere = {NULL, read_zeros, write_nowhere};
	struct tap_regs regs = {.rip = insn->addr};

	return tap_insn_emulate(insn, &regs, &nowhere) == TAP_EMULATION_DONE;
}

/* A thread that blocks in a call made from a slot could not be let out of it. */
static bool is_system_call(const struct tap_insn *insn)
{
	const uint8_t *b = insn->bytes;

	return (b[0] == 0x0f && (b[1] == 0x05 || b[1] == 0x34)) || b[0] == 0xcd;
}

/* A copy of the instruction that can run elsewhere, and a jump back. */
static struct tap_error *make_slot(struct tap_target *target, struct tap_breakpoint *bp)
{
	uint8_t code[TAP_INSN_RELOCATED_MAX + TAP_CPU_STUB];
	uint8_t jump[TAP_CPU_STUB];
	struct tap_error *err;
	size_t size = 0;

	if (is_system_call(&bp->insn))
		return tap_error_new(TAP_ERR_UNSUPPORTED,
			"the instruction at 0x%llx is a system call", (unsigned long long)bp->addr);
	err = area_reserve(target, bp->addr, sizeof(code), &bp->slot);
	if (err)
		return err;
	err = tap_insn_relocate(&bp->insn, bp->slot, code, &size);
	if (err)
		return err;
	/* The jump of a stub stands behind its breakpoint byte. */
	tap_cpu_stub(jump, bp->addr + bp->insn.size_bytes);
	memcpy(code + size, jump + 1, sizeof(jump) - 1);
	bp->slot_jump = bp->slot + size;
	return tap_memory_write(target->memory, bp->slot, code, size + sizeof(jump) - 1);
}

struct tap_error *tap_target_plant(struct tap_target *target, uint64_t addr,
	const uint8_t *expected, size_t expected_size, void *owner, struct tap_breakpoint **ret)
{
	struct tap_breakpoint *bp = tap_target_breakpoint_at(target, addr);
	uint8_t bytes[INSN_READ_BYTES] = {0};
	struct tap_error *err = NULL;

	if (bp) {
		*ret = bp;
		return NULL;
	}
	if (expected_size > sizeof(bytes))
		expected_size = sizeof(bytes);
	if (!tap_memory_try_read(target->memory, addr, bytes, expected_size))
		return tap_error_new(TAP_ERR_FAULT, "0x%llx is not mapped", (unsigned long long)addr);
	bp = tap_alloc(sizeof(*bp));
	bp->addr = addr;
	bp->owner = owner;
	if (!tap_insn_try_decode(expected, expected_size, addr, &bp->insn))
		err = tap_error_new(TAP_ERR_UNSUPPORTED, "no instruction is known at 0x%llx",
			(unsigned long long)addr);
	else if (memcmp(bytes, expected, bp->insn.size_bytes))
		err = tap_error_new(TAP_ERR_BAD_DATA,
			"the code at 0x%llx is not what its file has: another tool has changed it",
			(unsigned long long)addr);
	else if (!is_emulated(&bp->insn))
		err = make_slot(target, bp);
	if (!err)
		err = tap_memory_write(target->memory, addr, &tap_insn_breakpoint, 1);
	if (err) {
		free(bp);
		return err;
	}
	bp->planted = true;
	*tap_map_put(&target->breakpoints, addr, NULL) = (uint64_t)bp;
	*ret = bp;
	return NULL;
}

struct tap_error *tap_target_redirect(struct tap_target *target, uint64_t pointer_addr,
	uint64_t expected, void *owner, struct tap_breakpoint **ret)
{
	struct redirect redirect = {pointer_addr, expected, 0};
	uint8_t code[TAP_CPU_STUB];
	struct tap_breakpoint *bp;
	struct tap_error *err;
	uint64_t now;

	if (!tap_memory_try_u64(target->memory, pointer_addr, &now) || now != expected)
		return tap_error_new(TAP_ERR_BAD_DATA, "the pointer at 0x%llx has changed",
			(unsigned long long)pointer_addr);
	err = area_reserve(target, expected, sizeof(code), &redirect.stub);
	if (err)
		return err;
	tap_cpu_stub(code, expected);
	err = tap_memory_write(target->memory, redirect.stub, code, sizeof(code));
	if (err)
		return err;
	bp = tap_alloc(sizeof(*bp));
	bp->addr = redirect.stub;
	bp->owner = owner;
	bp->leads_to = expected;
	bp->insn.size_bytes = 6; /* jmp *0(%rip) */
	*tap_map_put(&target->breakpoints, bp->addr, NULL) = (uint64_t)bp;
	/* Noted first: whatever happens next, lifting knows of it. */
	tap_vector_push(&target->redirects, redirect);
	*ret = bp;
	return tap_memory_write(
		target->memory, pointer_addr, &redirect.stub, sizeof(redirect.stub));
}

void breakpoint_step_over(
	struct tap_target *target, struct tracee *tracee, struct tap_breakpoint *bp)
{
	struct tap_insn_memory memory = {target->memory, read_memory, write_memory};
	struct tap_regs *regs = &tracee->public.regs;

	tracee->public.regs_changed = true;
	if (regs->rip != bp->addr)
		return; /* whoever dealt with it has sent it elsewhere */
	if (bp->leads_to) {
		regs->rip = bp->leads_to;
		return;
	}
	if (!bp->planted)
		return; /* the instruction itself is there again */
	if (bp->slot) {
		regs->rip = bp->slot;
		return;
	}
	if (tap_insn_emulate(&bp->insn, regs, &memory) == TAP_EMULATION_FAULT) {
		/* The program faults there. It must do so by itself: the byte
		 * goes back for good. */
		tap_error_free(tap_memory_write(target->memory, bp->addr, bp->insn.bytes, 1));
		bp->planted = false;
	}
}

/* Puts the byte back if it is ours. */
static bool restore_byte(struct tap_memory *memory, const struct tap_breakpoint *bp)
{
	_cleanup_error_ struct tap_error *err = NULL;
	uint8_t byte;

	if (!tap_memory_try_read(memory, bp->addr, &byte, 1))
		return true; /* unmapped: nothing of ours is left there */
	if (byte != tap_insn_breakpoint)
		return byte == bp->insn.bytes[0];
	err = tap_memory_write(memory, bp->addr, bp->insn.bytes, 1);
	return !err;
}

static bool restore_pointer(struct tap_memory *memory, const struct redirect *redirect)
{
	_cleanup_error_ struct tap_error *err = NULL;
	uint64_t now;

	if (!tap_memory_try_u64(memory, redirect->pointer_addr, &now) || now == redirect->original)
		return true;
	if (now != redirect->stub)
		return false;
	err = tap_memory_write(
		memory, redirect->pointer_addr, &redirect->original, sizeof(redirect->original));
	return !err;
}

void breakpoints_disinfect(struct tap_target *target, struct tap_memory *memory)
{
	struct tap_map_slot *slot;

	for (size_t i = 0; i < target->redirects.count; i++)
		restore_pointer(memory, &target->redirects.items[i]);
	for (size_t i = 0; tap_map_next(&target->breakpoints, &i, &slot);) {
		const struct tap_breakpoint *bp = (const struct tap_breakpoint *)slot->value;

		if (bp->planted && !bp->leads_to)
			restore_byte(memory, bp);
	}
}

void tap_target_forget(struct tap_target *target, uint64_t start, uint64_t end)
{
	struct tap_map_slot *slot;

	for (size_t i = 0; tap_map_next(&target->breakpoints, &i, &slot);) {
		struct tap_breakpoint *bp = (struct tap_breakpoint *)slot->value;

		if (bp->addr - start >= end - start)
			continue;
		tap_map_remove(&target->breakpoints, bp->addr, NULL);
		tap_vector_push(&target->forgotten, bp);
		i = 0; /* removal moves others */
	}
}

struct tap_error *tap_target_lift(struct tap_target *target)
{
	struct tap_map_slot *slot;
	size_t foreign = 0;

	if (target->executed || target->exited)
		return NULL;
	for (size_t i = 0; i < target->redirects.count; i++)
		foreign += !restore_pointer(target->memory, &target->redirects.items[i]);
	target->redirects.count = foreign ? target->redirects.count : 0;
	for (size_t i = 0; tap_map_next(&target->breakpoints, &i, &slot);) {
		struct tap_breakpoint *bp = (struct tap_breakpoint *)slot->value;

		if (!bp->planted)
			continue;
		foreign += !restore_byte(target->memory, bp);
		bp->planted = false;
	}
	if (!foreign)
		return NULL;
	return tap_error_advise(
		tap_error_new(TAP_ERR_BUSY,
			"%zu places in process %d were changed by somebody else meanwhile and are left "
			"as they are",
			foreign, target->pid),
		"another debugger may be attached");
}
