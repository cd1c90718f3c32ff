/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include "heaptap/base/alloc.h"
#include "heaptap/base/clock.h"
#include "heaptap/base/log.h"
#include "target/snapshot_internal.h"

#define HURRY_NICE (-15)
#define TEND_NS 5000000

static struct tap_error *take(struct tap_snapshot *snapshot)
{
	struct tap_error *err = copy_decide(snapshot);

	if (!err)
		err = hold_begin(snapshot);
	if (!err && !snapshot->why_in_place)
		copy_make(snapshot);
	/* There is a child by now, or a reason why not. */
	if (!err && !snapshot->why_in_place) {
		hold_end(snapshot);
		err = copy_open(snapshot);
	} else if (!err)
		err = tap_memory_open(snapshot->process.pid, false, &snapshot->memory);
	if (!err)
		hold_note_others(snapshot);
	return err;
}

static struct tap_error *let_go(struct tap_snapshot *snapshot)
{
	tap_memory_close(snapshot->memory);
	snapshot->memory = NULL;
	if (snapshot->target)
		hold_end(snapshot);
	return copy_end(snapshot);
}

static void wait_for_leave(struct tap_snapshot *snapshot)
{
	/* Who did not stop in time may do so at any moment; who is held may be killed. */
	while (hold_has_tracees(snapshot)) {
		struct timespec until;

		hold_tend(snapshot);
		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_nsec += TEND_NS;
		if (until.tv_nsec >= 1000000000) {
			until.tv_nsec -= 1000000000;
			until.tv_sec++;
		}
		if (!sem_timedwait(&snapshot->leave, &until))
			return;
	}
	while (sem_wait(&snapshot->leave) && errno == EINTR)
		;
}

/* With the end of this thread the kernel lets go of whatever else it traces. */
static void *trace(void *context)
{
	struct tap_snapshot *snapshot = context;
	struct tap_error *err;

	tap_log_defer();
	/* Not in line behind the process's threads while they are held. */
	setpriority(PRIO_PROCESS, 0, HURRY_NICE);
	err = take(snapshot);
	if (err)
		tap_error_free(let_go(snapshot));
	snapshot->err = err;
	sem_post(&snapshot->taken);
	if (!err) {
		wait_for_leave(snapshot);
		snapshot->err = let_go(snapshot);
	}
	if (snapshot->target)
		target_destroy(snapshot->target);
	return NULL;
}

static void destroy(struct tap_snapshot *snapshot)
{
	sem_destroy(&snapshot->taken);
	sem_destroy(&snapshot->leave);
	tap_process_deinit(&snapshot->process);
	tap_vector_free(&snapshot->threads);
	free(snapshot->why_in_place);
	free(snapshot);
}

struct tap_error *tap_snapshot_take(const struct tap_process *process,
	const struct tap_snapshot_options *options, struct tap_snapshot **ret)
{
	struct tap_snapshot *snapshot = tap_alloc(sizeof(*snapshot));
	struct tap_error *err;

	snapshot->options = *options;
	tap_process_copy(process, &snapshot->process);
	sem_init(&snapshot->taken, 0, 0);
	sem_init(&snapshot->leave, 0, 0);
	if (pthread_create(&snapshot->tracer, NULL, trace, snapshot)) {
		destroy(snapshot);
		return tap_error_new(TAP_ERR_SYSTEM, "cannot start a thread");
	}
	while (sem_wait(&snapshot->taken) && errno == EINTR)
		;
	err = snapshot->err;
	if (err) {
		pthread_join(snapshot->tracer, NULL);
		destroy(snapshot);
		return err;
	}
	*ret = snapshot;
	return NULL;
}

struct tap_error *tap_snapshot_release(struct tap_snapshot *snapshot)
{
	struct tap_error *err;

	sem_post(&snapshot->leave);
	pthread_join(snapshot->tracer, NULL);
	err = snapshot->err;
	destroy(snapshot);
	return err;
}

struct tap_memory *tap_snapshot_memory(struct tap_snapshot *snapshot)
{
	return snapshot->memory;
}

pid_t tap_snapshot_pid(const struct tap_snapshot *snapshot)
{
	return snapshot->child ? snapshot->child : snapshot->process.pid;
}

bool tap_snapshot_is_copy(const struct tap_snapshot *snapshot)
{
	return !snapshot->why_in_place;
}

const char *tap_snapshot_why_in_place(const struct tap_snapshot *snapshot)
{
	return snapshot->why_in_place;
}

uint64_t tap_snapshot_pause_ns(const struct tap_snapshot *snapshot)
{
	return snapshot->since_ns ? tap_clock_ns() - snapshot->since_ns : snapshot->pause_ns;
}

const struct tap_snapshot_thread *tap_snapshot_threads(
	const struct tap_snapshot *snapshot, size_t *count_ret)
{
	*count_ret = snapshot->threads.count;
	return snapshot->threads.items;
}
