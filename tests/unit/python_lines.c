/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"
#include "python/runtime.h"

struct run {
	int end; /* in bytes of code */
	int line;
};

/* A line table and what its interpreter says of it. */
struct table {
	int minor;
	const char *name;
	int firstlineno;
	const uint8_t *bytes;
	size_t size_bytes;
	const struct run *runs;
	size_t run_count;
};

#include "python_lines_data.h"

static enum tap_python_lines format_of(int minor)
{
	return tap_python_layout_find(minor)->lines;
}

static void check_table(const struct table *table)
{
	int start = 0;

	for (size_t i = 0; i < table->run_count; i++) {
		for (int at = start; at < table->runs[i].end; at += 2) {
			int line = tap_python_line(format_of(table->minor), table->bytes,
				table->size_bytes, table->firstlineno, at);

			if (line != table->runs[i].line)
				fail_msg("3.%d %s: instruction %d: line %d, not %d", table->minor,
					table->name, at, line, table->runs[i].line);
		}
		start = table->runs[i].end;
	}
}

static void tells_the_line_of_every_instruction(void **state)
{
	(void)state;
	for (size_t i = 0; i < TAP_PYTHON_COUNT(tables); i++)
		check_table(&tables[i]);
}

static void code_that_has_not_begun_is_at_its_first_line(void **state)
{
	(void)state;
	for (int minor = 8; minor <= 15; minor++)
		assert_int_equal(tap_python_line(format_of(minor), NULL, 0, 17, -1), 17);
	assert_int_equal(tap_python_line(TAP_PYTHON_LINES_LNOTAB, NULL, 0, -5, -1), 0);
}

/* Whatever the bytes are, a line comes out that can be one. */
static void hostile_tables_end(void **state)
{
	uint32_t random = 1;

	(void)state;
	for (int round = 0; round < 20000; round++) {
		uint8_t bytes[64];

		for (size_t i = 0; i < sizeof(bytes); i++) {
			random = random * 1664525 + 1013904223;
			bytes[i] = (uint8_t)(random >> 24);
		}
		for (int format = 0; format <= TAP_PYTHON_LINES_LOCATIONS; format++) {
			int line = tap_python_line((enum tap_python_lines)format, bytes,
				random >> 20 & 63, (int)random, random >> 8 & 0xFFF);

			assert_true(line >= 0);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tells_the_line_of_every_instruction),
		cmocka_unit_test(code_that_has_not_begun_is_at_its_first_line),
		cmocka_unit_test(hostile_tables_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
