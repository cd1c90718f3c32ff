/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <linux/futex.h>
#include <math.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "heaptap/base/alloc.h"
#include "heaptap/base/cleanup.h"
#include "heaptap/base/clock.h"
#include "heaptap/base/log.h"
#include "heaptap/proc/tasks.h"
#include "session/sampler.h"

#define SLEEP_NS 5000000
/* All else waits so long at most where samples come all the time. */
#define SERVE_NS UINT64_C(20000000)
#define CHECK_NS UINT64_C(50000000)
#define HURRY_NICE (-15)
/* An answer that came too late cost the target 100 ms: it is left alone for
 * twenty times that, and for good after the third time. */
#define STAY_OUT_NS UINT64_C(2000000000)
#define REARMS_MAX 3
/* Of the target's time, once the estimate has settled. */
#define FIXED_MAX 0.30
#define SETTLE_NS UINT64_C(1000000000)
#define GOLDEN UINT64_C(0x9e3779b97f4a7c15)

bool sampler_answer_all(struct sampler *s)
{
	bool any = false;

	for (unsigned i = 0; i < TAP_PROBE_RECORDS; i++) {
		struct tap_probe_record *record = &s->shared->records[i];

		if (!tap_probe_word_is(
			    atomic_load(&record->word), s->generation, TAP_PROBE_POSTED))
			continue;
		if (!any)
			control_begin_work(s);
		samples_answer(s, record);
		any = true;
	}
	if (any)
		control_end_work(s);
	return any;
}

/* False: nobody rang in that time. */
static bool sleep_on_bell(struct sampler *s, uint32_t bell)
{
	struct timespec slice = {0, SLEEP_NS};
	bool timed_out;

	atomic_store(&s->shared->sleeping, 1);
	timed_out = syscall(SYS_futex, &s->shared->bell, FUTEX_WAIT, bell, &slice, NULL, 0) < 0 &&
		    errno == ETIMEDOUT;
	atomic_store(&s->shared->sleeping, 0);
	return !timed_out;
}

/* Who rings is answered before anything else is done, and who was answered
 * goes on before: on one processor it has to wait until we sleep. */
void sampler_serve(struct sampler *s)
{
	uint64_t end_ns = tap_clock_ns() + SERVE_NS;
	uint32_t bell;

	do {
		bell = atomic_load(&s->shared->bell);
		sampler_answer_all(s);
	} while (tap_clock_ns() < end_ns && sleep_on_bell(s, bell));
}

