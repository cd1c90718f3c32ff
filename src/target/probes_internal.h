/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TARGET_PROBES_INTERNAL_H
#define TARGET_PROBES_INTERNAL_H

#include "heaptap/arch/insn.h"
#include "heaptap/target/probes.h"
#include "target/internal.h"

#define PATCH_MAX_BYTES (TAP_PROBE_JUMP_BYTES + TAP_INSN_MAX)
#define RELOCATED_MAX_BYTES 512u
#define FUNCTION_MAX_BYTES 65536u
/* The owner's head, at the end of the code part. */
#define TAP_PROBE_NAME_AT (TAP_PROBE_CODE_BYTES - TAP_PROBE_PAGE)

/* A function's first bytes. */
struct patch {
	uint64_t addr;
	size_t size_bytes; /* whole instructions, at least the jump's five bytes */
	uint8_t original[PATCH_MAX_BYTES];
	uint8_t jump[TAP_PROBE_JUMP_BYTES];
	bool placed;
};

struct redirected {
	uint64_t addr;
	uint64_t original;
	uint64_t instance;
	bool placed;
};

struct tap_probes {
	pid_t pid;
	struct tap_memory *memory; /* bound to the address space of the attach */
	uint64_t region;           /* 0: not mapped (any more) */
	int fd;                    /* of the shared part */
	struct tap_probe_shared *shared;
	uint32_t used_bytes;       /* of the code part */
	TAP_VECTOR(struct patch) patches;
	TAP_VECTOR(struct redirected) pointers;
};

#endif
