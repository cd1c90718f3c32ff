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
#include "heaptap/base/vector.h"
#include "heaptap/target/target.h"

struct tap_probes;

/* How many filters a thread's system calls have to pass. */
struct tap_probes_filtered {
	pid_t tid;
	int filters;
};
TAP_VECTOR_TYPE(tap_probes_filtered_list, struct tap_probes_filtered);

/* Before anything is done to the target: do the seccomp filters of every thread
 * let the system calls of a probe pass, whatever the addresses? And would those
 * that are injected do no harm where heaptap is killed in the middle, and the
 * filter is in force again? UNSUPPORTED with the call and the thread where not,
 * and where that is not known: only CAP_SYS_ADMIN in the initial user namespace
 * may read filters. Each thread that has some is stopped for that, one after
 * the other. ret: every thread by ascending number; freed with
 * tap_vector_free(), also after an error. */
struct tap_error *tap_probes_check_filters(
	struct tap_target *target, struct tap_probes_filtered_list *ret);

/* Maps the region within 2 GiB of near, not armed. UNSUPPORTED where there is
 * no room, where a limit of the process's memory would leave it less room than
 * the region takes, or where nothing may be injected; TIMEOUT where no thread can
 * be borrowed now. */
struct tap_error *tap_probes_create(
	struct tap_target *target, uint64_t near, struct tap_probes **ret);

/* Prepares a probe in front of the function at addr, whose code its file has
 * as given, all of it or as much as is known. UNSUPPORTED with the reason
 * where its first instructions cannot be moved (arch/prologue.h); BAD_DATA
 * where somebody has changed them. */
struct tap_error *tap_probes_add_function(struct tap_probes *probes, uint64_t addr,
	const uint8_t *function, size_t size_bytes, const struct tap_probe_spec *spec);
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
/* The target's slots as they are, TAP_PROBE_ALL_SLOTS of them; one of them; and that
 * one anew. False where the memory is gone. */
bool tap_probes_read_slots(const struct tap_probes *probes, struct tap_probe_slot *slots);
bool tap_probes_try_slot(
	const struct tap_probes *probes, uint32_t index, struct tap_probe_slot *ret);
bool tap_probes_restart_slot(struct tap_probes *probes, uint32_t index);
/* What the target says: it disarms itself where answers stay out. False where it is
 * gone. */
bool tap_probes_is_disarmed(const struct tap_probes *probes);

/* Our own mapping of the shared part; valid until tap_probes_destroy(). */
struct tap_probe_shared *tap_probes_shared(struct tap_probes *probes);
/* The target's own slots, by their address. */
uint64_t tap_probes_private_addr(const struct tap_probes *probes);

/* Text and pointers as they were, the region unmapped. The error says what
 * stays and why; nothing that is not ours is written. */
struct tap_error *tap_probes_remove(struct tap_probes *probes, struct tap_target *target);
void tap_probes_destroy(struct tap_probes *probes); /* takes NULL; ours alone */

#endif
