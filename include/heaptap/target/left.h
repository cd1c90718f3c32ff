/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_TARGET_LEFT_H
#define HEAPTAP_TARGET_LEFT_H

/*
 * What a heaptap has in a process: one that is at work, one that was killed,
 * or one that recorded the parent of a forked process. Found by the magic word
 * of the region (target/probes.h); everything in it is memory of that process
 * and proves nothing by itself: a place is put back only where it holds
 * exactly what the region says, and that leads into the region.
 */

#include <stdbool.h>
#include <stdint.h>
#include "heaptap/base/error.h"
#include "heaptap/base/vector.h"
#include "heaptap/proc/process.h"
#include "heaptap/target/target.h"

struct tap_left {
	uint64_t region;
	pid_t owner;      /* the heaptap's number as it saw itself */
	bool owner_alive; /* it, or nobody knows: it is of another PID namespace */
	bool owner_known;
	bool copy;        /* forked from the process that was recorded: disarmed by the kernel */
};

TAP_VECTOR_TYPE(tap_left_list, struct tap_left);

/* Without stopping the process. Free with tap_vector_free(). */
struct tap_error *tap_left_find(const struct tap_process *process, struct tap_left_list *ret);

/* May it be taken out? Not from under a heaptap that is at work. */
static inline bool tap_left_is_free(const struct tap_left *left)
{
	return left->copy || !left->owner_alive;
}

/* Puts back what its places held and unmaps it. Errors as of
 * tap_probes_remove(). */
struct tap_error *tap_left_remove(struct tap_target *target, const struct tap_left *left);
/* A descriptor that was left open; nothing where there is none. */
struct tap_error *tap_left_close_files(struct tap_target *target);
/* Is there such a descriptor? */
bool tap_left_has_files(pid_t pid);

/* Dead children that snapshots left (target/snapshot.h), which the program does
 * not wait for. Not known where the kernel does not list children
 * (CONFIG_PROC_CHILDREN). */
bool tap_left_has_copies(pid_t pid);
/* Makes the process wait for them; nothing where there are none. */
struct tap_error *tap_left_reap_copies(struct tap_target *target);

#endif
