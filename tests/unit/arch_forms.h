/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_TESTS_ARCH_FORMS_H
#define HEAPTAP_TESTS_ARCH_FORMS_H

/*
 * Random instructions of known forms, with a random state of the registers
 * under which their memory operands lie in native.data and their targets in
 * native.code. Encodings are put together here by hand, so that the decoder
 * is tested as well.
 */

#include <stdio.h>
#include "arch_native.h"
#include "heaptap/arch/insn.h"

#define CF 0x001
#define PF 0x004
#define AF 0x010
#define ZF 0x040
#define SF 0x080
#define DF 0x400
#define OF 0x800
#define STATUS (CF | PF | AF | ZF | SF | OF)

enum { NO_MODRM = -1, ANY = -2 }; /* else ModRM with this opcode extension */
enum { IMM_Z = 16, IMM_V = 17 };  /* 2 or 4, 2 or 4 or 8 by the operand size */

#define NO_66 0x001 /* but for one that REX.W overrules */
#define MEMORY_ONLY 0x002
#define PLUS_REGISTER 0x004
#define PLUS_CONDITION 0x008
#define SHIFT 0x010
#define LOGIC 0x020 /* AF is undefined */
#define RELATIVE 0x040
#define INDIRECT 0x080 /* the operand is a target */
#define RETURN 0x100
#define MOVED_ONLY 0x200 /* not emulated */
#define WIDE 0x400       /* always with REX.W */
#define NO_W 0x800       /* never */
#define FLAGLESS 0x1000  /* its flags are not compared: partly undefined */
#define NEVER_66 0x2000  /* not decoded with one */

struct form {
	const char *name;
	uint8_t opcode[3];
	uint8_t opcode_bytes;
	int8_t modrm;
	uint8_t imm;
	unsigned flags;
};

#define ALU(name, base, flags)                                           \
	{name " rm8,r8", {base + 0}, 1, ANY, 0, flags},                  \
		{name " rm,r", {base + 1}, 1, ANY, 0, flags},            \
		{name " r8,rm8", {base + 2}, 1, ANY, 0, flags},          \
		{name " r,rm", {base + 3}, 1, ANY, 0, flags},            \
		{name " al,imm", {base + 4}, 1, NO_MODRM, 1, flags},     \
		{name " ax,imm", {base + 5}, 1, NO_MODRM, IMM_Z, flags}, \
		{name " rm8,imm", {0x80}, 1, base / 8, 1, flags},        \
		{name " rm,imm", {0x81}, 1, base / 8, IMM_Z, flags},     \
	{                                                                \
		name " rm,imm8", {0x83}, 1, base / 8, 1, flags           \
	}

#define SHIFTS(name, extension)                                   \
	{name " rm8,imm", {0xc0}, 1, extension, 1, SHIFT},        \
		{name " rm,imm", {0xc1}, 1, extension, 1, SHIFT}, \
		{name " rm8,1", {0xd0}, 1, extension, 0, SHIFT},  \
	{                                                         \
		name " rm,1", {0xd1}, 1, extension, 0, SHIFT      \
	}

