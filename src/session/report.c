/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>
#include "heaptap/base/alloc.h"
#include "heaptap/base/cleanup.h"
#include "heaptap/base/clock.h"
#include "heaptap/base/log.h"
#include "heaptap/base/map.h"
#include "heaptap/proc/descriptors.h"
#include "heaptap/session/report.h"
#include "heaptap/session/stack.h"
#include "heaptap/session/stop.h"
#include "heaptap/session/watch.h"
#include "heaptap/target/snapshot.h"
#include "session/heap_findings.h"
#include "session/heap_model.h"
#include "session/look.h"
#include "session/memory_table.h"

#define POLL_NS 20000000
#define NS_PER_S 1e9

/* ptrace knows one owner, and whoever owns the copy must outlive the reading of
 * it: a thread of its own does all of that, while the caller's shows how far it
 * is. */
struct reading {
	pid_t pid;
	const struct tap_report_options *options;
	struct tap_heap_report *report;
	struct tap_look live; /* the process as it runs */
	_Atomic(const char *) stage;
	atomic_bool done;
	struct tap_error *error; /* valid once done */
};

static void note(struct reading *reading, const char *text)
{
	if (text)
		tap_vector_push(&reading->report->notes,
			tap_strings_add(reading->report->strings, text));
}

/* --- the copy ------------------------------------------------------------------ */

/* In the C library's allocator, or an interpreter's: the heap is being changed. */
static bool is_allocating(void *context, const struct tap_regs *regs)
{
	struct reading *reading = context;
	struct tap_symbol symbol;

	return tap_symbols_try_name(reading->live.symbols, regs->rip, &symbol) &&
	       strstr(symbol.name, "alloc");
}

static struct root_thread *threads_of(const struct tap_snapshot *snapshot, size_t *count_ret)
{
	size_t count;
	const struct tap_snapshot_thread *threads = tap_snapshot_threads(snapshot, &count);
	struct root_thread *ret = tap_alloc((count + 1) * sizeof(*ret));

	*count_ret = 0;
	for (size_t i = 0; i < count; i++)
		if (threads[i].stopped)
			ret[(*count_ret)++] =
				(struct root_thread){threads[i].tid, threads[i].regs};
	return ret;
}

/* What was found out of the process holds for the copy as well: the same modules
 * lie at the same addresses. */
static struct tap_error *open_copy(
	struct reading *reading, struct tap_snapshot *snapshot, struct tap_look *copy)
{
	pid_t pid = tap_snapshot_pid(snapshot);
	struct tap_error *err = tap_maps_read(pid, &copy->maps);

	copy->memory = tap_snapshot_memory(snapshot);
	if (!err)
		err = tap_symbols_open(pid, copy->memory, &copy->maps,
			reading->options->debug_dir, &copy->symbols);
	return err ? err : tap_python_open(copy->symbols, copy->memory, &copy->python);
}

static void close_copy(struct tap_look *copy)
{
	copy->memory = NULL; /* the snapshot's */
	tap_look_close(copy);
}

static void find(struct reading *reading, const struct heap_model *model)
{
	struct tap_heap_report *report = reading->report;

	if (!reading->options->types_only) {
		atomic_store(&reading->stage, "looking for what holds it");
		heap_findings_suspects(model, reading->options->threshold, report);
		heap_findings_lost(model, report);
	}
	atomic_store(&reading->stage, "counting objects");
	heap_findings_types(model, report);
	report->walk.blocks = model->blocks;
	report->walk.objects = model->objects;
	report->walk.stopped_by = model->stopped_by;
	report->walk.complete = !model->stopped_by;
}

static struct tap_error *read_copy(struct reading *reading, struct tap_snapshot *snapshot)
{
	struct tap_heap_report *report = reading->report;
	pid_t pid = tap_snapshot_pid(snapshot);
	uint64_t began = tap_clock_ns();
	struct tap_look copy = {0};
	struct heap_model model = {0};
	size_t thread_count;
	_cleanup_free_ struct root_thread *threads = threads_of(snapshot, &thread_count);
	struct tap_error *err = open_copy(reading, snapshot, &copy);

	atomic_store(&reading->stage, "reading the heap");
	if (!err)
		err = heap_model_build(&copy, pid, threads, thread_count, report->strings, &model);
	if (!err) {
		find(reading, &model);
		err = memory_table_fill(&copy, pid, model.glibc, threads, thread_count,
			&report->memory);
		if (!model.glibc)
			note(reading, "the C heap is not glibc's, or not in use: its blocks are "
				      "not walked");
	}
	report->walk.seconds = (double)(tap_clock_ns() - began) / NS_PER_S;
	heap_model_deinit(&model);
	close_copy(&copy);
	return err;
}

static struct tap_error *read_snapshot(struct reading *reading)
{
	const struct tap_snapshot_options options = {
		.in_place = reading->options->in_place,
		.max_pause_ns = (uint64_t)(reading->options->max_pause_s * NS_PER_S),
		.force = reading->options->force,
		.is_busy = is_allocating,
		.context = reading,
	};
	struct tap_snapshot *snapshot = NULL;
	struct tap_error *err, *release;

