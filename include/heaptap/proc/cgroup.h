/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_PROC_CGROUP_H
#define HEAPTAP_PROC_CGROUP_H

/*
 * The memory limits that end a process: the tightest of all ancestors in its
 * memory cgroup (v1: memory.limit_in_bytes; v2: memory.max, memory.high is no
 * limit), and the machine's. Mount points are taken from /proc/self/mountinfo
 * (a container mounts a part of the tree as its root).
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "heaptap/base/error.h"

enum tap_limit_kind {
	TAP_LIMIT_NONE,
	TAP_LIMIT_CGROUP,
	TAP_LIMIT_MACHINE,
};

struct tap_cgroup {
	char *path;                /* as /proc/PID/cgroup has it; NULL where there is none */
	int version;               /* 1 or 2; 0 where there is none */
	uint64_t limit_bytes;      /* tightest of all ancestors; UINT64_MAX where unlimited */
	uint64_t limit_used_bytes; /* what is used at that level (without inactive file pages) */
	bool frozen;               /* by the v1 freezer or v2's cgroup.freeze, any ancestor */
	/* What ends it first: the cgroup's limit if one is set, else the machine's
	 * memory plus swap. free is what can still be taken before that. */
	enum tap_limit_kind kind;
	uint64_t tightest_bytes;
	uint64_t free_bytes;
	uint64_t free_memory_bytes; /* without swap, at every level and of the machine: the least */
};

struct tap_error *tap_cgroup_read(pid_t pid, struct tap_cgroup *ret);
void tap_cgroup_deinit(struct tap_cgroup *cgroup);

/* Is the process in a frozen cgroup? Cheap. */
bool tap_cgroup_is_frozen(pid_t pid);

#endif
