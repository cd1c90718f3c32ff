/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_SESSION_THREAD_STATE_H
#define HEAPTAP_SESSION_THREAD_STATE_H

/*
 * Which Python thread state belongs to a thread that was not stopped. Its
 * fs base is not known then, and only Python 3.11 and later keep thread ids
 * (those of the target's own PID namespace).
 *
 * glibc and musl lay a thread's control block, whose address is its
 * pthread_self(), at the top of the mapping that is its stack; that of the
 * main thread lies elsewhere, in no other thread's stack.
 */

#include <stdint.h>
#include <sys/types.h>
#include "heaptap/proc/maps.h"
#include "heaptap/proc/tasks.h"
#include "heaptap/python/python.h"

/* pthread_self() of the thread, 0 where none is certain. sp: its stack
 * pointer. tasks: all threads of the process. */
uint64_t tap_thread_state_pthread(struct tap_python *python, const struct tap_maps *maps, pid_t pid,
	pid_t tid, uint64_t sp, const struct tap_task_list *tasks);

#endif
