/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Breakpoints beside probes. An entry point that no probe fits gets one, and the
 * thread that attached then stays: it deals with what comes from the target
 * (recorder_serve()), while the sampler's thread answers. What the one wants of
 * the other it hands over as a piece of work.
 */
#include <string.h>
#include <time.h>
#include "heaptap/base/alloc.h"
#include "heaptap/base/cleanup.h"
#include "heaptap/base/clock.h"
#include "heaptap/base/log.h"
#include "session/sampler.h"

#define JOIN_NS 5000000
#define NS_PER_S 1000000000
#define NOT_ENDED (-2)
#define PAUSE_NS 1000000

/* --- the sampler's thread ---------------------------------------------------- */

static void warn(struct tap_error *err)
{
	if (err)
		tap_log_warn("%s", err->message);
	tap_error_free(err);
}

/* Whoever asks meanwhile is not kept waiting. False: the thread has not ended. */
static bool try_join(struct sampler *s, struct tap_error **err_ret)
{
	bool answering = atomic_load(&s->answering);
	struct timespec until;
	void *err;

	if (answering)
		sampler_serve(s);
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += answering ? 0 : JOIN_NS;
	until.tv_sec += until.tv_nsec / NS_PER_S;
	until.tv_nsec %= NS_PER_S;
	if (pthread_timedjoin_np(s->tracer.thread, &err, &until))
		return false;
	s->tracer.there = false;
	*err_ret = err;
	return true;
}

bool beside_is_there(struct sampler *s)
{
	struct tap_error *err = NULL;
	void *result;

	if (s->tracer.there && !pthread_tryjoin_np(s->tracer.thread, &result)) {
		s->tracer.there = false;
		err = result;
	}
	warn(err);
	return s->tracer.there;
}

static void kick(struct sampler *s)
{
	pid_t tid = atomic_load(&s->rec->kickable);

	if (tid)
		tap_target_kick(tid);
}

struct tap_error *beside_do(struct sampler *s, void *(*run)(void *sampler),
	struct tap_error *(*work)(struct sampler *s))
{
	struct tap_error *err;

	atomic_store(&s->tracer.done, false);
	atomic_store(&s->tracer.work, work);
	for (;;) {
		if (!s->tracer.there && pthread_create(&s->tracer.thread, NULL, run, s))
			return tap_error_new(TAP_ERR_SYSTEM, "cannot start a thread");
		s->tracer.there = true;
		if (try_join(s, &err)) {
			if (!atomic_load(&s->tracer.work))
				return err;
			/* It had given up before it saw what was wanted. */
			warn(err);
		} else if (atomic_load(&s->tracer.done)) {
			return s->tracer.result;
		} else if (atomic_load(&s->tracer.work)) {
			kick(s);
		}
	}
}

/* --- the tracer's ------------------------------------------------------------ */

void beside_work(struct sampler *s)
{
	struct tap_error *(*work)(struct sampler *s) = atomic_exchange(&s->tracer.work, NULL);

	if (!work)
		return;
	s->tracer.result = work(s);
	/* Of one that leaves it is told by the join. */
	if (s->tracer.leaves)
		s->tracer.last = s->tracer.result;
	else
		atomic_store(&s->tracer.done, true);
}

void beside_wait_for_end(struct sampler *s)
{
	struct timespec pause = {0, PAUSE_NS};

	for (; !s->tracer.leaves; beside_work(s))
		nanosleep(&pause, NULL);
}

static struct tap_error *release(struct recorder *rec, struct tap_error *err)
{
	struct tap_error *late = NULL;
	int exit_code = NOT_ENDED;

	atomic_store(&rec->kickable, 0);
	if (rec->target)
		late = tap_target_release(rec->target, &exit_code);
	rec->target = NULL;
	/* To whoever traces it a command's end is told as well, and only once. */
	if (exit_code != NOT_ENDED) {
		if (exit_code >= 0)
			atomic_store(&rec->child_exit_code, exit_code);
		recorder_end(rec, TAP_ENDED_EXIT);
	}
	if (!err)
		return late;
	tap_error_free(late);
	return err;
}

static struct tap_error *stay(struct sampler *s)
{
	struct recorder *rec = s->rec;
	struct tap_error *err;

	rec->beside = s;
	s->tracer.result = s->tracer.last = NULL;
	atomic_store(&s->tracer.done, true);
	err = recorder_serve(rec);
	brake_end(rec);
	s->tracer.planted = false;
	return err ? err : s->tracer.last;
}

struct tap_error *beside_end(struct sampler *s, struct tap_error *err)
{
	if (!err && !s->tracer.leaves && (s->tracer.planted || s->unfit.count))
		err = stay(s);
	err = release(s->rec, err);
	/* What its threads were about was still put back. */
	s->rec->beside = NULL;
	return err;
}

void *beside_run(void *sampler)
{
	struct sampler *s = sampler;
	struct tap_error *(*work)(struct sampler *s) = atomic_exchange(&s->tracer.work, NULL);
	struct tap_error *err;

	tap_log_defer();
	sampler_hurry();
	s->tracer.leaves = false;
	err = recorder_attach(s->rec);
	return beside_end(s, err ? err : work(s));
}

/* --- breakpoints -------------------------------------------------------------- */

