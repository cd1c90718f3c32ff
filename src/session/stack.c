/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include "heaptap/base/alloc.h"
#include "heaptap/base/clock.h"
#include "heaptap/base/progress.h"
#include "heaptap/proc/cgroup.h"
#include "heaptap/proc/tasks.h"
#include "heaptap/python/mix.h"
#include "heaptap/session/stack.h"
#include "heaptap/session/stop.h"
#include "heaptap/symbol/unwind.h"
#include "heaptap/target/peek.h"
#include "session/look.h"
#include "session/thread_state.h"

#define MAX_FRAMES 2048
#define MAX_INLINED 16
/* Room for MAX_FRAMES of the usual size. */
#define MAX_STACK_COPY (UINT64_C(1) << 20)
/* Where the end of the stack is not known: no mapping, or one so large that it
 * holds more than a stack (a Go arena, a coroutine's heap). */
#define UNKNOWN_STACK_COPY (UINT64_C(256) << 10)
#define LARGEST_STACK (UINT64_C(8) << 20)
#define RED_ZONE 128
#define ATTEMPTS 3
/* A thread that stops does so at once; those that do not must not add up. */
#define STOP_TIMEOUT_MS 500
#define LEAST_TIMEOUT_MS 10
#define ALL_STOPS_NS UINT64_C(700000000)

/* What was read of a thread while it stood still. */
struct still {
	enum tap_peek_how how;
	bool stable;
	int holds_gil;
	struct tap_regs regs;
	uint8_t *stack; /* copy from stack_addr on */
	uint64_t stack_addr;
	size_t stack_bytes;
	struct tap_python_frame *python;
	size_t python_count;
};

struct collector {
	pid_t pid;
	const struct tap_stack_options *options;
	struct tap_look look;
	struct tap_unwinder *unwinder;
	struct tap_task_list tasks;
	struct tap_stack_report *report;
	struct tap_native_frame *native; /* room for MAX_FRAMES each */
	struct tap_mixed_frame *mixed;
	struct tap_progress progress;
	uint64_t deadline_ns;
	uint64_t longest_ns;
};

static bool reads_python(const struct collector *collector)
{
	return collector->options->python && collector->look.python &&
	       tap_python_info(collector->look.python)->supported;
}

/* The stack is copied and unwound after the thread was let go: the first look
 * at a module's call frame information takes longer than anyone should wait. */
static void copy_stack(struct collector *collector, struct still *still)
{
	uint64_t sp = still->regs.rsp;
	const struct tap_mapping *mapping = tap_maps_find(&collector->look.maps, sp);
	uint64_t size = mapping ? mapping->end - sp : UINT64_MAX;

	if (sp < RED_ZONE)
		return;
	size = size > LARGEST_STACK ? UNKNOWN_STACK_COPY : size;
	size = (size < MAX_STACK_COPY ? size : MAX_STACK_COPY) + RED_ZONE;
	still->stack_addr = sp - RED_ZONE;
	still->stack = tap_realloc(still->stack, size);
	still->stack_bytes =
		tap_memory_read_some(collector->look.memory, still->stack_addr, still->stack, size);
}

static void read_python(struct collector *collector, pid_t tid, struct still *still)
{
	struct tap_python *python = collector->look.python;
	bool stopped = still->how == TAP_PEEK_STOPPED;
	uint64_t state, pthread;

	still->python_count = 0;
	still->holds_gil = -1;
	if (!collector->look.python || !tap_python_info(python)->supported)
		return;
	state = tap_python_thread(
		python, tid, stopped ? still->regs.fs_base : 0, &still->holds_gil);
	if (!state && !stopped) {
		pthread = tap_thread_state_pthread(python, &collector->look.maps, collector->pid,
			tid, still->regs.rsp, &collector->tasks);
		if (pthread)
			state = tap_python_thread(python, tid, pthread, &still->holds_gil);
	}
	if (!state || !reads_python(collector))
		return;
	if (!still->python)
		still->python = tap_alloc(MAX_FRAMES * sizeof(*still->python));
	still->python_count = tap_python_frames(python, state, still->python, MAX_FRAMES);
}