static const struct form forms[] = {
	ALU("add", 0x00, 0),
	ALU("or", 0x08, LOGIC),
	ALU("and", 0x20, LOGIC),
	ALU("sub", 0x28, 0),
	ALU("xor", 0x30, LOGIC),
	ALU("cmp", 0x38, 0),
	SHIFTS("shl", 4),
	SHIFTS("shr", 5),
	SHIFTS("sal", 6),
	SHIFTS("sar", 7),
	{"push r", {0x50}, 1, NO_MODRM, 0, PLUS_REGISTER},
	{"pop r", {0x58}, 1, NO_MODRM, 0, PLUS_REGISTER},
	{"push imm", {0x68}, 1, NO_MODRM, IMM_Z, NO_W},
	{"push imm8", {0x6a}, 1, NO_MODRM, 1, 0},
	{"push rm", {0xff}, 1, 6, 0, 0},
	{"pop rm", {0x8f}, 1, 0, 0, 0},
	{"movsxd", {0x63}, 1, ANY, 0, WIDE | NO_66},
	{"jcc rel8", {0x70}, 1, NO_MODRM, 1, PLUS_CONDITION | RELATIVE | NO_66},
	{"jcc rel32", {0x0f, 0x80}, 2, NO_MODRM, 4, PLUS_CONDITION | RELATIVE | NO_66},
	{"test rm8,r8", {0x84}, 1, ANY, 0, LOGIC},
	{"test rm,r", {0x85}, 1, ANY, 0, LOGIC},
	{"test al,imm", {0xa8}, 1, NO_MODRM, 1, LOGIC},
	{"test ax,imm", {0xa9}, 1, NO_MODRM, IMM_Z, LOGIC},
	{"test rm8,imm", {0xf6}, 1, 0, 1, LOGIC},
	{"test rm,imm", {0xf7}, 1, 0, IMM_Z, LOGIC},
	{"mov rm8,r8", {0x88}, 1, ANY, 0, 0},
	{"mov rm,r", {0x89}, 1, ANY, 0, 0},
	{"mov r8,rm8", {0x8a}, 1, ANY, 0, 0},
	{"mov r,rm", {0x8b}, 1, ANY, 0, 0},
	{"mov r8,imm", {0xb0}, 1, NO_MODRM, 1, PLUS_REGISTER},
	{"mov r,imm", {0xb8}, 1, NO_MODRM, IMM_V, PLUS_REGISTER},
	{"mov rm8,imm", {0xc6}, 1, 0, 1, 0},
	{"mov rm,imm", {0xc7}, 1, 0, IMM_Z, 0},
	{"lea", {0x8d}, 1, ANY, 0, MEMORY_ONLY},
	{"nop", {0x90}, 1, NO_MODRM, 0, NO_W},
	{"long nop", {0x0f, 0x1f}, 2, 0, 0, MEMORY_ONLY},
	{"ret", {0xc3}, 1, NO_MODRM, 0, RETURN | NO_66},
	{"ret imm", {0xc2}, 1, NO_MODRM, 2, RETURN | NEVER_66},
	{"leave", {0xc9}, 1, NO_MODRM, 0, NO_66},
	{"call rel32", {0xe8}, 1, NO_MODRM, 4, RELATIVE | NO_66},
	{"jmp rel32", {0xe9}, 1, NO_MODRM, 4, RELATIVE | NO_66},
	{"jmp rel8", {0xeb}, 1, NO_MODRM, 1, RELATIVE | NO_66},
	{"call rm", {0xff}, 1, 2, 0, INDIRECT | NO_66},
	{"jmp rm", {0xff}, 1, 4, 0, INDIRECT | NO_66},
	{"not rm8", {0xf6}, 1, 2, 0, 0},
	{"not rm", {0xf7}, 1, 2, 0, 0},
	{"neg rm8", {0xf6}, 1, 3, 0, 0},
	{"neg rm", {0xf7}, 1, 3, 0, 0},
	{"inc rm8", {0xfe}, 1, 0, 0, 0},
	{"inc rm", {0xff}, 1, 0, 0, 0},
	{"dec rm8", {0xfe}, 1, 1, 0, 0},
	{"dec rm", {0xff}, 1, 1, 0, 0},
	{"cmov", {0x0f, 0x40}, 2, ANY, 0, PLUS_CONDITION},
	{"setcc", {0x0f, 0x90}, 2, 0, 0, PLUS_CONDITION},
	{"movzx r,rm8", {0x0f, 0xb6}, 2, ANY, 0, 0},
	{"movzx r,rm16", {0x0f, 0xb7}, 2, ANY, 0, NO_66},
	{"movsx r,rm8", {0x0f, 0xbe}, 2, ANY, 0, 0},
	{"movsx r,rm16", {0x0f, 0xbf}, 2, ANY, 0, NO_66},
	ALU("adc", 0x10, MOVED_ONLY),
	{"loopne", {0xe0}, 1, NO_MODRM, 1, RELATIVE | NO_66 | MOVED_ONLY},
	{"loope", {0xe1}, 1, NO_MODRM, 1, RELATIVE | NO_66 | MOVED_ONLY},
	{"loop", {0xe2}, 1, NO_MODRM, 1, RELATIVE | NO_66 | MOVED_ONLY},
	{"jrcxz", {0xe3}, 1, NO_MODRM, 1, RELATIVE | NO_66 | MOVED_ONLY},
	{"imul r,rm,imm8", {0x6b}, 1, ANY, 1, MOVED_ONLY | FLAGLESS},
	{"imul r,rm,imm", {0x69}, 1, ANY, IMM_Z, MOVED_ONLY | FLAGLESS},
	{"xchg", {0x87}, 1, ANY, 0, MOVED_ONLY},
	{"xadd", {0x0f, 0xc1}, 2, ANY, 0, MOVED_ONLY},
	{"cmpxchg", {0x0f, 0xb1}, 2, ANY, 0, MOVED_ONLY},
	{"bt rm,imm", {0x0f, 0xba}, 2, 4, 1, MOVED_ONLY | FLAGLESS},
	{"movd xmm0-7,rm", {0x0f, 0x6e}, 2, ANY, 0, MOVED_ONLY | NO_W},
	{"movbe", {0x0f, 0x38, 0xf0}, 3, ANY, 0, MOVED_ONLY | MEMORY_ONLY},
};
#define FORMS (sizeof(forms) / sizeof(forms[0]))

