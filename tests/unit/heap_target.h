/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_TESTS_HEAP_TARGET_H
#define HEAPTAP_TESTS_HEAP_TARGET_H

/* What heap_target.c tells of its blocks, in a file both map (descriptor 3).
 * It says on standard output that a stage is reached, and waits for a byte. */

#include <stdint.h>

#define TARGET_BLOCKS 300000

struct target_block {
	uint64_t addr;
	uint64_t size_bytes; /* as asked for; freed: 0 in addr */
	uint64_t usable_bytes;
};

#define TARGET_INFO_BYTES 65536

/* mallinfo() and malloc_info() of stage 2. */
struct target_told {
	uint64_t count;
	uint64_t arena, fast_blocks, fast_bytes, free_blocks, in_use, free_bytes;
	uint64_t mapped_blocks, mapped_bytes;
	char info[TARGET_INFO_BYTES];
	struct target_block blocks[TARGET_BLOCKS];
};

#endif