	atomic_store(&reading->stage, "stopping it for a moment");
	err = tap_snapshot_take(&reading->report->process, &options, &snapshot);
	if (err)
		return err;
	reading->report->in_place = !tap_snapshot_is_copy(snapshot);
	note(reading, tap_snapshot_why_in_place(snapshot));
	err = read_copy(reading, snapshot);
	reading->report->pause_s = fmax(reading->report->stacks.pause_s,
		(double)tap_snapshot_pause_ns(snapshot) / NS_PER_S);
	release = tap_snapshot_release(snapshot);
	if (!err)
		return release;
	tap_error_free(release);
	return err;
}

/* --- what surrounds it ----------------------------------------------------------- */

static struct tap_error *read_threads(struct reading *reading)
{
	const struct tap_stack_options options = {
		.native = true, .python = true, .debug_dir = reading->options->debug_dir};

	return tap_stack_collect(reading->pid, &options, &reading->report->stacks);
}

static void *run(void *context)
{
	struct reading *reading = context;

	tap_log_defer();
	reading->error = read_snapshot(reading);
	atomic_store(&reading->done, true);
	return NULL;
}

static struct tap_error *run_in_thread(struct reading *reading)
{
	struct timespec pause = {0, POLL_NS};
	sigset_t all, old;
	pthread_t thread;
	int errnum;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	errnum = pthread_create(&thread, NULL, run, reading);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (errnum)
		return tap_error_errno(errnum, "cannot start a thread");
	while (!atomic_load(&reading->done)) {
		if (reading->options->on_progress && atomic_load(&reading->stage))
			reading->options->on_progress(
				reading->options->context, atomic_load(&reading->stage));
		nanosleep(&pause, NULL);
	}
	pthread_join(thread, NULL);
	return reading->error;
}

static struct tap_error *watch_before(struct reading *reading)
{
	const struct tap_watch_options options = {.duration_s = reading->options->watch_s};
	struct tap_watch_report watch = {0};
	struct tap_error *err;

	if (reading->options->watch_s <= 0) {
		snprintf(reading->report->verdict.reason,
			sizeof(reading->report->verdict.reason),
			"one look has no curve: --watch DUR, or heaptap trace, tells whether it "
			"grows");
		reading->report->verdict.limit_bytes = UINT64_MAX;
		reading->report->verdict.time_to_limit_s = -1;
		return NULL;
	}
	err = tap_watch_collect(&reading->pid, 1, &options, &watch);
	if (!err && watch.entries.count)
		reading->report->verdict = watch.entries.items[0].verdict;
	tap_watch_report_deinit(&watch);
	return err;
}

/* --- growth by type ---------------------------------------------------------------- */

static void set_changes(struct tap_heap_type_list *types, const struct tap_heap_type_list *before)
{
	struct tap_map index = {0};

	/* Names are interned: equal ones are one address. */
	for (size_t i = 0; i < before->count; i++)
		*tap_map_put(&index, (uint64_t)before->items[i].type, NULL) = i;
	for (size_t i = 0; i < types->count; i++) {
		struct tap_heap_type *type = &types->items[i];
		const uint64_t *was = tap_map_find(&index, (uint64_t)type->type);

		type->count_change =
			(int64_t)(type->count - (was ? before->items[*was].count : 0));
		type->own_change =
			(int64_t)(type->own_bytes - (was ? before->items[*was].own_bytes : 0));
	}
	tap_map_deinit(&index);
}

/* The same once more, a while later. */
static struct tap_error *look_again(struct reading *reading)
{
	struct tap_heap_report *report = reading->report;
	struct tap_heap_type_list before = report->types;
	struct tap_error *err;

	report->types = (struct tap_heap_type_list){0};
	report->notes.count = 0;
	atomic_store(&reading->done, false);
	tap_stop_sleep_until(tap_clock_ns() + (uint64_t)(reading->options->growth_s * NS_PER_S));
	err = run_in_thread(reading);
	if (!err)
		set_changes(&report->types, &before);
	report->growth = !err;
	tap_vector_free(&before);
	return err;
}

struct tap_error *tap_report_collect(
	pid_t pid, const struct tap_report_options *options, struct tap_heap_report *ret)
{
	struct reading reading = {.pid = pid, .options = options, .report = ret};
	struct tap_error *err;

	ret->strings = tap_strings_create();
	err = tap_process_read(pid, &ret->process);
	if (!err)
		err = tap_process_check_traceable(&ret->process);
	if (!err)
		err = watch_before(&reading);
	if (!err)
		err = tap_look_open(&ret->process, options->debug_dir, &reading.live);
	if (!err && !options->types_only)
		err = read_threads(&reading);
	if (!err)
		err = run_in_thread(&reading);
	if (!err && options->growth_s > 0)
		err = look_again(&reading);
	tap_look_close(&reading.live);
	return err;
}
