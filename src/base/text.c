/* SPDX-License-Identifier: Apache-2.0 */
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>
#include "heaptap/base/alloc.h"
#include "heaptap/base/text.h"

static void reserve(struct tap_text *text, size_t more)
{
	size_t wanted = text->size_bytes + more + 1;

	if (wanted <= text->capacity)
		return;
	text->capacity = wanted < 256 ? 256 : wanted * 2;
	text->data = tap_realloc(text->data, text->capacity);
}

void tap_text_add(struct tap_text *text, const char *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(NULL, 0, format, args);
	va_end(args);
	if (n < 0)
		return;
	reserve(text, (size_t)n);
	va_start(args, format);
	vsnprintf(text->data + text->size_bytes, (size_t)n + 1, format, args);
	va_end(args);
	text->size_bytes += (size_t)n;
}

void tap_text_add_bytes(struct tap_text *text, const char *bytes, size_t size_bytes)
{
	reserve(text, size_bytes);
	memcpy(text->data + text->size_bytes, bytes, size_bytes);
	text->size_bytes += size_bytes;
	text->data[text->size_bytes] = '\0';
}

void tap_text_deinit(struct tap_text *text)
{
	free(text->data);
	memset(text, 0, sizeof(*text));
}

char *tap_text_size(char buf[TAP_SIZE_TEXT], int64_t size_bytes)
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	double value = fabs((double)size_bytes);
	const char *sign = size_bytes < 0 ? "-" : "";
	unsigned unit = 0;

	while (value >= 1023.5 && unit < 6) {
		value /= 1024;
		unit++;
	}
	if (unit == 0 || value >= 99.95)
		snprintf(buf, TAP_SIZE_TEXT, "%s%.0f %s", sign, value, units[unit]);
	else
		snprintf(buf, TAP_SIZE_TEXT, "%s%.1f %s", sign, value, units[unit]);
	return buf;
}

char *tap_text_count(char buf[TAP_SIZE_TEXT], int64_t count)
{
	char digits[TAP_SIZE_TEXT];
	uint64_t magnitude = count < 0 ? 0 - (uint64_t)count : (uint64_t)count;
	int n = snprintf(digits, sizeof(digits), "%llu", (unsigned long long)magnitude);
	char *out = buf;

	if (count < 0)
		*out++ = '-';
	for (int i = 0; i < n; i++) {
		if (i && (n - i) % 3 == 0)
			*out++ = ',';
		*out++ = digits[i];
	}
	*out = '\0';
	return buf;
}

char *tap_text_duration(char buf[TAP_SIZE_TEXT], double seconds)
{
	unsigned long long whole = seconds > 0 ? (unsigned long long)(seconds + 0.5) : 0;

	if (seconds < 0.0995)
		snprintf(buf, TAP_SIZE_TEXT, "%.0f ms", seconds * 1e3);
	else if (seconds < 60)
		snprintf(buf, TAP_SIZE_TEXT, "%.*f s", seconds < 9.95 && fmod(seconds, 1) > 0.05, seconds);
	else if (whole < 3600)
		snprintf(buf, TAP_SIZE_TEXT, "%llum %llus", whole / 60, whole % 60);
	else if (whole < 86400)
		snprintf(buf, TAP_SIZE_TEXT, "%lluh %llum", whole / 3600, whole % 3600 / 60);
	else
		snprintf(buf, TAP_SIZE_TEXT, "%llud %lluh", whole / 86400, whole % 86400 / 3600);
	return buf;
}

/* A non-negative finite number at the start; *rest_ret is what follows. */
static bool parse_leading(const char *text, double *value_ret, const char **rest_ret)
{
	char *end;

	if (!isdigit((unsigned char)text[0]) && text[0] != '.')
		return false;
	if (text[0] == '0' && (text[1] == 'x' || text[1] == 'X'))
		return false;
	errno = 0;
	*value_ret = strtod(text, &end);
	*rest_ret = end;
	return end != text && !errno && isfinite(*value_ret);
}

struct unit {
	const char *name;
	double factor;
};

static const struct unit duration_units[] = {
	{"", 1}, {"s", 1}, {"ms", 1e-3}, {"us", 1e-6}, {"m", 60}, {"min", 60}, {"h", 3600},
	{"d", 86400}, {NULL, 0}};

static const struct unit size_units[] = {
	{"", 1}, {"b", 1}, {"k", 0x1p10}, {"kb", 0x1p10}, {"kib", 0x1p10}, {"m", 0x1p20},
	{"mb", 0x1p20}, {"mib", 0x1p20}, {"g", 0x1p30}, {"gb", 0x1p30}, {"gib", 0x1p30},
	{"t", 0x1p40}, {"tb", 0x1p40}, {"tib", 0x1p40}, {NULL, 0}};

static bool find_unit(const struct unit *units, const char *name, size_t length, double *ret)
{
	for (; units->name; units++) {
		if (strlen(units->name) == length && !strncasecmp(units->name, name, length)) {
			*ret = units->factor;
			return true;
		}
	}
	return false;
}

struct tap_error *tap_text_parse_duration(const char *text, double *seconds_ret)
{
	const char *rest;
	double value, factor;

	if (!parse_leading(text, &value, &rest) ||
		!find_unit(duration_units, rest, strlen(rest), &factor) || !(value * factor > 0))
		return tap_error_advise(
			tap_error_new(TAP_ERR_USAGE, "'%s' is not a duration", text),
			"write it as 500ms, 10s, 5m, 1h or plain seconds, above 0");
	*seconds_ret = value * factor;
	return NULL;
}

