/* SPDX-License-Identifier: Apache-2.0 */
#include "heaptap/python/mix.h"
#include "python/runtime.h"

struct mix {
	struct tap_mixed_frame *frames;
	size_t capacity;
	size_t count;
};

static void add_native(struct mix *mix, const struct tap_native_frame *native)
{
	if (mix->count < mix->capacity)
		mix->frames[mix->count++] =
			(struct tap_mixed_frame){native->pc, native->is_call, native->trust};
}

static void add_python(struct mix *mix, const struct tap_python_frame *frame)
{
	if (mix->count < mix->capacity)
		mix->frames[mix->count++] =
			(struct tap_mixed_frame){frame->key, false, TAP_FRAME_EXACT};
}

static bool is_eval(struct tap_python *python, const struct tap_native_frame *native)
{
	return tap_python_is_eval(python, native->pc - (native->is_call ? 1 : 0));
}

/* How many native eval frames the Python list accounts for; 0 where it was
 * cut and does not tell. */
static size_t evals_wanted(const struct tap_python_frame *frames, size_t count)
{
	size_t wanted = 0;

	if (!count || !frames[count - 1].entry)
		return 0;
	for (size_t i = 0; i < count; i++)
		wanted += frames[i].entry + (size_t)frames[i].empty_evals;
	return wanted;
}

/* A thread that stands in the first instructions of the evaluation function
 * has not linked its Python frame yet: that native frame has none. */
static bool innermost_is_bare(struct tap_python *python, const struct tap_native_frame *native,
	size_t native_count, const struct tap_python_frame *frames, size_t frame_count)
{
	size_t wanted = evals_wanted(frames, frame_count), evals = 0;

	if (!wanted || !native_count || native[0].is_call || !is_eval(python, &native[0]))
		return false;
	for (size_t i = 0; i < native_count; i++)
		evals += is_eval(python, &native[i]);
	return evals == wanted + 1;
}

size_t tap_python_mix(struct tap_python *python, const struct tap_native_frame *native,
	size_t native_count, const struct tap_python_frame *frames, size_t frame_count,
	struct tap_mixed_frame *mixed, size_t capacity)
{
	struct mix mix = {.frames = mixed, .capacity = capacity};
	unsigned empty = frame_count ? frames[0].empty_evals : 0;
	size_t next = 0;

	if (innermost_is_bare(python, native, native_count, frames, frame_count))
		empty++;
	for (size_t i = 0; i < native_count; i++) {
		if (next == frame_count || !is_eval(python, &native[i])) {
			add_native(&mix, &native[i]);
			continue;
		}
		if (empty) {
			empty--;
			add_native(&mix, &native[i]);
			continue;
		}
		do
			add_python(&mix, &frames[next]);
		while (!frames[next++].entry && next < frame_count);
		empty = next < frame_count ? frames[next].empty_evals : 0;
	}
	while (next < frame_count)
		add_python(&mix, &frames[next++]);
	return mix.count;
}
