/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_SESSION_RUNTIME_H
#define HEAPTAP_SESSION_RUNTIME_H

#include "heaptap/analysis/info_report.h"
#include "session/look.h"

/* Which language runtime the process has, from its modules: fills
 * report->runtime. */
void tap_runtime_find(const struct tap_look *look, struct tap_info_report *report);

#endif
