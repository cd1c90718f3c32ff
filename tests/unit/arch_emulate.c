/* SPDX-License-Identifier: Apache-2.0 */
/* The emulator against the processor it runs on. */
#include "arch_forms.h"

#define TRIALS 400

static bool read_here(void *context, uint64_t addr, void *buf, size_t size_bytes)
{
	(void)context;
	memcpy(buf, (void *)addr, size_bytes);
	return true;
}

static bool write_here(void *context, uint64_t addr, const void *buf, size_t size_bytes)
{
	(void)context;
	memcpy((void *)addr, buf, size_bytes);
	return true;
}

static bool read_fails(void *context, uint64_t addr, void *buf, size_t size_bytes)
{
	(void)context, (void)addr, (void)buf, (void)size_bytes;
	return false;
}

static bool write_fails(void *context, uint64_t addr, const void *buf, size_t size_bytes)
{
	++*(int *)context;
	(void)addr, (void)buf, (void)size_bytes;
	return false;
}

static void check(const struct trial *t)
{
	const struct tap_insn_memory memory = {NULL, read_here, write_here};
	static uint8_t before[NATIVE_DATA], after[NATIVE_DATA];
	struct tap_regs hardware = t->regs, emulated = t->regs;
	struct tap_insn insn;

	if (!tap_insn_try_decode(t->bytes, t->size_bytes, t->addr, &insn))
		fail_msg("%s is not decoded", trial_text(t));
	if (insn.size_bytes != t->size_bytes)
		fail_msg("%s: decoded as %u bytes", trial_text(t), insn.size_bytes);
	memcpy(before, native.data, sizeof(before));
	if (run_at(native.code, t->addr, t->bytes, t->size_bytes, &hardware) != SIGTRAP)
		fail_msg("%s: the processor gave signal %d", trial_text(t), native.signal);
	memcpy(after, native.data, sizeof(after));
	memcpy(native.data, before, sizeof(before));
	if (tap_insn_emulate(&insn, &emulated, &memory) != TAP_EMULATION_DONE)
		fail_msg("%s is not emulated", trial_text(t));
	assert_same_state(t, &hardware, &emulated);
	assert_int_equal(emulated.eflags & ~(uint64_t)STATUS, t->regs.eflags & ~(uint64_t)STATUS);
	if (memcmp(native.data, after, sizeof(after)))
		fail_msg("%s: memory differs", trial_text(t));
}

static void does_what_the_processor_does(void **state)
{
	struct trial t;

	(void)state;
	for (size_t i = 0; i < FORMS; i++) {
		if (forms[i].flags & MOVED_ONLY)
			continue;
		for (int n = 0; n < TRIALS; n++) {
			make_trial(&forms[i], &t);
			check(&t);
		}
	}
}

/* Whichever access fails, registers are as before. */
static void fault_changes_nothing(void **state)
{
	int writes = 0;
	const struct tap_insn_memory blind = {&writes, read_fails, write_fails};
	const struct tap_insn_memory read_only = {&writes, read_here, write_fails};
	unsigned faults = 0;
	struct trial t;

	(void)state;
	for (size_t i = 0; i < FORMS; i++) {
		for (int n = 0; n < 30; n++) {
			struct tap_regs regs;
			struct tap_insn insn;
			enum tap_emulation result;

			make_trial(&forms[i], &t);
			if (!tap_insn_try_decode(t.bytes, t.size_bytes, t.addr, &insn))
				fail_msg("%s is not decoded", trial_text(&t));
			regs = t.regs;
			writes = 0;
			result = tap_insn_emulate(&insn, &regs, &read_only);
			assert_int_equal(result == TAP_EMULATION_FAULT, writes == 1);
			if (result != TAP_EMULATION_DONE)
				assert_memory_equal(&regs, &t.regs, sizeof(regs));
			regs = t.regs;
			result = tap_insn_emulate(&insn, &regs, &blind);
			if (result != TAP_EMULATION_DONE)
				assert_memory_equal(&regs, &t.regs, sizeof(regs));
			faults += result == TAP_EMULATION_FAULT;
		}
	}
	assert_true(faults > 1000);
}

