/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>
#include "heaptap/base/alloc.h"
#include "heaptap/base/cleanup.h"
#include "heaptap/base/clock.h"
#include "heaptap/base/log.h"
#include "heaptap/target/snapshot.h"
#include "session/heap_reading.h"

#define POLL_NS 20000000
#define NS_PER_S 1e9

/* ptrace knows one owner, and whoever owns the copy must outlive the reading of
 * it: a thread of its own does all of that, while the caller's shows how far it
 * is. */
struct reading {
	struct tap_process *process;
	const struct heap_reading_options *options;
	struct tap_strings *strings;
	struct tap_name_list *notes;
	struct heap_reading_result *result;
	struct tap_look live; /* the process as it runs */
	_Atomic(const char *) stage;
	atomic_bool done;
	struct tap_error *error; /* valid once done */
};

static void note(struct reading *reading, const char *text)
{
	if (text)
		tap_vector_push(reading->notes, tap_strings_add(reading->strings, text));
}

/* In the C library's allocator, or an interpreter's: the heap is being changed. */
static bool is_allocating(void *context, const struct tap_regs *regs)
{
	struct reading *reading = context;
	struct tap_symbol symbol;

	return tap_symbols_try_name(reading->live.symbols, regs->rip, &symbol) &&
	       (strstr(symbol.name, "alloc") || strstr(symbol.name, "free"));
}

static struct root_thread *threads_of(const struct tap_snapshot *snapshot, size_t *count_ret)
{
	size_t count;
	const struct tap_snapshot_thread *threads = tap_snapshot_threads(snapshot, &count);
	struct root_thread *ret = tap_alloc((count + 1) * sizeof(*ret));

	*count_ret = 0;
	for (size_t i = 0; i < count; i++)
		if (threads[i].stopped || threads[i].blocked)
			ret[(*count_ret)++] =
				(struct root_thread){threads[i].tid, threads[i].regs};
	return ret;
}

/* The same modules lie at the same addresses in the copy. */
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

static struct tap_error *read_copy(struct reading *reading, struct tap_snapshot *snapshot)
{
	uint64_t began = tap_clock_ns();
	struct tap_look copy = {0};
	struct heap_model model = {0};
	size_t thread_count;
	_cleanup_free_ struct root_thread *threads = threads_of(snapshot, &thread_count);
	struct tap_error *err = open_copy(reading, snapshot, &copy);

	atomic_store(&reading->stage, "reading the heap");
	if (!err)
		err = heap_model_build(&copy, tap_snapshot_pid(snapshot), reading->process->pid,
			threads, thread_count, reading->strings, &model);
	if (!err && !model.glibc)
		note(reading, "the C heap is not glibc's, or not in use: its blocks are not walked");
	if (!err && copy.python && !model.python)
		note(reading, tap_python_info(copy.python)->reason);
	atomic_store(&reading->stage, "looking for what holds it");
	if (!err)
		err = reading->options->look(reading->options->context, &model);
	reading->result->seconds = (double)(tap_clock_ns() - began) / NS_PER_S;
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
	err = tap_snapshot_take(reading->process, &options, &snapshot);
	if (err)
		return err;
	reading->result->in_place = !tap_snapshot_is_copy(snapshot);
	note(reading, tap_snapshot_why_in_place(snapshot));
	err = read_copy(reading, snapshot);
	reading->result->pause_s = (double)tap_snapshot_pause_ns(snapshot) / NS_PER_S;
	release = tap_snapshot_release(snapshot);
	if (!err)
		return release;
	tap_error_free(release);
	return err;
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
	const struct heap_reading_options *options = reading->options;
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
		const char *stage = atomic_load(&reading->stage);

		if (options->on_progress && stage)
			options->on_progress(options->progress_context, stage);
		nanosleep(&pause, NULL);
	}
	pthread_join(thread, NULL);
	return reading->error;
}

struct tap_error *heap_read(struct tap_process *process,
	const struct heap_reading_options *options, struct tap_strings *strings,
	struct tap_name_list *notes, struct heap_reading_result *ret)
{
	struct reading reading = {.process = process, .options = options, .strings = strings,
		.notes = notes, .result = ret};
	struct tap_error *err = tap_look_open(process, options->debug_dir, &reading.live);

	if (!err)
		err = run_in_thread(&reading);
	tap_look_close(&reading.live);
	return err;
}
