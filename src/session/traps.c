/* SPDX-License-Identifier: Apache-2.0 */
#include <signal.h>
#include <string.h>
#include <time.h>
#include "heaptap/base/alloc.h"
#include "heaptap/base/cleanup.h"
#include "heaptap/base/clock.h"
#include "heaptap/proc/tasks.h"
#include "session/sampler.h"

#define SIGTRAP_BIT (UINT64_C(1) << (SIGTRAP - 1))
/* C libraries block all signals for a moment while they make a thread or a
 * process: a thread is let pass that does not at one of several looks. */
#define SIGTRAP_LOOKS 50
#define SIGTRAP_PAUSE_NS 1000000
/* All but SIGKILL, SIGSTOP and the C library's own (32 to 34). */
#define SIGNALS_OF_THREAD_START UINT64_C(0xfffffffc7ffbfeff)

static struct tap_error *refuse(const struct recorder *rec, const struct tap_task *task)
{
	bool ignored = task->sig_ignored & SIGTRAP_BIT;

	return tap_error_advise(
		tap_error_new(TAP_ERR_UNSUPPORTED,
			"process %d %s SIGTRAP%s%s: a breakpoint would take that away from it", rec->pid,
			ignored ? "ignores" : "blocks", ignored ? "" : " in thread ",
			ignored ? "" : task->name),
		"use heaptap watch and heaptap stack, which plant nothing; or --unsafe, if "
		"the program does not depend on it");
}

static bool minds(const struct tap_task *task)
{
	return (task->sig_ignored | task->sig_blocked) & SIGTRAP_BIT;
}

TAP_VECTOR_TYPE(tid_list, pid_t);

/* Those of `before`, or on the first look any, that block or ignore it now, and
 * what to say of one of them. */
static struct tap_error *look(struct recorder *rec, const struct tid_list *before,
	struct tid_list *ret, struct tap_error **refusal_ret)
{
	struct tap_task_list tasks = {0};
	struct tap_error *err = tap_tasks_read(rec->pid, &tasks);

	for (size_t i = 0; i < tasks.count && !err; i++) {
		const struct tap_task *task = &tasks.items[i];
		bool among = !before;

		for (size_t k = 0; before && k < before->count; k++)
			among |= before->items[k] == task->tid;
		if (!among || !minds(task))
			continue;
		if (!ret->count)
			*refusal_ret = refuse(rec, task);
		tap_vector_push(ret, task->tid);
	}
	tap_vector_free(&tasks);
	return err;
}

struct tap_error *traps_check(struct recorder *rec)
{
	struct tid_list minding = {0};
	struct tap_error *refusal = NULL;
	struct tap_error *err = look(rec, NULL, &minding, &refusal);

	for (int looks = 1; !err && refusal && looks < SIGTRAP_LOOKS; looks++) {
		struct timespec pause = {0, SIGTRAP_PAUSE_NS};
		struct tid_list still = {0};

		tap_error_free(refusal);
		refusal = NULL;
		nanosleep(&pause, NULL);
		err = look(rec, &minding, &still, &refusal);
		tap_vector_free(&minding);
		minding = still;
	}
	tap_vector_free(&minding);
	if (!err)
		return refusal;
	tap_error_free(refusal);
	return err;
}

/* Before the first int3. That a program may keep its SIGTRAP is looked at
 * without a stop; to see to it takes one. */
struct tap_error *traps_mind(struct recorder *rec)
{
	struct tap_error *in_danger = rec->pid ? traps_check(rec) : NULL;

	if (!in_danger || !rec->options->unsafe || !rec->target)
		return in_danger;
	tap_error_free(in_danger);
	return tap_target_keep_sigtrap(rec->target);
}

static void end_for_sigtrap(struct recorder *rec, pid_t tid)
{
	_cleanup_free_ char *why = tap_format(
		"a new thread (%d) blocks SIGTRAP, which a breakpoint would take away from it", tid);

	if (rec->beside) {
		beside_give_up(rec->beside, why);
		return;
	}
	recorder_end_early(rec, TAP_ENDED_BRAKE, tap_strdup(why));
	tap_error_free(tap_target_lift(rec->target));
	atomic_store(&rec->end_ns, tap_clock_ns());
}

/* A new thread has its maker's signal mask: one that blocks SIGTRAP must not
 * run into a breakpoint. C libraries block everything while they make a
 * thread (pthread_create of glibc and musl): what such a thread really blocks
 * is seen once it has begun, which is when it sleeps or blocks less. False:
 * not yet. */
static bool check_mask(struct recorder *rec, pid_t tid)
{
	struct tap_task task;
	_cleanup_error_ struct tap_error *err = tap_task_read(rec->pid, tid, &task);

	if (err || !(task.sig_blocked & SIGTRAP_BIT))
		return true;
	if ((task.sig_blocked & SIGNALS_OF_THREAD_START) == SIGNALS_OF_THREAD_START &&
		!strchr("SD", task.state))
		return false;
	end_for_sigtrap(rec, tid);
	return true;
}

void traps_check_new(struct recorder *rec, pid_t tid)
{
	struct tap_task task;
	_cleanup_error_ struct tap_error *err = NULL;

	if (rec->options->unsafe)
		return;
	err = tap_task_read(rec->pid, tid, &task);
	if (err || !(task.sig_blocked & SIGTRAP_BIT))
		return;
	if ((task.sig_blocked & SIGNALS_OF_THREAD_START) == SIGNALS_OF_THREAD_START)
		tap_vector_push(&rec->starting, tid);
	else
		end_for_sigtrap(rec, tid);
}

void traps_check_starting(struct recorder *rec)
{
	for (size_t i = 0; i < rec->starting.count;) {
		if (check_mask(rec, rec->starting.items[i]))
			rec->starting.items[i] = rec->starting.items[--rec->starting.count];
		else
			i++;
	}
}
