/* SPDX-License-Identifier: Apache-2.0 */
/* Decoding: every function of the C library, calls on a stack, threads, and
 * bytes that mean nothing. */
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "unit.h"
#include "heaptap/arch/insn.h"

struct library {
	uint64_t base;
	char path[512];
	uint8_t *file;
	size_t size_bytes;
	const Elf64_Sym *symbols;
	size_t symbol_count;
};

static int find_libc(struct dl_phdr_info *info, size_t size_bytes, void *context)
{
	struct library *library = context;

	(void)size_bytes;
	if (!strstr(info->dlpi_name, "/libc.so.6"))
		return 0;
	library->base = info->dlpi_addr;
	snprintf(library->path, sizeof(library->path), "%s", info->dlpi_name);
	return 1;
}

static int open_library(void **state)
{
	static struct library library;
	const Elf64_Ehdr *header;
	const Elf64_Shdr *section;
	struct stat info;
	int fd;

	if (!dl_iterate_phdr(find_libc, &library))
		return -1;
	fd = open(library.path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &info))
		return -1;
	library.size_bytes = (size_t)info.st_size;
	library.file = mmap(NULL, library.size_bytes, PROT_READ, MAP_PRIVATE, fd, 0);
	close(fd);
	if (library.file == MAP_FAILED)
		return -1;
	header = (const void *)library.file;
	section = (const void *)(library.file + header->e_shoff);
	for (unsigned i = 0; i < header->e_shnum; i++) {
		if (section[i].sh_type == SHT_DYNSYM) {
			library.symbols = (const void *)(library.file + section[i].sh_offset);
			library.symbol_count = section[i].sh_size / sizeof(Elf64_Sym);
		}
	}
	*state = &library;
	return library.symbols ? 0 : -1;
}

static int close_library(void **state)
{
	struct library *library = *state;

	munmap(library->file, library->size_bytes);
	return 0;
}

typedef void each_insn(const struct tap_insn *insn, unsigned nth);

/* Decodes the functions of the library from their starts; returns how many
 * functions had bytes that were not decoded. */
static unsigned walk(
	const struct library *library, unsigned limit, each_insn *each, unsigned *functions_ret)
{
	unsigned broken = 0;

	*functions_ret = 0;
	for (size_t i = 0; i < library->symbol_count; i++) {
		const Elf64_Sym *symbol = &library->symbols[i];
		uint64_t at = library->base + symbol->st_value, end = at + symbol->st_size;
		struct tap_insn insn;

		if (ELF64_ST_TYPE(symbol->st_info) != STT_FUNC || !symbol->st_size)
			continue;
		++*functions_ret;
		for (unsigned n = 0; n < limit && at < end; n++) {
			if (!tap_insn_try_decode((const uint8_t *)at, end - at, at, &insn)) {
				broken++;
				break;
			}
			each(&insn, n);
			at += insn.size_bytes;
		}
	}
	return broken;
}

/* The address that a RIP-relative operand names. */
static uint64_t named(const uint8_t *code, uint64_t addr, unsigned disp_at, size_t size_bytes)
{
	int32_t disp;

	memcpy(&disp, code + disp_at, sizeof(disp));
	return addr + size_bytes + (uint64_t)(int64_t)disp;
}

static bool is_branch(const struct tap_insn *insn)
{
	const uint8_t *b = insn->bytes;
	size_t i = b[0] == 0xf2 || b[0] == 0x3e || (b[0] & 0xf0) == 0x40;

	return (b[i] & 0xf0) == 0x70 || (b[i] & 0xf0) == 0xe0 ||
	       (b[i] == 0x0f && (b[i + 1] & 0xf0) == 0x80) ||
	       (b[i] == 0xff && ((b[i + 1] >> 3) & 7) == 2);
}

static void relocates(const struct tap_insn *insn, unsigned nth)
{
	const uint64_t to = insn->addr - 0x1000000;
	uint8_t code[TAP_INSN_RELOCATED_MAX];
	size_t size_bytes;

	(void)nth;
	assert_ok(tap_insn_relocate(insn, to, code, &size_bytes));
	if (is_branch(insn))
		return;
	assert_int_equal(size_bytes, insn->size_bytes);
	if (insn->rip_disp_offset) {
		unsigned at = insn->rip_disp_offset;

		assert_int_equal(named(code, to, at, size_bytes),
			named(insn->bytes, insn->addr, at, size_bytes));
		memcpy(code + at, insn->bytes + at, 4);
	}
	assert_memory_equal(code, insn->bytes, size_bytes);
}

