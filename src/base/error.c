/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "heaptap/base/alloc.h"
#include "heaptap/base/error.h"

static char *vformat(const char *format, va_list args)
{
	char *text;

	if (vasprintf(&text, format, args) < 0)
		return tap_strdup("out of memory");
	return text;
}

static struct tap_error *make(enum tap_error_code code, int errnum, char *message)
{
	struct tap_error *err = tap_alloc(sizeof(*err));

	err->code = code;
	err->errnum = errnum;
	err->message = message;
	return err;
}

struct tap_error *tap_error_new(enum tap_error_code code, const char *format, ...)
{
	va_list args;
	char *message;

	va_start(args, format);
	message = vformat(format, args);
	va_end(args);
	return make(code, 0, message);
}

static enum tap_error_code code_of(int errnum)
{
	switch (errnum) {
	case ESRCH:
		return TAP_ERR_GONE;
	case EPERM:
	case EACCES:
		return TAP_ERR_PERMISSION;
	case ENOMEM:
		return TAP_ERR_NOMEM;
	case EIO:
	case EFAULT:
		return TAP_ERR_FAULT;
	default:
		return TAP_ERR_SYSTEM;
	}
}

struct tap_error *tap_error_errno(int errnum, const char *format, ...)
{
	va_list args;
	char *context, *message;

	va_start(args, format);
	context = vformat(format, args);
	va_end(args);
	message = tap_format("%s: %s", context, strerror(errnum));
	free(context);
	return make(code_of(errnum), errnum, message);
}

struct tap_error *tap_error_wrap(struct tap_error *err, const char *format, ...)
{
	va_list args;
	char *context, *message;

	if (!err)
		return NULL;
	va_start(args, format);
	context = vformat(format, args);
	va_end(args);
	message = tap_format("%s: %s", context, err->message);
	free(context);
	free(err->message);
	err->message = message;
	return err;
}

struct tap_error *tap_error_advise(struct tap_error *err, const char *format, ...)
{
	va_list args;

	if (!err)
		return NULL;
	free(err->advice);
	va_start(args, format);
	err->advice = vformat(format, args);
	va_end(args);
	return err;
}

void tap_error_free(struct tap_error *err)
{
	if (!err)
		return;
	free(err->message);
	free(err->advice);
	free(err);
}

static const struct {
	const char *name;
	int exit_code;
} codes[] = {
	[TAP_ERR_NOMEM] = {"no_memory", 3},
	[TAP_ERR_SYSTEM] = {"system", 3},
	[TAP_ERR_FAULT] = {"fault", 3},
	[TAP_ERR_GONE] = {"gone", 3},
	[TAP_ERR_PERMISSION] = {"permission", 3},
	[TAP_ERR_BUSY] = {"busy", 3},
	[TAP_ERR_TIMEOUT] = {"timeout", 3},
	[TAP_ERR_UNSUPPORTED] = {"unsupported", 4},
	[TAP_ERR_BAD_DATA] = {"bad_data", 5},
	[TAP_ERR_NOT_FOUND] = {"not_found", 4},
	[TAP_ERR_FILE] = {"file", 5},
	[TAP_ERR_USAGE] = {"usage", 2},
};

int tap_error_exit_code(const struct tap_error *err)
{
	return codes[err->code].exit_code;
}

const char *tap_error_code_name(enum tap_error_code code)
{
	return codes[code].name;
}
