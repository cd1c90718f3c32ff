/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include "heaptap/base/clock.h"
#include "heaptap/base/text.h"
#include "heaptap/proc/tasks.h"
#include "target/internal.h"
#include "target/ptrace.h"

#define STOP_BOUND_NS UINT64_C(500000000)
#define STARVED_BOUND_NS UINT64_C(5000000000)

/* Blocked in a system call that it made itself: it is in no trap of ours and
 * makes no child. */
static bool is_blocked(struct tap_target *target, struct tracee *tracee)
{
	struct tap_task_syscall call = {0};
	pid_t tid = tracee->public.tid;
	struct tap_task task;
	_cleanup_error_ struct tap_error *err = NULL;

	if (tracee->state != TRACEE_RUNNING || tracee->interrupted)
		return false;
	err = tracee_read(tracee, &task);
	if (err || (task.state != 'S' && task.state != 'D'))
		return false;
	if (!tap_task_try_syscall(tid, tid, &call) || !call.blocked || call.number < 0 ||
		area_holds(target, call.pc))
		return false;
	/* A fork under way copies the memory as it was some time ago, or will
	 * be; and where it began before we came, we are not told of the child. */
	return !children_made_by(call.number) || tracee_is_vforking(target, tracee);
}

/* One that could run gets more time than one that sleeps: it will stop as soon
 * as it gets a CPU. */
static int stop_in_time(struct tap_target *target, struct tracee *tracee)
{
	int result = tracee_stop(target, tracee, tap_clock_ns() + STOP_BOUND_NS);
	struct tap_task task;
	_cleanup_error_ struct tap_error *gone = NULL;

	if (result != 0 || tracee->state == TRACEE_STOPPED || tracee_is_vforking(target, tracee))
		return result;
	gone = tracee_read(tracee, &task);
	if (gone || (task.state != 'R' && task.state != 't'))
		return result;
	return tracee_stop(target, tracee, tap_clock_ns() + STARVED_BOUND_NS);
}

struct tap_error *rendezvous_error(const struct tap_target *target, const struct tracee *tracee)
{
	struct tap_task task = {.name = "?", .state = '?'};
	char name[sizeof(task.name)], wchan[sizeof(task.wchan)];
	struct tap_error *err;

	tap_error_free(tracee_read(tracee, &task));
	tap_text_clean(name, sizeof(name), task.name);
	tap_text_clean(wchan, sizeof(wchan), task.wchan);
	err = tap_error_new(TAP_ERR_TIMEOUT,
		"thread %d (%s) of process %d did not stop (state %c%s%s)", tracee->public.tid,
		name, target->pid, task.state, wchan[0] ? ", in " : "", wchan);
	/* kernel/freezer.c, and kernel/cgroup/freezer.c's get_signal() part for version 2. */
	if (!strcmp(wchan, "__refrigerator") || !strcmp(wchan, "do_freezer_trap"))
		err = tap_error_advise(err, "its cgroup is frozen: try again once that is thawed");
	return err;
}

/* True: nothing of it can be on its way any more. */
static bool bring_to_rest(struct tap_target *target, struct tracee *tracee)
{
	bool stood = tracee->state == TRACEE_STOPPED;
	int result;

	if (is_blocked(target, tracee))
		return true;
	result = stop_in_time(target, tracee);
	tracee->held |= result == 1 && !stood;
	return result != 0 || tracee->state == TRACEE_STOPPED || tracee_is_vforking(target, tracee);
}

/* All at once: each has to be run by a processor before it stops, and those
 * that have stopped are in nobody's way. */
static void interrupt_all(struct tap_target *target)
{
	struct tap_map_slot *slot;

	for (size_t i = 0; tap_map_next(&target->tracees, &i, &slot);) {
		struct tracee *tracee = (struct tracee *)slot->value;

		if (tracee->state == TRACEE_RUNNING && !tracee->interrupted &&
			!tracee_is_vforking(target, tracee) && !is_blocked(target, tracee))
			tracee->interrupted = pt_interrupt(tracee->public.tid) == 0;
	}
}

struct tap_error *rendezvous(struct tap_target *target)
{
	struct tap_map seen = {0};
	struct tap_map_slot *slot;
	struct tap_error *err = NULL;

	interrupt_all(target);
	for (size_t i = 0; tap_map_next(&target->tracees, &i, &slot);) {
		struct tracee *tracee = (struct tracee *)slot->value;

		if (tap_map_find(&seen, slot->key))
			continue;
		tap_map_put(&seen, slot->key, NULL);
		if (!bring_to_rest(target, tracee) && !err)
			err = rendezvous_error(target, tracee);
		i = 0; /* stopping one may have brought or taken others */
	}
	tap_map_deinit(&seen);
	return err;
}

void rendezvous_end(struct tap_target *target)
{
	struct tap_map_slot *slot;

	for (size_t i = 0; tap_map_next(&target->tracees, &i, &slot);) {
		struct tracee *tracee = (struct tracee *)slot->value;

		if (!tracee->held)
			continue;
		tracee->held = false;
		tracee_restart_call(target, tracee);
		tracee_continue(target, tracee, 0);
	}
}
