/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include "scan.h"

static int digit(char c, int base)
{
	int value;

	if (c >= '0' && c <= '9')
		value = c - '0';
	else if (c >= 'a' && c <= 'f')
		value = c - 'a' + 10;
	else if (c >= 'A' && c <= 'F')
		value = c - 'A' + 10;
	else
		return -1;
	return value < base ? value : -1;
}

static bool scan(const char **cursor, unsigned base, uint64_t *ret)
{
	const char *at = *cursor;
	uint64_t value = 0;
	int next;

	if (digit(*at, (int)base) < 0)
		return false;
	for (; (next = digit(*at, (int)base)) >= 0; at++) {
		if (value > (UINT64_MAX - (unsigned)next) / base)
			return false;
		value = value * base + (unsigned)next;
	}
	*cursor = at;
	*ret = value;
	return true;
}

bool tap_scan_hex(const char **cursor, uint64_t *ret)
{
	return scan(cursor, 16, ret);
}

bool tap_scan_decimal(const char **cursor, uint64_t *ret)
{
	return scan(cursor, 10, ret);
}

bool tap_scan_char(const char **cursor, char wanted)
{
	if (**cursor != wanted || !wanted)
		return false;
	++*cursor;
	return true;
}

void tap_scan_blanks(const char **cursor)
{
	while (**cursor == ' ' || **cursor == '\t')
		++*cursor;
}

const char *tap_scan_find(const char *text, const char *key)
{
	size_t size = strlen(key);

	while (text) {
		if (!strncmp(text, key, size) && (text[size] == ':' || text[size] == ' ')) {
			text += size + 1;
			tap_scan_blanks(&text);
			return text;
		}
		text = strchr(text, '\n');
		if (text)
			text++;
	}
	return NULL;
}

bool tap_scan_number(const char *text, const char *key, uint64_t *ret)
{
	const char *at = tap_scan_find(text, key);

	return at && tap_scan_decimal(&at, ret);
}

bool tap_scan_mask(const char *text, const char *key, uint64_t *ret)
{
	const char *at = tap_scan_find(text, key);

	return at && tap_scan_hex(&at, ret);
}

bool tap_scan_kib(const char *text, const char *key, uint64_t *bytes_ret)
{
	uint64_t kib;

	if (!tap_scan_number(text, key, &kib) || kib > UINT64_MAX / 1024)
		return false;
	*bytes_ret = kib * 1024;
	return true;
}

bool tap_scan_says(const char *text, const char *key, const char *word)
{
	const char *line = tap_scan_find(text, key);

	return line && memmem(line, (size_t)(strchrnul(line, '\n') - line), word, strlen(word));
}

void tap_scan_unescape(char *text)
{
	char *to = text;

	for (const char *from = text; *from; to++) {
		int a, b, c;

		if (from[0] == '\\' && (a = digit(from[1], 4)) >= 0 && (b = digit(from[2], 8)) >= 0 &&
			(c = digit(from[3], 8)) >= 0 && (a | b | c)) {
			*to = (char)(a << 6 | b << 3 | c);
			from += 4;
		} else {
			*to = *from++;
		}
	}
	*to = '\0';
}
