/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"
#include <string.h>
#include "session/preview.h"

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(shows_text_zeros_or_bytes),
		cmocka_unit_test(fits_whatever_it_is),
	};

	return cmocka_run_group_tests_name("preview", tests, NULL, NULL);
}