static void what_is_not_certain_is_refused(void **state)
{
	static const struct {
		uint8_t bytes[15];
		uint8_t size_bytes;
		const char *name;
	} refused[] = {
		{{0xf0, 0x01, 0x00}, 3, "lock add"},
		{{0xf3, 0xc3}, 2, "rep ret"},
		{{0xf2, 0xff, 0xe0}, 3, "bnd jmp"},
		{{0xf3, 0x90}, 2, "pause"},
		{{0x67, 0x8b, 0x00}, 3, "mov with 32-bit address"},
		{{0x48, 0x66, 0x89, 0xc8}, 4, "REX before a prefix"},
		{{0x64, 0x65, 0x8b, 0x00}, 4, "two segments"},
		{{0x63, 0xc1}, 2, "movsxd to 32 bits"},
		{{0x66, 0xc3}, 2, "ret of 16 bits"},
		{{0x66, 0xe8, 0, 0, 0, 0}, 6, "call of 16 bits"},
		{{0x66, 0xff, 0xe0}, 3, "jmp of 16 bits"},
		{{0x66, 0xc9}, 2, "leave of 16 bits"},
		{{0x9c}, 1, "pushf"},
		{{0x9d}, 1, "popf"},
		{{0x0f, 0xa0}, 2, "push fs"},
		{{0x8e, 0xd8}, 2, "mov to ds"},
		{{0x8c, 0xd8}, 2, "mov from ds"},
		{{0x11, 0xc8}, 2, "adc"},
		{{0xd3, 0xe0}, 2, "shl by cl"},
		{{0x41, 0x90}, 2, "xchg"},
		{{0xff, 0x18}, 2, "far call"},
		{{0xf3, 0xa4}, 2, "rep movs"},
		{{0x0f, 0x05}, 2, "syscall"},
		{{0xcc}, 1, "int3"},
		{{0x0f, 0x10, 0x00}, 3, "movups"},
		{{0x66, 0x48, 0x0f, 0x6e, 0xc0}, 5, "movq"},
	};
	const struct tap_insn_memory memory = {NULL, read_here, write_here};

	(void)state;
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		struct tap_regs regs = {.rax = (uint64_t)native.data, .rsp = (uint64_t)native.data};
		struct tap_regs before = regs;
		struct tap_insn insn;

		if (!tap_insn_try_decode(refused[i].bytes, refused[i].size_bytes, 0x1000, &insn))
			fail_msg("%s is not decoded", refused[i].name);
		if (tap_insn_emulate(&insn, &regs, &memory) != TAP_EMULATION_NOT)
			fail_msg("%s is emulated", refused[i].name);
		assert_memory_equal(&regs, &before, sizeof(regs));
	}
}

static void stepped_code_and_wild_targets_are_left_to_the_processor(void **state)
{
	const struct tap_insn_memory memory = {NULL, read_here, write_here};
	struct tap_regs regs = {.eflags = 0x302};
	struct tap_insn insn;

	(void)state;
	assert_true(tap_insn_try_decode((const uint8_t *)"\x90", 1, 0x1000, &insn));
	assert_int_equal(tap_insn_emulate(&insn, &regs, &memory), TAP_EMULATION_NOT);
	assert_int_equal(regs.rip, 0);
	regs.eflags = 0x202;
	assert_int_equal(tap_insn_emulate(&insn, &regs, &memory), TAP_EMULATION_DONE);
	assert_int_equal(regs.rip, 0x1001);
	regs.rax = UINT64_C(1) << 63;
	assert_true(tap_insn_try_decode((const uint8_t *)"\xff\xe0", 2, 0x1000, &insn));
	assert_int_equal(tap_insn_emulate(&insn, &regs, &memory), TAP_EMULATION_NOT);
	assert_int_equal(regs.rip, 0x1001);
}

static void endbr64_is_passed(void **state)
{
	const struct tap_insn_memory memory = {NULL, read_fails, write_fails};
	struct tap_regs regs = {.rip = 0x1000, .rax = 7};
	struct tap_insn insn;

	(void)state;
	assert_true(tap_insn_try_decode((const uint8_t *)"\xf3\x0f\x1e\xfa", 4, 0x1000, &insn));
	assert_int_equal(tap_insn_emulate(&insn, &regs, &memory), TAP_EMULATION_DONE);
	assert_int_equal(regs.rip, 0x1004);
	assert_int_equal(regs.rax, 7);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(does_what_the_processor_does),
		cmocka_unit_test(fault_changes_nothing),
		cmocka_unit_test(what_is_not_certain_is_refused),
		cmocka_unit_test(stepped_code_and_wild_targets_are_left_to_the_processor),
		cmocka_unit_test(endbr64_is_passed),
	};

	return cmocka_run_group_tests(tests, native_setup, NULL);
}
