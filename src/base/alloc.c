/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "heaptap/base/alloc.h"
#include "heaptap/base/vector.h"

static void *checked(void *ptr)
{
	if (!ptr) {
		fputs("heaptap: out of memory\n", stderr);
		abort();
	}
	return ptr;
}

void *tap_alloc(size_t size_bytes)
{
	return checked(calloc(1, size_bytes ? size_bytes : 1));
}

void *tap_realloc(void *ptr, size_t size_bytes)
{
	return checked(realloc(ptr, size_bytes ? size_bytes : 1));
}

char *tap_strdup(const char *s)
{
	return checked(strdup(s));
}

char *tap_strndup(const char *s, size_t n)
{
	return checked(strndup(s, n));
}

char *tap_format(const char *format, ...)
{
	char *text = NULL;
	va_list args;

	va_start(args, format);
	if (vasprintf(&text, format, args) < 0)
		text = NULL;
	va_end(args);
	return checked(text);
}

void tap_vector_grow(void **items, size_t *capacity, size_t count, size_t item_size)
{
	size_t wanted;

	if (count > *capacity) {
		wanted = *capacity ? *capacity * 2 : 8;
		if (wanted < count)
			wanted = count;
		*items = tap_realloc(*items, wanted * item_size);
		*capacity = wanted;
	}
	memset((char *)*items + (count - 1) * item_size, 0, item_size);
}
