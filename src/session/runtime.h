/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_SESSION_RUNTIME_H
#define HEAPTAP_SESSION_RUNTIME_H

#include "heaptap/analysis/info_report.h"
#include "session/look.h"

/* Which language runtime the process has, from its modules: fills
 * report->runtime. */
void tap_runtime_find(const struct tap_look *look, struct tap_info_report *report);

/* A runtime other than CPython whose own memory is not read: its kind and, in
 * static text, what that means. NULL: none. */
const char *tap_runtime_try_foreign(struct tap_symbols *symbols, enum tap_runtime_kind *kind_ret);

#endif
