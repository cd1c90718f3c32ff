/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_BASE_STRINGS_H
#define HEAPTAP_BASE_STRINGS_H

/*
 * A pool of interned strings: equal text gives the same pointer, all of it
 * lives until the pool is destroyed. Names in models (files, functions,
 * modules) live here. A pool belongs to one thread at a time.
 */

#include <stddef.h>

struct tap_strings;

struct tap_strings *tap_strings_create(void);
void tap_strings_destroy(struct tap_strings *strings); /* takes NULL */

/* NULL gives NULL. */
const char *tap_strings_add(struct tap_strings *strings, const char *text);
const char *tap_strings_addn(struct tap_strings *strings, const char *text, size_t size_bytes);

#endif
