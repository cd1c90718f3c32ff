/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A sampled call waits on a futex: a filter of system calls may end the program
 * for it. The filters that are there are judged before anything is placed
 * (target/probes_filters.c). One that comes later cannot be, as that takes a
 * stop: the probes are disarmed as soon as it is seen. Until then, one look's
 * distance, it is in force and they are, too.
 */
#include <stdlib.h>
#include "heaptap/base/alloc.h"
#include "heaptap/base/cleanup.h"
#include "heaptap/base/clock.h"
#include "heaptap/proc/tasks.h"
#include "session/sampler.h"

#define LOOK_NS UINT64_C(50000000)
/* Of a thousand threads a look takes a while: no more than a twentieth of the
 * time. */
#define LOOK_SHARE 20
#define ANSWER_EVERY 32

struct tap_error *seccomp_judge(struct sampler *s)
{
	struct tap_error *err = tap_probes_check_filters(s->rec->target, &s->filtered.threads);

	if (err && err->code == TAP_ERR_UNSUPPORTED && !err->advice)
		err = tap_error_advise(err, "leave out --engine probe");
	return err;
}

static int by_tid(const void *a, const void *b)
{
	const struct tap_probes_filtered *x = a, *y = b;

	return (x->tid > y->tid) - (x->tid < y->tid);
}

/* What a new thread has from the one that made it is that many at least. With
 * more it may have set its own. */
static int least(const struct tap_probes_filtered_list *threads)
{
	int filters = INT32_MAX;

	for (size_t i = 0; i < threads->count; i++)
		if (threads->items[i].filters < filters)
			filters = threads->items[i].filters;
	return threads->count ? filters : 0;
}

static int judged(const struct tap_probes_filtered_list *threads, pid_t tid, int of_others)
{
	struct tap_probes_filtered key = {.tid = tid};
	struct tap_probes_filtered *found = threads->count ?
		bsearch(&key, threads->items, threads->count, sizeof(key), by_tid) :
		NULL;

	return found ? found->filters : of_others;
}

static bool is_new(const struct tap_task_seccomp *now, int judged_filters)
{
	return now->mode == TAP_SECCOMP_STRICT ||
		(now->mode != TAP_SECCOMP_NONE &&
			(now->filters < 0 || now->filters > judged_filters));
}

static bool look(struct sampler *s)
{
	struct recorder *rec = s->rec;
	struct tap_probes_filtered_list threads = {0};
	_cleanup_free_ pid_t *tids = NULL;
	_cleanup_error_ struct tap_error *err = NULL;
	int of_others = least(&s->filtered.threads);
	bool changed = false;
	size_t count = 0;

	err = tap_tasks_ids(rec->pid, &tids, &count);
	for (size_t i = 0; i < count && !changed; i++) {
		struct tap_probes_filtered thread = {
			tids[i], judged(&s->filtered.threads, tids[i], of_others)};
		struct tap_task_seccomp now;

		if (i % ANSWER_EVERY == ANSWER_EVERY - 1)
			sampler_answer_all(s);
		if (!tap_task_try_seccomp(rec->pid, tids[i], &now))
			continue;
		changed = is_new(&now, thread.filters);
		tap_vector_push(&threads, thread);
	}
	/* Without a list of threads there is nothing to compare the next one with. */
	if (threads.count) {
		tap_vector_free(&s->filtered.threads);
		s->filtered.threads = threads;
	}
	return changed;
}

bool seccomp_has_changed(struct sampler *s)
{
	uint64_t began_ns = tap_clock_ns(), end_ns;
	bool changed;

	if (began_ns < s->filtered.next_ns)
		return false;
	changed = look(s);
	end_ns = tap_clock_ns();
	s->filtered.next_ns = end_ns + (end_ns - began_ns) * LOOK_SHARE;
	if (s->filtered.next_ns < began_ns + LOOK_NS)
		s->filtered.next_ns = began_ns + LOOK_NS;
	if (!changed)
		return false;
	tap_error_free(tap_probes_disarm(s->probes));
	recorder_end_early(s->rec, TAP_ENDED_PROBE_COST,
		tap_strdup("the process filters its system calls now (seccomp): its probes were taken "
			   "out"));
	return true;
}
