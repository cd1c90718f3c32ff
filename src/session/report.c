/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "heaptap/base/alloc.h"
#include "heaptap/base/clock.h"
#include "heaptap/base/map.h"
#include "heaptap/proc/descriptors.h"
#include "heaptap/session/report.h"
#include "heaptap/session/stack.h"
#include "heaptap/session/stop.h"
#include "heaptap/session/watch.h"
#include "session/heap_findings.h"
#include "session/heap_reading.h"

#define NS_PER_S 1e9
#define DESCRIPTORS_NS UINT64_C(500000000)

struct collector {
	const struct tap_report_options *options;
	struct tap_heap_report *report;
};

static struct tap_error *look(void *context, const struct heap_model *model)
{
	struct collector *collector = context;
	struct tap_heap_report *report = collector->report;

	if (collector->options->types_only && !model->python)
		return tap_error_advise(
			tap_error_new(TAP_ERR_UNSUPPORTED,
				"process %d has no CPython whose objects can be read",
				(int)report->process.pid),
			"heaptap report shows what a C program's blocks are held by");
	report->walk.blocks = model->blocks;
	report->walk.objects = model->objects;
	report->walk.stopped_by = model->stopped_by;
	report->walk.complete = !model->stopped_by;
	heap_findings_types(model, report);
	if (collector->options->types_only)
		return NULL;
	heap_findings_suspects(model, collector->options->threshold, report);
	heap_findings_lost(model, report);
	return heap_findings_memory(model, report);
}

static struct tap_error *read_heap(struct collector *collector)
{
	const struct tap_report_options *options = collector->options;
	struct tap_heap_report *report = collector->report;
	const struct heap_reading_options reading = {
		.in_place = options->in_place,
		.max_pause_s = options->max_pause_s,
		.force = options->force,
		.debug_dir = options->debug_dir,
		.on_progress = options->on_progress,
		.progress_context = options->context,
		.look = look,
		.context = collector,
	};
	struct heap_reading_result result = {0};
	struct tap_error *err =
		heap_read(&report->process, &reading, report->strings, &report->notes, &result);

	report->pause_s = fmax(report->stacks.pause_s, result.pause_s);
	report->in_place = result.in_place;
	report->walk.seconds = result.seconds;
	return err;
}

/* --- growth by type ------------------------------------------------------------- */

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
static struct tap_error *look_again(struct collector *collector)
{
	struct tap_heap_report *report = collector->report;
	struct tap_heap_type_list before = report->types;
	struct tap_error *err;

	report->types = (struct tap_heap_type_list){0};
	report->notes.count = 0;
	tap_stop_sleep_until(tap_clock_ns() + (uint64_t)(collector->options->growth_s * NS_PER_S));
	err = read_heap(collector);
	if (!err)
		set_changes(&report->types, &before);
	report->growth = !err;
	tap_vector_free(&before);
	return err;
}

/* --- what surrounds it ---------------------------------------------------------- */

static struct tap_error *watch_before(struct collector *collector, pid_t pid)
{
	const struct tap_watch_options options = {.duration_s = collector->options->watch_s};
	struct tap_verdict *verdict = &collector->report->verdict;
	struct tap_watch_report watch = {0};
	struct tap_error *err;

	if (collector->options->watch_s <= 0) {
		snprintf(verdict->reason, sizeof(verdict->reason),
			"one look has no curve: --watch DUR, or heaptap trace, tells whether it "
			"grows");
		verdict->limit_bytes = UINT64_MAX;
		verdict->time_to_limit_s = -1;
		return NULL;
	}
	err = tap_watch_collect(&pid, 1, &options, &watch);
	if (!err && watch.entries.count)
		*verdict = watch.entries.items[0].verdict;
	tap_watch_report_deinit(&watch);
	return err;
}

/* What cannot be read of them is no reason to have no report. */
static void read_descriptors(pid_t pid, struct tap_heap_report *report)
{
	struct tap_descriptors descriptors = {0};
	struct tap_error *err = tap_descriptors_read(pid, DESCRIPTORS_NS, &descriptors);

	for (size_t i = 0; !err && i < descriptors.groups.count; i++)
		tap_vector_push(&report->fds.groups,
			((struct tap_fd_group){
				tap_strings_add(report->strings, descriptors.groups.items[i].target),
				descriptors.groups.items[i].count}));
	report->fds.count = descriptors.count;
	report->fds.limit = err ? UINT64_MAX : descriptors.limit;
	tap_descriptors_deinit(&descriptors);
	tap_error_free(err);
}

static struct tap_error *read_surroundings(struct collector *collector, pid_t pid)
{
	const struct tap_stack_options options = {
		.native = true, .python = true, .debug_dir = collector->options->debug_dir};
	struct tap_heap_report *report = collector->report;

	report->memory.rss_bytes = UINT64_MAX;
	if (collector->options->types_only)
		return NULL;
	read_descriptors(pid, report);
	return tap_stack_collect(pid, &options, &report->stacks);
}

struct tap_error *tap_report_collect(
	pid_t pid, const struct tap_report_options *options, struct tap_heap_report *ret)
{
	struct collector collector = {.options = options, .report = ret};
	struct tap_error *err;

	ret->strings = tap_strings_create();
	err = tap_process_read(pid, &ret->process);
	if (!err)
		err = tap_process_check_traceable(&ret->process);
	if (!err)
		err = watch_before(&collector, pid);
	if (!err)
		err = read_surroundings(&collector, pid);
	if (!err)
		err = read_heap(&collector);
	if (!err && options->growth_s > 0)
		err = look_again(&collector);
	return err;
}