static unsigned timeout_ms(const struct collector *collector)
{
	uint64_t now = tap_clock_ns();
	uint64_t left = now < collector->deadline_ns ? (collector->deadline_ns - now) / 1000000 : 0;

	return left < LEAST_TIMEOUT_MS  ? LEAST_TIMEOUT_MS
	       : left > STOP_TIMEOUT_MS ? STOP_TIMEOUT_MS
					: (unsigned)left;
}

static struct tap_error *hold_once(struct collector *collector, pid_t tid, struct still *still)
{
	struct tap_peek peek;
	struct tap_error *err = tap_peek_begin(collector->pid, tid, timeout_ms(collector), &peek);

	if (err)
		return err;
	still->how = peek.how;
	still->regs = peek.regs;
	if (peek.how != TAP_PEEK_NONE) {
		copy_stack(collector, still);
		tap_memory_cache(collector->look.memory, TAP_MEMORY_CACHE_PAGES);
		read_python(collector, tid, still);
		tap_memory_cache(collector->look.memory, TAP_MEMORY_CACHE_OFF);
	}
	still->stable = tap_peek_end(&peek);
	if (peek.held_ns > collector->longest_ns)
		collector->longest_ns = peek.held_ns;
	return NULL;
}

static struct tap_error *hold(struct collector *collector, pid_t tid, struct still *still)
{
	struct tap_error *err = NULL;

	for (int i = 0; i < ATTEMPTS && !err && !still->stable; i++) {
		err = hold_once(collector, tid, still);
		if (still->how == TAP_PEEK_NONE)
			break;
	}
	return err;
}

static size_t unwind(struct collector *collector, const struct still *still)
{
	uint32_t known = still->how == TAP_PEEK_STOPPED ? TAP_UNWIND_ALL : TAP_UNWIND_SP_PC;
	struct tap_memory *copy;
	size_t count;

	if (!collector->options->native || still->how == TAP_PEEK_NONE)
		return 0;
	copy = tap_memory_create_image();
	if (still->stack_bytes)
		tap_memory_add_region(copy, still->stack_addr, still->stack, still->stack_bytes);
	count = tap_unwind(
		collector->unwinder, copy, &still->regs, known, collector->native, MAX_FRAMES);
	tap_memory_close(copy);
	return count;
}

static size_t mix(struct collector *collector, const struct still *still)
{
	size_t native_count = unwind(collector, still);
	size_t count = 0;

	if (reads_python(collector))
		return tap_python_mix(collector->look.python, collector->native, native_count,
			still->python, still->python_count, collector->mixed, MAX_FRAMES);
	for (; count < native_count; count++)
		collector->mixed[count] =
			(struct tap_mixed_frame){.key = collector->native[count].pc,
				.is_call = collector->native[count].is_call,
				.trust = collector->native[count].trust};
	return count;
}

static void resolve(struct collector *collector, const struct tap_mixed_frame *frame,
	struct tap_frame_list *ret)
{
	struct tap_frame frames[MAX_INLINED] = {0};
	size_t count = 1;

	if (frame->key & TAP_PYTHON_KEY)
		tap_python_resolve(
			collector->look.python, frame->key, collector->report->strings, &frames[0]);
	else
		count = tap_symbols_resolve(collector->look.symbols, frame->key, frame->is_call,
			collector->report->strings, frames, MAX_INLINED);
	for (size_t i = 0; i < count; i++) {
		frames[i].trust = frame->trust;
		tap_vector_push(ret, frames[i]);
	}
}

static const char *note_of(
	const struct tap_task *task, const struct still *still, size_t frame_count)
{
	if (still->how == TAP_PEEK_NONE)
		return "it did not stop in time, so that its stack could not be read";
	if (!still->stable)
		return "it went on while it was read: the stack may be wrong";
	if (frame_count == MAX_FRAMES)
		return "the stack is deeper: these are its innermost frames";
	if (still->how != TAP_PEEK_BLOCKED)
		return NULL;
	if (task->state == 'D')
		return "in an uninterruptible wait: read as it stands";
	return "not stopped, which could disturb the system call it is in: read as it stands";
}

static void add_thread(
	struct collector *collector, const struct tap_task *task, const struct still *still)
{
	struct tap_stack_report *report = collector->report;
	struct tap_stack_thread *thread = tap_vector_add(&report->threads);
	size_t count = mix(collector, still);

