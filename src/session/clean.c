/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <stdlib.h>
#include <sys/resource.h>
#include "heaptap/base/alloc.h"
#include "heaptap/base/cleanup.h"
#include "heaptap/base/log.h"
#include "heaptap/base/text.h"
#include "heaptap/session/clean.h"
#include "heaptap/target/left.h"
#include "session/clean.h"

#define HURRY_NICE (-15)

static struct tap_error *refuse(const struct tap_process *process, const struct tap_left *left)
{
	if (!left->owner_known)
		return tap_error_advise(
			tap_error_new(TAP_ERR_BUSY,
				"process %d has probes of a heaptap in another PID namespace",
				process->pid),
			"run heaptap clean %d there, or in the namespace that heaptap ran in",
			process->pid);
	return tap_error_advise(tap_error_new(TAP_ERR_BUSY,
					"process %d is already recorded by heaptap %d",
					process->pid, left->owner),
		"wait for its end, or end it: kill -INT %d", left->owner);
}

struct job {
	const struct tap_process *process;
	const struct tap_left_list *list;
};

/* On a thread of its own, with whose end ptrace lets go of every thread. */
static void *run(void *context)
{
	const struct job *job = context;
	struct tap_target *target = NULL;
	struct tap_error *err, *release;

	tap_log_defer();
	/* Not in line behind the target's threads while they are held. */
	setpriority(PRIO_PROCESS, 0, HURRY_NICE);
	err = tap_target_attach(job->process, &target);
	for (size_t i = 0; !err && i < job->list->count; i++)
		if (tap_left_is_free(&job->list->items[i]))
			err = tap_left_remove(target, &job->list->items[i]);
	if (!err)
		err = tap_left_close_files(target);
	if (!err)
		err = tap_left_reap_copies(target);
	release = target ? tap_target_release(target, NULL) : NULL;
	if (!err)
		return release;
	tap_error_free(release);
	return err;
}

struct tap_error *clean_process(const struct tap_process *process, bool *found_ret)
{
	struct tap_left_list list = {0};
	struct job job = {process, &list};
	struct tap_error *err = tap_left_find(process, &list);
	size_t taken = 0;
	pthread_t thread;
	void *result;

	for (size_t i = 0; !err && i < list.count; i++)
		taken += !tap_left_is_free(&list.items[i]);
	*found_ret = !err &&
		(list.count || tap_left_has_files(process->pid) ||
			tap_left_has_copies(process->pid));
	for (size_t i = 0; i < list.count && taken; i++)
		if (!tap_left_is_free(&list.items[i])) {
			err = refuse(process, &list.items[i]);
			break;
		}
	if (!err && *found_ret) {
		if (pthread_create(&thread, NULL, run, &job)) {
			err = tap_error_new(TAP_ERR_SYSTEM, "cannot start a thread");
		} else {
			pthread_join(thread, &result);
			err = result;
		}
	}
	tap_vector_free(&list);
	return err;
}

struct tap_error *clean_before_attach(pid_t pid)
{
	struct tap_process process = {0};
	struct tap_error *err = tap_process_read(pid, &process);
	bool found = false;

	if (!err)
		err = tap_process_check_traceable(&process);
	if (!err) {
		err = clean_process(&process, &found);
		/* Whoever attaches next says it better. */
		if (err && err->code != TAP_ERR_BUSY && err->code != TAP_ERR_TIMEOUT) {
			tap_error_free(err);
			err = NULL;
		} else if (!err && found) {
			tap_log_detail("took out what a heaptap that was killed had left");
		}
	}
	tap_process_deinit(&process);
	return err;
}

struct tap_error *tap_clean_collect(pid_t pid, struct tap_clean_report *ret)
{
	struct tap_error *err = tap_process_read(pid, &ret->process);

	if (!err)
		err = tap_process_check_traceable(&ret->process);
	if (err)
		return err;
	err = clean_process(&ret->process, &ret->found);
	if (err && err->code == TAP_ERR_PERMISSION) {
		int errnum = err->errnum;

		tap_error_free(err);
		return tap_process_explain_denied(&ret->process, errnum);
	}
	if (err && !ret->found)
		return err;
	ret->removed = ret->found && !err;
	if (err) {
		ret->reason = tap_format("%s", err->message);
		ret->advice = err->advice ? tap_format("%s", err->advice) : NULL;
		tap_error_free(err);
	}
	return NULL;
}

void tap_clean_report_deinit(struct tap_clean_report *report)
{
	tap_process_deinit(&report->process);
	free(report->reason);
	free(report->advice);
}
