/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The line tables of code objects. All of them are runs of bytes that are
 * walked from the start; a table that ends early just ends.
 */
#include <limits.h>
#include "python/runtime.h"

/* A line is kept within what can be one, whatever a table adds up to. */
static int add_line(int line, int64_t delta)
{
	int64_t sum = line + delta;

	return sum < 0 || sum > INT_MAX ? 0 : (int)sum;
}

/* Pairs of bytes: how far the code goes on, signed step of the line. */
static int line_lnotab(const uint8_t *table, size_t size_bytes, int line, int64_t instruction)
{
	int64_t at = 0;

	for (size_t i = 0; i + 1 < size_bytes; i += 2) {
		at += table[i];
		if (at > instruction)
			break;
		line = add_line(line, (int8_t)table[i + 1]);
	}
	return line;
}

/* Pairs of bytes: length of the range, signed step of its line to the range
 * before; -128: no line. */
static int line_ranges(const uint8_t *table, size_t size_bytes, int line, int64_t instruction)
{
	int64_t end = 0;

	for (size_t i = 0; i + 1 < size_bytes; i += 2) {
		int64_t start = end;
		int8_t step = (int8_t)table[i + 1];

		end += table[i];
		if (step != -128)
			line = add_line(line, step);
		if (start <= instruction && instruction < end)
			return step == -128 ? 0 : line;
	}
	return 0;
}

/* A signed number of six bits a byte, lowest first, sign in its lowest bit. */
static int64_t signed_varint(const uint8_t *table, size_t size_bytes, size_t at)
{
	uint64_t value = 0;
	unsigned shift = 0;

	while (at < size_bytes && shift < 36) {
		value |= (uint64_t)(table[at] & 63) << shift;
		shift += 6;
		if (!(table[at++] & 64))
			break;
	}
	return value & 1 ? -(int64_t)(value >> 1) : (int64_t)(value >> 1);
}

enum location_kind {
	LOCATION_ONE_LINE_0 = 10,
	LOCATION_ONE_LINE_2 = 12,
	LOCATION_NO_COLUMNS = 13,
	LOCATION_LONG = 14,
	LOCATION_NONE = 15,
};

/* Entries that begin with a byte whose bit 7 is set: kind, number of code
 * units less one; then columns, which are passed over. */
static int line_locations(const uint8_t *table, size_t size_bytes, int line, int64_t instruction)
{
	int64_t end = 0;
	size_t i = 0;

	while (i < size_bytes) {
		unsigned kind = table[i] >> 3 & 15;
		int64_t start = end;

		end += ((table[i] & 7) + 1) * 2;
		if (kind == LOCATION_NO_COLUMNS || kind == LOCATION_LONG)
			line = add_line(line, signed_varint(table, size_bytes, i + 1));
		else if (kind >= LOCATION_ONE_LINE_0 && kind <= LOCATION_ONE_LINE_2)
			line = add_line(line, kind - LOCATION_ONE_LINE_0);
		if (start <= instruction && instruction < end)
			return kind == LOCATION_NONE ? 0 : line;
		i++;
		while (i < size_bytes && !(table[i] & 128))
			i++;
	}
	return 0;
}

int tap_python_line(enum tap_python_lines format, const uint8_t *table, size_t size_bytes,
	int firstlineno, int64_t instruction)
{
	if (firstlineno < 0)
		firstlineno = 0;
	if (instruction < 0)
		return firstlineno;
	switch (format) {
	case TAP_PYTHON_LINES_LNOTAB:
		return line_lnotab(table, size_bytes, firstlineno, instruction);
	case TAP_PYTHON_LINES_RANGES:
		return line_ranges(table, size_bytes, firstlineno, instruction);
	case TAP_PYTHON_LINES_LOCATIONS:
		return line_locations(table, size_bytes, firstlineno, instruction);
	}
	return 0;
}
