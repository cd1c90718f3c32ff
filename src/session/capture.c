/* SPDX-License-Identifier: Apache-2.0 */
#include "heaptap/python/mix.h"
#include "session/recorder.h"

#define FRAMES_MAX TAP_STACK_FRAMES_MAX

static uint32_t capture(struct recorder *rec, struct tap_tracee *tracee)
{
	/* The tracer's own, too large for a stack frame to be cheap. */
	static __thread struct tap_native_frame native[FRAMES_MAX];
	static __thread struct tap_python_frame python[FRAMES_MAX];
	static __thread struct tap_mixed_frame mixed[2 * FRAMES_MAX];
	static __thread struct tap_stack_frame frames[2 * FRAMES_MAX];
	size_t native_count, python_count = 0, count, size_bytes;
	const void *copied;
	uint64_t addr;

	native_count = tap_unwind(
		rec->unwinder, rec->memory, &tracee->regs, TAP_UNWIND_ALL, native, FRAMES_MAX);
	/* The thread stands behind the call that has just returned: the call is
	 * what its line is wanted of. */
	if (native_count)
		native[0].is_call = true;
	if (rec->python) {
		copied = tap_unwind_copied(rec->unwinder, &addr, &size_bytes);
		tap_memory_lend(rec->memory, addr, copied, size_bytes);
		python_count = tap_python_thread_frames(
			rec->python, tracee->tid, tracee->regs.fs_base, python, FRAMES_MAX);
		tap_memory_lend(rec->memory, 0, NULL, 0);
	}
	if (python_count) {
		count = tap_python_mix(rec->python, native, native_count, python, python_count,
			mixed, 2 * FRAMES_MAX);
		for (size_t i = 0; i < count; i++)
			frames[i] = (struct tap_stack_frame){
				mixed[i].key, mixed[i].is_call, (uint8_t)mixed[i].trust};
	} else {
		count = native_count;
		for (size_t i = 0; i < count; i++)
			frames[i] = (struct tap_stack_frame){
				native[i].pc, native[i].is_call, (uint8_t)native[i].trust};
	}
	return tap_stacks_add(rec->stacks, frames, count);
}

uint32_t capture_stack(struct recorder *rec, struct tap_tracee *tracee)
{
	uint32_t stack;

	/* What is read belongs to the thread that stands: its stack, its
	 * frames and their code. */
	tap_memory_cache(rec->memory, TAP_MEMORY_CACHE_PAGES);
	stack = capture(rec, tracee);
	tap_memory_cache(rec->memory, TAP_MEMORY_CACHE_OFF);
	return stack;
}
