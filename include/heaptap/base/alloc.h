/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_BASE_ALLOC_H
#define HEAPTAP_BASE_ALLOC_H

/*
 * Allocation that ends the program where memory is out, for the many small
 * objects of heaptap itself: no caller can do better. Sizes that come from a
 * target or a file are bounded before they get here.
 */

#include <stddef.h>

void *tap_alloc(size_t size_bytes) __attribute__((malloc, returns_nonnull));  /* zeroed */
void *tap_realloc(void *ptr, size_t size_bytes) __attribute__((returns_nonnull));
char *tap_strdup(const char *s) __attribute__((malloc, returns_nonnull));
char *tap_strndup(const char *s, size_t n) __attribute__((malloc, returns_nonnull));
char *tap_format(const char *format, ...)
	__attribute__((malloc, returns_nonnull, format(printf, 1, 2)));

#endif
