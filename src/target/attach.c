/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "heaptap/base/alloc.h"
#include "heaptap/base/cleanup.h"
#include "heaptap/base/clock.h"
#include "heaptap/proc/tasks.h"
#include "target/internal.h"
#include "target/ptrace.h"

#define SEIZE_ROUNDS 100
#define SETTLE_ROUNDS 20
#define EXEC_BOUND_NS UINT64_C(10000000000)

/* Breaks the tracer's wait; nothing else is done with it. */
#define KICK_SIGNAL SIGRTMIN

static __thread volatile sig_atomic_t kicked;

static void on_kick(int signal)
{
	(void)signal;
	kicked = 1;
}

void tap_target_kick(pid_t tracer)
{
	syscall(SYS_tgkill, getpid(), tracer, KICK_SIGNAL);
}

bool target_take_kick(void)
{
	bool was = kicked;

	kicked = 0;
	return was;
}

void tap_target_on_gone(struct tap_target *target, void (*free_data)(void *data))
{
	target->free_data = free_data;
}

void tap_target_on_event(struct tap_target *target,
	void (*deal)(void *context, const struct tap_event *event), void *context)
{
	target->deal = deal;
	target->deal_context = context;
}

static struct tap_target *create(pid_t pid)
{
	struct tap_target *target = tap_alloc(sizeof(*target));
	struct sigaction action = {.sa_handler = on_kick};
	sigset_t kick;

	target->pid = pid;
	target->stats.least_away_ns = UINT64_MAX;
	sigaction(KICK_SIGNAL, &action, NULL);
	sigemptyset(&kick);
	sigaddset(&kick, KICK_SIGNAL);
	pthread_sigmask(SIG_UNBLOCK, &kick, NULL);
	return target;
}

void target_destroy(struct tap_target *target)
{
	struct tap_map_slot *slot;

	for (size_t i = 0; tap_map_next(&target->tracees, &i, &slot);)
		tracee_destroy(target, (struct tracee *)slot->value);
	for (size_t i = 0; tap_map_next(&target->breakpoints, &i, &slot);)
		free((void *)slot->value);
	for (size_t i = 0; i < target->forgotten.count; i++)
		free(target->forgotten.items[i]);
	for (size_t i = 0; i < target->gone.count; i++)
		tracee_destroy(target, target->gone.items[i]);
	tap_map_deinit(&target->tracees);
	tap_map_deinit(&target->spared);
	tap_map_deinit(&target->breakpoints);
	tap_vector_free(&target->forgotten);
	tap_vector_free(&target->gone);
	tap_vector_free(&target->orphans);
	tap_vector_free(&target->queue);
	tap_vector_free(&target->redirects);
	tap_vector_free(&target->areas);
	tap_memory_close(target->memory);
	tap_process_deinit(&target->process);
	free(target);
}

/* A thread that a seized one has just made is ours already; one that has ended
 * is nobody's. */
static bool is_ours(pid_t tid)
{
	struct tap_process process = {0};
	_cleanup_error_ struct tap_error *err = tap_process_read(tid, &process);
	bool ours = !err && (process.tracer == gettid() || process.state == 'Z' ||
				    process.state == 'X');

	tap_process_deinit(&process);
	return ours || err;
}

struct tap_error *target_seize_new(struct tap_target *target, size_t *count_ret)
{
	_cleanup_free_ pid_t *tids = NULL;
	struct tap_error *err;
	size_t count = 0;

	*count_ret = 0;
	err = tap_tasks_ids(target->pid, &tids, &count);
	for (size_t i = 0; i < count && !err; i++) {
		int result;

		if (tracee_find(target, tids[i]) ||
			tap_map_find(&target->spared, (uint64_t)tids[i]))
			continue;
		result = pt_seize(tids[i], TRACE_OPTIONS);
		if (!result) {
			tracee_add(target, tids[i], TRACEE_RUNNING);
			(*count_ret)++;
		} else if (result != -ESRCH && !is_ours(tids[i])) {
			err = tap_error_errno(-result, "cannot attach to thread %d", tids[i]);
		}
	}
	return err;
}

static void let_all_go(struct tap_target *target)
{
	struct tap_map_slot *slot;

	/* Nothing was planted and nobody was stopped: what is still held is
	 * let go when this thread ends. */
	for (size_t i = 0; tap_map_next(&target->tracees, &i, &slot);)
		pt_detach((pid_t)slot->key, 0);
}

struct tap_error *target_seize(struct tap_target *target)
{
	struct tap_error *err = NULL;
	size_t fresh = 1;

	/* Until a look at the list of threads shows no new one. */
	for (int round = 0; !err && fresh && round < SEIZE_ROUNDS; round++)
		err = target_seize_new(target, &fresh);
	if (!err && fresh)
		err = tap_error_new(TAP_ERR_TIMEOUT,
			"process %d makes threads faster than they can be attached to",
			target->pid);
	children_adopt_earlier(target);
	return err;
}

/* A thread or process whose making began before its maker was seized is not
 * seized with it. So whoever runs stops once: what was under way is there to
 * be seen then, and what begins later is told of. */
