/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TAP_PROC_SOCKETS_H
#define TAP_PROC_SOCKETS_H

/* What sockets are connected to, by their inodes: /proc/PID/net/{tcp,tcp6,udp,
 * udp6,unix}, which list those of a whole network namespace. */

#include <stdint.h>
#include <sys/types.h>
#include "heaptap/base/map.h"

/* Calls fn once for each socket of `wanted` (its inodes are the keys) that is in
 * a table; label as in heaptap/proc/descriptors.h, valid during the call. */
typedef void (*tap_socket_fn)(void *context, uint64_t inode, const char *label);
void tap_sockets_find(pid_t pid, const struct tap_map *wanted, uint64_t deadline_ns,
	tap_socket_fn fn, void *context);

#endif
