/* SPDX-License-Identifier: Apache-2.0 */
#include "python/runtime.h"
#include "python/walk.h"

#define MAX_INTERPRETERS 4096
#define MAX_THREADS 65536
/* PEP 684: from here on an interpreter may have a GIL of its own. */
#define OWN_GIL_HEX 0x030c0000

/* One thread state as it is met: a copy of its head, of thread_bytes. */
struct visit {
	uint64_t interp;
	uint64_t id;
	uint64_t addr;
	const uint8_t *copy;
};

typedef bool (*visit_fn)(struct tap_python *python, const struct visit *visit, void *context);

static bool each_of_interpreter(
	struct tap_python *python, uint64_t interp, uint64_t id, visit_fn fn, void *context)
{
	const struct tap_python_layout *layout = &python->layout;
	struct tap_python_walk walk = {0};
	uint8_t copy[TAP_PYTHON_STRUCT];
	struct visit visit = {.interp = interp, .id = id, .copy = copy};

	if (!tap_python_try_field(python, interp, layout->interpreter.threads_head, &visit.addr))
		return true;
	while (tap_python_walk_on(&walk, visit.addr, MAX_THREADS)) {
		if (!tap_memory_try_read(python->memory, visit.addr, copy, python->thread_bytes))
			return true;
		/* A thread state that belongs to another interpreter is none. */
		if (tap_python_u64(copy, layout->thread.interp) != interp)
			return true;
		if (!fn(python, &visit, context))
			return false;
		visit.addr = tap_python_u64(copy, layout->thread.next);
	}
	return true;
}

static void each_thread(struct tap_python *python, visit_fn fn, void *context)
{
	const struct tap_python_layout *layout = &python->layout;
	struct tap_python_walk walk = {0};
	uint64_t interp, id;

	if (!python->info.supported || !tap_python_try_field(python, python->info.runtime_addr,
					       layout->runtime.interpreters_head, &interp))
		return;
	while (tap_python_walk_on(&walk, interp, MAX_INTERPRETERS)) {
		if (!tap_python_try_field(python, interp, layout->interpreter.id, &id))
			return;
		if (!each_of_interpreter(python, interp, id, fn, context))
			return;
		if (!tap_python_try_field(python, interp, layout->interpreter.next, &interp))
			return;
	}
}

/* Where an interpreter's GIL is does not change; asked again and again for one. */
static bool find_gil(struct tap_python *python, uint64_t interp, uint64_t *ret)
{
	if (python->gil.interp != interp || !python->gil.addr) {
		if (!tap_python_try_field(
			    python, interp, python->layout.interpreter.gil, &python->gil.addr))
			return false;
		python->gil.interp = interp;
	}
	*ret = python->gil.addr;
	return true;
}

/* To 3.11 one runtime-wide pointer names the thread state that holds the GIL,
 * in 3.12 each interpreter's GIL names its holder, from 3.13 on the thread
 * state says so itself. */
static int holds_gil(struct tap_python *python, const struct visit *visit)
{
	const struct tap_python_layout *layout = &python->layout;
	uint8_t copy[TAP_PYTHON_STRUCT];
	uint64_t gil, holder;

	if (layout->thread.holds_gil >= 0)
		return (tap_python_u32(visit->copy, layout->thread.holds_gil) &
			       (uint32_t)layout->thread.holds_gil_mask) != 0;
	if (layout->runtime.current_thread >= 0) {
		if (!tap_memory_try_glance(python->memory,
			    python->info.runtime_addr + (uint64_t)layout->runtime.current_thread,
			    &holder, sizeof(holder)))
			return -1;
		return holder == visit->addr;
	}
	if (!find_gil(python, visit->interp, &gil) ||
		!tap_memory_try_glance(python->memory, gil, copy, python->gil_bytes))
		return -1;
	return tap_python_u32(copy, layout->gil.locked) &&
	       tap_python_u64(copy, layout->gil.last_holder) == visit->addr;
}

static bool has_frames(struct tap_python *python, const struct visit *visit)
{
	struct tap_python_frame frame;

	return tap_python_frames_of_copy(python, visit->addr, visit->copy, &frame, 1) != 0;
}

struct search {
	pid_t tid;
	uint64_t fs_base;
	uint64_t addr;
	int rank;
	uint64_t position;
	int holds_gil;
	uint8_t copy[TAP_PYTHON_STRUCT]; /* of the state at addr */
};

/* A thread that runs code of another interpreter has a state in each: the one
 * that holds a GIL, else one that has frames, else the one whose frames lie
 * further in on the stack. To 3.12 _xxsubinterpreters runs code under a state
 * that keeps the id of the thread that made the interpreter. */
static bool match(struct tap_python *python, const struct visit *visit, void *context)
{
	const struct tap_python_layout *layout = &python->layout;
	struct search *search = context;
	uint64_t pthread = tap_python_u64(visit->copy, layout->thread.thread_id);
	uint64_t tid = tap_python_u64(visit->copy, layout->thread.native_thread_id);
	bool same_tid = search->tid > 0 && tid == (uint64_t)search->tid;
	uint64_t position;
	int gil, rank;

	if (search->fs_base ? pthread != search->fs_base : !same_tid)
		return true;
	gil = holds_gil(python, visit);
	rank = 1 + (same_tid ? 1 : 0) + (has_frames(python, visit) ? 2 : 0) + (gil == 1 ? 4 : 0);
	position = tap_python_stack_position(python, visit->addr, visit->copy);
	if (rank < search->rank)
		return true;
	if (rank == search->rank && (!position || position >= search->position))
		return true;
	search->addr = visit->addr;
	search->rank = rank;
	search->position = position ? position : UINT64_MAX;
	search->holds_gil = gil;
	memcpy(search->copy, visit->copy, python->thread_bytes);
	return true;
}

