/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_BASE_TEXT_H
#define HEAPTAP_BASE_TEXT_H

/*
 * Text: a growing buffer; sizes, durations and rates as people write them;
 * and cleaning what comes from a target before anybody shows it.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "heaptap/base/error.h"

/* Zero-initialised it is empty; data is NUL-terminated once non-NULL. */
struct tap_text {
	char *data;
	size_t size_bytes;
	size_t capacity;
};

void tap_text_add(struct tap_text *text, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
void tap_text_add_bytes(struct tap_text *text, const char *bytes, size_t size_bytes);
void tap_text_deinit(struct tap_text *text);

/* "4.1 GiB", "812 KiB", "17 B"; three figures at most, sign kept. buf is
 * returned. Signed so that growth prints too. */
#define TAP_SIZE_TEXT 32
char *tap_text_size(char buf[TAP_SIZE_TEXT], int64_t size_bytes);
/* "312,000" */
char *tap_text_count(char buf[TAP_SIZE_TEXT], int64_t count);
/* "74 ms", "12.4 s", "5h 12m", "3d 4h" */
char *tap_text_duration(char buf[TAP_SIZE_TEXT], double seconds);

/* 500ms 10s 5m 1h 2d, or plain seconds; a finite number > 0. */
struct tap_error *tap_text_parse_duration(const char *text, double *seconds_ret);
/* 512KiB 1MiB 1G 64K plain bytes; K, KB and KiB are all 1,024. */
struct tap_error *tap_text_parse_size(const char *text, uint64_t *size_bytes_ret);
/* 1MiB/min, 200KiB/s, 3G/h */
struct tap_error *tap_text_parse_rate(const char *text, double *bytes_per_s_ret);
/* 5, 5%; 0 to 100 */
struct tap_error *tap_text_parse_percent(const char *text, double *percent_ret);
/* A whole decimal number in [min, max]. */
struct tap_error *tap_text_parse_number(
	const char *text, int64_t min, int64_t max, int64_t *number_ret);

/* Copies text for a terminal or a line-based format: control characters
 * (C0, DEL, C1), line and paragraph separators and bidirectional controls
 * become '?', bytes that are not UTF-8 become U+FFFD. Cuts at a whole
 * character. Returns buf, always NUL-terminated. */
char *tap_text_clean(char *buf, size_t capacity, const char *text);

/* As tap_text_clean() into memory of its own, of any length; free() it. */
char *tap_text_clean_copy(const char *text);

/* Text as UTF-8 and nothing else is changed: bytes that are not become
 * U+FFFD. For formats that escape controls by themselves; free() it. */
char *tap_text_utf8_copy(const char *text);

/* Cells that the cleaned UTF-8 text takes on a terminal, by wcwidth(). */
size_t tap_text_width(const char *text);

#endif
