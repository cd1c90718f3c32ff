/* SPDX-License-Identifier: Apache-2.0 */
/* All threads of a process held at one moment. */
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <time.h>
#include "heaptap/base/alloc.h"
#include "heaptap/base/cleanup.h"
#include "heaptap/base/clock.h"
#include "heaptap/proc/cgroup.h"
#include "heaptap/proc/tasks.h"
#include "target/ptrace.h"
#include "target/snapshot_internal.h"

#define STOP_BOUND_NS UINT64_C(500000000)
#define SLEEP_BOUND_NS UINT64_C(500000000) /* for uninterruptible sleep to end */
#define BUSY_BOUND_NS UINT64_C(5000000)
#define BUSY_PAUSE_NS 50000
#define SLEEP_PAUSE_NS 1000000
#define ROUNDS 100
#define SYSCALL_STOP (SIGTRAP | 0x80)

/* Of a tracee: what it was like when it was stopped. */
struct held {
	struct tap_regs regs;
	bool changed; /* it has others now, with which it makes its call again */
	bool holds;
};

TAP_VECTOR_TYPE(tid_list, pid_t);

static void pause_ns(long ns)
{
	struct timespec pause = {0, ns};

	nanosleep(&pause, NULL);
}

/* The list is by number but for those that came late. */
static struct tap_snapshot_thread *find_thread(struct tap_snapshot *snapshot, pid_t tid)
{
	size_t low = 0, high = snapshot->threads.count;
	struct tap_snapshot_thread *items = snapshot->threads.items;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (items[middle].tid < tid)
			low = middle + 1;
		else
			high = middle;
	}
	if (low < snapshot->threads.count && items[low].tid == tid)
		return &items[low];
	for (size_t i = 0; i < snapshot->threads.count; i++)
		if (items[i].tid == tid)
			return &items[i];
	return NULL;
}

static void name_thread(struct tap_snapshot_thread *thread, const struct tap_task *task)
{
	memcpy(thread->name, task->name, sizeof(thread->name));
	memcpy(thread->wchan, task->wchan, sizeof(thread->wchan));
	thread->state = task->state;
}

/* --- before anybody is stopped ------------------------------------------- */

/* True: it was seen to wake up. */
static bool wakes_up(pid_t pid, pid_t tid, uint64_t deadline_ns)
{
	do {
		struct tap_task task;
		_cleanup_error_ struct tap_error *err = tap_task_read(pid, tid, &task);

		if (err || task.state != 'D')
			return true;
		pause_ns(SLEEP_PAUSE_NS);
	} while (tap_clock_ns() < deadline_ns);
	return false;
}

static void spare(struct tap_snapshot *snapshot, struct tap_snapshot_thread *thread)
{
	struct tap_task_syscall call = {0};

	tap_map_put(&snapshot->target->spared, (uint64_t)thread->tid, NULL);
	if (!tap_task_try_syscall(snapshot->process.pid, thread->tid, &call) || !call.blocked)
		return;
	thread->blocked = true;
	thread->regs.rip = call.pc;
	thread->regs.rsp = call.sp;
}

/* Those that no stop reaches, or that it would disturb. */
static bool is_to_be_spared(
	const struct tap_snapshot *snapshot, const struct tap_task *task, uint64_t deadline_ns)
{
	struct tap_task_syscall call = {0};
	pid_t pid = snapshot->process.pid;

	if (task->state == 'D' && !wakes_up(pid, task->tid, deadline_ns))
		return true;
	return tap_task_try_syscall(pid, task->tid, &call) && call.blocked &&
	       tap_restart_kind(pid, &call) == TAP_RESTART_NEVER;
}

static struct tap_error *look(struct tap_snapshot *snapshot)
{
	uint64_t deadline = tap_clock_ns() + SLEEP_BOUND_NS;
	bool frozen = tap_cgroup_is_frozen(snapshot->process.pid);
	struct tap_task_list tasks = {0};
	struct tap_error *err = tap_tasks_read(snapshot->process.pid, &tasks);