static bool takes_back(enum tap_entry_kind entry)
{
	return entry == TAP_ENTRY_FREE || entry == TAP_ENTRY_MUNMAP || hits_reallocates(entry);
}

static size_t point_of(struct recorder *rec, const struct tap_entry *entry)
{
	return arming_find_point(
		rec, entry->module ? entry->module->path : "", entry->symbol, entry->addr);
}

static void say_unseen(struct recorder *rec, size_t point, const char *why)
{
	struct tap_entry_point *row = &rec->points.items[point];
	_cleanup_free_ char *reason =
		row->reason ? tap_format("%s; %s", row->reason, why) : tap_strdup(why);

	row->how = TAP_ENTRY_NONE;
	row->reason = tap_strings_add(rec->strings, reason);
	rec->missed = true;
	tap_log_warn("calls of %s are not seen: %s", row->symbol, reason);
}

void beside_want(struct sampler *s, const struct tap_entry *entry)
{
	if (s->no_breakpoints)
		say_unseen(s->rec, point_of(s->rec, entry), s->no_breakpoints);
	else
		tap_vector_push(&s->unfit, *entry);
}

bool beside_is_wanted(const struct sampler *s, const struct tap_entry *entry)
{
	for (size_t i = 0; i < s->unfit.count; i++)
		if (s->unfit.items[i].addr == entry->addr)
			return true;
	return false;
}

struct tap_error *beside_check(struct sampler *s)
{
	for (size_t i = 0; i < s->unfit.count; i++)
		if (takes_back(s->unfit.items[i].kind) && !s->rec->options->unsafe)
			return traps_check(s->rec);
	return NULL;
}

static void plant(struct sampler *s, const struct tap_entry *entry)
{
	struct recorder *rec = s->rec;
	struct tap_entry_point *row = &rec->points.items[point_of(rec, entry)];
	const char *no_probe = row->reason;

	arming_plant_entry(rec, entry);
	if (row->how == TAP_ENTRY_BREAKPOINT) {
		placing_note_allocator(s, entry);
		s->tracer.planted = true;
		tap_log_warn("%s has a breakpoint, since no probe fits (%s): a SIGKILL of heaptap "
			     "would end the process",
			row->symbol, no_probe ? no_probe : "unknown");
	} else {
		const char *why = row->reason;

		row->reason = no_probe;
		say_unseen(rec, point_of(rec, entry), why);
	}
}

struct tap_error *beside_plant(struct sampler *s)
{
	struct recorder *rec = s->rec;
	_cleanup_error_ struct tap_error *refused = NULL;

	if (!s->unfit.count)
		return NULL;
	refused = traps_mind(rec);
	pthread_mutex_lock(&rec->lock);
	if (refused && !s->no_breakpoints)
		s->no_breakpoints = tap_strings_add(rec->strings, refused->message);
	arming_forget_breakpoints(rec);
	for (size_t i = 0; i < s->unfit.count; i++) {
		const struct tap_entry *entry = &s->unfit.items[i];

		if (s->no_breakpoints)
			say_unseen(rec, point_of(rec, entry), s->no_breakpoints);
		else
			plant(s, entry);
	}
	s->unfit.count = 0;
	s->tracer.leaves |= !s->tracer.planted;
	pthread_mutex_unlock(&rec->lock);
	return NULL;
}

/* What lies in a module that is gone was changed by nobody. */
static void lift(struct sampler *s)
{
	if (!s->tracer.planted)
		return;
	arming_forget_breakpoints(s->rec);
	warn(tap_target_lift(s->rec->target));
}

struct tap_error *beside_take_out(struct sampler *s)
{
	pthread_mutex_lock(&s->rec->lock);
	lift(s);
	pthread_mutex_unlock(&s->rec->lock);
	s->tracer.leaves = true;
	return tap_probes_remove(s->probes, s->rec->target);
}

/* Of those that are lifted, one that the program calls. */
static bool any_takes_back(const struct recorder *rec)
{
	for (size_t i = 0; i < rec->hooks.count; i++) {
		const struct hook *hook = rec->hooks.items[i];
		const struct tap_entry_point *row = &rec->points.items[hook->point];

		if (row->how == TAP_ENTRY_BREAKPOINT && row->calls && takes_back(hook->entry))
			return true;
	}
	return false;
}

void beside_give_up(struct sampler *s, const char *why)
{
	struct recorder *rec = s->rec;
	uint64_t start_ns = atomic_load(&rec->start_ns);
	double after_s = start_ns ? (double)(tap_clock_ns() - start_ns) / NS_PER_S : 0;
	_cleanup_free_ char *reason =
		tap_format("its breakpoint was taken out after %.1f s: %s", after_s, why);
	bool ends;

	pthread_mutex_lock(&rec->lock);
	lift(s);
	ends = any_takes_back(rec);
	for (size_t i = 0; i < rec->points.count; i++)
		if (rec->points.items[i].how == TAP_ENTRY_BREAKPOINT)
			say_unseen(rec, i, reason);
	s->no_breakpoints = tap_strings_add(rec->strings, reason);
	s->tracer.leaves = s->tracer.planted;
	pthread_mutex_unlock(&rec->lock);
	if (ends)
		recorder_end_early(rec, TAP_ENDED_BRAKE,
			tap_format("%s, and what is given back from then on would not have been seen",
				why));
}
