/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_TESTS_UNIT_H
#define HEAPTAP_TESTS_UNIT_H

/* What cmocka wants in front of it, and how our errors are asserted. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "heaptap/base/error.h"

/* The call succeeds; else its message is shown. */
#define assert_ok(call)                                                                            \
	do {                                                                                       \
		struct tap_error *err_ = (call);                                                   \
		if (err_)                                                                          \
			fail_msg("%s: %s", #call, err_->message);                                  \
	} while (0)

/* The call fails with this code. */
#define assert_code(call, wanted)                                                                  \
	do {                                                                                       \
		struct tap_error *err_ = (call);                                                   \
		assert_non_null(err_);                                                             \
		assert_int_equal(err_->code, wanted);                                              \
		tap_error_free(err_);                                                              \
	} while (0)

#endif
