/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_SESSION_CLEAN_H
#define HEAPTAP_SESSION_CLEAN_H

/* `heaptap clean`: takes out of a process what a heaptap that was killed left
 * in it: probes, their memory, a descriptor; the dead child of a snapshot. */

#include <sys/types.h>
#include "heaptap/analysis/clean_report.h"
#include "heaptap/base/error.h"

/* The process is stopped for a moment where something was found. What could
 * not be taken out is no error but the report's reason: a heaptap is at work
 * there, a thread is in the way, somebody else has changed the place. */
struct tap_error *tap_clean_collect(pid_t pid, struct tap_clean_report *ret);

#endif
