/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <string.h>
#include "ops.h"

struct output {
	uint8_t *code;
	size_t size_bytes;
	uint64_t to;
};

static void put(struct output *out, const void *bytes, size_t size_bytes)
{
	memcpy(out->code + out->size_bytes, bytes, size_bytes);
	out->size_bytes += size_bytes;
}

static void put_byte(struct output *out, uint8_t byte)
{
	put(out, &byte, 1);
}

/* Is target within a signed 32-bit displacement of `next`? */
static bool reach(uint64_t next, uint64_t target, int32_t *disp_ret)
{
	int64_t distance = (int64_t)(target - next);

	*disp_ret = (int32_t)distance;
	return distance == *disp_ret;
}

/* jmp rel32, or jmp *(%rip) with the address behind it. */
static void put_jump(struct output *out, uint64_t target)
{
	static const uint8_t far[] = {0xff, 0x25, 0, 0, 0, 0};
	int32_t disp;

	if (reach(out->to + out->size_bytes + 5, target, &disp)) {
		put_byte(out, 0xe9);
		put(out, &disp, sizeof(disp));
		return;
	}
	put(out, far, sizeof(far));
	put(out, &target, sizeof(target));
}

/* push *(%rip): in one instruction, so that no half an address is ever on the
 * stack, and without touching flags. Returns where its displacement is. */
static size_t put_push(struct output *out)
{
	static const uint8_t push[] = {0xff, 0x35, 0, 0, 0, 0};

	put(out, push, sizeof(push));
	return out->size_bytes - 4;
}

/* The literal that the push at disp_at pushes, at the end of the code. */
static void put_pushed(struct output *out, size_t disp_at, uint64_t value)
{
	int32_t disp = (int32_t)(out->size_bytes - (disp_at + 4));

	memcpy(out->code + disp_at, &disp, sizeof(disp));
	put(out, &value, sizeof(value));
}

static void relocate_call(struct output *out, const struct tap_insn *insn)
{
	size_t disp_at = put_push(out);

	put_jump(out, tap_x86_target(insn, 4));
	put_pushed(out, disp_at, tap_x86_next(insn));
}

static void relocate_jcc(struct output *out, uint8_t condition, uint64_t target)
{
	int32_t disp;
	size_t skip_at;

	if (reach(out->to + out->size_bytes + 6, target, &disp)) {
		put_byte(out, 0x0f);
		put_byte(out, 0x80 | condition);
		put(out, &disp, sizeof(disp));
		return;
	}
	/* The opposite condition jumps over a long jump. */
	put_byte(out, 0x70 | (condition ^ 1));
	skip_at = out->size_bytes;
	put_byte(out, 0);
	put_jump(out, target);
	out->code[skip_at] = (uint8_t)(out->size_bytes - skip_at - 1);
}

/* loop and jrcxz have a short form only: it jumps over the jump that leads
 * past the long one. */
static void relocate_loop(struct output *out, const struct tap_insn *insn)
{
	size_t skip_at;

	put(out, insn->bytes, insn->size_bytes - 1u);
	put_byte(out, 2);
	put_byte(out, 0xeb);
	skip_at = out->size_bytes;
	put_byte(out, 0);
	put_jump(out, tap_x86_target(insn, 1));
	out->code[skip_at] = (uint8_t)(out->size_bytes - skip_at - 1);
}

static struct tap_error *unsupported(const struct tap_insn *insn, const char *why)
{
	return tap_error_new(TAP_ERR_UNSUPPORTED,
		"cannot move the instruction at 0x%" PRIx64 " elsewhere: %s", insn->addr, why);
}

/* The instruction's own bytes, with an operand relative to rip fixed. */
static struct tap_error *put_fixed(struct output *out, const struct tap_insn *insn)
{
	size_t start = out->size_bytes;
	int32_t disp;

	put(out, insn->bytes, insn->size_bytes);
	if (!insn->rip_disp_offset)
		return NULL;
	if (insn->rip_disp_offset + sizeof(disp) > insn->size_bytes)
		return unsupported(insn, "its operand relative to rip was not found");
	memcpy(&disp, insn->bytes + insn->rip_disp_offset, sizeof(disp));
	if (!reach(out->to + out->size_bytes, tap_x86_next(insn) + (uint64_t)(int64_t)disp, &disp))
		return unsupported(insn, "its operand is more than 2 GB away from there");
	memcpy(out->code + start + insn->rip_disp_offset, &disp, sizeof(disp));
	return NULL;
}

