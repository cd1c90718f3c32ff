/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SESSION_CLEAN_H
#define SESSION_CLEAN_H

#include "heaptap/base/error.h"
#include "heaptap/proc/process.h"

/* Takes out what is there of a dead heaptap; BUSY, naming it, where one is at
 * work. */
struct tap_error *clean_process(const struct tap_process *process, bool *found_ret);

/* The same before anything else is done with a process; only what stands in
 * the way of that is an error. */
struct tap_error *clean_before_attach(pid_t pid);

#endif