static void starts_of_functions_relocate(void **state)
{
	unsigned functions, broken = walk(*state, 4, relocates, &functions);

	assert_true(functions > 1500);
	/* pkey_get and pkey_set begin with rdpkru, which capstone 4 does not know. */
	assert_in_range(broken, 0, 2);
}

static bool none(void *context, uint64_t addr, void *buf, size_t size_bytes)
{
	(void)context, (void)addr;
	memset(buf, 0, size_bytes);
	return true;
}

static bool nowhere(void *context, uint64_t addr, const void *buf, size_t size_bytes)
{
	(void)context, (void)addr, (void)buf, (void)size_bytes;
	return true;
}

static unsigned emulated, first_insns;

static void counts_emulated(const struct tap_insn *insn, unsigned nth)
{
	const struct tap_insn_memory memory = {NULL, none, nowhere};
	struct tap_regs regs = {.rip = insn->addr};

	(void)nth;
	first_insns++;
	emulated += tap_insn_emulate(insn, &regs, &memory) == TAP_EMULATION_DONE;
}

/* A breakpoint on a function should cost one stop, not two. */
static void first_instructions_are_mostly_emulated(void **state)
{
	unsigned functions;

	walk(*state, 1, counts_emulated, &functions);
	assert_true(first_insns > 1500);
	assert_true(emulated * 100 > first_insns * 98);
}

static unsigned calls;

static void is_seen_from_behind(const struct tap_insn *insn, unsigned nth)
{
	const uint8_t *end = (const uint8_t *)(insn->addr + insn->size_bytes);
	const uint8_t *b = insn->bytes;
	size_t i = b[0] == 0xf2 || b[0] == 0x3e || (b[0] & 0xf0) == 0x40;

	(void)nth;
	if (b[i] != 0xe8 && !(b[i] == 0xff && ((b[i + 1] >> 3) & 7) == 2))
		return;
	calls++;
	assert_true(tap_insn_ends_with_call(end - insn->size_bytes, insn->size_bytes));
}

static void calls_are_seen_from_behind(void **state)
{
	static const struct {
		uint8_t bytes[8];
		uint8_t size_bytes;
		bool call;
	} rows[] = {
		{{0xe8, 1, 2, 3, 4}, 5, true},
		{{0x90, 0xe8, 1, 2, 3}, 5, false},
		{{0xe8, 1, 2, 3}, 4, false},
		{{0xff, 0xd0}, 2, true},
		{{0x41, 0xff, 0xd4}, 3, true},
		{{0xff, 0x10}, 2, true},
		{{0xff, 0x14, 0x24}, 3, true},
		{{0xff, 0x14, 0xc5, 1, 2, 3, 4}, 7, true},
		{{0xff, 0x14, 0xc5, 1, 2, 3}, 6, false},
		{{0xff, 0x50, 0x08}, 3, true},
		{{0xff, 0x54, 0x24, 0x08}, 4, true},
		{{0xff, 0x90, 1, 2, 3, 4}, 6, true},
		{{0xff, 0x94, 0x24, 1, 2, 3, 4}, 7, true},
		{{0xff, 0x15, 1, 2, 3, 4}, 6, true},
		{{0xff, 0x25, 1, 2, 3, 4}, 6, false},
		{{0xff, 0xe0}, 2, false},
		{{0xff, 0x14}, 2, false},
		{{0x10}, 1, false},
		{{0}, 0, false},
		{{0x48, 0x89, 0xe5}, 3, false},
	};
	unsigned functions;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		uint8_t *exact = malloc(rows[i].size_bytes + !rows[i].size_bytes);

		memcpy(exact, rows[i].bytes, rows[i].size_bytes);
		if (tap_insn_ends_with_call(exact, rows[i].size_bytes) != rows[i].call)
			fail_msg("row %zu", i);
		free(exact);
	}
	walk(*state, 200, is_seen_from_behind, &functions);
	assert_true(calls > 1000);
}

static uint64_t random_u64(void)
{
	static uint64_t x = 88172645463325252;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return x * UINT64_C(2685821657736338717);
}

static bool read_random(void *context, uint64_t addr, void *buf, size_t size_bytes)
{
	uint64_t value = random_u64();

	(void)context, (void)addr;
	assert_in_range(size_bytes, 1, 8);
	memcpy(buf, &value, size_bytes);
	return value & 7;
}