static uint64_t random_state = 88172645463325252;

static uint64_t random_u64(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state * UINT64_C(2685821657736338717);
}

static unsigned random_below(unsigned bound)
{
	return (unsigned)(random_u64() >> 33) % bound;
}

static bool one_in(unsigned n)
{
	return !random_below(n);
}

/* Small, large and arbitrary numbers: those where carries happen. */
static uint64_t random_value(void)
{
	switch (random_below(4)) {
	case 0:
		return random_below(3) - UINT64_C(1);
	case 1:
		return (UINT64_C(1) << random_below(64)) - one_in(2);
	default:
		return random_u64();
	}
}

/* One random case of a form. */
struct trial {
	const struct form *form;
	uint8_t bytes[TAP_INSN_MAX + 8];
	size_t size_bytes;
	uint64_t addr;
	struct tap_regs regs;
	uint64_t undefined; /* flags that the processor leaves undefined */

	bool operand_size;
	uint8_t rex, segment;
	unsigned imm_bytes, width;
	bool has_memory, rip_relative, uses_rsp; /* the memory operand */
	size_t disp_at;
	uint64_t operand_addr;
	uint64_t target;
};

/* The encodings' order: rax rcx rdx rbx rsp rbp rsi rdi r8 to r15. */
static uint64_t *encoded_register(struct tap_regs *regs, unsigned number)
{
	static const uint8_t dwarf[8] = {0, 2, 1, 3, 7, 6, 4, 5};

	return tap_regs_dwarf(regs, number < 8 ? dwarf[number] : number);
}

static void emit(struct trial *t, uint64_t value, unsigned size_bytes)
{
	memcpy(t->bytes + t->size_bytes, &value, size_bytes);
	t->size_bytes += size_bytes;
}

static uint64_t somewhere_in_data(void)
{
	return (uint64_t)native.data + 4096 + random_below(4096);
}

static uint64_t somewhere_in_code(const struct trial *t)
{
	uint64_t at;

	do
		at = t->addr - 100 + random_below(200);
	while (at >= t->addr && at < t->addr + TAP_INSN_MAX);
	return at;
}

static void emit_prefixes(struct trial *t)
{
	unsigned flags = t->form->flags;

	bool with_word = one_in(4), with_rex = (flags & WIDE) || one_in(2);
	uint8_t rex = (uint8_t)(0x40 | random_below(16));

	if (flags & NO_W)
		rex &= 0xf6;
	if (flags & WIDE)
		rex |= 8;
	if ((flags & NEVER_66) || ((flags & NO_66) && !(with_rex && (rex & 8))))
		with_word = false;
	if (with_word) {
		t->operand_size = true;
		emit(t, 0x66, 1);
	}
	if (t->form->modrm != NO_MODRM && one_in(5)) {
		const uint8_t overrides[] = {0x64, 0x65, 0x3e};

		t->segment = overrides[random_below(3)];
		emit(t, t->segment, 1);
	}
	if (with_rex) {
		t->rex = rex;
		emit(t, rex, 1);
	}
	t->width = t->rex & 8 ? 8 : t->operand_size ? 2 : 4;
	t->imm_bytes = t->form->imm;
	if (t->imm_bytes == IMM_Z)
		t->imm_bytes = t->width < 4 ? 2 : 4;
	if (t->imm_bytes == IMM_V)
		t->imm_bytes = t->width;
}

