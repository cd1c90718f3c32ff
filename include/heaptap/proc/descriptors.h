/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_PROC_DESCRIPTORS_H
#define HEAPTAP_PROC_DESCRIPTORS_H

/*
 * The open descriptors of a process, grouped by what they lead to, from
 * /proc/PID/fd and the socket tables of its network namespace (/proc/PID/net).
 * Nothing of it is opened. Groups are called:
 *
 *   /path/of/a/file             as the process sees it; " (deleted)" behind it
 *   pipe, eventpoll, eventfd, timerfd, signalfd, inotify, io_uring, ...
 *   memfd:NAME
 *   socket:10.0.0.1:5432        TCP, by the peer; UDP: socket:udp 10.0.0.1:53
 *   socket:10.0.0.1 at port 80  TCP, where the process's side has a port that
 *                               somebody listens at: peers' ports are all different
 *   socket:listening at 0.0.0.0:80
 *   socket:udp at 0.0.0.0:53    one without a peer
 *   socket:unix, socket:unix /run/some.sock
 *   socket                      of other families, or not in the tables (any more)
 */

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "heaptap/base/error.h"
#include "heaptap/base/strings.h"
#include "heaptap/base/vector.h"

struct tap_descriptor_group {
	const char *target; /* raw: clean before showing */
	uint64_t count;
};
TAP_VECTOR_TYPE(tap_descriptor_groups, struct tap_descriptor_group);

struct tap_descriptors {
	uint64_t count;
	uint64_t limit;                      /* soft RLIMIT_NOFILE; UINT64_MAX: none, or unknown */
	uint64_t ungrouped;                  /* of count: there was no time, or too many groups */
	struct tap_descriptor_groups groups; /* most first, then by name */
	struct tap_strings *strings;         /* what targets live in */
};

/* Takes little longer than budget_ns, and keeps at most 65,536 groups. GONE,
 * PERMISSION. */
struct tap_error *tap_descriptors_read(pid_t pid, uint64_t budget_ns, struct tap_descriptors *ret);
void tap_descriptors_deinit(struct tap_descriptors *descriptors);

#endif
