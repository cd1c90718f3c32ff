/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_PROC_SCAN_H
#define HEAPTAP_PROC_SCAN_H

/*
 * Reading numbers and lines out of /proc texts, which may be cut anywhere or
 * lie. Each scan moves *cursor behind what it read, or returns false and
 * leaves it alone. No sign, no blanks in front, no overflow.
 */

#include <stdbool.h>
#include <stdint.h>

bool tap_scan_hex(const char **cursor, uint64_t *ret);
bool tap_scan_decimal(const char **cursor, uint64_t *ret);
bool tap_scan_char(const char **cursor, char wanted);
void tap_scan_blanks(const char **cursor); /* spaces and tabs */

/* What stands behind "<key>:" or "<key> " at the start of a line, blanks
 * skipped; NULL where no line begins so. Ends at the line's end, not at NUL. */
const char *tap_scan_find(const char *text, const char *key);
/* The decimal number there. */
bool tap_scan_number(const char *text, const char *key, uint64_t *ret);
/* The hexadecimal number there. */
bool tap_scan_mask(const char *text, const char *key, uint64_t *ret);
/* The same of a line of /proc/PID/status or meminfo: "key:  N kB", in bytes. */
bool tap_scan_kib(const char *text, const char *key, uint64_t *bytes_ret);
/* Does the line of that key hold this word? */
bool tap_scan_says(const char *text, const char *key, const char *word);

/* Replaces \NNN (octal) in place, as mountinfo escapes blanks. */
void tap_scan_unescape(char *text);

#endif
