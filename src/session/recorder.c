/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "heaptap/base/alloc.h"
#include "heaptap/base/clock.h"
#include "heaptap/base/cleanup.h"
#include "heaptap/base/log.h"
#include "heaptap/proc/process.h"
#include "heaptap/proc/root.h"
#include "heaptap/proc/tasks.h"
#include "session/clean.h"
#include "session/recorder.h"
#include "session/sampler.h"

#define BRAKE_EVERY_HITS 16
#define FOLLOW_EVERY_HITS 256
#define BUSY_SHARE 0.9

/* Type of an entry of /proc/PID/auxv: <elf.h>, AT_ENTRY. */
#define AUXV_ENTRY 9

void recorder_init(struct recorder *rec, const struct tap_trace_options *options)
{
	memset(rec, 0, sizeof(*rec));
	rec->options = options;
	rec->pid = options->pid;
	rec->stacks = tap_stacks_create();
	rec->ledger = tap_ledger_create();
	rec->strings = tap_strings_create();
	rec->return_hook.kind = HOOK_RETURN;
	rec->loader_hook.kind = HOOK_LOADER;
	rec->start_hook.kind = HOOK_START;
	rec->child_exit_code = -1;
	rec->ended_by = -1;
	pthread_mutex_init(&rec->lock, NULL);
}

void recorder_deinit(struct recorder *rec)
{
	tap_python_close(rec->python);
	tap_unwinder_destroy(rec->unwinder);
	tap_symbols_close(rec->symbols);
	tap_memory_close(rec->memory);
	tap_usage_close(rec->usage);
	tap_process_deinit(&rec->process);
	tap_cgroup_deinit(&rec->cgroup);
	tap_stacks_destroy(rec->stacks);
	tap_ledger_destroy(rec->ledger);
	tap_strings_destroy(rec->strings);
	for (size_t i = 0; i < rec->hooks.count; i++)
		free(rec->hooks.items[i]);
	tap_vector_free(&rec->hooks);
	tap_vector_free(&rec->entries);
	tap_vector_free(&rec->starting);
	tap_vector_free(&rec->mappings);
	tap_vector_free(&rec->points);
	free(rec->ended_why);
	free(rec->left_behind);
	tap_error_free(rec->error);
	tap_map_deinit(&rec->by_fs_base);
	pthread_mutex_destroy(&rec->lock);
}

struct thread *recorder_thread(struct recorder *rec, struct tap_tracee *tracee)
{
	struct thread *thread = tracee->data;

	if (!thread) {
		tracee->data = thread = tap_alloc(sizeof(*thread));
		thread->rec = rec;
	}
	return thread;
}

static void forget_fs_base(struct recorder *rec, const struct thread *thread)
{
	const uint64_t *value = tap_map_find(&rec->by_fs_base, thread->fs_base);

	/* The child of a vfork has its parent's. */
	if (value && *value == (uint64_t)thread)
		tap_map_remove(&rec->by_fs_base, thread->fs_base, NULL);
}

/* Beside probes: by what their records name it. */
static void note_fs_base(struct recorder *rec, struct thread *thread, uint64_t fs_base)
{
	if (thread->fs_base != fs_base)
		forget_fs_base(rec, thread);
	thread->fs_base = fs_base;
	*tap_map_put(&rec->by_fs_base, fs_base, NULL) = (uint64_t)thread;
}

static void free_thread(void *data)
{
	struct thread *thread = data;
	struct recorder *rec = thread->rec;

	pthread_mutex_lock(&rec->lock);
	for (size_t i = 0; i < thread->pending.count; i++)
		hits_abandon(rec, &thread->pending.items[i]);
	forget_fs_base(rec, thread);
	pthread_mutex_unlock(&rec->lock);
	tap_vector_free(&thread->pending);
	free(thread);
}

void recorder_end(struct recorder *rec, enum tap_ended_by ended_by)
{
	int none = -1;

	atomic_compare_exchange_strong(&rec->ended_by, &none, (int)ended_by);
	atomic_store(&rec->end_wanted, true);
}

void recorder_end_early(struct recorder *rec, enum tap_ended_by ended_by, char *why)
{
	int none = -1;

	if (atomic_compare_exchange_strong(&rec->ended_by, &none, (int)ended_by))
		rec->ended_why = why;
	else
		free(why);
	atomic_store(&rec->end_wanted, true);
}

static void on_loader(struct recorder *rec)
{
	_cleanup_error_ struct tap_error *err = arming_update(rec);

	if (err)
		tap_log_detail("modules that were loaded: %s", err->message);
}

