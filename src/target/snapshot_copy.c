/* SPDX-License-Identifier: Apache-2.0 */
/* The child that a snapshot's memory is read from. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "heaptap/base/alloc.h"
#include "heaptap/base/cleanup.h"
#include "heaptap/base/clock.h"
#include "heaptap/base/text.h"
#include "heaptap/proc/cgroup.h"
#include "heaptap/proc/root.h"
#include "heaptap/proc/tasks.h"
#include "heaptap/proc/usage.h"
#include "target/ptrace.h"
#include "target/snapshot_internal.h"

/* What clone(2) takes, and what stopping and letting go of a thread takes. */
#define PAUSE_NS_PER_GIB UINT64_C(17000000)
#define PAUSE_NS_PER_THREAD UINT64_C(100000)
#define CHILD_STOP_BOUND_NS UINT64_C(2000000000)
#define CHILD_END_BOUND_NS UINT64_C(30000000000) /* its memory has to be given back */
#define REAP_BOUND_NS UINT64_C(500000000)
#define CARRIERS_MAX 8
#define TRIES 3
/* The kernel's ERESTARTNOINTR, include/linux/errno.h: a stop was under way. */
#define RESTART_NOINTR 513

/* With a table of its own a file that the process closes would stay open: a
 * pipe without an end, a lock that is kept, an epoll set that tells of what is
 * gone. */
#define CLONE_FLAGS CLONE_FILES

/* --- may there be one? --------------------------------------------------- */

/* A child of one that has left its PID namespace for its children becomes the
 * first process of another, whose end would end that. */
static bool has_other_pids_for_children(pid_t pid)
{
	_cleanup_free_ char *own = NULL;
	_cleanup_free_ char *children = NULL;

	tap_error_free(tap_proc_readlink(pid, "ns/pid", &own));
	tap_error_free(tap_proc_readlink(pid, "ns/pid_for_children", &children));
	return own && (!children || strcmp(own, children));
}

static char *check_room(uint64_t rss_bytes, const struct tap_cgroup *cgroup)
{
	char need[TAP_SIZE_TEXT], free[TAP_SIZE_TEXT];

	if (rss_bytes <= cgroup->free_memory_bytes)
		return NULL;
	return tap_format("a copy may come to take %s, and %s of memory can still be taken",
		tap_text_size(need, (int64_t)rss_bytes),
		tap_text_size(free, (int64_t)cgroup->free_memory_bytes));
}

static struct tap_error *check_pause(const struct tap_snapshot *snapshot, uint64_t rss_bytes)
{
	const struct tap_snapshot_options *options = &snapshot->options;
	uint64_t threads =
		(uint64_t)(snapshot->process.threads > 0 ? snapshot->process.threads : 1);
	uint64_t pause_ns =
		(rss_bytes >> 20) * PAUSE_NS_PER_GIB / 1024 + threads * PAUSE_NS_PER_THREAD;
	char size[TAP_SIZE_TEXT], pause[TAP_SIZE_TEXT], most[TAP_SIZE_TEXT];

	if (options->force || !options->max_pause_ns || pause_ns <= options->max_pause_ns)
		return NULL;
	return tap_error_advise(
		tap_error_new(TAP_ERR_TIMEOUT,
			"copying the memory of process %d would hold it for about %s (%s resident, "
			"threads: %d), longer than %s",
			snapshot->process.pid, tap_text_duration(pause, (double)pause_ns * 1e-9),
			tap_text_size(size, (int64_t)rss_bytes), snapshot->process.threads,
			tap_text_duration(most, (double)options->max_pause_ns * 1e-9)),
		"hold it all the same with --force");
}

static struct tap_error *read_rss(pid_t pid, uint64_t *ret)
{
	struct tap_usage_reader *reader = NULL;
	struct tap_usage usage = {0};
	struct tap_error *err = tap_usage_open(pid, &reader);

	if (!err)
		err = tap_usage_read(reader, false, &usage);
	tap_usage_close(reader);
	*ret = usage.rss_bytes;
	return err;
}

struct tap_error *copy_decide(struct tap_snapshot *snapshot)
{
	pid_t pid = snapshot->process.pid;
	struct tap_cgroup cgroup = {0};
	uint64_t rss_bytes = 0;
	struct tap_error *err = read_rss(pid, &rss_bytes);

	if (!err)
		err = tap_cgroup_read(pid, &cgroup);
	if (err)
		return err;
	if (snapshot->options.in_place)
		snapshot->why_in_place = tap_strdup("it was asked for");
	else if (cgroup.frozen)
		snapshot->why_in_place = tap_strdup("its cgroup is frozen");
	else if (snapshot->process.shadow_stack)
		snapshot->why_in_place =
			tap_strdup("it has shadow stacks: nothing can be injected");
	else if (has_other_pids_for_children(pid))
		snapshot->why_in_place =
			tap_strdup("its children would be in another PID namespace");
	else
		snapshot->why_in_place = check_room(rss_bytes, &cgroup);
	if (!snapshot->why_in_place)
		err = check_pause(snapshot, rss_bytes);
	tap_cgroup_deinit(&cgroup);
	return err;
}

