/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TARGET_SNAPSHOT_INTERNAL_H
#define TARGET_SNAPSHOT_INTERNAL_H

#include <pthread.h>
#include <semaphore.h>
#include "heaptap/base/vector.h"
#include "heaptap/target/snapshot.h"
#include "target/internal.h"

TAP_VECTOR_TYPE(tap_snapshot_thread_list, struct tap_snapshot_thread);

struct tap_snapshot {
	struct tap_process process;
	struct tap_snapshot_options options;
	struct tap_snapshot_thread_list threads;
	char *why_in_place;       /* NULL: a copy */
	uint64_t since_ns;        /* when the first thread was held; 0: none is */
	uint64_t pause_ns;
	struct tap_target *target;
	struct tap_memory *memory; /* the caller's alone */
	pid_t child;               /* as we see it */
	pid_t child_inside;        /* as the process sees it */
	bool child_ended;          /* and we have waited for it */
	/* Between the caller and the thread that traces. */
	pthread_t tracer;
	sem_t taken, leave;
	struct tap_error *err;
};

/* How the child ends where it runs on because we were killed. With its exit
 * signal, and with the score that one has that we killed, it tells our children
 * from the program's own. */
#define SNAPSHOT_EXIT_CODE 87
#define SNAPSHOT_OOM_SCORE 1000

/* snapshot_hold.c: stops every thread that can be, and notes all of them.
 * None may be, and then nothing is held. */
struct tap_error *hold_begin(struct tap_snapshot *snapshot);
bool hold_has_any(const struct tap_snapshot *snapshot);
/* The held ones go on, as if nothing had been there. */
void hold_end(struct tap_snapshot *snapshot);
/* Once the moment is over: names, and who of the others stood still. */
void hold_note_others(struct tap_snapshot *snapshot);
/* Some are held, or did not stop in time. */
bool hold_has_tracees(const struct tap_snapshot *snapshot);
/* Who stops now is let go, and who has ended is waited for. */
void hold_tend(struct tap_snapshot *snapshot);

/* snapshot_copy.c: may a copy be made, before anything is done? Sets
 * why_in_place where not; an error where it would take too long. */
struct tap_error *copy_decide(struct tap_snapshot *snapshot);
/* Of a process that is held. Sets why_in_place where there is none. */
void copy_make(struct tap_snapshot *snapshot);
/* Once it is let go: the child is kept, and opened. */
struct tap_error *copy_open(struct tap_snapshot *snapshot);
/* Kills and reaps it. */
struct tap_error *copy_end(struct tap_snapshot *snapshot);

/* snapshot_filters.c: would a stopped thread's seccomp filters let pass what
 * follows where we are killed in the middle? NULL where they would, or there
 * are none; else the reason, which the caller frees. */
char *snapshot_check_filters(pid_t tid);

#endif
