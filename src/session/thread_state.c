/* SPDX-License-Identifier: Apache-2.0 */
#include "heaptap/base/alloc.h"
#include "heaptap/base/cleanup.h"
#include "session/thread_state.h"

#define MAX_STATES 4096

/* A thread's stack has its guard right below: memory without any access. */
static bool is_thread_stack(const struct tap_maps *maps, const struct tap_mapping *mapping)
{
	const struct tap_mapping *below = mapping > maps->items ? mapping - 1 : NULL;

	return below && below->end == mapping->start && !below->readable && !below->writable &&
	       !below->executable;
}

static bool holds_stack_of_another(
	const struct tap_mapping *mapping, pid_t pid, pid_t tid, const struct tap_task_list *tasks)
{
	for (size_t i = 0; i < tasks->count; i++) {
		struct tap_task_syscall call;

		if (tasks->items[i].tid == tid ||
			!tap_task_try_syscall(pid, tasks->items[i].tid, &call) || !call.blocked)
			continue;
		if (call.sp >= mapping->start && call.sp < mapping->end)
			return true;
	}
	return false;
}

static uint64_t by_stack(const struct tap_maps *maps, uint64_t sp,
	const struct tap_python_thread_state *states, size_t count)
{
	const struct tap_mapping *stack = tap_maps_find(maps, sp);

	for (size_t i = 0; stack && i < count; i++)
		if (states[i].pthread >= sp && states[i].pthread < stack->end)
			return states[i].pthread;
	return 0;
}

static uint64_t by_elimination(const struct tap_maps *maps, pid_t pid,
	const struct tap_task_list *tasks, const struct tap_python_thread_state *states,
	size_t count)
{
	uint64_t found = 0;

	for (size_t i = 0; i < count; i++) {
		const struct tap_mapping *block = tap_maps_find(maps, states[i].pthread);

		if (!block || states[i].pthread == found || is_thread_stack(maps, block) ||
			holds_stack_of_another(block, pid, pid, tasks))
			continue;
		if (found)
			return 0;
		found = states[i].pthread;
	}
	return found;
}

uint64_t tap_thread_state_pthread(struct tap_python *python, const struct tap_maps *maps, pid_t pid,
	pid_t tid, uint64_t sp, const struct tap_task_list *tasks)
{
	_cleanup_free_ struct tap_python_thread_state *states =
		tap_alloc(MAX_STATES * sizeof(*states));
	size_t count = tap_python_threads(python, states, MAX_STATES);
	uint64_t found;

	count = count < MAX_STATES ? count : MAX_STATES;
	found = by_stack(maps, sp, states, count);
	if (!found && tid == pid)
		found = by_elimination(maps, pid, tasks, states, count);
	return found;
}
