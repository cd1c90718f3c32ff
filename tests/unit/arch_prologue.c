/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "heaptap/arch/prologue.h"

#define ADDR UINT64_C(0x7f0000001000)
#define AT UINT64_C(0x7f0000100000)

/* What a function begins with, and how many bytes a jump displaces there; 0:
 * it is refused, for a reason with this word. */
static const struct {
	const char *name;
	uint8_t code[24];
	size_t size_bytes;
	uint64_t addr;
	size_t displaced_bytes;
	const char *reason;
} functions[] = {
	{"endbr64, push", {0xf3, 0x0f, 0x1e, 0xfa, 0x41, 0x57, 0xc3}, 7, ADDR, 6, NULL},
	{"push, mov", {0x55, 0x48, 0x89, 0xe5, 0x53, 0xc3}, 6, ADDR, 5, NULL},
	{"a jump", {0xe9, 0, 1, 0, 0}, 5, ADDR, 5, NULL},
	{"a jump through memory", {0xff, 0x25, 0, 1, 0, 0}, 6, ADDR, 6, NULL},
	{"a short branch and more", {0x48, 0x85, 0xff, 0x74, 0x10, 0x55, 0xc3}, 7, ADDR, 5, NULL},
	{"a RIP-relative operand", {0x48, 0x8b, 0x05, 0, 1, 0, 0, 0xc3}, 8, ADDR, 7, NULL},
	{"the last five bytes of a page", {0x53, 0x48, 0x83, 0xec, 0x10, 0xc3}, 6, ADDR - 5, 5, NULL},
	{"across a page", {0x53, 0x48, 0x83, 0xec, 0x10, 0xc3}, 6, ADDR - 4, 0, "page"},
	{"too short", {0x31, 0xc0, 0x53}, 3, ADDR, 0, "shorter"},
	{"a return", {0x31, 0xc0, 0xc3, 0x90, 0x90}, 5, ADDR, 0, "return"},
	{"a call", {0xe8, 0, 1, 0, 0, 0xc3}, 6, ADDR, 0, "call"},
	{"somebody's breakpoint", {0xcc, 0x48, 0x89, 0xe5, 0x53, 0xc3}, 6, ADDR, 0, "breakpoint"},
	{"a loop to its second instruction", {0x55, 0x48, 0xff, 0xcf, 0x75, 0xfb, 0xc3}, 7, ADDR, 0,
		"second instruction"},
	{"a loop to its first", {0x48, 0xff, 0xcf, 0x53, 0x5b, 0x75, 0xf9, 0xc3}, 8, ADDR, 5, NULL},
	{"no instruction", {0x06, 0x06, 0x06, 0x06, 0x06}, 5, ADDR, 0, "known"},
};

static void prologues(void **state)
{
	struct tap_prologue prologue;

	(void)state;
	for (size_t i = 0; i < sizeof(functions) / sizeof(*functions); i++) {
		_cleanup_error_ struct tap_error *err = tap_prologue_move(functions[i].addr,
			functions[i].code, functions[i].size_bytes, AT, &prologue);

		if (!functions[i].reason) {
			if (err)
				fail_msg("%s: %s", functions[i].name, err->message);
			assert_int_equal(prologue.displaced_bytes, functions[i].displaced_bytes);
			assert_in_range(prologue.code_bytes, 5, TAP_PROLOGUE_CODE_MAX);
			continue;
		}
		if (!err)
			fail_msg("%s was not refused", functions[i].name);
		assert_int_equal(err->code, TAP_ERR_UNSUPPORTED);
		if (!strstr(err->message, functions[i].reason))
			fail_msg("%s: %s", functions[i].name, err->message);
	}
}

/* int f(int n): a sum by a loop, behind a prologue with a branch and an operand
 * that is reached by rip. */
static const uint8_t sum[] = {
	0x8b, 0x05, 0x14, 0, 0, 0, /* mov 20(%rip),%eax: the word behind it */
	0x85, 0xff,                /* test %edi,%edi */
	0x74, 0x07,                /* jz to the return */
	0x01, 0xf8,                /* add %edi,%eax */
	0xff, 0xcf,                /* dec %edi */
	0x75, 0xfa,                /* jnz to the add */
	0x90,                      /* nop */
	0xc3,                      /* ret */
	0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, /* up to the word */
	7, 0, 0, 0,
};

/* The moved code does what the function does. */
static void it_runs(void **state)
{
	struct tap_prologue prologue;
	uint8_t *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE | PROT_EXEC,
		MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int (*original)(int) = (int (*)(int))page, (*moved)(int) = (int (*)(int))(page + 4096);

	(void)state;
	assert_ptr_not_equal(page, MAP_FAILED);
	memcpy(page, sum, sizeof(sum));
	assert_ok(tap_prologue_move(
		(uint64_t)page, page, 18, (uint64_t)page + 4096, &prologue));
	assert_int_equal(prologue.displaced_bytes, 6);
	memcpy(page + 4096, prologue.code, prologue.code_bytes);
	for (int n = 0; n < 10; n++) {
		int right = original(n);

		assert_int_equal(right, 7 + n * (n + 1) / 2);
		/* Nobody passes by there any more. */
		memset(page, 0xcc, prologue.displaced_bytes);
		assert_int_equal(moved(n), right);
		memcpy(page, sum, sizeof(sum));
	}
	munmap(page, 8192);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(prologues),
		cmocka_unit_test(it_runs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
