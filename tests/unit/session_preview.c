/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"
#include <string.h>
#include <unistd.h>
#include "session/preview.h"

/* As a C++ compiler would make it of a class ns::Session. */
extern void *const session_vtable[6] __asm__("_ZTVN2ns7SessionE");
void *const session_vtable[6] = {NULL, NULL, (void *)1, (void *)2, (void *)3, (void *)4};
extern void *const no_vtable[6] __asm__("session_table");
void *const no_vtable[6] = {(void *)1};

static void shows_text_zeros_or_bytes(void **state)
{
	static const struct {
		const char *bytes;
		size_t size;
		const char *preview;
	} rows[] = {
		{"GET /index.html\0\x01\x02\x03", 19, "\"GET /index.html\""},
		{"0123456789abcdefghijklmnopqrstuvwxyz", 36,
			"\"0123456789abcdefghijklmnopqrstuv\""},
		{"a\x1b[31mlittle red", 16, "\"a?[31mlittle red\""},
		{"Gr\xc3\xbc\xc3\x9f"
		 "e",
			8,
			"\"Gr\xc3\xbc\xc3\x9f"
			"e\""},
		/* Cut in the middle of a character. */
		{"0123456789abcdefghijklmnopqrstu\xc3\xbc", 33,
			"\"0123456789abcdefghijklmnopqrstu\""},
		{"abc", 4, "61 62 63 00"},
		{"\x01\x02\x03\x04name", 8, "01 02 03 04 6e 61 6d 65"},
		{"\0\0\0\0\0\0\0\0", 8, "zeros"},
		{"", 0, ""},
	};
	char buf[PREVIEW_TEXT];

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_string_equal(
			preview_bytes((const uint8_t *)rows[i].bytes, rows[i].size, buf),
			rows[i].preview);
}

static void fits_whatever_it_is(void **state)
{
	uint8_t bytes[64];
	char buf[PREVIEW_TEXT];
	unsigned seed = 1;

	(void)state;
	for (int round = 0; round < 20000; round++) {
		for (size_t i = 0; i < sizeof(bytes); i++) {
			seed = seed * 1664525u + 1013904223u;
			bytes[i] = (uint8_t)(round % 2 ? seed >> 24 : 0x80 | seed >> 27);
		}
		preview_bytes(bytes, seed >> 8 & 63, buf);
		assert_true(strnlen(buf, sizeof(buf)) < sizeof(buf));
	}
}

struct own {
	struct tap_memory *memory;
	struct tap_maps maps;
	struct tap_symbols *symbols;
	struct tap_strings *strings;
};

static void names_objects_by_their_vtables(void **state)
{
	struct own own = {.strings = tap_strings_create()};
	uint64_t words[4] = {(uintptr_t)&session_vtable[2], 1, 2, 3};
	char buf[PREVIEW_TEXT];

	(void)state;
	assert_ok(tap_memory_open(getpid(), false, &own.memory));
	assert_ok(tap_maps_read(getpid(), &own.maps));
	assert_ok(tap_symbols_open(getpid(), own.memory, &own.maps, NULL, &own.symbols));
	preview_block((uint8_t *)words, sizeof(words), own.symbols, own.strings, buf);
	assert_string_equal(buf, "ns::Session object");
	/* An object begins with the address of the first function. */
	words[0] = (uintptr_t)&session_vtable[0];
	preview_block((uint8_t *)words, sizeof(words), own.symbols, own.strings, buf);
	assert_null(strstr(buf, "object"));
	words[0] = (uintptr_t)&no_vtable[2];
	preview_block((uint8_t *)words, sizeof(words), own.symbols, own.strings, buf);
	assert_null(strstr(buf, "object"));
	preview_block((uint8_t *)words, 7, own.symbols, own.strings, buf);
	assert_null(strstr(buf, "object"));
	preview_block((uint8_t *)"some text", 10, NULL, NULL, buf);
	assert_string_equal(buf, "\"some text\"");
	tap_symbols_close(own.symbols);
	tap_maps_deinit(&own.maps);
	tap_memory_close(own.memory);
	tap_strings_destroy(own.strings);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(shows_text_zeros_or_bytes),
		cmocka_unit_test(fits_whatever_it_is),
		cmocka_unit_test(names_objects_by_their_vtables),
	};

	return cmocka_run_group_tests_name("preview", tests, NULL, NULL);
}
