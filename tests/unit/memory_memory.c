/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include "heaptap/memory/memory.h"

#define PAGE 4096u

/* Three pages of this process, the middle one not readable by it. */
static uint8_t *map_with_hole(void)
{
	uint8_t *pages = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(pages, MAP_FAILED);
	for (size_t i = 0; i < 3 * PAGE; i++)
		pages[i] = (uint8_t)(i * 7);
	assert_int_equal(munmap(pages + PAGE, PAGE), 0);
	return pages;
}

static void reads_a_live_process(void **state)
{
	_cleanup_memory_ struct tap_memory *memory = NULL;
	uint8_t *pages = map_with_hole();
	uint64_t addr = (uint64_t)pages, value;
	uint8_t buf[3 * PAGE], byte;

	(void)state;
	assert_ok(tap_memory_open(getpid(), false, &memory));
	for (int cached = 0; cached < 2; cached++) {
		tap_memory_cache(memory, cached ? TAP_MEMORY_CACHE_PIECES : TAP_MEMORY_CACHE_OFF);
		assert_true(tap_memory_try_read(memory, addr, buf, PAGE));
		assert_memory_equal(buf, pages, PAGE);
		assert_true(tap_memory_try_read(memory, addr + 2 * PAGE, buf, PAGE));
		assert_memory_equal(buf, pages + 2 * PAGE, PAGE);
		assert_false(tap_memory_try_read(memory, addr + PAGE - 4, buf, 8));
		assert_int_equal(tap_memory_read_some(memory, addr + 10, buf, sizeof(buf)), PAGE - 10);
		assert_int_equal(tap_memory_read_some(memory, addr + PAGE, buf, 16), 0);
		assert_true(tap_memory_try_u64(memory, addr + 8, &value));
		assert_memory_equal(&value, pages + 8, 8);
		assert_true(tap_memory_try_u8(memory, addr + 3, &byte));
		assert_int_equal(byte, 21);
	}
	munmap(pages, PAGE);
	munmap(pages + 2 * PAGE, PAGE);
}

static void refuses_addresses_that_cannot_be(void **state)
{
	static const uint64_t addrs[] = {0, 8, 1ull << 47, INT64_MAX - 3, INT64_MAX, 1ull << 63,
		0xffffffffff600000ull, UINT64_MAX - 7, UINT64_MAX};
	_cleanup_memory_ struct tap_memory *memory = NULL;
	char text[16];
	uint64_t value;

	(void)state;
	assert_ok(tap_memory_open(getpid(), true, &memory));
	for (int cached = 0; cached < 2; cached++) {
		tap_memory_cache(memory, cached ? TAP_MEMORY_CACHE_PIECES : TAP_MEMORY_CACHE_OFF);
		for (size_t i = 0; i < sizeof(addrs) / sizeof(addrs[0]); i++) {
			assert_false(tap_memory_try_u64(memory, addrs[i], &value));
			assert_false(tap_memory_try_string(memory, addrs[i], text, sizeof(text)));
			assert_code(tap_memory_write(memory, addrs[i], "x", 1), TAP_ERR_FAULT);
		}
	}
}

static void strings_end_or_are_cut(void **state)
{
	_cleanup_memory_ struct tap_memory *memory = tap_memory_create_image();
	char longer[1000], buf[600];

	(void)state;
	memset(longer, 'x', sizeof(longer));
	tap_memory_add_region(memory, 0x1000, "hello", 6);
	tap_memory_add_region(memory, 0x2000, longer, sizeof(longer));
	tap_memory_add_region(memory, 0x3000, "ab", 2);
	assert_true(tap_memory_try_string(memory, 0x1000, buf, sizeof(buf)));
	assert_string_equal(buf, "hello");
	assert_true(tap_memory_try_string(memory, 0x1000, buf, 3));
	assert_string_equal(buf, "he");
	assert_true(tap_memory_try_string(memory, 0x2000, buf, sizeof(buf)));
	assert_int_equal(strlen(buf), sizeof(buf) - 1);
	/* The region ends before the string does. */
	assert_true(tap_memory_try_string(memory, 0x3000, buf, sizeof(buf)));
	assert_string_equal(buf, "ab");
	assert_false(tap_memory_try_string(memory, 0x4000, buf, sizeof(buf)));
}

