/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_TESTS_TARGET_TRACE_H
#define HEAPTAP_TESTS_TARGET_TRACE_H

/*
 * A child of the test, and a tracer thread of its own for each time that it
 * is traced: what a tracer left alone is let go when its thread ends. The
 * thread asserts nothing; it writes down what the test looks at after the
 * join. The child says through shared memory how it fared.
 */

#include "unit.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "heaptap/base/clock.h"
#include "heaptap/base/log.h"
#include "heaptap/proc/maps.h"
#include "heaptap/proc/process.h"
#include "heaptap/proc/tasks.h"
#include "heaptap/target/target.h"

/* Code that carries breakpoints, or runs in a process whose other threads are
 * gone, is the compiler's alone. */
#define PLAIN __attribute__((noinline, no_sanitize("address", "undefined")))

#define POINTS_MAX 8

typedef void any_function(void);

struct tracing {
	/* set by the test */
	pid_t pid;
	any_function *points[POINTS_MAX]; /* breakpoints are planted here */
	any_function **pointers[POINTS_MAX]; /* and these are redirected */
	void (*once_planted)(struct tracing *tracing); /* in the tracer */
	/* private */
	pthread_t thread;
	pid_t tid; /* of the tracer, once everything is planted */
	sem_t planted;
	atomic_bool stop;
	/* for the test, after tracing_end() */
	struct tap_target *target;
	uint64_t hits[POINTS_MAX], redirected_hits[POINTS_MAX];
	unsigned threads_new, threads_exit, execs, ticks;
	int exit_code; /* -1: it lives */
	struct tap_error *attached, *armed, *lifted, *released;
};

static inline void *shared_memory(size_t size_bytes)
{
	void *memory = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		-1, 0);

	assert_ptr_not_equal(memory, MAP_FAILED);
	return memory;
}

/* Looks again until it is so. */
#define wait_until(condition)                                                                      \
	do {                                                                                       \
		uint64_t end_ = tap_clock_ns() + UINT64_C(60000000000);                            \
		while (!(condition)) {                                                             \
			struct timespec pause_ = {0, 200000};                                      \
			if (tap_clock_ns() > end_)                                                 \
				fail_msg("not within a minute: %s", #condition);                   \
			nanosleep(&pause_, NULL);                                                  \
		}                                                                                  \
	} while (0)

static inline pid_t child_start(void (*body)(void *context), void *context)
{
	pid_t pid = fork();

	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		body(context);
		_exit(0);
	}
	assert_true(pid > 0);
	return pid;
}

