/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include "heaptap/arch/cpu.h"
#include "heaptap/arch/insn.h"
#include "heaptap/arch/probe.h"
#include "heaptap/arch/prologue.h"

#define PAGE_BYTES 4096u
#define RETURN 0xc3
#define BREAKPOINT 0xcc

static struct tap_error *refuse(const char *why)
{
	return tap_error_new(TAP_ERR_UNSUPPORTED, "%s", why);
}

/* The whole function is searched: a loop may begin at the second instruction. */
static bool jumps_into(uint64_t addr, const uint8_t *function, size_t size_bytes, uint64_t behind)
{
	for (size_t at = 0; at < size_bytes;) {
		struct tap_insn insn;
		uint64_t to;
		bool is_call;

		if (!tap_insn_try_decode(function + at, size_bytes - at, addr + at, &insn)) {
			at++;
			continue;
		}
		if (tap_insn_try_branch(&insn, &to, &is_call) && to > addr && to < behind)
			return true;
		at += insn.size_bytes;
	}
	return false;
}

static struct tap_error *move_one(uint64_t addr, const uint8_t *bytes, size_t left, uint64_t at,
	struct tap_prologue *prologue)
{
	struct tap_insn insn;
	struct tap_error *err;
	uint64_t unused;
	bool is_call;
	size_t size = 0;

	if (!tap_insn_try_decode(bytes, left, addr, &insn))
		return refuse("its first instructions are not known");
	tap_insn_try_branch(&insn, &unused, &is_call);
	if (is_call || insn.bytes[0] == RETURN || insn.bytes[0] == BREAKPOINT)
		return refuse("its first five bytes hold a call, a return or a breakpoint");
	if (prologue->code_bytes + TAP_INSN_RELOCATED_MAX + TAP_CPU_STUB > TAP_PROLOGUE_CODE_MAX)
		return refuse("its first instructions are too long");
	err = tap_insn_relocate(
		&insn, at + prologue->code_bytes, prologue->code + prologue->code_bytes, &size);
	prologue->displaced_bytes += insn.size_bytes;
	prologue->code_bytes += size;
	return err;
}

static void jump_back(struct tap_prologue *prologue, uint64_t at, uint64_t to)
{
	uint8_t *code = prologue->code + prologue->code_bytes;
	uint8_t stub[TAP_CPU_STUB];

	if (tap_probe_jump(at + prologue->code_bytes, to, code)) {
		prologue->code_bytes += TAP_PROLOGUE_JUMP_BYTES;
		return;
	}
	/* Behind a stub's breakpoint stands a jump to anywhere. */
	tap_cpu_stub(stub, to);
	memcpy(code, stub + 1, sizeof(stub) - 1);
	prologue->code_bytes += sizeof(stub) - 1;
}

struct tap_error *tap_prologue_move(uint64_t addr, const uint8_t *function, size_t size_bytes,
	uint64_t at, struct tap_prologue *ret)
{
	struct tap_error *err = NULL;

	ret->displaced_bytes = ret->code_bytes = 0;
	if (size_bytes > TAP_PROLOGUE_FUNCTION_MAX)
		size_bytes = TAP_PROLOGUE_FUNCTION_MAX;
	if (addr % PAGE_BYTES + TAP_PROLOGUE_JUMP_BYTES > PAGE_BYTES)
		return refuse("it lies across the end of a page");
	while (!err && ret->displaced_bytes < TAP_PROLOGUE_JUMP_BYTES) {
		if (ret->displaced_bytes >= size_bytes)
			return refuse("it is shorter than a jump");
		err = move_one(addr + ret->displaced_bytes, function + ret->displaced_bytes,
			size_bytes - ret->displaced_bytes, at, ret);
	}
	if (err)
		return err;
	if (jumps_into(addr, function, size_bytes, addr + ret->displaced_bytes))
		return refuse("its own code jumps to its second instruction");
	jump_back(ret, at, addr + ret->displaced_bytes);
	return NULL;
}