static void images_join_regions_that_touch(void **state)
{
	_cleanup_memory_ struct tap_memory *memory = tap_memory_create_image();
	char buf[8] = "";

	(void)state;
	tap_memory_add_region(memory, 0x10000, "abcd", 4);
	tap_memory_add_region(memory, 0x10004, "efgh", 4);
	for (int cached = 0; cached < 2; cached++) {
		tap_memory_cache(memory, cached ? TAP_MEMORY_CACHE_PIECES : TAP_MEMORY_CACHE_OFF);
		assert_true(tap_memory_try_read(memory, 0x10002, buf, 4));
		assert_memory_equal(buf, "cdef", 4);
		assert_int_equal(tap_memory_read_some(memory, 0x10006, buf, 8), 2);
		assert_false(tap_memory_try_read(memory, 0xfffe, buf, 4));
	}
	assert_ok(tap_memory_write(memory, 0x10003, "XY", 2));
	assert_true(tap_memory_try_read(memory, 0x10002, buf, 4));
	assert_memory_equal(buf, "cXYf", 4);
	assert_code(tap_memory_write(memory, 0x10007, "XY", 2), TAP_ERR_FAULT);
}

static void a_cache_holds_until_it_is_told(void **state)
{
	_cleanup_memory_ struct tap_memory *memory = NULL;
	uint8_t *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t addr = (uint64_t)page;
	uint8_t byte;

	(void)state;
	assert_ok(tap_memory_open(getpid(), true, &memory));
	tap_memory_cache(memory, TAP_MEMORY_CACHE_PIECES);
	page[0] = 1;
	assert_true(tap_memory_try_u8(memory, addr, &byte));
	page[0] = 2;
	assert_true(tap_memory_try_u8(memory, addr, &byte));
	assert_int_equal(byte, 1);
	assert_ok(tap_memory_write(memory, addr + 1, "\3", 1));
	assert_true(tap_memory_try_u8(memory, addr, &byte));
	assert_int_equal(byte, 2);
	page[0] = 4;
	tap_memory_cache(memory, TAP_MEMORY_CACHE_PIECES);
	assert_true(tap_memory_try_u8(memory, addr, &byte));
	assert_int_equal(byte, 4);
	munmap(page, PAGE);
}

/* More pieces than the cache has room for: each is still what is there. */
static void a_full_cache_replaces(void **state)
{
	_cleanup_memory_ struct tap_memory *memory = tap_memory_create_image();
	const size_t pieces = 1500;
	uint64_t value;

	(void)state;
	for (uint64_t i = 0; i < pieces; i++)
		tap_memory_add_region(memory, (i + 1) << 16, &i, sizeof(i));
	tap_memory_cache(memory, TAP_MEMORY_CACHE_PIECES);
	for (int round = 0; round < 2; round++) {
		for (uint64_t i = 0; i < pieces; i++) {
			assert_true(tap_memory_try_u64(memory, (i + 1) << 16, &value));
			assert_int_equal(value, i);
		}
	}
}

