/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SESSION_PROBED_H
#define SESSION_PROBED_H

/* Which entry points a probe can be put in front of. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "heaptap/arch/probe.h"
#include "heaptap/base/error.h"
#include "session/entry_points.h"

/* What a probe has to know of such a call; false where there is none for it. */
bool probed_kind(enum tap_entry_kind entry, enum tap_probe_kind *ret);

/* The function's code as its file has it: all of it, or the first instructions
 * where its end is not known. *code_ret is the caller's to free(). */
struct tap_error *probed_code(struct tap_symbols *symbols, const struct tap_entry *entry,
	uint8_t **code_ret, size_t *size_ret);

/* NULL where a jump to a probe fits there; else UNSUPPORTED and why not. Of a
 * target that is only looked at. */
struct tap_error *probed_check(struct tap_symbols *symbols, const struct tap_entry *entry);

#endif