static bool uses_rsp(uint8_t modrm, uint8_t sib, uint8_t rex)
{
	bool rm_is_4 = (modrm & 7) == 4;

	if (modrm >> 6 == 3)
		return rm_is_4 && !(rex & 1);
	/* rm 4 is a SIB byte; its base 4 is rsp or, with REX.B, r12. */
	return rm_is_4 && (sib & 7) == 4 && !(rex & 1);
}

/* call *x becomes push, jmp *x: opcode extension 2 becomes 4. A target that
 * lies below the stack, where the return address goes, would be overwritten
 * before it is read; nothing may be kept there across a call. */
static struct tap_error *relocate_indirect_call(
	struct output *out, const struct tap_insn *insn, const struct tap_x86_prefixes *prefixes)
{
	const uint8_t *modrm = insn->bytes + prefixes->opcode + 1;
	size_t disp_at, modrm_at;
	struct tap_error *err;

	if (uses_rsp(modrm[0], modrm + 1 < insn->bytes + insn->size_bytes ? modrm[1] : 0,
		    prefixes->rex))
		return unsupported(insn, "a call whose target is found through rsp");
	disp_at = put_push(out);
	modrm_at = out->size_bytes + prefixes->opcode + 1;
	err = put_fixed(out, insn);
	if (err)
		return err;
	out->code[modrm_at] ^= 0x30;
	put_pushed(out, disp_at, tap_x86_next(insn));
	return NULL;
}

enum kind {
	PLAIN,
	SHORT_JUMP,
	LONG_JUMP,
	SHORT_JCC,
	LONG_JCC,
	LOOP,
	CALL,
	INDIRECT_CALL,
	FAR_CALL,
	TRANSACTION
};

static enum kind kind_of_ff(uint8_t modrm)
{
	switch ((modrm >> 3) & 7) {
	case 2:
		return INDIRECT_CALL;
	case 3:
		return FAR_CALL;
	default:
		return PLAIN;
	}
}

static enum kind kind_of(const uint8_t *opcode, size_t size_bytes)
{
	uint8_t second = size_bytes > 1 ? opcode[1] : 0;

	if ((opcode[0] & 0xf0) == 0x70)
		return SHORT_JCC;
	if (opcode[0] >= 0xe0 && opcode[0] <= 0xe3)
		return LOOP;
	switch (opcode[0]) {
	case 0x0f:
		return (second & 0xf0) == 0x80 ? LONG_JCC : PLAIN;
	case 0xc7:
		return second == 0xf8 ? TRANSACTION : PLAIN;
	case 0xe8:
		return CALL;
	case 0xe9:
		return LONG_JUMP;
	case 0xeb:
		return SHORT_JUMP;
	case 0xff:
		return kind_of_ff(second);
	default:
		return PLAIN;
	}
}

struct tap_error *tap_insn_relocate(
	const struct tap_insn *insn, uint64_t to, uint8_t *code, size_t *size_ret)
{
	struct output out = {.code = code, .to = to};
	struct tap_x86_prefixes prefixes;
	struct tap_error *err = NULL;
	const uint8_t *opcode;
	enum kind kind = PLAIN;

	tap_x86_prefixes(insn, &prefixes);
	opcode = insn->bytes + prefixes.opcode;
	if (prefixes.opcode < insn->size_bytes)
		kind = kind_of(opcode, insn->size_bytes - prefixes.opcode);
	if (kind != PLAIN && (prefixes.word || prefixes.odd || prefixes.lock))
		return unsupported(insn, "a branch with prefixes that processors take differently");
	if (insn->rip_disp_offset && prefixes.address_size)
		return unsupported(insn, "an operand relative to eip");
	switch (kind) {
	case PLAIN:
		err = put_fixed(&out, insn);
		break;
	case SHORT_JUMP:
		put_jump(&out, tap_x86_target(insn, 1));
		break;
	case LONG_JUMP:
		put_jump(&out, tap_x86_target(insn, 4));
		break;
	case SHORT_JCC:
		relocate_jcc(&out, opcode[0] & 0x0f, tap_x86_target(insn, 1));
		break;
	case LONG_JCC:
		relocate_jcc(&out, opcode[1] & 0x0f, tap_x86_target(insn, 4));
		break;
	case LOOP:
		relocate_loop(&out, insn);
		break;
	case CALL:
		relocate_call(&out, insn);
		break;
	case INDIRECT_CALL:
		err = relocate_indirect_call(&out, insn, &prefixes);
		break;
	case FAR_CALL:
		err = unsupported(insn, "a far call");
		break;
	case TRANSACTION:
		err = unsupported(insn, "the start of a hardware transaction");
		break;
	}
	if (err)
		return err;
	*size_ret = out.size_bytes;
	return NULL;
}
