/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_PROC_USAGE_H
#define HEAPTAP_PROC_USAGE_H

/*
 * How much memory a process has, now. RSS and swap are cheap (statm, status)
 * and read at every tick; PSS and USS walk all pages under the target's mmap
 * lock (smaps_rollup, or smaps where that is missing): 24 ms on 4 GiB, felt
 * by the target, so callers ration them.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "heaptap/base/error.h"

#define TAP_USAGE_UNKNOWN UINT64_MAX

struct tap_usage {
	uint64_t rss_bytes;
	uint64_t swap_bytes;
	uint64_t pss_bytes; /* TAP_USAGE_UNKNOWN where not read */
	uint64_t uss_bytes;
	uint64_t fds;       /* open descriptors; TAP_USAGE_UNKNOWN where not permitted */
};

/* A reader that keeps its descriptors open between ticks (cheap, and bound to
 * the process: it fails with GONE after its end, not with another's data). */
struct tap_usage_reader;

struct tap_error *tap_usage_open(pid_t pid, struct tap_usage_reader **ret);
void tap_usage_close(struct tap_usage_reader *reader); /* takes NULL */

/* RSS and swap; fds as well where with_fds; the others stay unknown. */
struct tap_error *tap_usage_read(
	struct tap_usage_reader *reader, bool with_fds, struct tap_usage *ret);
/* Adds PSS and USS; *cost_ns_ret is what it took. PERMISSION is ordinary. */
struct tap_error *tap_usage_read_shared(
	struct tap_usage_reader *reader, struct tap_usage *usage, uint64_t *cost_ns_ret);

#endif
