/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include "heaptap/analysis/timeline.h"
#include "heaptap/base/alloc.h"
#include "heaptap/base/clock.h"
#include "heaptap/base/log.h"
#include "heaptap/session/stop.h"
#include "heaptap/session/trace.h"
#include "session/recorder.h"
#include "session/runtime.h"

#define NS_PER_S 1e9
#define POLL_NS UINT64_C(2000000)
/* A kick may fall between the tracer's look and its wait: it is repeated. */
#define KICK_AGAIN_NS UINT64_C(20000000)
/* The largest sites whose growth together must explain the curve's. */
#define TOP_SITES 3

struct sample {
	uint64_t at_ns;
	uint64_t rss_bytes;
	uint64_t swap_bytes;
	int64_t net_bytes;
};

/* The main thread's side of a recording. */
struct clockwork {
	struct recorder rec;
	const struct tap_trace_options *options;
	TAP_VECTOR(struct sample) samples; /* one for each tick */
	double interval_s;
};

static struct tap_error *start_tracer(struct recorder *rec)
{
	sigset_t all, old;
	int errnum;

	atomic_store(&rec->done, false);
	/* Signals for heaptap are the main thread's. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	errnum = pthread_create(&rec->tracer, NULL, recorder_run, rec);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return errnum ? tap_error_errno(errnum, "cannot start a thread") : NULL;
}

static void kick(struct recorder *rec)
{
	pid_t tid = atomic_load(&rec->kickable);

	if (tid)
		tap_target_kick(tid);
}

/* Until the tracer has let everything go and ended; with its end the kernel
 * lets go of the threads that it left alone. */
static struct tap_error *join_tracer(struct recorder *rec)
{
	struct tap_error *err;

	while (!atomic_load(&rec->done)) {
		struct timespec pause = {0, POLL_NS};

		kick(rec);
		nanosleep(&pause, NULL);
	}
	pthread_join(rec->tracer, NULL);
	tap_log_flush();
	err = rec->error;
	rec->error = NULL;
	return err;
}

/* The start may be moved on by the tracer meanwhile. */
static double seconds_between(uint64_t start_ns, uint64_t end_ns)
{
	return (double)(int64_t)(end_ns - start_ns) / NS_PER_S;
}

static void take_sample(struct clockwork *clockwork)
{
	struct recorder *rec = &clockwork->rec;
	struct sample *sample;
	struct tap_usage usage;
	struct tap_error *err = tap_usage_read(rec->usage, false, &usage);

	if (err) {
		/* It is about to end: the tracer will say so. */
		tap_error_free(err);
		return;
	}
	sample = tap_vector_add(&clockwork->samples);
	sample->at_ns = tap_clock_ns();
	sample->rss_bytes = usage.rss_bytes;
	sample->swap_bytes = usage.swap_bytes;
	sample->net_bytes = atomic_load(&rec->net_bytes);
	atomic_store(&rec->tick, (unsigned)clockwork->samples.count - 1);
	kick(rec);
	if (clockwork->options->on_tick)
		clockwork->options->on_tick(clockwork->options->context,
			seconds_between(atomic_load(&rec->start_ns), sample->at_ns),
			atomic_load(&rec->calls), sample->net_bytes, usage.rss_bytes);
}

/* Without a known duration every second point is dropped at the end, and the
 * interval doubles whenever there are enough. */
static double next_interval(const struct clockwork *clockwork)
{
	double interval_s = clockwork->interval_s;

	if (clockwork->options->duration_s > 0)
		return interval_s;
	for (size_t count = clockwork->samples.count; count >= TAP_TIMELINE_POINTS;
		count -= TAP_TIMELINE_POINTS / 2)
		interval_s *= 2;
	return interval_s;
}

static void suspend(struct recorder *rec, struct tap_error **err_ret)
{
	atomic_store(&rec->suspend_wanted, true);
	*err_ret = join_tracer(rec);
	if (*err_ret)
		return;
	tap_stop_suspend();
	atomic_store(&rec->suspend_wanted, false);
	/* Whoever ended meanwhile has ended the recording. */
	if (!atomic_load(&rec->end_wanted)) {
		tap_log_warn("recording goes on; what happened while it was stopped was not seen");
		atomic_store(&rec->end_ns, 0);
		*err_ret = start_tracer(rec);
	}
}

static bool is_over(struct clockwork *clockwork)
{
	struct recorder *rec = &clockwork->rec;
	double duration_s = clockwork->options->duration_s;

	if (tap_stop_requested())
		recorder_end(rec, TAP_ENDED_SIGNAL);
	else if (duration_s > 0 &&
		seconds_between(atomic_load(&rec->start_ns), tap_clock_ns()) >= duration_s)
		recorder_end(rec, TAP_ENDED_DURATION);
	return atomic_load(&rec->end_wanted) || atomic_load(&rec->done);
}

/* Sleeps until a time, in pieces that notice the tracer's end. */
static void sleep_until(struct recorder *rec, uint64_t until_ns)
{
	for (;;) {
		uint64_t piece = tap_clock_ns() + KICK_AGAIN_NS;

		if (piece > until_ns)
			piece = until_ns;
		if (!tap_stop_sleep_until(piece) || piece == until_ns)
			return;
		if (atomic_load(&rec->end_wanted) || atomic_load(&rec->done))
			return;
		kick(rec);
	}
}

static uint64_t end_of(const struct clockwork *clockwork, uint64_t next_ns)
{
	double duration_s = clockwork->options->duration_s;
	uint64_t end_ns = atomic_load(&clockwork->rec.start_ns) + (uint64_t)(duration_s * NS_PER_S);

	return duration_s > 0 && end_ns < next_ns ? end_ns : next_ns;
}

static const char *engine_name(const struct recorder *rec)
{
	return rec->engine == TAP_ENGINE_PROBE ? "probe" : "breakpoint";
}

static struct tap_error *run(struct clockwork *clockwork)
{
	struct recorder *rec = &clockwork->rec;
	struct tap_error *err = start_tracer(rec);
	uint64_t next_ns;