static uint64_t segment_base(const struct trial *t)
{
	if (t->form->opcode[0] == 0x8d)
		return 0;
	return t->segment == 0x64 ? t->regs.fs_base : t->segment == 0x65 ? t->regs.gs_base : 0;
}

/* The memory operand `addr`: from a base register or none, an index or none
 * and a displacement, by giving the registers the values for it. */
static bool emit_memory(struct trial *t, unsigned reg)
{
	unsigned mod = random_below(3), rm = random_below(8), scale = random_below(4);
	unsigned index = random_below(8), base = random_below(8);
	unsigned index_number = index | (t->rex & 2 ? 8 : 0);
	bool with_sib = rm == 4, no_base = mod == 0 && with_sib && base == 5;
	uint64_t rest = t->operand_addr - segment_base(t);
	int32_t disp = mod == 1 ? (int8_t)random_u64() : (int32_t)random_below(2000) - 1000;

	t->has_memory = true;
	emit(t, mod << 6 | reg << 3 | rm, 1);
	if (mod == 0 && rm == 5) {
		t->rip_relative = true;
		t->disp_at = t->size_bytes;
		emit(t, 0, 4);
		return true;
	}
	if (!with_sib)
		base = rm;
	base |= t->rex & 1 ? 8 : 0;
	if (with_sib) {
		emit(t, scale << 6 | index << 3 | (base & 7), 1);
		if (index_number != 4) {
			uint64_t value = random_below(64) - UINT64_C(32);

			if (index_number == base && !no_base)
				return false;
			*encoded_register(&t->regs, index_number) = value;
			rest -= value << scale;
		}
	}
	if (no_base) {
		if ((int32_t)rest != (int64_t)rest)
			return false;
		emit(t, rest, 4);
		return true;
	}
	/* rsp has to stay a stack. */
	if (base == 4 && segment_base(t))
		return false;
	t->uses_rsp = base == 4;
	if (mod)
		rest -= (uint64_t)(int64_t)disp;
	*encoded_register(&t->regs, base) = rest;
	emit(t, (uint64_t)(int64_t)disp, mod == 0 ? 0 : mod == 1 ? 1 : 4);
	return true;
}

static bool emit_modrm(struct trial *t)
{
	unsigned reg = t->form->modrm == ANY ? random_below(8) : (unsigned)t->form->modrm, rm;

	if (!(t->form->flags & MEMORY_ONLY) && one_in(3)) {
		rm = random_below(8);
		emit(t, 0xc0 | reg << 3 | rm, 1);
		if (t->form->flags & INDIRECT)
			*encoded_register(&t->regs, rm | (t->rex & 1 ? 8 : 0)) = t->target;
		/* Without a stack there is nothing to call with. */
		return !(t->form->flags & INDIRECT) || rm != 4 || (t->rex & 1);
	}
	if (!emit_memory(t, reg))
		return false;
	if (t->form->flags & INDIRECT)
		memcpy((void *)t->operand_addr, &t->target, sizeof(t->target));
	return true;
}

static void emit_immediate(struct trial *t)
{
	uint64_t value = random_value();

	if (t->form->flags & RELATIVE)
		value = t->target - (t->addr + t->size_bytes + t->imm_bytes);
	if (t->form->flags & RETURN)
		value &= 0xff;
	emit(t, value, t->imm_bytes);
}

