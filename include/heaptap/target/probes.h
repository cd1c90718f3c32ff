/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_TARGET_PROBES_H
#define HEAPTAP_TARGET_PROBES_H

/*
 * Probes in a target: the region of arch/probe.h, the functions that are
 * patched to lead there, and the pointers that are redirected. ptrace is
 * needed to place and to remove them, not in between: a tap_probes outlives
 * the tap_target that placed it, and another one removes it.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "heaptap/arch/probe.h"
#include "heaptap/base/error.h"
#include "heaptap/target/target.h"

struct tap_probes;

/* Maps the region within 2 GiB of near, not armed. UNSUPPORTED where there is
 * no room, or nothing may be injected; TIMEOUT where no thread can be borrowed
 * now. */
struct tap_error *tap_probes_create(
	struct tap_target *target, uint64_t near, struct tap_probes **ret);

/* Prepares a probe in front of the function at addr, whose code reaches to
 * `end`. expected: what its file has there. UNSUPPORTED with the reason where
 * its first instructions cannot be moved; BAD_DATA where somebody has changed
 * them. */
struct tap_error *tap_probes_add_function(struct tap_probes *probes, uint64_t addr, uint64_t end,
	const uint8_t *expected, size_t expected_size, const struct tap_probe_spec *spec);
/* The same in front of what a pointer in writable data leads to. */
struct tap_error *tap_probes_add_pointer(struct tap_probes *probes, uint64_t pointer_addr,
	uint64_t expected, const struct tap_probe_spec *spec);

/* Puts everything that was added in place, in one stop. TIMEOUT: a thread did
 * not stop, or stood in the way for 2 s: nothing is patched, pointers are. */
struct tap_error *tap_probes_apply(struct tap_probes *probes, struct tap_target *target);

/* Arms all of them, or takes their effect away: a disarmed probe costs its
 * thread one slow call and then a few instructions a call. Needs no stop. */
struct tap_error *tap_probes_arm(struct tap_probes *probes, uint64_t generation, uint64_t multiplier);
/* Of the slots' hash, while the target runs. */
struct tap_error *tap_probes_set_multiplier(struct tap_probes *probes, uint64_t multiplier);
struct tap_error *tap_probes_disarm(struct tap_probes *probes);
/* Every thread's countdown begins anew, with its next call; or (hold) never
 * ends, until the next restart. */
struct tap_error *tap_probes_restart(struct tap_probes *probes);
struct tap_error *tap_probes_hold(struct tap_probes *probes);
/* The target's slots as they are, TAP_PROBE_SLOTS of them; and one of them
 * anew. False where the memory is gone. */
bool tap_probes_read_slots(const struct tap_probes *probes, struct tap_probe_slot *slots);
bool tap_probes_restart_slot(struct tap_probes *probes, uint32_t index);
/* What the target says: it disarms itself where answers stay out. */
bool tap_probes_is_armed(const struct tap_probes *probes);

/* Our own mapping of the shared part; valid until tap_probes_destroy(). */
struct tap_probe_shared *tap_probes_shared(struct tap_probes *probes);
/* The target's own slots, by their address. */
uint64_t tap_probes_private_addr(const struct tap_probes *probes);

/* Text and pointers as they were, the region unmapped. The error says what
 * stays and why; nothing that is not ours is written. */
struct tap_error *tap_probes_remove(struct tap_probes *probes, struct tap_target *target);
void tap_probes_destroy(struct tap_probes *probes); /* takes NULL; ours alone */

#endif
