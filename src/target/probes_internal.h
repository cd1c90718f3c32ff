/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TARGET_PROBES_INTERNAL_H
#define TARGET_PROBES_INTERNAL_H

#include "heaptap/arch/insn.h"
#include "heaptap/arch/prologue.h"
#include "heaptap/target/probes.h"
#include "target/internal.h"

#define PATCH_MAX_BYTES (TAP_PROBE_JUMP_BYTES + TAP_INSN_MAX)
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

/* In the target, so that whoever comes after us can take out what we leave
 * behind: each place where something of ours was put, or was about to be. */
#define PLACE_MAX_BYTES 8u
struct probe_place {
	uint64_t addr;
	uint32_t size_bytes; /* TAP_PROBE_JUMP_BYTES, or 8 for a pointer */
	uint32_t unused;
	uint8_t original[PLACE_MAX_BYTES];
	uint8_t ours[PLACE_MAX_BYTES];
};

struct probe_head {
	struct area_head area; /* first */
	uint64_t target_start_ticks;
	int32_t target_pid; /* in a forked copy of the region: not its own */
	uint32_t place_count;
};
/* Of the memory that is shared; told to the kernel out of the code part, which
 * the target may read. */
#define PROBE_FILE_NAME "heaptap-probes"
#define PROBE_FILE_NAME_AT (TAP_PROBE_NAME_AT - 64)
#define PROBE_HEAD_VERSION 2
#define PROBE_PLACES_MAX                                                                           \
	((TAP_PROBE_PAGE - sizeof(struct probe_head)) / sizeof(struct probe_place))

struct tap_probes {
	pid_t pid;
	struct tap_memory *memory; /* bound to the address space of the attach */
	uint64_t region;           /* 0: not mapped (any more) */
	struct probe_head head;    /* as it was written there */
	int fd;                    /* of the shared part */
	struct tap_probe_shared *shared;
	uint32_t used_bytes;       /* of the code part */
	TAP_VECTOR(struct patch) patches;
	TAP_VECTOR(struct redirected) pointers;
};

/* A range of addresses. */
struct range {
	uint64_t start, end;
};

/* probes_room.c: UNSUPPORTED where the process has limits of its memory that the
 * region would come too close to. */
struct tap_error *probes_check_room(pid_t pid);

/* probes_clear.c: brings every thread that runs to a stop; those that are
 * blocked in a system call are left. False where one did not stop in time. */
bool probes_stop(struct tap_target *target);
/* The same until no thread has an address in the ranges in its registers, on
 * its stack, or in a signal frame, for 2 s at most. False: nobody is held. */
bool probes_stop_clear(struct tap_target *target, struct tap_memory *memory,
	const struct range *ranges, size_t count);
/* All but the one whose event is being dealt with. */
void probes_continue(struct tap_target *target);

#endif
