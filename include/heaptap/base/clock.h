/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_BASE_CLOCK_H
#define HEAPTAP_BASE_CLOCK_H

#include <stddef.h>
#include <stdint.h>

/* CLOCK_MONOTONIC and CLOCK_REALTIME, in nanoseconds. */
uint64_t tap_clock_ns(void);
uint64_t tap_clock_wall_ns(void);

/* ISO 8601 in UTC, to the millisecond: 2026-02-03T04:05:06.789Z */
#define TAP_CLOCK_TEXT 32
char *tap_clock_iso(char buf[TAP_CLOCK_TEXT], uint64_t wall_ns);

#endif
