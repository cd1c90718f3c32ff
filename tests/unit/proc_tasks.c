/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "heaptap/base/clock.h"
#include "heaptap/proc/tasks.h"
#include "proc_fixture.h"

static void threads_are_read(void **state)
{
	struct tap_task_list tasks;
	struct tap_task task;
	pid_t *tids;
	size_t count;

	(void)state;
	use_system("proc-v1");
	assert_ok(tap_tasks_ids(42, &tids, &count));
	assert_int_equal(count, 2);
	assert_true(tids[0] == 42 && tids[1] == 50);
	free(tids);
	assert_ok(tap_tasks_read(42, &tasks));
	assert_int_equal(tasks.count, 2);
	assert_string_equal(tasks.items[0].wchan, "");
	assert_string_equal(tasks.items[1].wchan, "pipe_read");
	assert_string_equal(tasks.items[1].name, "odd)\nname");
	assert_int_equal(tasks.items[1].state, 'S');
	assert_int_equal(tasks.items[1].sig_blocked, 0x10000);
	assert_int_equal(tasks.items[1].sig_ignored, 0x1001000);
	assert_int_equal(tasks.items[1].sig_caught, 2);
	assert_int_equal(tasks.items[1].sig_pending, 0x201);
	assert_int_equal(tasks.items[1].seccomp, 2);
	tap_vector_free(&tasks);
	assert_code(tap_task_read(42, 77, &task), TAP_ERR_GONE);
	assert_code(tap_tasks_ids(99, &tids, &count), TAP_ERR_GONE);
	assert_code(tap_tasks_read(99, &tasks), TAP_ERR_GONE);
}

static void filters_of_system_calls(void **state)
{
	struct tap_task_seccomp seccomp;

	(void)state;
	use_system("proc-v1");
	assert_true(tap_task_try_seccomp(42, 42, &seccomp));
	assert_int_equal(seccomp.mode, TAP_SECCOMP_FILTER);
	assert_int_equal(seccomp.filters, -1); /* an older kernel */
	assert_true(tap_task_try_seccomp(42, 50, &seccomp));
	assert_int_equal(seccomp.mode, TAP_SECCOMP_FILTER);
	assert_int_equal(seccomp.filters, 3);
	assert_false(tap_task_try_seccomp(42, 77, &seccomp));
	tap_proc_root_set("");
	assert_true(tap_task_try_seccomp(getpid(), gettid(), &seccomp));
	assert_true(seccomp.filters == 0 || seccomp.mode == TAP_SECCOMP_FILTER);
}

static void what_it_waits_in(void **state)
{
	struct tap_task_syscall call;

	(void)state;
	use_system("proc-v1");
	assert_true(tap_task_try_syscall(42, 42, &call));
	assert_false(call.blocked);
	assert_true(tap_task_try_syscall(42, 50, &call));
	assert_true(call.blocked);
	assert_int_equal(call.number, 0);
	assert_int_equal(call.args[0], 5);
	assert_int_equal(call.args[2], 0x100);
	assert_int_equal(call.sp, 0x7fff1000);
	assert_int_equal(call.pc, 0x7f1234);
	assert_false(tap_task_try_syscall(42, 77, &call));
}

struct blocked {
	int hold[2];
	_Atomic pid_t tid;
	_Atomic uint64_t blocks_at_ns;
};

static void *wait_in_a_read(void *argument)
{
	struct blocked *blocked = argument;
	sigset_t set;
	char byte;

	prctl(PR_SET_NAME, "waits here");
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	blocked->blocks_at_ns = tap_clock_ns();
	blocked->tid = (pid_t)syscall(SYS_gettid);
	while (read(blocked->hold[0], &byte, 1) < 0)
		;
	return NULL;
}

/* Waits until the thread is blocked in its read. */
static bool wait_until_blocked(struct blocked *blocked, struct tap_task_syscall *call)
{
	for (;;) {
		pid_t tid = blocked->tid;

		if (tid) {
			if (!tap_task_try_syscall(getpid(), tid, call))
				return false; /* CONFIG_HAVE_ARCH_TRACEHOOK or permission missing */
			if (call->blocked && call->number == SYS_read)
				return true;
		}
		sched_yield();
	}
}

