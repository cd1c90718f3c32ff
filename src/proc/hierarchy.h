/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_PROC_HIERARCHY_H
#define HEAPTAP_PROC_HIERARCHY_H

/*
 * Where the cgroups of a process lie in the file system: what /proc/PID/cgroup
 * says, put below the mount points of /proc/self/mountinfo (cgroups(7),
 * cgroup_namespaces(7)).
 */

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Paths as /proc/PID/cgroup has them; NULL where it is in no such hierarchy. */
struct tap_membership {
	char *memory;  /* v1 */
	char *freezer; /* v1 */
	char *unified; /* v2 */
};

bool tap_membership_read(pid_t pid, struct tap_membership *ret);
void tap_membership_deinit(struct tap_membership *membership);

/* The directory of a cgroup, and how much of it is the mount point: whoever
 * walks up to the ancestors stops there. Paths are without the tests' root. */
struct tap_cgroup_dir {
	char *path;
	size_t mount_size;
};

/* controller is "memory", "freezer" (v1) or NULL (v2). False where the group
 * does not lie below any mount that is seen here. */
bool tap_cgroup_dir_find(
	const char *mountinfo, const char *controller, const char *group, struct tap_cgroup_dir *ret);
/* To the parent; false at the mount point. */
bool tap_cgroup_dir_up(struct tap_cgroup_dir *dir);
void tap_cgroup_dir_deinit(struct tap_cgroup_dir *dir);

/* The text of a file in it, NULL where it is not there; the caller frees it. */
char *tap_cgroup_dir_read(const struct tap_cgroup_dir *dir, const char *name);

#endif
