/* SPDX-License-Identifier: Apache-2.0 */
/* Calls that are injected into a program whose own would be filtered, and that
 * the filter is in force again behind each. */
#include "target_trace.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/syscall.h>
#include "target/internal.h"

#define LOAD_NUMBER BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr))
#define ON(call, skip) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_##call, (skip), 0)
#define RET(action) BPF_STMT(BPF_RET | BPF_K, (action))

/* What is injected ends the program where it calls it; getppid() fails. */
static struct sock_filter filter[] = {
	LOAD_NUMBER, ON(getppid, 8), ON(mmap, 6), ON(munmap, 5), ON(madvise, 4), ON(memfd_create, 3),
	ON(close, 2), ON(rt_sigaction, 1), RET(SECCOMP_RET_ALLOW), RET(SECCOMP_RET_KILL_PROCESS),
	RET(SECCOMP_RET_ERRNO | EPERM),
};

struct shared {
	atomic_int rounds, passed, end, unfiltered;
};

PLAIN static void call_for_ever(void *context)
{
	const struct sock_fprog program = {sizeof(filter) / sizeof(*filter), filter};
	struct shared *shared = context;

	shared->unfiltered = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
		prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
	while (!shared->end) {
		shared->passed += syscall(SYS_getppid) > 0;
		shared->rounds++;
	}
	syscall(SYS_exit_group, 0);
}

/* What is done to the stopped thread, by the tracer. */
struct job {
	struct shared *shared;
	pid_t pid;
	struct tap_error *(*work)(struct tap_target *target, struct tracee *tracee);
};

static struct tap_error *call(struct tap_target *target, struct tracee *tracee, long number,
	const uint64_t arguments[6], int64_t *result_ret)
{
	struct tap_error *err = remote_call(target, tracee->public.tid, target->memory,
		&tracee->public.regs, number, arguments, result_ret);

	if (!err && *result_ret < 0)
		err = tap_error_errno((int)-*result_ret, "call %ld", number);
	return err;
}

static struct tap_error *make_all_calls(struct tap_target *target, struct tracee *tracee)
{
	int64_t at = 0, fd = -1, result;
	struct tap_error *err;

	err = call(target, tracee, SYS_mmap,
		(uint64_t[6]){0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			UINT64_MAX, 0},
		&at);
	if (!err)
		err = call(target, tracee, SYS_madvise,
			(uint64_t[6]){(uint64_t)at, 4096, MADV_WIPEONFORK}, &result);
	/* The mapping's first byte, 0, is a name. */
	if (!err)
		err = call(target, tracee, SYS_memfd_create, (uint64_t[6]){(uint64_t)at, 1}, &fd);
	if (!err)
		err = call(target, tracee, SYS_close, (uint64_t[6]){(uint64_t)fd}, &result);
	if (!err)
		err = call(target, tracee, SYS_munmap, (uint64_t[6]){(uint64_t)at, 4096}, &result);
	if (!err)
		err = call(target, tracee, SYS_rt_sigaction,
			(uint64_t[6]){SIGUSR1, 0, 0, 8}, &result);
	return err;
}

/* Its stack cannot be written to: it fails before the call. */
static struct tap_error *fail_half_way(struct tap_target *target, struct tracee *tracee)
{
	struct tap_memory *memory;
	int64_t result;
	struct tap_error *err = tap_memory_open(target->pid, false, &memory);

	if (err)
		return err;
	err = remote_call(target, tracee->public.tid, memory, &tracee->public.regs, SYS_getpid,
		(uint64_t[6]){0}, &result);
	tap_memory_close(memory);
	if (!err)
		return tap_error_new(TAP_ERR_BAD_DATA, "memory that is not writable was written to");
	tap_error_free(err);
	return NULL;
}

/* Some rounds of the child, which is traced still. */
static void let_run(struct job *job, struct tap_target *target, struct tracee *tracee)
{
	int before = job->shared->rounds;

	tracee_continue(target, tracee, 0);
	while (job->shared->rounds < before + 100 && !kill(job->pid, 0))
		sched_yield();
}

static void *trace(void *context)
{
	struct job *job = context;
	struct tap_process process = {0};
	struct tap_target *target;
	struct tracee *tracee;
	struct tap_error *err = tap_process_read(job->pid, &process), *release;

	if (!err)
		err = tap_target_attach(&process, &target);
	tap_process_deinit(&process);
	if (err)
		return err;
	tracee = tracee_find(target, job->pid);
	for (int i = 0; i < 5 && !err; i++) {
		if (tracee_stop(target, tracee, tap_clock_ns() + UINT64_C(10000000000)) != 1) {
			err = tap_error_new(TAP_ERR_TIMEOUT, "it did not stop");
			break;
		}
		err = job->work(target, tracee);
		let_run(job, target, tracee);
	}
	release = tap_target_release(target, NULL);
	if (err)
		tap_error_free(release);
	return err ? err : release;
}

static void check(struct tap_error *(*work)(struct tap_target *target, struct tracee *tracee))
{
	struct shared *shared = shared_memory(sizeof(*shared));
	struct job job = {.shared = shared, .work = work};
	pthread_t thread;
	void *err;

	job.pid = child_start(call_for_ever, shared);
	wait_until(shared->rounds > 10);
	if (shared->unfiltered || geteuid()) {
		child_kill(job.pid);
		skip();
	}
	pthread_create(&thread, NULL, trace, &job);
	pthread_join(thread, &err);
	assert_ok((struct tap_error *)err);
	shared->end = 1;
	assert_int_equal(child_end(job.pid), 0);
	assert_int_equal(shared->passed, 0);
	munmap(shared, sizeof(*shared));
}

static void test_injected_calls_pass(void **state)
{
	(void)state;
	check(make_all_calls);
}

static void test_what_fails_before_it_is_made(void **state)
{
	(void)state;
	check(fail_half_way);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_injected_calls_pass),
		cmocka_unit_test(test_what_fails_before_it_is_made),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
