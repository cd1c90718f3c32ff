/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_PROC_TASKS_H
#define HEAPTAP_PROC_TASKS_H

/* The threads of a process, from /proc/PID/task. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "heaptap/base/error.h"
#include "heaptap/base/vector.h"

struct tap_task {
	pid_t tid;
	char name[64];     /* comm, raw */
	char state;        /* R S D T t Z X I */
	char wchan[64];    /* kernel function it waits in; "" where unknown or not waiting */
	uint64_t sig_blocked; /* bit n - 1 is signal n, as in status */
	uint64_t sig_ignored;
	uint64_t sig_caught;
	uint64_t sig_pending; /* the thread's own and the process's */
	int seccomp;          /* Seccomp: of status, per thread */
	bool shadow_stack;
};

TAP_VECTOR_TYPE(tap_task_list, struct tap_task);

/* The numbers alone, ascending; for seizing until no new one comes. */
struct tap_error *tap_tasks_ids(pid_t pid, pid_t **tids_ret, size_t *count_ret);
/* One task, GONE where it ended. */
struct tap_error *tap_task_read(pid_t pid, pid_t tid, struct tap_task *ret);
/* All; a thread that ends meanwhile is left out. Free with tap_vector_free(). */
struct tap_error *tap_tasks_read(pid_t pid, struct tap_task_list *ret);

/* What a blocked thread waits in, from /proc/PID/task/TID/syscall: readable
 * without stopping it. */
struct tap_task_syscall {
	bool blocked;   /* false: it is running, nothing else is set */
	int64_t number; /* -1: blocked outside a system call */
	uint64_t args[6];
	uint64_t sp;
	uint64_t pc;    /* behind the syscall instruction */
};
bool tap_task_try_syscall(pid_t pid, pid_t tid, struct tap_task_syscall *ret);

/* Whether a thread's system calls are filtered: all of status that a look at
 * many threads again and again can afford. */
#define TAP_SECCOMP_NONE 0
#define TAP_SECCOMP_STRICT 1
#define TAP_SECCOMP_FILTER 2
struct tap_task_seccomp {
	int mode;
	int filters; /* they are only ever added; -1: there are some, and an older kernel does not
	              * tell how many */
};
/* False where the thread has ended. */
bool tap_task_try_seccomp(pid_t pid, pid_t tid, struct tap_task_seccomp *ret);

/* The CPU that it last ran on. */
bool tap_task_try_cpu(pid_t pid, pid_t tid, int *ret);

/* How a thread spent its life. What is left of the time went by asleep, or in
 * a stop. */
struct tap_task_times {
	uint64_t run_ns;  /* on a CPU */
	uint64_t wait_ns; /* runnable, and others on the CPU */
	uint64_t sleeps;  /* how often it let go of the CPU by itself; each ptrace stop is one */
};
/* False where it ended, or where the kernel does not tell (CONFIG_SCHED_INFO). */
bool tap_task_try_times(pid_t pid, pid_t tid, struct tap_task_times *ret);
bool tap_task_try_own_times(struct tap_task_times *ret); /* the calling thread's; no sleeps */
/* On CPUs, by all threads that it has and had. */
bool tap_tasks_try_run_ns(pid_t pid, uint64_t *ret);

/* CLOCK_MONOTONIC time at which a blocked thread last ran, from
 * /proc/PID/task/TID/sched; false where the kernel does not tell. */
bool tap_task_try_last_ran(pid_t pid, pid_t tid, uint64_t *monotonic_ns_ret);

#endif
