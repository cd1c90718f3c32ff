/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_PYTHON_MIX_H
#define HEAPTAP_PYTHON_MIX_H

/*
 * One stack out of two: Python frames take the place of the native frames of
 * the interpreter's evaluation function that run them. A native eval frame
 * stands for one or more Python frames, up to the one marked `entry`.
 */

#include <stddef.h>
#include <stdint.h>
#include "heaptap/python/python.h"
#include "heaptap/symbol/unwind.h"

/* A frame of a mixed stack: a native PC (bit 63 clear) or a Python key. */
struct tap_mixed_frame {
	uint64_t key;
	bool is_call;
	enum tap_frame_trust trust;
};

/* Innermost first. Python frames left over where the native stack ends early
 * are appended; eval frames left over where the Python list ends early stay
 * native. Returns the number, at most capacity. */
size_t tap_python_mix(struct tap_python *python, const struct tap_native_frame *native,
	size_t native_count, const struct tap_python_frame *frames, size_t frame_count,
	struct tap_mixed_frame *mixed, size_t capacity);

#endif
