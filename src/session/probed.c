/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include "heaptap/arch/prologue.h"
#include "heaptap/base/alloc.h"
#include "heaptap/base/cleanup.h"
#include "session/probed.h"

#define FIRST_BYTES 64

static const struct {
	bool probed;
	enum tap_probe_kind kind;
} kinds[TAP_ENTRY_KINDS] = {
	[TAP_ENTRY_MALLOC] = {true, TAP_PROBE_SIZE0},
	[TAP_ENTRY_CALLOC] = {true, TAP_PROBE_PRODUCT01},
	[TAP_ENTRY_REALLOC] = {true, TAP_PROBE_RESIZE01},
	[TAP_ENTRY_REALLOCARRAY] = {true, TAP_PROBE_RESIZE_PRODUCT},
	[TAP_ENTRY_ALIGNED_ALLOC] = {true, TAP_PROBE_SIZE1},
	[TAP_ENTRY_MEMALIGN] = {true, TAP_PROBE_SIZE1},
	[TAP_ENTRY_POSIX_MEMALIGN] = {true, TAP_PROBE_SIZE2},
	[TAP_ENTRY_VALLOC] = {true, TAP_PROBE_SIZE0},
	[TAP_ENTRY_PVALLOC] = {true, TAP_PROBE_SIZE0},
	[TAP_ENTRY_FREE] = {true, TAP_PROBE_FREE0},
	[TAP_ENTRY_MMAP] = {true, TAP_PROBE_SIZE1},
	[TAP_ENTRY_MUNMAP] = {true, TAP_PROBE_FREE0},
	[TAP_ENTRY_MREMAP] = {true, TAP_PROBE_RESIZE02},
	[TAP_ENTRY_MALLOCX] = {true, TAP_PROBE_SIZE0},
	[TAP_ENTRY_RALLOCX] = {true, TAP_PROBE_RESIZE01},
};

bool probed_kind(enum tap_entry_kind entry, enum tap_probe_kind *ret)
{
	*ret = kinds[entry].kind;
	return kinds[entry].probed;
}

struct tap_error *probed_code(struct tap_symbols *symbols, const struct tap_entry *entry,
	uint8_t **code_ret, size_t *size_ret)
{
	uint64_t start, end;
	struct tap_error *err;
	uint8_t *code;
	size_t size = FIRST_BYTES;

	if (tap_symbols_try_extent(symbols, entry->addr, &start, &end) && end > entry->addr)
		size = end - entry->addr < TAP_PROLOGUE_FUNCTION_MAX ? end - entry->addr :
								       TAP_PROLOGUE_FUNCTION_MAX;
	code = tap_alloc(size);
	err = tap_module_file_bytes(entry->module, entry->addr, code, size);
	if (err) {
		free(code);
		return err;
	}
	*code_ret = code;
	*size_ret = size;
	return NULL;
}

struct tap_error *probed_check(struct tap_symbols *symbols, const struct tap_entry *entry)
{
	_cleanup_free_ uint8_t *code = NULL;
	struct tap_prologue prologue;
	enum tap_probe_kind kind;
	struct tap_error *err;
	size_t size;

	if (!probed_kind(entry->kind, &kind))
		return tap_error_new(TAP_ERR_UNSUPPORTED, "no probe counts such a call");
	err = probed_code(symbols, entry, &code, &size);
	/* Wherever it goes is near. */
	return err ? err : tap_prologue_move(entry->addr, code, size, entry->addr, &prologue);
}