/* --- its birth ----------------------------------------------------------- */

/* How well a thread can carry the call: one that is blocked is in nothing that
 * matters, and SIGSTOP is not to be disturbed without need. */
static int fitness(const struct tracee *tracee)
{
	if (tracee->foreign || tracee->copied || tracee->signal || tracee->state != TRACEE_STOPPED)
		return 0;
	if (tracee->group_stopped)
		return 1;
	return (int64_t)tracee->public.regs.orig_rax < 0 ? 2 : 3;
}

static struct tracee *choose(struct tap_target *target, const struct tap_map *tried)
{
	struct tracee *best = NULL;
	struct tap_map_slot *slot;

	for (size_t i = 0; tap_map_next(&target->tracees, &i, &slot);) {
		struct tracee *tracee = (struct tracee *)slot->value;

		if (!tap_map_find(tried, slot->key) && fitness(tracee) &&
			(!best || fitness(tracee) > fitness(best)))
			best = tracee;
	}
	return best;
}

/* True where the kernel ends it before anything else. Without privilege too:
 * the number only grows. */
static bool sacrifice(pid_t child)
{
	char path[256], text[16];
	int size = snprintf(text, sizeof(text), "%d", SNAPSHOT_OOM_SCORE);
	_cleanup_close_ int fd = open(
		tap_proc_path(path, sizeof(path), child, "oom_score_adj"), O_WRONLY | O_CLOEXEC);

	return fd >= 0 && write(fd, text, (size_t)size) == size;
}

/* The reason why not, NULL where there is a child. */
static char *clone_in(struct tap_snapshot *snapshot, struct tracee *tracee, bool *again_ret)
{
	struct tap_target *target = snapshot->target;
	_cleanup_error_ struct tap_error *err = NULL;
	int64_t result = -RESTART_NOINTR;
	char *why = snapshot_check_filters(tracee->public.tid);

	*again_ret = why != NULL;
	if (why)
		return why;
	leave_critical_section(target, tracee);
	for (int i = 0; !err && i < TRIES && result == -RESTART_NOINTR; i++)
		err = remote_clone(target, tracee->public.tid, &tracee->public.regs, CLONE_FLAGS,
			SNAPSHOT_EXIT_CODE, &snapshot->child, &result);
	*again_ret = err && !snapshot->child;
	if (err)
		return tap_format("%s", err->message);
	if (result < 0)
		return tap_format("it cannot be copied: %s", strerror((int)-result));
	snapshot->child_inside = (pid_t)result;
	if (!sacrifice(snapshot->child))
		return tap_strdup("a copy's oom_score_adj cannot be set");
	return NULL;
}

void copy_make(struct tap_snapshot *snapshot)
{
	struct tap_map tried = {0};
	struct tracee *tracee;
	char *why = tap_strdup("none of its threads can be stopped now");
	bool again = true;

	for (int i = 0; again && i < CARRIERS_MAX; i++) {
		tracee = choose(snapshot->target, &tried);
		if (!tracee)
			break;
		tap_map_put(&tried, (uint64_t)tracee->public.tid, NULL);
		free(why);
		why = clone_in(snapshot, tracee, &again);
	}
	tap_map_deinit(&tried);
	if (why && snapshot->child)
		tap_error_free(copy_end(snapshot));
	snapshot->why_in_place = why;
}

struct tap_error *copy_open(struct tap_snapshot *snapshot)
{
	struct tap_error *err = NULL;
	int status = 0;
	int result = pt_wait(snapshot->child, tap_clock_ns() + CHILD_STOP_BOUND_NS, &status);

	if (result == 0)
		return tap_error_new(TAP_ERR_TIMEOUT, "the copy of process %d did not stop",
			snapshot->process.pid);
	snapshot->child_ended = result < 0 || !WIFSTOPPED(status);
	if (snapshot->child_ended || pt_set_options(snapshot->child, PTRACE_O_EXITKILL))
		return tap_error_new(
			TAP_ERR_GONE, "the copy of process %d was killed", snapshot->process.pid);
	err = tap_memory_open(snapshot->child, false, &snapshot->memory);
	return tap_error_wrap(err, "the copy of process %d", snapshot->process.pid);
}

/* --- its end ------------------------------------------------------------- */

static bool wait_for_end(struct tap_snapshot *snapshot)
{
	uint64_t deadline = tap_clock_ns() + CHILD_END_BOUND_NS;
	int status;

	while (!snapshot->child_ended) {
		int result = pt_wait(snapshot->child, deadline, &status);

		if (!result)
			return false;
		snapshot->child_ended = result < 0 || !WIFSTOPPED(status);
	}
	return true;
}

