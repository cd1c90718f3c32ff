/* SPDX-License-Identifier: Apache-2.0 */
/* Relocated code against the original, both run by the processor. */
#include "arch_forms.h"

#define TRIALS 200

struct outcome {
	struct tap_regs regs;
	uint8_t data[NATIVE_DATA];
};

static void run(const struct trial *t, uint8_t *area, uint64_t addr, const uint8_t *code,
	size_t size_bytes, struct outcome *ret)
{
	uint8_t before[NATIVE_DATA];

	memcpy(before, native.data, sizeof(before));
	ret->regs = t->regs;
	if (run_at(area, addr, code, size_bytes, &ret->regs) != SIGTRAP)
		fail_msg("%s: the processor gave signal %d", trial_text(t), native.signal);
	memcpy(ret->data, native.data, sizeof(ret->data));
	memcpy(native.data, before, sizeof(before));
}

static bool is_call(const struct trial *t)
{
	return t->form->opcode[0] == 0xe8 || (t->form->opcode[0] == 0xff && t->form->modrm == 2);
}

/* The copy pushes before it reads its target: a target that lies where the
 * return address goes, below the stack, is the one thing it cannot do. */
static bool target_is_overwritten(const struct trial *t)
{
	return is_call(t) && t->has_memory && t->operand_addr + 8 > t->regs.rsp - 8 &&
	       t->operand_addr < t->regs.rsp;
}

static void check_at(const struct trial *t, const struct tap_insn *insn, uint8_t *area)
{
	static struct outcome original, copy;
	uint8_t code[TAP_INSN_RELOCATED_MAX];
	uint64_t to = (uint64_t)area + 5000;
	size_t size_bytes = 0;

	if (t->rip_relative && area == native.far) {
		assert_code(tap_insn_relocate(insn, to, code, &size_bytes), TAP_ERR_UNSUPPORTED);
		return;
	}
	if (is_call(t) && t->uses_rsp) {
		assert_code(tap_insn_relocate(insn, to, code, &size_bytes), TAP_ERR_UNSUPPORTED);
		return;
	}
	assert_ok(tap_insn_relocate(insn, to, code, &size_bytes));
	assert_in_range(size_bytes, 1, sizeof(code));
	run(t, native.code, t->addr, t->bytes, t->size_bytes, &original);
	run(t, area, to, code, size_bytes, &copy);
	if (original.regs.rip == t->addr + t->size_bytes) {
		assert_int_equal(copy.regs.rip, to + size_bytes);
		copy.regs.rip = original.regs.rip;
	}
	assert_same_state(t, &original.regs, &copy.regs);
	if (memcmp(original.data, copy.data, sizeof(copy.data)))
		fail_msg("%s: memory differs", trial_text(t));
}

static void check_all(uint8_t *area)
{
	struct tap_insn insn;
	struct trial t;

	for (size_t i = 0; i < FORMS; i++) {
		for (int n = 0; n < TRIALS; n++) {
			make_trial(&forms[i], &t);
			if (target_is_overwritten(&t))
				continue;
			if (!tap_insn_try_decode(t.bytes, t.size_bytes, t.addr, &insn))
				fail_msg("%s is not decoded", trial_text(&t));
			assert_int_equal(insn.size_bytes, t.size_bytes);
			check_at(&t, &insn, area);
		}
	}
}

static void does_the_same_near_by(void **state)
{
	(void)state;
	check_all(native.code);
}

static void does_the_same_far_away(void **state)
{
	(void)state;
	assert_true((uint64_t)native.far - (uint64_t)native.code > UINT64_C(1) << 32);
	check_all(native.far);
}

static void what_cannot_be_moved_is_refused(void **state)
{
	static const struct {
		uint8_t bytes[15];
		uint8_t size_bytes;
		const char *name;
	} refused[] = {
		{{0xc7, 0xf8, 0, 0, 0, 0}, 6, "xbegin"},
		{{0x66, 0xe8, 0, 0, 0, 0}, 6, "call of 16 bits"},
		{{0x66, 0x74, 0}, 3, "jcc of 16 bits"},
		{{0xff, 0x18}, 2, "far call"},
		{{0xff, 0xd4}, 2, "call rsp"},
		{{0xff, 0x14, 0x24}, 3, "call [rsp]"},
		{{0x67, 0x8b, 0x05, 0, 0, 0, 0}, 7, "mov [eip]"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		uint8_t code[TAP_INSN_RELOCATED_MAX];
		struct tap_insn insn;
		size_t size_bytes;

		if (!tap_insn_try_decode(refused[i].bytes, refused[i].size_bytes, 0x1000, &insn))
			fail_msg("%s is not decoded", refused[i].name);
		assert_code(
			tap_insn_relocate(&insn, 0x2000, code, &size_bytes), TAP_ERR_UNSUPPORTED);
	}
}

/* Displacements of vector instructions, with and without an immediate behind
 * them, in every prefix scheme. */
static void operands_relative_to_rip_keep_their_address(void **state)
{
	static const struct {
		uint8_t bytes[15];
		uint8_t size_bytes;
		uint8_t disp_at;
	} moved[] = {
		{{0xc5, 0xfb, 0x10, 0x05, 0, 1, 0, 0}, 8, 4},
		{{0x62, 0xf1, 0xfd, 0x48, 0x6f, 0x05, 0, 1, 0, 0}, 10, 6},
		{{0xc5, 0xf9, 0xc6, 0x05, 0, 1, 0, 0, 5}, 9, 4},
		{{0x66, 0x0f, 0x3a, 0x0f, 0x05, 0, 1, 0, 0, 5}, 10, 5},
		{{0xc4, 0xe2, 0x79, 0x18, 0x05, 0, 1, 0, 0}, 9, 5},
		{{0xf6, 0x05, 0, 1, 0, 0, 7}, 7, 2},
		{{0xf2, 0xff, 0x25, 0, 1, 0, 0}, 7, 3},
		{{0xf0, 0x48, 0x0f, 0xb1, 0x0d, 0, 1, 0, 0}, 9, 5},
		{{0xd8, 0x05, 0, 1, 0, 0}, 6, 2},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(moved) / sizeof(moved[0]); i++) {
		uint8_t code[TAP_INSN_RELOCATED_MAX], wanted[15];
		const int32_t disp = 0x100 - 0x5000;
		struct tap_insn insn;
		size_t size_bytes;

		assert_true(
			tap_insn_try_decode(moved[i].bytes, moved[i].size_bytes, 0x10000, &insn));
		assert_ok(tap_insn_relocate(&insn, 0x15000, code, &size_bytes));
		assert_int_equal(size_bytes, moved[i].size_bytes);
		memcpy(wanted, moved[i].bytes, sizeof(wanted));
		memcpy(wanted + moved[i].disp_at, &disp, sizeof(disp));
		assert_memory_equal(code, wanted, size_bytes);
		assert_code(tap_insn_relocate(&insn, UINT64_C(1) << 33, code, &size_bytes),
			TAP_ERR_UNSUPPORTED);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(does_the_same_near_by),
		cmocka_unit_test(does_the_same_far_away),
		cmocka_unit_test(what_cannot_be_moved_is_refused),
		cmocka_unit_test(operands_relative_to_rip_keep_their_address),
	};

	return cmocka_run_group_tests(tests, native_setup, NULL);
}
