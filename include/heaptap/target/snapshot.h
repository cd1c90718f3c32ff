/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_TARGET_SNAPSHOT_H
#define HEAPTAP_TARGET_SNAPSHOT_H

/*
 * The memory of a process as it was at one moment, to be read at leisure.
 *
 * All threads are stopped, one of them is made to call clone(2), and all go on
 * at once: the process is held for milliseconds, while its pages are marked as
 * shared. The child is a copy that never runs an instruction of the program. It
 * shares the table of open files, so that a file that the process closes
 * meanwhile is closed. Its exit signal is 0: an ordinary wait(2) of the program
 * never sees it. In the end it is killed, and the process made to call wait4(2)
 * for it. It is the first that the kernel ends where memory runs out.
 *
 * Where heaptap is killed, the process goes on and the child ends: by the
 * kernel (PTRACE_O_EXITKILL), or before that by itself, as its first
 * instructions lead to exit_group(2). A dead child stays listed until
 * target/left.h finds it.
 *
 * Where no copy can be had the process itself is read, with its threads held
 * until the release, and the reason is kept in words: more is resident than the
 * machine or a cgroup has free, filters of system calls are in the way, no thread
 * can be stopped (then none is held), its cgroup is frozen, it has shadow stacks.
 *
 * The ptrace calls are made by a thread that belongs to the snapshot: whoever
 * calls these functions need not care, but must be one thread at a time.
 *
 * Regions that the process keeps from a child (MADV_DONTFORK; MADV_WIPEONFORK
 * are zeros) are not in a copy: compare the maps of both.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "heaptap/arch/regs.h"
#include "heaptap/base/error.h"
#include "heaptap/memory/memory.h"
#include "heaptap/proc/process.h"

struct tap_snapshot;

struct tap_snapshot_options {
	bool in_place;         /* no copy: the process itself, held until the release */
	bool force;            /* a copy also where it may hold the process longer than this: */
	uint64_t max_pause_ns; /* 0: any time */
	/* Is a thread with these registers where the heap is in the middle of a
	 * change? It is let run for a moment then, all in all 5 ms, until it is not.
	 * Called by another thread than the caller's, which waits meanwhile, with
	 * the process stopped. NULL: never. */
	bool (*is_busy)(void *context, const struct tap_regs *regs);
	void *context;
};

/* A thread as it was at that moment. */
struct tap_snapshot_thread {
	pid_t tid;
	char name[64];  /* raw */
	char state;     /* before the stop: R S D T ... */
	char wchan[64]; /* of one that was not stopped: where in the kernel it is; or "" */
	bool stopped;   /* regs are valid */
	bool blocked;   /* not stopped, and stood still all the same: rsp and rip are valid */
	bool busy;      /* it did not get out of where is_busy said it was */
	struct tap_regs regs;
};

/* Left out, and neither stopped nor blocked: one in uninterruptible sleep, as
 * the parent of a vfork is, or one that did not stop within 500 ms. One is left
 * alone that waits in a system call which a stop would end early
 * (blocked, then). Errors: PERMISSION (errnum set), BUSY, GONE as of
 * tap_target_attach(); TIMEOUT, with advice, where a copy would hold the process
 * for longer than it may: nothing was done then. What a heaptap that was killed
 * left is not looked for: see target/left.h. */
struct tap_error *tap_snapshot_take(const struct tap_process *process,
	const struct tap_snapshot_options *options, struct tap_snapshot **ret);

/* Kills the child, or lets the threads run on; frees the snapshot in any case.
 * TIMEOUT: no thread could be made to wait for the dead child, which stays
 * listed. */
struct tap_error *tap_snapshot_release(struct tap_snapshot *snapshot);

/* For reading, until the release. Reads fail once the child was killed for want
 * of memory, or the process that is read in place has ended. */
struct tap_memory *tap_snapshot_memory(struct tap_snapshot *snapshot);
/* Whose /proc/PID/{maps,pagemap,smaps} belong to that memory. */
pid_t tap_snapshot_pid(const struct tap_snapshot *snapshot);

bool tap_snapshot_is_copy(const struct tap_snapshot *snapshot);
/* In words, "it was asked for"; NULL for a copy. */
const char *tap_snapshot_why_in_place(const struct tap_snapshot *snapshot);
/* How long threads were held for a copy; in place, until now. 0 where none was. */
uint64_t tap_snapshot_pause_ns(const struct tap_snapshot *snapshot);

/* In no order. Valid until the release. */
const struct tap_snapshot_thread *tap_snapshot_threads(
	const struct tap_snapshot *snapshot, size_t *count_ret);

#endif