static struct tap_error *check_reaped(struct tap_error *err, int64_t result)
{
	if (err || result > 0 || result == -ECHILD)
		return err;
	return tap_error_errno(result ? (int)-result : ETIMEDOUT, "wait4");
}

static struct tap_error *reap_held(struct tap_snapshot *snapshot)
{
	int64_t result = 0;
	struct tap_error *err = remote_call_anywhere(snapshot->target, SYS_wait4,
		(uint64_t[6]){(uint64_t)snapshot->child_inside, 0, WNOHANG | __WALL}, &result);

	return check_reaped(err, result);
}

static struct tap_error *no_thread(void)
{
	return tap_error_new(TAP_ERR_TIMEOUT, "no thread can be made to wait for it");
}

/* It is let go with the end of our thread, which is near. */
static struct tap_error *reap_by(
	struct tap_snapshot *snapshot, struct tap_target *target, pid_t tid)
{
	struct tap_error *err;
	struct tracee *tracee;
	int64_t result = 0;
	bool was_running;

	if (tracee_find(target, tid) || pt_seize(tid, TRACE_OPTIONS))
		return no_thread();
	tracee = tracee_add(target, tid, TRACEE_RUNNING);
	if (tracee_borrow(target, tracee, tap_clock_ns() + REAP_BOUND_NS, &was_running) != 1)
		return no_thread();
	if (tracee->signal) {
		err = no_thread();
	} else {
		err = remote_call_in(target, tracee, SYS_wait4,
			(uint64_t[6]){(uint64_t)snapshot->child_inside, 0, WNOHANG | __WALL},
			&result);
		err = check_reaped(err, result);
	}
	tracee_continue(target, tracee, 0);
	return err;
}

/* A thread, and how little a stop disturbs it: 0 hardly. */
struct candidate {
	pid_t tid;
	int cost;
};

static int cost_of(pid_t pid, pid_t tid)
{
	struct tap_task_syscall call = {0};

	if (!tap_task_try_syscall(pid, tid, &call))
		return 3;
	if (!call.blocked)
		return 1;
	return tap_restart_kind(pid, &call) == TAP_RESTART_KERNEL ? 0 : 2;
}

static int by_cost(const void *a, const void *b)
{
	return ((const struct candidate *)a)->cost - ((const struct candidate *)b)->cost;
}

/* Of all threads not more are seized than have to be. */
static struct tap_error *reap_in(struct tap_snapshot *snapshot, struct tap_target *target)
{
	TAP_VECTOR(struct candidate) list = {0};
	_cleanup_free_ pid_t *tids = NULL;
	size_t count = 0;
	struct tap_error *err = tap_tasks_ids(target->pid, &tids, &count);

	for (size_t i = 0; !err && i < count; i++)
		tap_vector_push(
			&list, ((struct candidate){tids[i], cost_of(target->pid, tids[i])}));
	if (list.count)
		qsort(list.items, list.count, sizeof(*list.items), by_cost);
	if (!err)
		err = no_thread();
	for (size_t i = 0; err && i < list.count && i < CARRIERS_MAX; i++) {
		tap_error_free(err);
		err = reap_by(snapshot, target, list.items[i].tid);
	}
	tap_vector_free(&list);
	return err;
}

static struct tap_error *reap(struct tap_snapshot *snapshot)
{
	struct tap_target *target = NULL;
	struct tap_error *err;

	if (snapshot->target && hold_has_any(snapshot))
		return reap_held(snapshot);
	/* The child of one that has ended is another's by now. */
	if (!tap_process_is_same(&snapshot->process))
		return NULL;
	err = target_create(&snapshot->process, &target);
	if (err)
		return err;
	err = reap_in(snapshot, target);
	/* Threads may have come and gone meanwhile. */
	for (int i = 1; err && i < TRIES; i++) {
		tap_error_free(err);
		err = reap_in(snapshot, target);
	}
	if (err && !tap_process_is_same(&snapshot->process)) {
		tap_error_free(err);
		err = NULL;
	}
	target_destroy(target);
	return err;
}

struct tap_error *copy_end(struct tap_snapshot *snapshot)
{
	pid_t pid = snapshot->process.pid;
	struct tap_error *err;

	if (!snapshot->child)
		return NULL;
	if (!snapshot->child_ended)
		kill(snapshot->child, SIGKILL);
	if (!wait_for_end(snapshot))
		return tap_error_new(TAP_ERR_TIMEOUT,
			"the copy of process %d, its child %d, does "
			"not end",
			pid, snapshot->child);
	err = reap(snapshot);
	snapshot->child = 0;
	return tap_error_wrap(tap_error_advise(err, "run heaptap clean %d", pid),
		"the dead copy of process %d stays listed as its child", pid);
}