static struct tap_error *seize_and_settle(struct tap_target *target)
{
	struct tap_error *err = target_seize(target);
	size_t before = 0;

	for (int round = 0; !err && target->tracees.count != before && round < SETTLE_ROUNDS;
		round++) {
		err = rendezvous(target);
		before = target->tracees.count;
		if (!err)
			err = target_seize(target);
	}
	rendezvous_end(target);
	return err;
}

struct tap_error *target_create(const struct tap_process *process, struct tap_target **ret)
{
	struct tap_target *target = create(process->pid);
	struct tap_error *err = tap_memory_open(process->pid, true, &target->memory);

	tap_process_copy(process, &target->process);
	*ret = err ? NULL : target;
	if (err)
		target_destroy(target);
	return err;
}

struct tap_error *tap_target_attach(const struct tap_process *process, struct tap_target **ret)
{
	struct tap_target *target;
	struct tap_error *err = target_create(process, &target);

	if (err)
		return err;
	err = seize_and_settle(target);
	if (!err && (!target->tracees.count || !tap_process_is_same(process)))
		err = tap_error_new(TAP_ERR_GONE, "process %d has ended", process->pid);
	if (err) {
		let_all_go(target);
		target_destroy(target);
		return err;
	}
	*ret = target;
	return NULL;
}

/* Between fork and exec: system calls alone. */
static void become(char *const argv[], int go, int failed)
{
	struct sigaction standard = {.sa_handler = SIG_DFL};
	sigset_t none;
	char byte;
	int errnum;

	/* What heaptap has set up for itself is not the program's. */
	sigaction(SIGPIPE, &standard, NULL);
	sigaction(SIGXFSZ, &standard, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	while (read(go, &byte, 1) < 0 && errno == EINTR)
		;
	execvp(argv[0], argv);
	errnum = errno;
	if (write(failed, &errnum, sizeof(errnum)) < 0)
		_exit(126);
	_exit(127);
}

/* Until the child stands at the first instruction behind its exec, or is gone.
 * The event itself comes in the middle of the system call, where none can be
 * injected. */
static struct tap_error *wait_for_exec(pid_t pid, const char *name, int failed)
{
	uint64_t deadline = tap_clock_ns() + EXEC_BOUND_NS;
	int errnum = 0, status;
	bool executed = false;

	for (;;) {
		int got = pt_wait(pid, deadline, &status);

		if (got <= 0 || !WIFSTOPPED(status))
			break;
		if (status >> 16 == PTRACE_EVENT_STOP && executed)
			return NULL;
		if (status >> 16 == PTRACE_EVENT_EXEC)
			executed = pt_interrupt(pid) == 0;
		pt_continue(pid, status >> 16 ? 0 : WSTOPSIG(status));
	}
	if (read(failed, &errnum, sizeof(errnum)) != sizeof(errnum))
		errnum = ECHILD;
	return tap_error_advise(
		tap_error_new(TAP_ERR_GONE, "cannot run %s: %s", name, strerror(errnum)),
		"check the command's name and its permissions");
}

static struct tap_error *seize_child(
	struct tap_target *target, const char *name, int go, int failed)
{
	struct tap_error *err;
	int result = pt_seize(target->pid, TRACE_OPTIONS);

	if (result < 0) {
		kill(target->pid, SIGKILL);
		waitpid(target->pid, NULL, 0);
		return tap_error_errno(-result, "cannot trace %s", name);
	}
	if (write(go, "", 1) < 0)
		return tap_error_errno(errno, "cannot start %s", name);
	err = wait_for_exec(target->pid, name, failed);
	if (!err)
		err = tap_process_read(target->pid, &target->process);
	return err ? err : tap_memory_open(target->pid, true, &target->memory);
}

struct tap_error *tap_target_spawn(char *const argv[], struct tap_target **ret)
{
	struct tap_event first = {.kind = TAP_EVENT_THREAD_NEW};
	struct tap_target *target;
	int go[2], failed[2];
	struct tap_error *err;
	pid_t pid;

	if (pipe2(go, O_CLOEXEC))
		return tap_error_errno(errno, "pipe");
	if (pipe2(failed, O_CLOEXEC)) {
		close(go[0]);
		close(go[1]);
		return tap_error_errno(errno, "pipe");
	}
	pid = fork();
	if (!pid)
		become(argv, go[0], failed[1]);
	close(failed[1]);
	close(go[0]);
	if (pid < 0) {
		err = tap_error_errno(errno, "fork");
	} else {
		target = create(pid);
		err = seize_child(target, argv[0], go[1], failed[0]);
		if (err) {
			target_destroy(target);
		} else {
			first.tracee = &tracee_add(target, pid, TRACEE_STOPPED)->public;
			pt_get_regs(pid, &first.tracee->regs);
			tap_vector_push(&target->queue, first);
			*ret = target;
		}
	}
	close(go[1]);
	close(failed[0]);
	return err;
}

pid_t tap_target_pid(const struct tap_target *target)
{
	return target->pid;
}

struct tap_memory *tap_target_memory(struct tap_target *target)
{
	return target->memory;
}

struct tap_target_stats *tap_target_stats(struct tap_target *target)
{
	return &target->stats;
}