static void a_thread_blocked_in_read(void **state)
{
	struct blocked blocked = {0};
	struct tap_task_syscall call;
	struct tap_task task;
	pthread_t thread;
	uint64_t last_ran_ns, before;
	pid_t *tids;
	size_t count;

	(void)state;
	use_system(NULL);
	assert_int_equal(pipe(blocked.hold), 0);
	assert_int_equal(pthread_create(&thread, NULL, wait_in_a_read, &blocked), 0);
	if (wait_until_blocked(&blocked, &call)) {
		assert_int_equal(call.args[0], blocked.hold[0]);
		assert_int_equal(call.args[2], 1);
		assert_ok(tap_task_read(getpid(), blocked.tid, &task));
		assert_string_equal(task.name, "waits here");
		assert_int_equal(task.state, 'S');
		assert_true(task.sig_blocked >> (SIGUSR1 - 1) & 1);
		assert_ok(tap_tasks_ids(getpid(), &tids, &count));
		assert_int_equal(count, 2);
		assert_int_equal(tids[0], getpid());
		free(tids);
	}
	before = tap_clock_ns();
	/* A kernel without scheduler statistics does not tell. Where it does,
	 * the answer lies between when it went to sleep and now. */
	if (tap_task_try_last_ran(getpid(), blocked.tid, &last_ran_ns)) {
		assert_true(last_ran_ns <= tap_clock_ns());
		assert_true(last_ran_ns + 100000000 >= blocked.blocks_at_ns);
		assert_true(last_ran_ns <= before + 100000000);
	}
	assert_int_equal(write(blocked.hold[1], "x", 1), 1);
	pthread_join(thread, NULL);
	assert_code(tap_task_read(getpid(), blocked.tid, &task), TAP_ERR_GONE);
	close(blocked.hold[0]);
	close(blocked.hold[1]);
}

static void the_cpu_it_is_on(void **state)
{
	cpu_set_t before, one;
	int cpu;

	(void)state;
	use_system(NULL);
	assert_int_equal(sched_getaffinity(0, sizeof(before), &before), 0);
	for (int i = 0; i < CPU_SETSIZE; i++) {
		if (!CPU_ISSET(i, &before))
			continue;
		CPU_ZERO(&one);
		CPU_SET(i, &one);
		assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
		assert_true(tap_task_try_cpu(getpid(), getpid(), &cpu));
		assert_int_equal(cpu, i);
	}
	sched_setaffinity(0, sizeof(before), &before);
	assert_false(tap_task_try_cpu(getpid(), 1, &cpu));
}

static void spin(uint64_t ns)
{
	uint64_t until, now;

	assert_true(tap_tasks_try_run_ns(getpid(), &until));
	until += ns;
	do
		assert_true(tap_tasks_try_run_ns(getpid(), &now));
	while (now < until);
}

static void times_of_a_thread(void **state)
{
	const struct timespec moment = {0, 1000000};
	struct tap_task_times before, spun, own, slept;
	const uint64_t spin_ns = 20000000;

	(void)state;
	use_system(NULL);
	if (!tap_task_try_times(getpid(), getpid(), &before))
		skip(); /* CONFIG_SCHED_INFO is missing */
	spin(spin_ns);
	assert_true(tap_task_try_own_times(&own));
	assert_true(tap_task_try_times(getpid(), getpid(), &spun));
	/* the scheduler accounts at its ticks */
	assert_true(spun.run_ns - before.run_ns >= spin_ns / 2);
	assert_true(own.run_ns >= before.run_ns && own.run_ns <= spun.run_ns);
	for (int i = 0; i < 10; i++)
		nanosleep(&moment, NULL);
	assert_true(tap_task_try_times(getpid(), getpid(), &slept));
	assert_true(slept.sleeps - spun.sleeps >= 10);
	assert_false(tap_task_try_times(getpid(), 1, &slept));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(threads_are_read),
		cmocka_unit_test(filters_of_system_calls),
		cmocka_unit_test(what_it_waits_in),
		cmocka_unit_test(a_thread_blocked_in_read),
		cmocka_unit_test(the_cpu_it_is_on),
		cmocka_unit_test(times_of_a_thread),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