	for (size_t i = 0; !err && i < tasks.count; i++) {
		struct tap_snapshot_thread *thread = tap_vector_add(&snapshot->threads);

		thread->tid = tasks.items[i].tid;
		name_thread(thread, &tasks.items[i]);
		if (frozen || is_to_be_spared(snapshot, &tasks.items[i], deadline))
			spare(snapshot, thread);
	}
	tap_vector_free(&tasks);
	return err;
}

/* --- the stop ------------------------------------------------------------ */

static struct tid_list list_tracees(struct tap_target *target)
{
	struct tid_list list = {0};
	struct tap_map_slot *slot;

	for (size_t i = 0; tap_map_next(&target->tracees, &i, &slot);)
		tap_vector_push(&list, (pid_t)slot->key);
	return list;
}

static struct held *held_of(struct tracee *tracee)
{
	if (!tracee->public.data)
		tracee->public.data = tap_alloc(sizeof(struct held));
	return tracee->public.data;
}

/* A call that the stop would end is set to be made again at once: so it is made
 * again also where we are killed while the thread stands. */
static void take_hold(struct tap_target *target, struct tracee *tracee)
{
	struct held *held = held_of(tracee);

	if (!tracee->public.regs_changed && pt_get_regs(tracee->public.tid, &tracee->public.regs))
		return;
	held->holds = true;
	held->regs = tracee->public.regs;
	tracee_restart_call(target, tracee);
	held->changed = tracee->public.regs_changed;
	if (held->changed)
		pt_set_regs(tracee->public.tid, &tracee->public.regs);
}

/* Set anew: the call has less time left by now, and a signal may have come. */
static void put_back(struct tap_target *target, struct tracee *tracee)
{
	struct held *held = held_of(tracee);

	held->holds = false;
	if (!held->changed)
		return;
	tracee->public.regs = held->regs;
	tracee->public.regs_changed = false;
	tracee_restart_call(target, tracee);
	pt_set_regs(tracee->public.tid, &tracee->public.regs);
	tracee->public.regs_changed = false;
}

static bool is_held(struct tracee *tracee)
{
	return tracee->state == TRACEE_STOPPED && held_of(tracee)->holds;
}

static void interrupt_all(struct tap_target *target, const struct tid_list *tids)
{
	for (size_t i = 0; i < tids->count; i++) {
		struct tracee *tracee = tracee_find(target, tids->items[i]);

		if (tracee && tracee->state == TRACEE_RUNNING && !tracee->interrupted &&
			!tracee_is_vforking(target, tracee))
			tracee->interrupted = pt_interrupt(tracee->public.tid) == 0;
	}
}

static void stop_known(struct tap_snapshot *snapshot, uint64_t deadline_ns)
{
	struct tap_target *target = snapshot->target;
	struct tid_list tids = list_tracees(target);

	interrupt_all(target, &tids);
	for (size_t i = 0; i < tids.count; i++) {
		struct tracee *tracee = tracee_find(target, tids.items[i]);

		if (!tracee || is_held(tracee) || tracee_is_vforking(target, tracee))
			continue;
		tracee_stop(target, tracee, deadline_ns);
		/* Stopping it may have been its end. */
		tracee = tracee_find(target, tids.items[i]);
		if (tracee && tracee->state == TRACEE_STOPPED)
			take_hold(target, tracee);
	}
	tap_vector_free(&tids);
}

/* Who was on the way to make a thread when it was seized has made it since. */
static struct tap_error *stop_all(struct tap_snapshot *snapshot)
{
	uint64_t deadline = tap_clock_ns() + STOP_BOUND_NS;
	struct tap_error *err = NULL;
	size_t fresh = 1;

	for (int round = 0; !err && fresh && round < ROUNDS; round++) {
		stop_known(snapshot, deadline);
		err = target_seize_new(snapshot->target, &fresh);
	}
	return err;
}

/* The others of a moment ago are held meanwhile: who waits for a lock of theirs
 * does not get it. */