static bool write_random(void *context, uint64_t addr, const void *buf, size_t size_bytes)
{
	(void)context, (void)addr, (void)buf;
	assert_in_range(size_bytes, 1, 8);
	return random_u64() & 7;
}

/* Random bytes, with frequent opcodes and prefixes in front. */
static size_t random_bytes(uint8_t *bytes)
{
	static const uint8_t frequent[] = {0x66, 0x67, 0xf2, 0xf3, 0xf0, 0x64, 0x0f, 0x48, 0x41,
		0xff, 0xc4, 0xc5, 0x62, 0x8f, 0xe8, 0x0f};
	size_t size_bytes = random_u64() % 18;

	for (size_t i = 0; i < size_bytes; i++)
		bytes[i] = (uint8_t)random_u64();
	for (size_t i = 0; i < size_bytes && random_u64() % 3; i++)
		bytes[i] = frequent[random_u64() % sizeof(frequent)];
	return size_bytes;
}

static void carry_on(const struct tap_insn *insn)
{
	const struct tap_insn_memory memory = {NULL, read_random, write_random};
	uint8_t *code = malloc(TAP_INSN_RELOCATED_MAX);
	size_t code_bytes = 0;
	struct tap_regs regs, before;
	struct tap_error *err;

	for (size_t i = 0; i < sizeof(regs) / 8; i++)
		((uint64_t *)&regs)[i] = random_u64();
	before = regs;
	if (tap_insn_emulate(insn, &regs, &memory) != TAP_EMULATION_DONE)
		assert_memory_equal(&regs, &before, sizeof(regs));
	err = tap_insn_relocate(
		insn, random_u64() & 1 ? random_u64() : insn->addr + 4096, code, &code_bytes);
	if (!err)
		assert_in_range(code_bytes, 1, TAP_INSN_RELOCATED_MAX);
	tap_error_free(err);
	free(code);
}

static void any_bytes_are_borne(void **state)
{
	unsigned decoded = 0;

	(void)state;
	for (int i = 0; i < 200000; i++) {
		uint8_t bytes[18];
		size_t size_bytes = random_bytes(bytes);
		uint8_t *exact = malloc(size_bytes + !size_bytes);
		struct tap_insn insn;

		memcpy(exact, bytes, size_bytes);
		if (tap_insn_try_decode(exact, size_bytes, random_u64(), &insn)) {
			assert_in_range(insn.size_bytes, 1, size_bytes);
			assert_memory_equal(insn.bytes, bytes, insn.size_bytes);
			decoded++;
			carry_on(&insn);
		}
		tap_insn_ends_with_call(exact, size_bytes);
		free(exact);
	}
	assert_true(decoded > 20000);
}

static void *decode_much(void *wrong)
{
	static const uint8_t moves[2][7] = {
		{0x48, 0x8b, 0x05, 1, 0, 0, 0}, {0x55}, /* mov 1(%rip),%rax; push %rbp */
	};

	for (unsigned i = 0; i < 20000; i++) {
		struct tap_insn insn;

		if (!tap_insn_try_decode(moves[i & 1], 7, 0x1000, &insn) ||
			insn.size_bytes != (i & 1 ? 1 : 7) ||
			insn.rip_disp_offset != (i & 1 ? 0 : 3))
			*(bool *)wrong = true;
	}
	return NULL;
}

static void threads_do_not_disturb_each_other(void **state)
{
	pthread_t threads[4];
	bool wrong[4] = {false};

	(void)state;
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, decode_much, &wrong[i]), 0);
	for (int i = 0; i < 4; i++) {
		assert_int_equal(pthread_join(threads[i], NULL), 0);
		assert_false(wrong[i]);
	}
}

static void breakpoint_is_int3(void **state)
{
	struct tap_insn insn;

	(void)state;
	assert_int_equal(tap_insn_breakpoint, 0xcc);
	assert_true(tap_insn_try_decode(&tap_insn_breakpoint, 1, 0x1000, &insn));
	assert_int_equal(insn.size_bytes, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(starts_of_functions_relocate),
		cmocka_unit_test(first_instructions_are_mostly_emulated),
		cmocka_unit_test(calls_are_seen_from_behind),
		cmocka_unit_test(any_bytes_are_borne),
		cmocka_unit_test(threads_do_not_disturb_each_other),
		cmocka_unit_test(breakpoint_is_int3),
	};

	return cmocka_run_group_tests(tests, open_library, close_library);
}