/* As a shell would say it: 128 + n for a signal. */
static inline int child_end(pid_t pid)
{
	int status = 0;

	while (waitpid(pid, &status, 0) < 0)
		assert_int_equal(errno, EINTR);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static inline void child_kill(pid_t pid)
{
	kill(pid, SIGKILL);
	assert_int_equal(child_end(pid), 128 + SIGKILL);
}

static inline void tracing_arm(struct tracing *t)
{
	struct tap_breakpoint *breakpoint;

	for (size_t i = 0; i < POINTS_MAX && !t->armed; i++) {
		if (t->points[i])
			/* The test's own text is the child's: a fork. */
			t->armed = tap_target_plant(t->target, (uint64_t)t->points[i],
				(const uint8_t *)t->points[i], 16, &t->hits[i], &breakpoint);
		if (t->pointers[i] && !t->armed)
			t->armed = tap_target_redirect(t->target, (uint64_t)t->pointers[i],
				(uint64_t)*t->pointers[i], &t->redirected_hits[i], &breakpoint);
	}
}

static inline void tracing_follow(struct tracing *t)
{
	while (!atomic_load(&t->stop) && t->exit_code < 0) {
		struct tap_event event;

		tap_error_free(tap_target_next(t->target, &event));
		switch (event.kind) {
		case TAP_EVENT_TICK:
			t->ticks++;
			break;
		case TAP_EVENT_BREAKPOINT:
			(*(uint64_t *)tap_breakpoint_owner(event.breakpoint))++;
			break;
		case TAP_EVENT_THREAD_NEW:
			t->threads_new++;
			break;
		case TAP_EVENT_THREAD_EXIT:
			t->threads_exit++;
			break;
		case TAP_EVENT_EXEC:
			t->execs++;
			atomic_store(&t->stop, true);
			break;
		case TAP_EVENT_EXIT:
			t->exit_code = event.exit_code;
			break;
		}
		tap_target_go(t->target, &event);
	}
}

static inline void *tracing_run(void *context)
{
	struct tracing *t = context;
	struct tap_process process = {0};

	t->tid = gettid();
	t->attached = tap_process_read(t->pid, &process);
	if (!t->attached)
		t->attached = tap_target_attach(&process, &t->target);
	tap_process_deinit(&process);
	if (!t->attached)
		tracing_arm(t);
	if (!t->attached && t->once_planted)
		t->once_planted(t);
	sem_post(&t->planted);
	if (t->attached)
		return NULL;
	tracing_follow(t);
	t->lifted = tap_target_lift(t->target);
	t->released = tap_target_release(t->target, NULL);
	return NULL;
}

/* Returns once everything is planted. */
static inline void tracing_begin(struct tracing *t)
{
	t->exit_code = -1;
	sem_init(&t->planted, 0, 0);
	atomic_store(&t->stop, false);
	assert_int_equal(pthread_create(&t->thread, NULL, tracing_run, t), 0);
	while (sem_wait(&t->planted))
		;
}

static inline void tracing_join(struct tracing *t, bool kick)
{
	struct timespec until;

	for (;;) {
		if (kick)
			tap_target_kick(t->tid);
		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_nsec += 1000000;
		if (until.tv_nsec >= 1000000000) {
			until.tv_nsec -= 1000000000;
			until.tv_sec++;
		}
		if (!pthread_timedjoin_np(t->thread, NULL, &until))
			break;
	}
	sem_destroy(&t->planted);
}

/* Lifts and lets go, or waits for the end of the process. */
static inline void tracing_end(struct tracing *t)
{
	atomic_store(&t->stop, true);
	tracing_join(t, !t->attached);
}

static inline void tracing_wait_for_exit(struct tracing *t)
{
	tracing_join(t, false);
}

/* A tracer that is a thread of the parent reaps for it (kernel/exit.c,
 * wait_task_zombie). */
static inline int tracing_child_end(const struct tracing *t)
{
	return t->exit_code >= 0 ? t->exit_code : child_end(t->pid);
}

static inline void tracing_free(struct tracing *t)
{
	tap_error_free(t->attached);
	tap_error_free(t->armed);
	tap_error_free(t->lifted);
	tap_error_free(t->released);
}

#define assert_no_error(err)                                                                       \
	do {                                                                                       \
		if (err)                                                                           \
			fail_msg("%s: %s", #err, (err)->message);                                  \
	} while (0)

/* Everything went well. Frees what is left. */
#define assert_traced(t)                                                                           \
	do {                                                                                       \
		assert_no_error((t)->attached);                                                    \
		assert_no_error((t)->armed);                                                       \
		assert_no_error((t)->lifted);                                                      \
		assert_no_error((t)->released);                                                    \
	} while (0)

/* Executable memory of no file: what heaptap may have left. */
static inline unsigned count_areas(pid_t pid)
{
	struct tap_maps maps = {0};
	unsigned count = 0;

	assert_ok(tap_maps_read(pid, &maps));
	for (size_t i = 0; i < maps.count; i++)
		count += maps.items[i].executable && !maps.items[i].inode &&
			!maps.items[i].path[0];
	tap_maps_deinit(&maps);
	return count;
}

/* A function's text in the child is the file's, which is that of the test. */
static inline void assert_text_clean(pid_t pid, any_function *function)
{
	struct tap_memory *memory;
	uint8_t bytes[16];

	assert_ok(tap_memory_open(pid, false, &memory));
	assert_true(tap_memory_try_read(memory, (uint64_t)function, bytes, sizeof(bytes)));
	assert_memory_equal(bytes, (const void *)function, sizeof(bytes));
	tap_memory_close(memory);
}

#endif
