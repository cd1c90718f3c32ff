/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TAP_SESSION_PREVIEW_H
#define TAP_SESSION_PREVIEW_H

/*
 * What a block holds, in a few words for a person: the class of a C++ object,
 * by its vtable (Itanium C++ ABI 2.5: an object begins with an address in it);
 * its text, where its beginning is mostly text; else bytes.
 */

#include <stddef.h>
#include <stdint.h>
#include "heaptap/base/strings.h"
#include "heaptap/symbol/symbols.h"

/* How much of a block is looked at. */
#define PREVIEW_BYTES 32
/* Room for it as bytes, or as text that is cleaned. */
#define PREVIEW_TEXT 128

/* "\"GET /index.html\"", "... \"text\"" behind a pointer or two, "zeros", or
 * "7f 45 4c 46 ..." of the block's first bytes;
 * cleaned. buf is returned. */
char *preview_bytes(const uint8_t *bytes, size_t size_bytes, char buf[PREVIEW_TEXT]);

/* As preview_bytes(), or "Session object". symbols and strings may be NULL. */
char *preview_block(const uint8_t *bytes, size_t size_bytes, struct tap_symbols *symbols,
	struct tap_strings *strings, char buf[PREVIEW_TEXT]);

#endif