static bool let_busy_run(struct tap_snapshot *snapshot)
{
	struct tap_target *target = snapshot->target;
	struct tid_list tids = list_tracees(target);
	bool any = false;

	for (size_t i = 0; i < tids.count; i++) {
		struct tracee *tracee = tracee_find(target, tids.items[i]);

		if (!is_held(tracee) || tracee->group_stopped ||
			!snapshot->options.is_busy(
				snapshot->options.context, &held_of(tracee)->regs))
			continue;
		put_back(target, tracee);
		tracee_continue(target, tracee, 0);
		any = true;
	}
	tap_vector_free(&tids);
	return any;
}

static struct tap_error *run_out(struct tap_snapshot *snapshot)
{
	uint64_t deadline = tap_clock_ns() + BUSY_BOUND_NS;
	struct tap_error *err = NULL;

	while (!err && tap_clock_ns() < deadline && let_busy_run(snapshot)) {
		pause_ns(BUSY_PAUSE_NS);
		err = stop_all(snapshot);
	}
	return err;
}

static void note_thread(struct tap_snapshot *snapshot, struct tracee *tracee)
{
	struct tap_snapshot_thread *thread = find_thread(snapshot, tracee->public.tid);

	if (!thread) {
		thread = tap_vector_add(&snapshot->threads);
		thread->tid = tracee->public.tid;
	}
	thread->stopped = true;
	thread->regs = held_of(tracee)->regs;
	thread->busy = snapshot->options.is_busy &&
		       snapshot->options.is_busy(snapshot->options.context, &thread->regs);
}

static void note_threads(struct tap_snapshot *snapshot)
{
	struct tap_map_slot *slot;

	for (size_t i = 0; tap_map_next(&snapshot->target->tracees, &i, &slot);) {
		struct tracee *tracee = (struct tracee *)slot->value;

		if (is_held(tracee) && !tracee->foreign && !tracee->copied)
			note_thread(snapshot, tracee);
	}
	/* Nobody asks for the events. */
	snapshot->target->queue.count = 0;
}

/* Since when they are blocked in calls that are to be made again. */
static void note_calls(struct tap_target *target)
{
	struct tap_map_slot *slot;

	for (size_t i = 0; tap_map_next(&target->tracees, &i, &slot);) {
		struct tracee *tracee = (struct tracee *)slot->value;
		struct tap_task_syscall call = {0};

		if (tap_task_try_syscall(target->pid, tracee->public.tid, &call) && call.blocked &&
			tap_restart_kind(target->pid, &call) == TAP_RESTART_BY_HAND)
			tracee_note_call(target, tracee);
	}
}

struct tap_error *hold_begin(struct tap_snapshot *snapshot)
{
	struct tap_error *err = target_create(&snapshot->process, &snapshot->target);

	if (err)
		return err;
	tap_target_on_gone(snapshot->target, free);
	err = look(snapshot);
	if (!err)
		err = target_seize(snapshot->target);
	if (err)
		return err;
	if (!snapshot->why_in_place)
		remote_prepare(snapshot->target);
	note_calls(snapshot->target);
	snapshot->since_ns = tap_clock_ns();
	err = stop_all(snapshot);
	if (!err && snapshot->options.is_busy)
		err = run_out(snapshot);
	if (!err && (snapshot->target->exited || !tap_process_is_same(&snapshot->process)))
		err = tap_error_new(TAP_ERR_GONE, "process %d has ended", snapshot->process.pid);
	if (!err && snapshot->target->executed)
		err = tap_error_new(TAP_ERR_GONE, "process %d has just begun another program",
			snapshot->process.pid);
	if (!err)
		note_threads(snapshot);
	if (!err && !hold_has_any(snapshot))
		snapshot->since_ns = 0;
	return err;
}

bool hold_has_any(const struct tap_snapshot *snapshot)
{
	struct tap_map_slot *slot;

	for (size_t i = 0; tap_map_next(&snapshot->target->tracees, &i, &slot);)
		if (is_held((struct tracee *)slot->value))
			return true;
	return false;
}

