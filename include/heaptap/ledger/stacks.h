/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_LEDGER_STACKS_H
#define HEAPTAP_LEDGER_STACKS_H

/*
 * Interned stacks: equal stacks have one number, for good. A frame is a
 * 64-bit key of whoever captured it (a native PC, or a code object and
 * instruction) with a few flags that are kept, but do not make two stacks
 * different.
 */

#include <stddef.h>
#include <stdint.h>

struct tap_stacks;

struct tap_stack_frame {
	uint64_t key;
	uint8_t is_call; /* native: a return address */
	uint8_t trust;   /* enum tap_frame_trust */
};

#define TAP_STACK_FRAMES_MAX 256

struct tap_stacks *tap_stacks_create(void);
void tap_stacks_destroy(struct tap_stacks *stacks); /* takes NULL */

/* Innermost first; of more than TAP_STACK_FRAMES_MAX the innermost ones. */
uint32_t tap_stacks_add(
	struct tap_stacks *stacks, const struct tap_stack_frame *frames, size_t count);
size_t tap_stacks_count(const struct tap_stacks *stacks);
/* Holds until the next add. */
const struct tap_stack_frame *tap_stacks_frames(
	const struct tap_stacks *stacks, uint32_t stack, size_t *count_ret);

#endif
