/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"
#include <string.h>
#include "heaptap/base/text.h"

static void sizes_as_people_write_them(void **state)
{
	static const struct {
		int64_t size_bytes;
		const char *text;
	} rows[] = {
		{0, "0 B"}, {17, "17 B"}, {1023, "1023 B"}, {1024, "1.0 KiB"}, {831488, "812 KiB"},
		{4402341478, "4.1 GiB"}, {-11534336, "-11.0 MiB"}, {INT64_MAX, "8.0 EiB"},
	};
	char buf[TAP_SIZE_TEXT];

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
		assert_string_equal(tap_text_size(buf, rows[i].size_bytes), rows[i].text);
	assert_string_equal(tap_text_count(buf, 312000), "312,000");
	assert_string_equal(tap_text_count(buf, -999), "-999");
	assert_string_equal(tap_text_duration(buf, 0.074), "74 ms");
	assert_string_equal(tap_text_duration(buf, 18720), "5h 12m");
	assert_string_equal(tap_text_duration(buf, 10), "10 s");
}

static void durations_sizes_and_rates_parse(void **state)
{
	double number;
	uint64_t size;
	int64_t whole;

	(void)state;
	assert_ok(tap_text_parse_duration("500ms", &number));
	assert_true(number == 0.5);
	assert_ok(tap_text_parse_duration("1h", &number));
	assert_true(number == 3600);
	assert_ok(tap_text_parse_duration("7", &number));
	assert_true(number == 7);
	assert_ok(tap_text_parse_size("512KiB", &size));
	assert_int_equal(size, 512 << 10);
	assert_ok(tap_text_parse_size("1G", &size));
	assert_int_equal(size, 1 << 30);
	assert_ok(tap_text_parse_rate("1MiB/min", &number));
	assert_true(number == 1048576.0 / 60);
	assert_ok(tap_text_parse_percent("10%", &number));
	assert_true(number == 10);
	assert_ok(tap_text_parse_number("42", 0, 50, &whole));
	assert_int_equal(whole, 42);
}

static void nonsense_is_refused(void **state)
{
	static const char *const durations[] = {"", "0", "-1", "10x", "1e999", "nan", "inf", "0x10"};
	static const char *const sizes[] = {"", "-1", "1Q", "9e30", "1 MiB "};
	double number;
	uint64_t size;
	int64_t whole;

	(void)state;
	for (size_t i = 0; i < sizeof(durations) / sizeof(*durations); i++)
		assert_code(tap_text_parse_duration(durations[i], &number), TAP_ERR_USAGE);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++)
		assert_code(tap_text_parse_size(sizes[i], &size), TAP_ERR_USAGE);
	assert_code(tap_text_parse_rate("1MiB", &number), TAP_ERR_USAGE);
	assert_code(tap_text_parse_rate("1MiB/", &number), TAP_ERR_USAGE);
	assert_code(tap_text_parse_percent("101", &number), TAP_ERR_USAGE);
	assert_code(tap_text_parse_number("7x", 0, 50, &whole), TAP_ERR_USAGE);
	assert_code(tap_text_parse_number("51", 0, 50, &whole), TAP_ERR_USAGE);
}

static void nothing_harmful_reaches_a_terminal(void **state)
{
	char buf[64];

	(void)state;
	assert_string_equal(tap_text_clean(buf, sizeof(buf), "a\033[31mb\nc\177"), "a?[31mb?c?");
	assert_string_equal(tap_text_clean(buf, sizeof(buf), "\xff\xc0\xafz"),
		"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbdz");
	assert_string_equal(tap_text_clean(buf, sizeof(buf), "\xc2\x9b" "1m"), "?1m");
	assert_string_equal(tap_text_clean(buf, sizeof(buf), "\xe2\x80\xae" "x"), "?x");
	assert_string_equal(tap_text_clean(buf, sizeof(buf), "h\xc3\xa9"), "h\xc3\xa9");
	/* Cut at a whole character. */
	assert_string_equal(tap_text_clean(buf, 3, "h\xc3\xa9"), "h");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes_as_people_write_them),
		cmocka_unit_test(durations_sizes_and_rates_parse),
		cmocka_unit_test(nonsense_is_refused),
		cmocka_unit_test(nothing_harmful_reaches_a_terminal),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