	if (err)
		return err;
	while (!atomic_load(&rec->armed) && !atomic_load(&rec->done)) {
		struct timespec pause = {0, POLL_NS};

		if (tap_stop_requested()) {
			recorder_end(rec, TAP_ENDED_SIGNAL);
			nanosleep(&pause, NULL);
		} else {
			tap_stop_sleep_until(tap_clock_ns() + POLL_NS);
		}
	}
	next_ns = tap_clock_ns();
	while (!err && !is_over(clockwork)) {
		if (tap_clock_ns() >= next_ns) {
			take_sample(clockwork);
			next_ns += (uint64_t)(next_interval(clockwork) * NS_PER_S);
			if (next_ns < tap_clock_ns())
				next_ns = tap_clock_ns();
			tap_log_try_flush();
		}
		sleep_until(rec, end_of(clockwork, next_ns));
		if (tap_stop_suspend_requested()) {
			suspend(rec, &err);
			if (atomic_load(&rec->done))
				return err;
		}
	}
	if (err) {
		tap_error_free(join_tracer(rec));
		return err;
	}
	if (atomic_load(&rec->armed))
		take_sample(clockwork);
	return join_tracer(rec);
}

static void fill_timeline(struct clockwork *clockwork, struct tap_trace_report *report)
{
	uint64_t start_ns = atomic_load(&clockwork->rec.start_ns);
	size_t step = 1;

	while (clockwork->samples.count / step > TAP_TIMELINE_POINTS)
		step *= 2;
	for (size_t i = 0; i < clockwork->samples.count; i += step) {
		const struct sample *sample = &clockwork->samples.items[i];
		struct tap_trace_point *point;

		if (sample->at_ns < start_ns)
			continue;
		point = tap_vector_add(&report->timeline);
		point->t_s = (double)(sample->at_ns - start_ns) / NS_PER_S;
		point->rss_bytes = sample->rss_bytes;
		point->swap_bytes = sample->swap_bytes;
		point->live_bytes = sample->net_bytes;
	}
}

static double explained_share(const struct tap_trace_report *report)
{
	const struct tap_trace_point_list *timeline = &report->timeline;
	int64_t growth = 0, sites = 0;

	if (timeline->count)
		growth = timeline->items[timeline->count - 1].live_bytes -
			timeline->items[0].live_bytes;
	for (size_t i = 0; i < report->sites.count && i < TOP_SITES; i++)
		sites += report->sites.items[i].growth_bytes;
	return growth > 0 && sites > 0 ? (double)sites / (double)growth : 0;
}

/* Sites are sampled apart from one another. */
static double live_standard_error(const struct tap_trace_report *report)
{
	double variance = 0;

	for (size_t i = 0; i < report->sites.count; i++)
		variance += report->sites.items[i].standard_error_bytes *
			report->sites.items[i].standard_error_bytes;
	return sqrt(variance);
}

static void judge(struct clockwork *clockwork, struct tap_trace_report *report)
{
	struct tap_verdict_point *points =
		tap_alloc((report->timeline.count + 1) * sizeof(*points));
	struct tap_verdict_input input = {
		.points = points,
		.count = report->timeline.count,
		.stopped_share = report->overhead_samples,
		.overhead = report->overhead_fixed + report->overhead_samples,
		.live_standard_error_bytes = live_standard_error(report),
		.explained_share = explained_share(report),
		.no_calls = !atomic_load(&clockwork->rec.calls),
		.limit_bytes = clockwork->rec.cgroup.tightest_bytes,
		.limit_free_bytes = clockwork->rec.cgroup.free_bytes,
		.limit_kind = clockwork->rec.cgroup.kind,
	};

	for (size_t i = 0; i < report->timeline.count; i++) {
		const struct tap_trace_point *point = &report->timeline.items[i];

		points[i] = (struct tap_verdict_point){point->t_s, (double)point->rss_bytes,
			(double)point->swap_bytes, (double)point->live_bytes};
	}
	tap_verdict_judge(&input, &report->verdict);
	free(points);
}

static void fill_head(struct clockwork *clockwork, struct tap_trace_report *report)
{
	struct recorder *rec = &clockwork->rec;
	uint64_t start_ns = atomic_load(&rec->start_ns), end_ns = atomic_load(&rec->end_ns);
	double held_s = (double)rec->held_ns / NS_PER_S;
	int ended_by = atomic_load(&rec->ended_by);

	tap_process_copy(&clockwork->rec.process, &report->process);
	if (rec->python) {
		free(report->process.python_version);
		report->process.python_version = tap_strdup(tap_python_info(rec->python)->version);
	}
	report->start_wall_ns = atomic_load(&rec->start_wall_ns);
	report->duration_s = end_ns > start_ns ? (double)(end_ns - start_ns) / NS_PER_S : 0;
	report->engine = engine_name(rec);
	report->exact = !rec->sampled && !rec->missed;
	report->unseen_s = fmin((double)rec->unseen_ns / NS_PER_S, report->duration_s);
	report->sample_interval_bytes = rec->sample_interval_bytes;
	report->overhead_fixed = rec->overhead_fixed;
	report->overhead_samples = rec->overhead_samples;
	if (report->duration_s > 0 && rec->held_ns)
		report->overhead_samples =
			fmin(1, report->overhead_samples + held_s / report->duration_s);
	report->ended_by = ended_by < 0 ? TAP_ENDED_EXIT : (enum tap_ended_by)ended_by;
	report->ended_why = tap_strings_add(report->strings, rec->ended_why);
	report->left_behind = tap_strings_add(report->strings, rec->left_behind);
	report->child_exit_code =
		clockwork->options->argv ? atomic_load(&rec->child_exit_code) : -1;
	for (size_t i = 0; i < rec->points.count; i++) {
		struct tap_entry_point *point = tap_vector_add(&report->entry_points);

		*point = rec->points.items[i];
		point->module = tap_strings_add(report->strings, point->module);
		point->symbol = tap_strings_add(report->strings, point->symbol);
		point->reason = tap_strings_add(report->strings, point->reason);
	}
}

static void copy_modules_names(struct tap_trace_report *report)
{
	for (size_t i = 0; i < report->sites.count; i++)
		report->sites.items[i].module =
			tap_strings_add(report->strings, report->sites.items[i].module);
}

/* Of a runtime whose own memory is not read, the answer says nothing: neither
 * that it leaks nor that it does not. */
static void warn_of_runtime(const struct recorder *rec)
{
	const struct tap_python_info *info = rec->python ? tap_python_info(rec->python) : NULL;
	enum tap_runtime_kind kind;
	const char *reason;

	if (info && info->supported)
		return;
	reason = info ? info->reason : tap_runtime_try_foreign(rec->symbols, &kind);
	if (!reason || !*reason)
		return;
	tap_log_warn("this is of the native part of process %d alone: %s", (int)rec->pid, reason);
}

static void build_report(struct clockwork *clockwork, struct tap_trace_report *report)
{
	size_t ticks = clockwork->samples.count;
	double *memory_bytes = tap_alloc((ticks + 1) * sizeof(*memory_bytes));

	report->strings = tap_strings_create();
	fill_head(clockwork, report);
	fill_timeline(clockwork, report);
	for (size_t i = 0; i < ticks; i++)
		memory_bytes[i] = (double)clockwork->samples.items[i].rss_bytes +
			(double)clockwork->samples.items[i].swap_bytes;
	if (clockwork->rec.symbols) {
		sites_build(&clockwork->rec, report, memory_bytes, ticks);
		warn_of_runtime(&clockwork->rec);
	}
	copy_modules_names(report);
	judge(clockwork, report);
	free(memory_bytes);
}

struct tap_error *tap_trace_collect(
	const struct tap_trace_options *options, struct tap_trace_report *ret)
{
	struct clockwork clockwork = {.options = options};
	struct tap_error *err;

	memset(ret, 0, sizeof(*ret));
	recorder_init(&clockwork.rec, options);
	clockwork.interval_s = options->interval_s > 0 ?
		options->interval_s :
		tap_timeline_interval(options->duration_s);
	err = run(&clockwork);
	if (!err)
		build_report(&clockwork, ret);
	recorder_deinit(&clockwork.rec);
	tap_vector_free(&clockwork.samples);
	return err;
}