static void set_undefined(struct trial *t)
{
	bool byte = !(t->form->opcode[0] & 1);
	unsigned bits = byte ? 8 : t->width * 8, count;

	if (t->form->flags & FLAGLESS)
		t->undefined = STATUS;
	if (t->form->flags & LOGIC)
		t->undefined = AF;
	if (!(t->form->flags & SHIFT))
		return;
	count = t->imm_bytes ? t->bytes[t->size_bytes - 1] & (bits == 64 ? 63 : 31) : 1;
	if (count)
		t->undefined |= AF;
	if (count > 1)
		t->undefined |= OF;
	if (count >= bits && t->form->modrm != 7)
		t->undefined |= CF;
}

static void emit_opcode(struct trial *t)
{
	uint8_t opcode[3];

	memcpy(opcode, t->form->opcode, sizeof(opcode));
	if (t->form->flags & PLUS_REGISTER)
		opcode[t->form->opcode_bytes - 1] += random_below(8);
	if (t->form->flags & PLUS_CONDITION)
		opcode[t->form->opcode_bytes - 1] += random_below(16);
	for (unsigned i = 0; i < t->form->opcode_bytes; i++)
		emit(t, opcode[i], 1);
}

static bool try_make_trial(const struct form *form, struct trial *t)
{
	memset(t, 0, sizeof(*t));
	t->form = form;
	t->addr = (uint64_t)native.code + 1000 + random_below(100);
	t->target = somewhere_in_code(t);
	t->operand_addr = somewhere_in_data();
	for (unsigned i = 0; i < 16; i++)
		*encoded_register(&t->regs, i) = random_value();
	t->regs.rsp = somewhere_in_data();
	t->regs.rbp = somewhere_in_data();
	t->regs.rip = t->addr;
	t->regs.eflags = 0x202 | (random_u64() & STATUS);
	t->regs.fs_base = native_fs_base();
	t->regs.gs_base = (uint64_t)native.data + 512;
	for (size_t i = 0; i < NATIVE_DATA; i += 8)
		*(uint64_t *)(native.data + i) = random_u64();
	if (form->flags & RETURN)
		memcpy((void *)t->regs.rsp, &t->target, sizeof(t->target));
	emit_prefixes(t);
	emit_opcode(t);
	if (form->modrm != NO_MODRM && !emit_modrm(t))
		return false;
	emit_immediate(t);
	if (t->rip_relative) {
		uint64_t disp = t->operand_addr - segment_base(t) - (t->addr + t->size_bytes);

		if ((int32_t)disp != (int64_t)disp)
			return false;
		memcpy(t->bytes + t->disp_at, &disp, 4);
	}
	set_undefined(t);
	return true;
}

static void make_trial(const struct form *form, struct trial *t)
{
	while (!try_make_trial(form, t))
		continue;
}

static const char *trial_text(const struct trial *t)
{
	static char text[160];
	int length = snprintf(text, sizeof(text), "%s:", t->form->name);

	for (size_t i = 0; i < t->size_bytes; i++)
		length += snprintf(
			text + length, sizeof(text) - (size_t)length, " %02x", t->bytes[i]);
	return text;
}

/* Runs code at addr natively, in an area of breakpoints. */
static int run_at(
	uint8_t *area, uint64_t addr, const uint8_t *code, size_t size_bytes, struct tap_regs *regs)
{
	int number;

	memset(area, 0xcc, NATIVE_CODE);
	memcpy((void *)addr, code, size_bytes);
	regs->rip = addr;
	number = native_run(regs);
	memset(area, 0xcc, NATIVE_CODE);
	return number;
}

/* The general registers, rip, and the flags that are defined. */
static void assert_same_state(const struct trial *t, struct tap_regs *wanted, struct tap_regs *got)
{
	uint64_t flags = (STATUS | DF) & ~t->undefined;

	for (size_t i = 0; i < NATIVE_PLACES; i++) {
		uint64_t want = *native_place(wanted, i), have = *native_place(got, i);

		if (native_places[i].greg == REG_EFL) {
			want &= flags;
			have &= flags;
		}
		if (want != have)
			fail_msg("%s: register %d is %#lx, not %#lx (flags were %#lx)",
				trial_text(t), native_places[i].greg, (unsigned long)have,
				(unsigned long)want, (unsigned long)t->regs.eflags);
	}
}

#endif
