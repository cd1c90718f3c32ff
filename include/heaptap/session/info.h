/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_SESSION_INFO_H
#define HEAPTAP_SESSION_INFO_H

#include <sys/types.h>
#include "heaptap/analysis/info_report.h"
#include "heaptap/base/error.h"

/* Looks at the process without stopping it: nothing is written to it. A
 * process whose memory may not be read gives a report all the same, which
 * says so (attach.allowed). debug_dir may be NULL. */
struct tap_error *tap_info_collect(
	pid_t pid, const char *debug_dir, struct tap_info_report *ret);

#endif