/* What is lent is believed; what it has not whole is read. */
static void lent_bytes_are_served(void **state)
{
	_cleanup_memory_ struct tap_memory *memory = tap_memory_create_image();
	const uint64_t addr = 0x10000;
	uint8_t bytes[64], lent[16], buf[64];

	(void)state;
	memset(bytes, 1, sizeof(bytes));
	memset(lent, 2, sizeof(lent));
	tap_memory_add_region(memory, addr, bytes, sizeof(bytes));
	for (int cached = 0; cached < 2; cached++) {
		tap_memory_cache(memory, cached ? TAP_MEMORY_CACHE_PAGES : TAP_MEMORY_CACHE_OFF);
		tap_memory_lend(memory, addr + 16, lent, sizeof(lent));
		assert_true(tap_memory_try_read(memory, addr + 16, buf, 16) && buf[15] == 2);
		assert_true(tap_memory_try_glance(memory, addr + 24, buf, 8) && buf[7] == 2);
		assert_true(tap_memory_try_read(memory, addr + 15, buf, 8) && buf[7] == 1);
		assert_true(tap_memory_try_glance(memory, addr + 25, buf, 8) && buf[0] == 1);
		assert_int_equal(tap_memory_read_some(memory, addr + 8, buf, 64), 56);
		assert_int_equal(tap_memory_glance(memory, addr + 8, buf, 64), 56);
		assert_false(tap_memory_try_glance(memory, UINT64_MAX - 3, buf, 8));
		tap_memory_lend(memory, 0, NULL, 0);
		assert_true(tap_memory_try_read(memory, addr + 16, buf, 16) && buf[0] == 1);
		assert_false(tap_memory_try_glance(memory, 0, buf, 8));
	}
}

static void a_glance_is_past_the_cache(void **state)
{
	_cleanup_memory_ struct tap_memory *memory = NULL;
	uint8_t *pages = map_with_hole(), byte;
	uint64_t addr = (uint64_t)pages;

	(void)state;
	assert_ok(tap_memory_open(getpid(), false, &memory));
	tap_memory_cache(memory, TAP_MEMORY_CACHE_PAGES);
	assert_true(tap_memory_try_u8(memory, addr, &byte) && byte == 0);
	pages[0] = 9;
	assert_true(tap_memory_try_u8(memory, addr, &byte) && byte == 0);
	assert_true(tap_memory_try_glance(memory, addr, &byte, 1) && byte == 9);
	munmap(pages, PAGE);
	munmap(pages + 2 * PAGE, PAGE);
}

static void writes_to_read_only_text_of_a_child(void **state)
{
	_cleanup_memory_ struct tap_memory *memory = NULL;
	uint8_t *page = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t value = 0;
	pid_t child = fork();

	(void)state;
	if (child == 0)
		for (;;)
			pause();
	assert_ok(tap_memory_open(child, true, &memory));
	assert_ok(tap_memory_write(memory, (uint64_t)page, "abcdefgh", 8));
	assert_true(tap_memory_try_u64(memory, (uint64_t)page, &value));
	assert_memory_equal(&value, "abcdefgh", 8);
	assert_int_equal(page[0], 0);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	/* The address space is gone, whoever has the number now. */
	assert_false(tap_memory_try_u64(memory, (uint64_t)page, &value));
	assert_non_null(memory);
	assert_code(tap_memory_write(memory, (uint64_t)page, "a", 1), TAP_ERR_GONE);
	munmap(page, PAGE);
}

static void a_process_that_is_not_there_is_gone(void **state)
{
	struct tap_memory *memory = NULL;
	pid_t child = fork();

	(void)state;
	if (child == 0)
		_exit(0);
	waitpid(child, NULL, 0);
	assert_code(tap_memory_open(child, false, &memory), TAP_ERR_GONE);
	assert_null(memory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_a_live_process),
		cmocka_unit_test(refuses_addresses_that_cannot_be),
		cmocka_unit_test(strings_end_or_are_cut),
		cmocka_unit_test(images_join_regions_that_touch),
		cmocka_unit_test(a_cache_holds_until_it_is_told),
		cmocka_unit_test(a_full_cache_replaces),
		cmocka_unit_test(lent_bytes_are_served),
		cmocka_unit_test(a_glance_is_past_the_cache),
		cmocka_unit_test(writes_to_read_only_text_of_a_child),
		cmocka_unit_test(a_process_that_is_not_there_is_gone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
