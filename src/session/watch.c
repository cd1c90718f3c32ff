/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "heaptap/analysis/timeline.h"
#include "heaptap/analysis/verdict.h"
#include "heaptap/base/alloc.h"
#include "heaptap/base/clock.h"
#include "heaptap/proc/cgroup.h"
#include "heaptap/session/stop.h"
#include "heaptap/session/watch.h"
#include "session/look.h"

/* What is costly is done so seldom that it takes 0.5 % of the time. */
#define RATION 200
/* A walk of all pages for PSS and USS: 24 ms on 4 GiB. */
#define SHARED_NS_PER_MIB 6000
/* Taken as the length of a watch that has none. */
#define OPEN_ENDED_S 60.0

struct subject {
	struct tap_usage_reader *reader; /* NULL once it went away */
	struct tap_timeline timeline;
	uint64_t next_shared_ns, next_fds_ns;
	bool shared_denied;
	enum tap_limit_kind limit_kind;
	uint64_t limit_bytes, limit_free_bytes;
};

struct watch {
	const struct tap_watch_options *options;
	struct tap_watch_report *report;
	struct subject *subjects;
	double interval_s;
	uint64_t start_ns;
};

static void read_limits(struct subject *subject, pid_t pid)
{
	struct tap_cgroup cgroup = {0};
	struct tap_error *err = tap_cgroup_read(pid, &cgroup);

	if (!err) {
		subject->limit_kind = cgroup.kind;
		subject->limit_bytes = cgroup.tightest_bytes;
		subject->limit_free_bytes = cgroup.free_bytes;
	}
	tap_error_free(err);
	tap_cgroup_deinit(&cgroup);
}

/* Its version is for the head of the report; reading memory may be refused. */
static void identify_python(struct tap_process *process)
{
	_cleanup_look_ struct tap_look look = {0};

	tap_error_free(tap_look_open(process, NULL, &look));
}

static struct tap_error *open_subject(
	pid_t pid, struct tap_watch_entry *entry, struct subject *subject)
{
	struct tap_error *err = tap_process_read(pid, &entry->process);

	entry->process.pid = pid;
	/* No ptrace here, so that only what has no memory is refused. */
	if (!err && (entry->process.kernel_thread || strchr("ZX", entry->process.state)))
		err = tap_process_check_traceable(&entry->process);
	if (!err)
		err = tap_usage_open(pid, &subject->reader);
	if (!err && !tap_process_is_same(&entry->process))
		err = tap_error_new(TAP_ERR_GONE, "process %d has ended", (int)pid);
	if (err)
		return err;
	identify_python(&entry->process);
	read_limits(subject, pid);
	return NULL;
}

static void lose(struct tap_watch_entry *entry, struct subject *subject, struct tap_error *err)
{
	entry->error = err;
	tap_usage_close(subject->reader);
	subject->reader = NULL;
}

/* PSS and USS hold a lock of the target's while they are read. */
static void read_shared(
	struct watch *watch, struct subject *subject, uint64_t now_ns, struct tap_usage *usage)
{
	double horizon_s =
		watch->options->duration_s > 0 ? watch->options->duration_s : OPEN_ENDED_S;
	uint64_t cost_ns = (usage->rss_bytes >> 20) * SHARED_NS_PER_MIB;
	struct tap_error *err;

	if (!subject->next_shared_ns)
		subject->next_shared_ns =
			watch->start_ns +
			((double)cost_ns * RATION > horizon_s * 1e9 ? cost_ns * RATION : 0);
	if (subject->shared_denied || now_ns < subject->next_shared_ns)
		return;
	err = tap_usage_read_shared(subject->reader, usage, &cost_ns);
	subject->shared_denied = err && err->code == TAP_ERR_PERMISSION;
	subject->next_shared_ns = now_ns + cost_ns * RATION;
	tap_error_free(err);
}

static struct tap_error *read_usage(
	struct watch *watch, struct subject *subject, struct tap_usage *usage)
{
	uint64_t now_ns = tap_clock_ns();
	bool with_fds = now_ns >= subject->next_fds_ns;
	struct tap_error *err = tap_usage_read(subject->reader, with_fds, usage);

	if (err)
		return err;
	if (with_fds)
		subject->next_fds_ns = now_ns + (tap_clock_ns() - now_ns) * RATION;
	read_shared(watch, subject, tap_clock_ns(), usage);
	return NULL;
}

