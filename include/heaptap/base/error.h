/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_BASE_ERROR_H
#define HEAPTAP_BASE_ERROR_H

/*
 * Errors are returned objects: a function that can fail returns
 * `struct tap_error *`, NULL for success. The caller owns what it gets: it
 * wraps it with context and returns it, or frees it. Nothing is kept in a
 * global.
 *
 * A message says what failed, on what, and why, without a full stop; the
 * advice says what to do. Where failure is ordinary (a speculative pointer),
 * functions are named tap_..._try_... and return bool instead.
 */

#include <stdarg.h>

/* What a caller can go on with; tap_error_exit_code() maps them to the exit
 * codes that the manual promises. */
enum tap_error_code {
	TAP_ERR_NOMEM,       /* heaptap itself is out of memory */
	TAP_ERR_SYSTEM,      /* a system call failed for a reason of its own; see errnum */
	TAP_ERR_FAULT,       /* an address of the target is not mapped */
	TAP_ERR_GONE,        /* no such process, or it went away before the start */
	TAP_ERR_PERMISSION,  /* not permitted */
	TAP_ERR_BUSY,        /* traced by another process */
	TAP_ERR_TIMEOUT,     /* did not happen within its bound */
	TAP_ERR_UNSUPPORTED, /* a kind of process or a feature that is not read */
	TAP_ERR_BAD_DATA,    /* what was read cannot be right */
	TAP_ERR_NOT_FOUND,   /* looked for and not there */
	TAP_ERR_FILE,        /* a file of the user's could not be read or written */
	TAP_ERR_USAGE,       /* the command line */
};

struct tap_error {
	enum tap_error_code code;
	int errnum;    /* errno of the call that failed, 0 where there was none */
	char *message; /* never NULL */
	char *advice;  /* what to do, or NULL */
};

/* Never returns NULL. */
struct tap_error *tap_error_new(enum tap_error_code code, const char *format, ...)
	__attribute__((format(printf, 2, 3), warn_unused_result));

/* As tap_error_new(), with ": <strerror(errnum)>" behind the message. The
 * code follows from errnum: ESRCH is GONE; EPERM, EACCES are PERMISSION;
 * ENOMEM is NOMEM; EIO, EFAULT are FAULT; else SYSTEM. */
struct tap_error *tap_error_errno(int errnum, const char *format, ...)
	__attribute__((format(printf, 2, 3), warn_unused_result));

/* Puts "<context>: " in front of the message; returns err. NULL stays NULL. */
struct tap_error *tap_error_wrap(struct tap_error *err, const char *format, ...)
	__attribute__((format(printf, 2, 3), warn_unused_result));

/* Sets the advice, replacing one that is there; returns err. */
struct tap_error *tap_error_advise(struct tap_error *err, const char *format, ...)
	__attribute__((format(printf, 2, 3), warn_unused_result));

/* Takes NULL. */
void tap_error_free(struct tap_error *err);

/* The exit code of the manual: 2 usage, 3 process, 4 unsupported, 5 file. */
int tap_error_exit_code(const struct tap_error *err);

/* A stable snake_case word for JSON: "permission", "gone", ... */
const char *tap_error_code_name(enum tap_error_code code);

static inline void tap_error_cleanup(struct tap_error **err)
{
	tap_error_free(*err);
}
#define _cleanup_error_ __attribute__((cleanup(tap_error_cleanup)))

#endif