/* --- afterwards ---------------------------------------------------------- */

void hold_end(struct tap_snapshot *snapshot)
{
	struct tap_target *target = snapshot->target;
	struct tid_list tids = list_tracees(target);
	struct tid_list detached = {0};

	for (size_t i = 0; i < tids.count; i++) {
		struct tracee *tracee = tracee_find(target, tids.items[i]);

		if (tracee->state != TRACEE_STOPPED)
			continue;
		put_back(target, tracee);
		pt_detach(tracee->public.tid, tracee->signal);
		tap_vector_push(&detached, tracee->public.tid);
	}
	if (snapshot->since_ns)
		snapshot->pause_ns = tap_clock_ns() - snapshot->since_ns;
	snapshot->since_ns = 0;
	for (size_t i = 0; i < detached.count; i++)
		tracee_remove(target, tracee_find(target, detached.items[i]));
	tap_vector_free(&detached);
	tap_vector_free(&tids);
}

static void note_other(const struct tap_snapshot *snapshot, struct tap_snapshot_thread *thread)
{
	struct tap_task_syscall call = {0};
	bool still = tap_task_try_syscall(snapshot->process.pid, thread->tid, &call) &&
		     call.blocked && call.pc == thread->regs.rip && call.sp == thread->regs.rsp;

	thread->blocked &= still;
}

void hold_note_others(struct tap_snapshot *snapshot)
{
	size_t kept = 0;

	for (size_t i = 0; i < snapshot->threads.count; i++) {
		struct tap_snapshot_thread *thread = &snapshot->threads.items[i];
		struct tap_task task;
		_cleanup_error_ struct tap_error *err = NULL;

		if (!thread->stopped || !thread->state)
			err = tap_task_read(snapshot->process.pid, thread->tid, &task);
		if (err && !thread->stopped)
			continue;
		if (!err && (!thread->stopped || !thread->state))
			name_thread(thread, &task);
		if (thread->stopped)
			thread->wchan[0] = '\0';
		else
			note_other(snapshot, thread);
		if (kept != i)
			snapshot->threads.items[kept] = *thread;
		kept++;
	}
	snapshot->threads.count = kept;
}

/* --- those that did not stop in time ------------------------------------- */

bool hold_has_tracees(const struct tap_snapshot *snapshot)
{
	return snapshot->target && snapshot->target->tracees.count;
}

/* What it has just made is a tracee too. */
static void note_birth(struct tap_target *target, pid_t tid, int event)
{
	unsigned long message = 0;

	if (event != PTRACE_EVENT_CLONE && event != PTRACE_EVENT_FORK &&
		event != PTRACE_EVENT_VFORK)
		return;
	if (!pt_get_event(tid, &message) && !tracee_find(target, (pid_t)message))
		tracee_add(target, (pid_t)message, TRACEE_NEW);
}

static void let_go_late(struct tap_target *target, pid_t tid, int status)
{
	struct tracee *tracee = tracee_find(target, tid);
	int event = status >> 16, signal = 0;

	if (WIFSTOPPED(status)) {
		note_birth(target, tid, event);
		if (!event && WSTOPSIG(status) != SYSCALL_STOP)
			signal = WSTOPSIG(status);
		if (tracee && event == PTRACE_EVENT_STOP && tracee->state != TRACEE_NEW) {
			tracee->group_stopped = WSTOPSIG(status) != SIGTRAP;
			take_hold(target, tracee);
		}
		pt_detach(tid, signal);
	}
	if (tracee)
		tracee_remove(target, tracee);
}

void hold_tend(struct tap_snapshot *snapshot)
{
	int status;
	pid_t tid;

	while ((tid = waitpid(-1, &status, __WALL | __WNOTHREAD | WNOHANG)) > 0)
		if (tid != snapshot->child)
			let_go_late(snapshot->target, tid, status);
		else if (!WIFSTOPPED(status))
			snapshot->child_ended = true;
}