static void on_breakpoint(struct recorder *rec, const struct tap_event *event)
{
	const struct hook *hook = tap_breakpoint_owner(event->breakpoint);
	struct thread *thread = recorder_thread(rec, event->tracee);

	thread->hits++;
	if (rec->beside) {
		note_fs_base(rec, thread, event->tracee->regs.fs_base);
		/* What comes after the end is none of this recording. */
		if (!atomic_load(&rec->beside->answering))
			return;
	}
	switch (hook->kind) {
	case HOOK_ENTRY:
		hits_entry(rec, event->tracee, hook);
		break;
	case HOOK_RETURN:
		hits_return(rec, event->tracee);
		break;
	case HOOK_LOADER:
	case HOOK_START:
		on_loader(rec);
		break;
	}
}

/* One hit in ten by others, and the tracer stays where it is. */
static void follow_busiest(struct recorder *rec, struct tap_tracee *tracee)
{
	struct thread *thread = recorder_thread(rec, tracee);
	bool busy = (double)thread->hits >= BUSY_SHARE * FOLLOW_EVERY_HITS;
	int core = -1;

	rec->busiest = busy ? tracee->tid : 0;
	if (busy && !tap_task_try_cpu(rec->pid, tracee->tid, &core))
		core = -1;
	core_follow(core);
	thread->hits = 0;
}

void recorder_note_start(struct recorder *rec)
{
	atomic_store(&rec->start_ns, tap_clock_ns());
	atomic_store(&rec->start_wall_ns, tap_clock_wall_ns());
}

static void on_tick(struct recorder *rec)
{
	if (rec->beside) {
		traps_check_starting(rec);
		beside_work(rec->beside);
		return;
	}
	tap_ledger_tick(rec->ledger, atomic_load(&rec->tick));
	traps_check_starting(rec);
	arming_look(rec);
	if (rec->tables_armed)
		return;
	arming_try_tables(rec);
	/* What came before, the program's own allocations, was not all. */
	if (rec->tables_armed && rec->options->pid)
		recorder_note_start(rec);
}

static void check_brake(struct recorder *rec, const struct tap_tracee *tracee)
{
	if (rec->options->exact || !brake_is_due(rec, tracee))
		return;
	if (rec->beside)
		beside_give_up(rec->beside,
			"stops took more than half of the program's time for over a second");
	else
		recorder_end_early(rec, TAP_ENDED_BRAKE,
			tap_strdup("stops took more than half of the program's time for over a second; "
				   "--exact records all the same"));
}

static void on_hit(struct recorder *rec, const struct tap_event *event)
{
	pthread_mutex_lock(&rec->lock);
	on_breakpoint(rec, event);
	pthread_mutex_unlock(&rec->lock);
	if (++rec->hits % BRAKE_EVERY_HITS == 0)
		check_brake(rec, event->tracee);
	if (rec->hits % FOLLOW_EVERY_HITS == 0)
		follow_busiest(rec, event->tracee);
}

static void deal(void *context, const struct tap_event *event)
{
	struct recorder *rec = context;

	switch (event->kind) {
	case TAP_EVENT_TICK:
		on_tick(rec);
		break;
	case TAP_EVENT_BREAKPOINT:
		on_hit(rec, event);
		break;
	case TAP_EVENT_THREAD_NEW:
		traps_check_new(rec, event->tracee->tid);
		break;
	case TAP_EVENT_THREAD_EXIT:
		break;
	case TAP_EVENT_EXEC:
		recorder_end_early(rec, TAP_ENDED_EXEC,
			tap_strdup("the process runs another program now"));
		break;
	case TAP_EVENT_EXIT:
		atomic_store(&rec->child_exit_code, event->exit_code);
		recorder_end(rec, TAP_ENDED_EXIT);
		break;
	}
}

static bool goes_on(const struct recorder *rec)
{
	return rec->beside ?
		!rec->beside->tracer.leaves :
		!atomic_load(&rec->end_wanted) && !atomic_load(&rec->suspend_wanted);
}

struct tap_error *recorder_serve(struct recorder *rec)
{
	brake_begin(rec);
	tap_target_on_event(rec->target, deal, rec);
	while (goes_on(rec)) {
		struct tap_event event;
		struct tap_error *err = tap_target_next(rec->target, &event);

		if (err)
			return err;
		deal(rec, &event);
		if (rec->beside && event.kind == TAP_EVENT_EXIT)
			beside_wait_for_end(rec->beside);
		tap_target_go(rec->target, &event);
	}
	return NULL;
}