/* A command is our child. */
static void check_child(struct recorder *rec)
{
	int status;

	if (!rec->options->argv || waitpid(rec->pid, &status, WNOHANG | __WALL) != rec->pid)
		return;
	atomic_store(&rec->child_exit_code,
		WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
	recorder_end(rec, TAP_ENDED_EXIT);
}

/* A leader that has ended is a zombie as long as the other threads run. */
static bool is_over(const struct recorder *rec)
{
	_cleanup_error_ struct tap_error *err = NULL;
	_cleanup_free_ pid_t *tids = NULL;
	struct tap_task task;
	size_t count = 0;

	if (!tap_process_is_same(&rec->process))
		return true;
	err = tap_task_read(rec->pid, rec->pid, &task);
	if (!err && task.state != 'Z' && task.state != 'X')
		return false;
	if (!err)
		err = tap_tasks_ids(rec->pid, &tids, &count);
	return err || count < 2;
}

/* By its own clock: there are no ticks of a process that is gone. */
static void check_target(struct sampler *s)
{
	struct recorder *rec = s->rec;
	uint8_t byte;

	/* A tracer is told of it, and nobody else may ask. */
	if (!beside_is_there(s))
		check_child(rec);
	if (tap_clock_ns() - s->checked_ns < CHECK_NS)
		return;
	s->checked_ns = tap_clock_ns();
	if (is_over(rec)) {
		recorder_end(rec, TAP_ENDED_EXIT);
		return;
	}
	pthread_mutex_lock(&rec->lock);
	/* The descriptor is bound to the program that was there. */
	if (!tap_memory_try_read(rec->memory, tap_probes_private_addr(s->probes), &byte, 1))
		recorder_end(rec, TAP_ENDED_EXEC);
	pthread_mutex_unlock(&rec->lock);
}

static void check_armed(struct sampler *s)
{
	struct recorder *rec = s->rec;

	if (!tap_probes_is_disarmed(s->probes))
		return;
	if (!s->out_since_ns) {
		s->out_since_ns = tap_clock_ns();
		tap_log_warn("an answer came too late: the process was held for 100 ms, and is left "
			     "alone for 2 s");
	}
	if (tap_clock_ns() - s->out_since_ns < STAY_OUT_NS)
		return;
	if (s->rearms++ >= REARMS_MAX) {
		recorder_end_early(rec, TAP_ENDED_PROBE_COST,
			tap_format("answers came too late %u times: heaptap does not get a processor "
				   "when the program needs it to",
				REARMS_MAX + 1));
		return;
	}
	s->out_ns += tap_clock_ns() - s->out_since_ns;
	s->out_since_ns = 0;
	s->generation++;
	codes_watch(s);
	tap_error_free(tap_probes_arm(s->probes, s->generation, s->multiplier));
	tap_error_free(tap_probes_restart(s->probes));
}

/* Sampling cannot make the passes cheaper: a target that does hardly anything
 * but allocate is let go. */
static void check_cost(struct sampler *s)
{
	struct recorder *rec = s->rec;
	double fixed, samples;

	control_overhead(s, &fixed, &samples);
	if (rec->options->exact || fixed < FIXED_MAX || tap_clock_ns() - s->began_ns < SETTLE_NS)
		return;
	recorder_end_early(rec, TAP_ENDED_PROBE_COST,
		tap_format("the probes took %.0f %% of the program's time, apart from samples; --exact "
			   "records all the same",
			fixed * 100));
}

/* One countdown for threads that run at once loses bytes. */
static void check_turns(struct sampler *s)
{
	if (!s->takes_turns || s->told_turns || tap_python_takes_turns(s->rec->python))
		return;
	s->told_turns = true;
	tap_log_warn("an interpreter with a GIL of its own began: where it runs at once with another "
		     "one, some calls go by unseen; trace again for exact figures");
}

static void on_tick(struct sampler *s)
{
	pthread_mutex_lock(&s->rec->lock);
	check_turns(s);
	check_cost(s);
	cells_sweep(s);
	atomic_store(&s->rec->net_bytes, tap_ledger_net_bytes(s->rec->ledger));
	tap_ledger_tick(s->rec->ledger, atomic_load(&s->rec->tick));
	pthread_mutex_unlock(&s->rec->lock);
	check_armed(s);
	placing_look(s);
	codes_watch(s);
}

static void record(struct sampler *s)
{
	struct recorder *rec = s->rec;
	unsigned tick = 0;

	codes_watch(s);
	while (!atomic_load(&rec->end_wanted) && !atomic_load(&rec->suspend_wanted)) {
		sampler_serve(s);
		if (seccomp_has_changed(s))
			break;
		pthread_mutex_lock(&rec->lock);
		crowding_part(s);
		pthread_mutex_unlock(&rec->lock);
		control_adjust(s);
		reclaim_lost(s);
		check_target(s);
		if (atomic_load(&rec->tick) != tick) {
			tick = atomic_load(&rec->tick);
			on_tick(s);
		}
	}
}

static void finish(struct sampler *s)
{
	struct recorder *rec = s->rec;

	pthread_mutex_lock(&rec->lock);
	control_overhead(s, &rec->overhead_fixed, &rec->overhead_samples);
	rec->sample_interval_bytes = (uint64_t)s->interval_bytes;
	/* Also where it has fallen to nothing since; and what came while the target was
	 * left alone was not seen. */
	rec->sampled = s->largest_interval_bytes > 0 || s->rearms || s->out_since_ns;
	rec->unseen_ns += s->out_ns + (s->out_since_ns ? tap_clock_ns() - s->out_since_ns : 0);
	/* Who waits is let go; what was posted too late is none of this recording. */
	atomic_store(&s->answering, false);
	tap_error_free(tap_probes_disarm(s->probes));
	atomic_store(&rec->end_ns, tap_clock_ns());
	cells_sweep(s);
	atomic_store(&rec->net_bytes, tap_ledger_net_bytes(rec->ledger));
	tap_ledger_tick(rec->ledger, atomic_load(&rec->tick));
	for (size_t i = 0; i < s->calls.count; i++)
		rec->points.items[i].calls += (uint64_t)llround(s->calls.items[i]);
	rec->lost_calls += atomic_load(&s->shared->lost);
	pthread_mutex_unlock(&rec->lock);
	crowding_tell(s);
}

static struct tap_error *begin(struct sampler *s)
{
	struct recorder *rec = s->rec;
	struct tap_error *err;

	rec->engine = TAP_ENGINE_PROBE;
	err = placing_place(s);
	if (err || !s->probes)
		return err;
	if (rec->options->argv)
		return NULL;
	seeding_watch_old_blocks(s);
	control_begin(s);
	if (seccomp_has_changed(s))
		return NULL;
	err = placing_plant(s);
	return err ? err : tap_probes_restart(s->probes);
}

/* Frees are noted from here on. Calls of a process that runs are counted once
 * the blocks that exist are known; those of a command that has not begun at
 * once. */
struct tap_error *sampler_arm(struct sampler *s)
{
	bool at_once = s->rec->options->argv;
	struct tap_error *err;

	s->shared = tap_probes_shared(s->probes);
	atomic_store(&s->shared->core, TAP_PROBE_ANY_CORE);
	s->generation = 1;
	s->multiplier = GOLDEN;
	s->random = tap_clock_wall_ns() | 1;
	if (at_once)
		control_begin(s);
	err = at_once ? tap_probes_restart(s->probes) : tap_probes_hold(s->probes);
	if (!err)
		err = tap_probes_arm(s->probes, s->generation, s->multiplier);
	if (!err)
		atomic_store(&s->answering, true);
	return err;
}

void sampler_hurry(void)
{
	setpriority(PRIO_PROCESS, 0, HURRY_NICE);
}

struct tap_error *sampler_run(struct recorder *rec)
{
	struct sampler *s = tap_alloc(sizeof(*s));
	struct tap_error *err, *remove = NULL;

	s->rec = rec;
	sampler_hurry();
	cells_init(s);
	err = begin(s);
	if (!err && rec->engine == TAP_ENGINE_PROBE) {
		recorder_note_start(rec);
		tap_log_detail("recording by probes");
		atomic_store(&rec->armed, true);
	}
	if (!err && s->probes) {
		record(s);
		finish(s);
		codes_forget(s);
	}
	if (s->probes)
		remove = placing_remove(s);
	if (remove && remove->code != TAP_ERR_GONE)
		rec->left_behind = tap_format(
			"%s; heaptap's code stays in process %d and passes its calls on: heaptap "
			"clean %d takes it out later",
			remove->message, rec->pid, rec->pid);
	/* No report will tell. */
	if (err && rec->left_behind)
		tap_log_warn("%s", rec->left_behind);
	tap_error_free(remove);
	tap_probes_destroy(s->probes);
	tap_vector_free(&s->filtered.threads);
	crowding_deinit(s);
	tap_vector_free(&s->allocators);
	tap_vector_free(&s->unfit);
	cells_deinit(s);
	tap_vector_free(&s->calls);
	free(s);
	return err;
}