static void look(struct watch *watch, size_t index)
{
	struct tap_watch_entry *entry = &watch->report->entries.items[index];
	struct subject *subject = &watch->subjects[index];
	double t_s = (double)(tap_clock_ns() - watch->start_ns) / 1e9;
	struct tap_usage usage;
	struct tap_error *err;
	bool due;

	err = read_usage(watch, subject, &usage);
	if (err) {
		lose(entry, subject, err);
		return;
	}
	tap_vector_push(&entry->timeline, ((struct tap_watch_point){.t_s = t_s, .usage = usage}));
	if (watch->options->on_point)
		watch->options->on_point(watch->options->context, watch->report, index);
	if (watch->options->duration_s > 0)
		return;
	/* Of unknown length: thinned out as it grows, while the looks go on. */
	due = tap_timeline_is_due(&subject->timeline, t_s);
	if (due)
		tap_timeline_thin(&subject->timeline, &entry->timeline);
	else
		entry->timeline.count--;
}

static size_t look_at_all(struct watch *watch)
{
	size_t alive = 0;

	for (size_t i = 0; i < watch->report->entries.count; i++) {
		if (watch->subjects[i].reader)
			look(watch, i);
		alive += watch->subjects[i].reader != NULL;
	}
	return alive;
}

/* Sleeps until the next tick of the schedule; ticks that were missed are left
 * out. False: the watch is to end. */
static bool next_tick(struct watch *watch, uint64_t *tick)
{
	uint64_t interval_ns = (uint64_t)(watch->interval_s * 1e9);
	uint64_t passed = (tap_clock_ns() - watch->start_ns) / interval_ns;
	uint64_t at_ns;

	*tick = passed > *tick ? passed + 1 : *tick + 1;
	at_ns = *tick * interval_ns;
	if (watch->options->duration_s > 0 &&
		(double)at_ns > watch->options->duration_s * 1e9 + (double)interval_ns / 2)
		return false;
	while (!tap_stop_sleep_until(watch->start_ns + at_ns)) {
		if (tap_stop_requested())
			return false;
		tap_stop_suspend();
	}
	return true;
}

static void judge(struct watch *watch, struct tap_watch_entry *entry, struct subject *subject)
{
	size_t count = entry->timeline.count;
	struct tap_verdict_point *points = tap_alloc((count + 1) * sizeof(*points));
	struct tap_verdict_input input = {
		.points = points,
		.count = count,
		.warmup_s = watch->options->warmup_s,
		.explained_share = NAN,
	};

	for (size_t i = 0; i < count; i++) {
		const struct tap_watch_point *point = &entry->timeline.items[i];

		points[i].t_s = point->t_s;
		points[i].rss_bytes = (double)point->usage.rss_bytes;
		points[i].swap_bytes = (double)point->usage.swap_bytes;
		points[i].live_bytes = NAN;
	}
	if (subject->reader)
		read_limits(subject, entry->process.pid);
	input.limit_kind = subject->limit_kind;
	input.limit_bytes = subject->limit_bytes;
	input.limit_free_bytes = subject->limit_free_bytes;
	tap_verdict_judge(&input, &entry->verdict);
	free(points);
}

/* At least one was there: NULL. Else the error of the first. */
static struct tap_error *open_all(struct watch *watch, const pid_t *pids, size_t count)
{
	struct tap_watch_report *report = watch->report;
	struct tap_error *first;
	size_t there = 0;

	for (size_t i = 0; i < count; i++) {
		struct tap_watch_entry *entry = tap_vector_add(&report->entries);

		tap_timeline_init(&watch->subjects[i].timeline, watch->interval_s);
		entry->error = open_subject(pids[i], entry, &watch->subjects[i]);
		if (entry->error)
			lose(entry, &watch->subjects[i], entry->error);
		else
			there++;
	}
	if (there)
		return NULL;
	first = report->entries.items[0].error;
	report->entries.items[0].error = NULL;
	return first;
}

static double choose_interval(const struct tap_watch_options *options)
{
	if (options->interval_s > 0)
		return fmax(options->interval_s, 1e-3);
	if (!(options->duration_s > 0))
		return 1;
	return fmin(1, tap_timeline_interval(options->duration_s));
}

static void run(struct watch *watch)
{
	struct tap_watch_report *report = watch->report;
	uint64_t tick = 0;

	report->start_wall_ns = tap_clock_wall_ns();
	watch->start_ns = tap_clock_ns();
	while (look_at_all(watch) && next_tick(watch, &tick))
		continue;
	report->duration_s = (double)(tap_clock_ns() - watch->start_ns) / 1e9;
	for (size_t i = 0; i < report->entries.count; i++)
		judge(watch, &report->entries.items[i], &watch->subjects[i]);
}

struct tap_error *tap_watch_collect(const pid_t *pids, size_t count,
	const struct tap_watch_options *options, struct tap_watch_report *ret)
{
	struct watch watch = {.options = options, .report = ret};
	struct tap_error *err;

	watch.subjects = tap_alloc((count + 1) * sizeof(*watch.subjects));
	watch.interval_s = choose_interval(options);
	err = open_all(&watch, pids, count);
	if (!err)
		run(&watch);
	for (size_t i = 0; i < count; i++)
		tap_usage_close(watch.subjects[i].reader);
	free(watch.subjects);
	return err;
}