void recorder_plant_start(struct recorder *rec)
{
	_cleanup_free_ char *text = NULL;
	_cleanup_error_ struct tap_error *err = NULL;
	struct tap_breakpoint *breakpoint;
	uint8_t expected[16];
	size_t size = 0;
	uint64_t entry = 0;
	struct tap_module *module;

	err = tap_proc_read(rec->pid, "auxv", &text, &size);
	for (size_t at = 0; !err && at + 16 <= size; at += 16) {
		uint64_t pair[2];

		memcpy(pair, text + at, sizeof(pair));
		if (pair[0] == AUXV_ENTRY)
			entry = pair[1];
	}
	module = entry ? tap_symbols_module_at(rec->symbols, entry) : NULL;
	if (!module)
		return;
	err = tap_module_file_bytes(module, entry, expected, sizeof(expected));
	if (!err)
		err = tap_target_plant(rec->target, entry, expected, sizeof(expected),
			&rec->start_hook, &breakpoint);
}

static struct tap_error *attach_to_pid(struct recorder *rec)
{
	struct tap_process process = {0};
	struct tap_error *err = tap_process_read(rec->pid, &process);

	if (!err)
		err = tap_process_check_traceable(&process);
	if (!err)
		err = tap_target_attach(&process, &rec->target);
	if (err && err->code == TAP_ERR_PERMISSION) {
		int errnum = err->errnum;

		tap_error_free(err);
		err = tap_process_explain_denied(&process, errnum);
	}
	tap_process_deinit(&process);
	return err;
}

/* Whose memory it is, and how it is measured: while the target is there for
 * certain, a command that has not run yet. */
static struct tap_error *open_once(struct recorder *rec)
{
	struct tap_error *err;

	if (rec->memory)
		return NULL;
	err = tap_process_read(rec->pid, &rec->process);
	if (!err)
		err = tap_usage_open(rec->pid, &rec->usage);
	if (!err)
		err = tap_cgroup_read(rec->pid, &rec->cgroup);
	return err ? err : tap_memory_open(rec->pid, false, &rec->memory);
}

struct tap_error *recorder_attach(struct recorder *rec)
{
	struct tap_error *err;

	if (rec->pid)
		err = attach_to_pid(rec);
	else
		err = tap_target_spawn(rec->options->argv, &rec->target);
	if (err)
		return err;
	rec->pid = tap_target_pid(rec->target);
	tap_target_on_gone(rec->target, free_thread);
	atomic_store(&rec->kickable, gettid());
	return open_once(rec);
}

static struct tap_error *arm(struct recorder *rec)
{
	struct tap_error *err = arming_update(rec);
	bool first = !atomic_load(&rec->armed);

	if (!err && !rec->options->pid && first)
		recorder_plant_start(rec);
	if (!err)
		arming_try_tables(rec);
	if (!err && rec->options->pid && !rec->points.count)
		err = tap_error_advise(
			tap_error_new(TAP_ERR_UNSUPPORTED,
				"process %d has no allocator that heaptap knows", rec->pid),
			"name its functions: --symbol malloc=NAME --symbol free=NAME");
	if (err)
		return err;
	if (first)
		recorder_note_start(rec);
	tap_log_detail("recording by breakpoints");
	atomic_store(&rec->armed, true);
	return NULL;
}

/* Everything is taken out and let go; what could not be is a warning, since
 * there is an answer all the same. */
static void leave(struct recorder *rec)
{
	_cleanup_error_ struct tap_error *err = NULL, *lift = NULL;

	lift = tap_target_lift(rec->target);
	if (!atomic_load(&rec->end_ns))
		atomic_store(&rec->end_ns, tap_clock_ns());
	brake_end(rec);
	arming_note_missing(rec);
	atomic_store(&rec->kickable, 0);
	err = tap_target_release(rec->target, NULL);
	rec->target = NULL;
	if (lift)
		tap_log_warn("%s", lift->message);
	if (err)
		tap_log_warn("%s", err->message);
}

struct tap_error *recorder_run_breakpoints(struct recorder *rec, const struct tap_event *pending)
{
	struct tap_error *err = traps_mind(rec);

	rec->engine = TAP_ENGINE_BREAKPOINT;
	if (!err)
		err = arm(rec);
	if (pending)
		tap_target_go(rec->target, pending);
	if (!err)
		err = recorder_serve(rec);
	leave(rec);
	return err;
}

static struct tap_error *attach_and_run_breakpoints(struct recorder *rec)
{
	struct tap_error *err = rec->options->unsafe ? NULL : traps_mind(rec);

	if (!err)
		err = recorder_attach(rec);
	if (!err)
		return recorder_run_breakpoints(rec, NULL);
	if (rec->target)
		leave(rec);
	return err;
}

void *recorder_run(void *context)
{
	struct recorder *rec = context;

	tap_log_defer();
	rec->tables_armed = rec->tables_seen = false;
	if (rec->options->pid)
		rec->error = clean_before_attach(rec->options->pid);
	if (!rec->error)
		rec->error = rec->options->engine == TAP_ENGINE_BREAKPOINT ?
			attach_and_run_breakpoints(rec) :
			sampler_run(rec);
	atomic_store(&rec->done, true);
	return NULL;
}
