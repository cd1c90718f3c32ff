/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A call counts once, at the function that the program has called. What an
 * allocator calls of itself is told by its return address (samples.c); what it
 * jumps to is not. glibc's realloc() without a block is a jump to malloc(), its
 * memalign() of small alignments one that leads there, and its reallocarray() one
 * to realloc() through the linkage table (malloc/malloc.c, reallocarray.c).
 */
#include <string.h>
#include "heaptap/arch/insn.h"
#include "heaptap/base/alloc.h"
#include "heaptap/base/cleanup.h"
#include "session/sampler.h"

#define CODE_MAX_BYTES (64u << 10)
/* An entry of a linkage table: endbr64 perhaps, bnd perhaps, jmp *slot(%rip). */
#define LINKAGE_BYTES 11
#define BND 0xf2
/* Jumps in a row: memalign, _mid_memalign, malloc. */
#define JUMPS_MAX 2

static bool is_linkage_to(struct recorder *rec, uint64_t at, uint64_t to)
{
	static const uint8_t endbr64[] = {0xf3, 0x0f, 0x1e, 0xfa};
	uint8_t code[LINKAGE_BYTES];
	size_t skip = 0;
	uint64_t target;
	int32_t away;

	if (!tap_memory_try_read(rec->memory, at, code, sizeof(code)))
		return false;
	if (!memcmp(code, endbr64, sizeof(endbr64)))
		skip = sizeof(endbr64);
	if (code[skip] == BND)
		skip++;
	if (code[skip] != 0xff || code[skip + 1] != 0x25)
		return false;
	memcpy(&away, code + skip + 2, sizeof(away));
	return tap_memory_try_u64(rec->memory, at + skip + 2 + sizeof(away) + (uint64_t)away,
		       &target) &&
		target == to;
}

static bool leads(struct recorder *rec, uint64_t from, uint64_t end, uint64_t to, int jumps)
{
	size_t size = end - from < CODE_MAX_BYTES ? end - from : CODE_MAX_BYTES, at = 0;
	_cleanup_free_ uint8_t *code = tap_alloc(size + 1);

	size = tap_memory_read_some(rec->memory, from, code, size);
	while (at < size) {
		struct tap_insn insn;
		bool is_call = false;
		uint64_t target, start, stop;

		if (!tap_insn_try_decode(code + at, size - at, from + at, &insn)) {
			at++;
			continue;
		}
		at += insn.size_bytes;
		if (!tap_insn_try_branch(&insn, &target, &is_call) || is_call ||
			(target >= from && target < end))
			continue;
		if (target == to || is_linkage_to(rec, target, to))
			return true;
		if (jumps > 1 && tap_symbols_try_extent(rec->symbols, target, &start, &stop) &&
			leads(rec, target, stop, to, jumps - 1))
			return true;
	}
	return false;
}

bool passing_jumps(struct recorder *rec, uint64_t from, uint64_t end, uint64_t to)
{
	return leads(rec, from, end, to, JUMPS_MAX);
}
