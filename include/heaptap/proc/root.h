/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_PROC_ROOT_H
#define HEAPTAP_PROC_ROOT_H

/*
 * Where the system is read from. Everything heaptap reads of /proc and of the
 * cgroup file systems goes through here, so that tests can lay a tree of
 * fixtures under it.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/types.h>
#include "heaptap/base/error.h"

/* "" by default; "/path/to/fixture" in tests: /proc is then read from
 * /path/to/fixture/proc and /sys/fs/cgroup from below it as well. Kept by
 * reference. */
void tap_proc_root_set(const char *root);
const char *tap_proc_root(void);

/* The whole of <root>/proc/<pid>/<name> (pid 0: <root>/proc/<name>) as a
 * NUL-terminated string that the caller frees, of at most 16 MiB; its length
 * in *size_ret (may be NULL). GONE where the process is not there (or no /proc),
 * NOT_FOUND where it is, but this kernel has no such file. */
struct tap_error *tap_proc_read(pid_t pid, const char *name, char **text_ret, size_t *size_ret);

/* The start of the same file into buf, NUL-terminated, cut at capacity; for
 * small files, where failure is ordinary. */
bool tap_proc_try_read(pid_t pid, const char *name, char *buf, size_t capacity);

/* Any file below the root, by absolute path. */
struct tap_error *tap_proc_read_path(const char *path, char **text_ret, size_t *size_ret);

/* A symbolic link: exe, cwd, fd/3. The caller frees it. */
struct tap_error *tap_proc_readlink(pid_t pid, const char *name, char **target_ret);

/* An absolute path below the root for open(2); returns buf. */
char *tap_proc_path(char *buf, size_t capacity, pid_t pid, const char *name);

#endif
