/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_BASE_LOG_H
#define HEAPTAP_BASE_LOG_H

/*
 * Lines on standard error, in two kinds: warnings (a person should know, not
 * with -q) and details (only with -v). Text is cleaned. Safe from any thread;
 * the tracer thread never writes to a terminal or pipe: what it logs is kept
 * in a bounded ring until tap_log_flush(), which the main thread calls.
 */

enum tap_log_level {
	TAP_LOG_QUIET,
	TAP_LOG_NORMAL,
	TAP_LOG_VERBOSE,
};

void tap_log_set_level(enum tap_log_level level);
enum tap_log_level tap_log_level(void);

void tap_log_warn(const char *format, ...) __attribute__((format(printf, 1, 2)));
void tap_log_detail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The calling thread's lines go to the ring from now on. */
void tap_log_defer(void);
void tap_log_flush(void);
/* As much of it as can be written without waiting for a reader. */
void tap_log_try_flush(void);

#endif