/* The interpreter where it is the only one, so that a thread has one state. */
static uint64_t only_interpreter(struct tap_python *python)
{
	const struct tap_python_layout *layout = &python->layout;
	uint64_t interp, next;

	if (!python->info.supported ||
		!tap_python_try_field(python, python->info.runtime_addr,
			layout->runtime.interpreters_head, &interp) ||
		!tap_python_try_field(python, interp, layout->interpreter.next, &next))
		return 0;
	return next ? 0 : interp;
}

bool tap_python_takes_turns(struct tap_python *python)
{
	return !python->info.free_threaded &&
	       (python->info.hex < OWN_GIL_HEX || only_interpreter(python));
}

/* A state that was freed may look as it did, but nothing leads to it. */
static bool is_listed(struct tap_python *python, const struct visit *visit)
{
	const struct tap_python_layout *layout = &python->layout;
	uint64_t prev = tap_python_u64(visit->copy, layout->thread.prev), here;

	if (prev)
		return tap_python_try_field(python, prev, layout->thread.next, &here) &&
		       here == visit->addr;
	return tap_python_try_field(
		       python, visit->interp, layout->interpreter.threads_head, &here) &&
	       here == visit->addr;
}

/* A thread holds no more than one GIL, and no search finds another state of a
 * thread that holds one by this. Whoever is named as its holder is there;
 * where the state says it of itself, something has to lead to that. */
static bool is_running(struct tap_python *python, const struct visit *visit, int gil)
{
	return gil == 1 && (python->layout.thread.holds_gil < 0 || is_listed(python, visit));
}

/* The state that was found for this thread before, if it still is its own:
 * a few reads where a program with many threads would take hundreds. */
static bool find_again(struct tap_python *python, struct search *search)
{
	const struct tap_python_layout *layout = &python->layout;
	struct visit visit = {.copy = search->copy};
	uint64_t only;
	const uint64_t *known = tap_map_find(&python->threads, search->fs_base);

	if (!known)
		return false;
	visit.addr = *known;
	if (!tap_memory_try_glance(
		    python->memory, visit.addr, search->copy, python->thread_bytes) ||
		tap_python_u64(search->copy, layout->thread.thread_id) != search->fs_base)
		return false;
	visit.interp = tap_python_u64(search->copy, layout->thread.interp);
	search->holds_gil = holds_gil(python, &visit);
	if (!is_running(python, &visit, search->holds_gil)) {
		only = only_interpreter(python);
		if (!only || visit.interp != only || !is_listed(python, &visit))
			return false;
	}
	search->addr = visit.addr;
	return true;
}

/* search: tid and fs_base; addr is 0 where there is none. */
static void find(struct tap_python *python, struct search *search)
{
	if (search->fs_base && find_again(python, search))
		return;
	search->holds_gil = -1;
	each_thread(python, match, search);
	if (python->threads.count > MAX_THREADS)
		tap_map_clear(&python->threads);
	if (search->fs_base && search->addr)
		*tap_map_put(&python->threads, search->fs_base, NULL) = search->addr;
}

uint64_t tap_python_thread(
	struct tap_python *python, pid_t tid, uint64_t fs_base, int *holds_gil_ret)
{
	struct search search = {.tid = tid, .fs_base = fs_base};

	find(python, &search);
	if (holds_gil_ret)
		*holds_gil_ret = search.holds_gil;
	return search.addr;
}

size_t tap_python_thread_frames(struct tap_python *python, pid_t tid, uint64_t fs_base,
	struct tap_python_frame *frames, size_t capacity)
{
	struct search search;

	/* Not its copy, of a kilobyte. */
	memset(&search, 0, offsetof(struct search, copy));
	search.tid = tid;
	search.fs_base = fs_base;
	find(python, &search);
	return search.addr ? tap_python_frames_of_copy(
				     python, search.addr, search.copy, frames, capacity)
			   : 0;
}

struct listing {
	struct tap_python_thread_state *states;
	size_t capacity;
	size_t count;
};

static bool list(struct tap_python *python, const struct visit *visit, void *context)
{
	const struct tap_python_layout *layout = &python->layout;
	struct listing *listing = context;

	if (listing->count < listing->capacity) {
		struct tap_python_thread_state *state = &listing->states[listing->count];

		state->addr = visit->addr;
		state->pthread = tap_python_u64(visit->copy, layout->thread.thread_id);
		state->tid = (pid_t)tap_python_u64(visit->copy, layout->thread.native_thread_id);
		state->interpreter = (int64_t)visit->id;
	}
	listing->count++;
	return true;
}

size_t tap_python_threads(
	struct tap_python *python, struct tap_python_thread_state *states, size_t capacity)
{
	struct listing listing = {.states = states, .capacity = capacity};

	each_thread(python, list, &listing);
	return listing.count;
}