static struct tap_error *not_a_size(const char *text)
{
	return tap_error_advise(tap_error_new(TAP_ERR_USAGE, "'%s' is not a size", text),
		"write it as 512KiB, 1MiB, 1G or plain bytes");
}

struct tap_error *tap_text_parse_size(const char *text, uint64_t *size_bytes_ret)
{
	const char *rest;
	double value, factor;

	if (!parse_leading(text, &value, &rest) ||
		!find_unit(size_units, rest, strlen(rest), &factor) || value * factor >= 0x1p63)
		return not_a_size(text);
	*size_bytes_ret = (uint64_t)(value * factor + 0.5);
	return NULL;
}

struct tap_error *tap_text_parse_rate(const char *text, double *bytes_per_s_ret)
{
	const char *slash = strchr(text, '/');
	const char *rest;
	double value, factor, seconds;

	if (!slash || !parse_leading(text, &value, &rest) || rest > slash ||
		!find_unit(size_units, rest, (size_t)(slash - rest), &factor) || !slash[1] ||
		!find_unit(duration_units, slash + 1, strlen(slash + 1), &seconds))
		return tap_error_advise(tap_error_new(TAP_ERR_USAGE, "'%s' is not a rate", text),
			"write it as 1MiB/min, 200KiB/s or 3G/h");
	*bytes_per_s_ret = value * factor / seconds;
	return NULL;
}

struct tap_error *tap_text_parse_percent(const char *text, double *percent_ret)
{
	const char *rest;
	double value;

	if (!parse_leading(text, &value, &rest) || (strcmp(rest, "") && strcmp(rest, "%")) ||
		value > 100)
		return tap_error_advise(
			tap_error_new(TAP_ERR_USAGE, "'%s' is not a percentage", text),
			"write a number from 0 to 100");
	*percent_ret = value;
	return NULL;
}

struct tap_error *tap_text_parse_number(
	const char *text, int64_t min, int64_t max, int64_t *number_ret)
{
	char *end;
	long long value;

	errno = 0;
	value = strtoll(text, &end, 10);
	if (end == text || *end || errno || isspace((unsigned char)text[0]) || value < min ||
		value > max)
		return tap_error_new(TAP_ERR_USAGE, "'%s' is not a whole number from %lld to %lld",
			text, (long long)min, (long long)max);
	*number_ret = value;
	return NULL;
}

/* Decodes one character of UTF-8 (RFC 3629: no overlong forms, no
 * surrogates). Returns its length, 0 where the bytes are not UTF-8. */
static size_t decode(const unsigned char *p, uint32_t *ret)
{
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
	size_t length;
	uint32_t c;

	if (p[0] < 0x80) {
		*ret = p[0];
		return 1;
	}
	if (p[0] < 0xc2 || p[0] > 0xf4)
		return 0;
	length = p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
	c = p[0] & (0x7f >> length);
	for (size_t i = 1; i < length; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (p[i] & 0x3f);
	}
	if (c < least[length] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
		return 0;
	*ret = c;
	return length;
}

/* Controls, separators that end a line, and marks that reorder what follows
 * (Unicode bidirectional controls): none may reach a terminal. */
static bool is_harmful(uint32_t c)
{
	return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x2028 || c == 0x2029 || c == 0x200e ||
		c == 0x200f || c == 0x61c || (c >= 0x202a && c <= 0x202e) ||
		(c >= 0x2066 && c <= 0x2069) || c == 0xfeff;
}

char *tap_text_clean(char *buf, size_t capacity, const char *text)
{
	const unsigned char *p = (const unsigned char *)text;
	size_t out = 0;

	while (*p) {
		const char *piece = (const char *)p;
		uint32_t c = 0;
		size_t length = decode(p, &c);
		size_t piece_size = length;

		if (!length) {
			piece = "\xef\xbf\xbd";
			piece_size = 3;
			length = 1;
		} else if (is_harmful(c)) {
			piece = "?";
			piece_size = 1;
		}
		if (out + piece_size + 1 > capacity)
			break;
		memcpy(buf + out, piece, piece_size);
		out += piece_size;
		p += length;
	}
	if (capacity)
		buf[out] = '\0';
	return buf;
}

char *tap_text_clean_copy(const char *text)
{
	size_t capacity = strlen(text) * 3 + 1;

	return tap_text_clean(tap_alloc(capacity), capacity, text);
}

char *tap_text_utf8_copy(const char *text)
{
	const unsigned char *p = (const unsigned char *)text;
	char *copy = tap_alloc(strlen(text) * 3 + 1);
	char *out = copy;

	while (*p) {
		uint32_t c;
		size_t length = decode(p, &c);

		out = mempcpy(out, length ? (const char *)p : "\xef\xbf\xbd", length ? length : 3);
		p += length ? length : 1;
	}
	return copy;
}

size_t tap_text_width(const char *text)
{
	const unsigned char *p = (const unsigned char *)text;
	size_t width = 0;

	while (*p) {
		uint32_t c = 0;
		size_t length = decode(p, &c);
		int cells = length ? wcwidth((wchar_t)c) : 1;

		width += cells < 0 ? 1 : (size_t)cells;
		p += length ? length : 1;
	}
	return width;
}
