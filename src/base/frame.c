/* SPDX-License-Identifier: Apache-2.0 */
#include "heaptap/base/frame.h"

const char *tap_language_name(enum tap_language language)
{
	switch (language) {
	case TAP_LANGUAGE_PYTHON:
		return "python";
	case TAP_LANGUAGE_C:
		return "c";
	case TAP_LANGUAGE_CXX:
		return "c++";
	case TAP_LANGUAGE_RUST:
		return "rust";
	default:
		return "unknown";
	}
}