	thread->tid = task->tid;
	thread->name = tap_strings_add(report->strings, task->name);
	thread->state = task->state;
	thread->wchan = *task->wchan ? tap_strings_add(report->strings, task->wchan) : NULL;
	thread->holds_gil = still->holds_gil;
	thread->note = note_of(task, still, count);
	for (size_t i = 0; i < count && tap_stop_requested() < 2; i++) {
		if (tap_stop_suspend_requested())
			tap_stop_suspend();
		tap_progress_show(&collector->progress, "stack: thread %zu of %zu",
			report->threads.count, collector->tasks.count);
		resolve(collector, &collector->mixed[i], &thread->frames);
	}
}

static struct tap_error *explain(struct collector *collector, struct tap_error *err)
{
	int errnum = err->errnum;

	if (err->code != TAP_ERR_PERMISSION)
		return err;
	tap_error_free(err);
	return tap_process_explain_denied(&collector->report->process, errnum);
}

/* First every thread is looked at, then names and lines are found. */
static struct tap_error *collect_threads(struct collector *collector)
{
	struct tap_task_list *tasks = &collector->tasks;
	struct still *stills = tap_alloc((tasks->count + 1) * sizeof(*stills));
	bool *gone = tap_alloc(tasks->count + 1);
	struct tap_error *err = NULL;

	collector->deadline_ns = tap_clock_ns() + ALL_STOPS_NS;
	for (size_t i = 0; i < tasks->count && !err; i++) {
		stills[i].holds_gil = -1;
		err = hold(collector, tasks->items[i].tid, &stills[i]);
		if (!err || err->code != TAP_ERR_GONE)
			continue;
		gone[i] = true;
		tap_error_free(err);
		err = NULL;
	}
	for (size_t i = 0; i < tasks->count && !err; i++)
		if (!gone[i])
			add_thread(collector, &tasks->items[i], &stills[i]);
	for (size_t i = 0; i < tasks->count; i++) {
		free(stills[i].stack);
		free(stills[i].python);
	}
	free(stills);
	free(gone);
	return err ? explain(collector, err) : NULL;
}

static void add_note(struct collector *collector)
{
	const struct tap_python *python = collector->look.python;
	struct tap_stack_report *report = collector->report;

	if (tap_cgroup_is_frozen(collector->pid))
		report->note = "the process is frozen by its cgroup: no thread was stopped";
	else if (python && !tap_python_info(python)->supported)
		report->note = tap_strings_add(report->strings, tap_python_info(python)->reason);
	else if (!python && !collector->options->native)
		report->note = "there is no CPython in the process, so no Python frames";
}

static struct tap_error *collect(struct collector *collector)
{
	struct tap_stack_report *report = collector->report;
	struct tap_error *err =
		tap_look_open(&report->process, collector->options->debug_dir, &collector->look);

	if (!err)
		err = tap_tasks_read(collector->pid, &collector->tasks);
	if (err)
		return err;
	tap_progress_start(&collector->progress);
	collector->unwinder = tap_unwinder_create(collector->look.symbols);
	collector->native = tap_alloc(MAX_FRAMES * sizeof(*collector->native));
	collector->mixed = tap_alloc(MAX_FRAMES * sizeof(*collector->mixed));
	err = collect_threads(collector);
	tap_progress_end(&collector->progress);
	report->pause_s = (double)collector->longest_ns / 1e9;
	if (!err && !report->threads.count)
		err = tap_error_new(TAP_ERR_GONE, "process %d has ended", (int)collector->pid);
	if (!err)
		add_note(collector);
	return err;
}

struct tap_error *tap_stack_collect(
	pid_t pid, const struct tap_stack_options *options, struct tap_stack_report *ret)
{
	struct collector collector = {.pid = pid, .options = options, .report = ret};
	struct tap_error *err;

	ret->strings = tap_strings_create();
	err = tap_process_read(pid, &ret->process);
	if (!err)
		err = tap_process_check_traceable(&ret->process);
	if (!err)
		err = collect(&collector);
	tap_unwinder_destroy(collector.unwinder);
	tap_vector_free(&collector.tasks);
	free(collector.native);
	free(collector.mixed);
	tap_look_close(&collector.look);
	return err;
}
