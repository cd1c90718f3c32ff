/* SPDX-License-Identifier: Apache-2.0 */
/* Forks, vforks, clones, execs and ends of a process with breakpoints in it:
 * the children come out right, and with nothing of ours in them. */
#include "target_trace.h"
#include "target_code.h"

#include <sched.h>
#include <spawn.h>
#include <sys/syscall.h>

#define ROUNDS 20
#define STORM_THREADS 4

extern char **environ;

struct shared {
	atomic_int state, ready, wrong, rounds, end;
};

static struct shared *shared;

static int setup(void **state)
{
	(void)state;
	shared = shared_memory(sizeof(*shared));
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	munmap(shared, sizeof(*shared));
	return 0;
}

/* 7 where every register is right, and the breakpoints do not kill. */
PLAIN static int call_all(void)
{
	int wrong = 0;

	for (int i = 0; i < 3; i++) {
		wrong |= code_checked_call(code_push) != 0;
		wrong |= code_checked_call(code_vector) != 0;
		wrong |= code_constant() != 42;
	}
	return wrong ? 8 : 7;
}

/* Executable memory of no file, in the calling process. Async-signal-safe:
 * no stdio in a child of threads. */
static bool has_area(void)
{
	return count_areas(getpid()) != 0;
}

static int wait_code(pid_t pid)
{
	int status = 0;

	if (pid < 0)
		return -1;
	while (waitpid(pid, &status, __WALL) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int by_fork(void)
{
	pid_t pid = fork();

	if (!pid)
		_exit(has_area() ? 9 : call_all());
	return wait_code(pid);
}

/* A child's child. */
static int by_two_forks(void)
{
	pid_t pid = fork();

	if (!pid)
		_exit(by_fork());
	return wait_code(pid);
}

static int by_vfork_and_exec(void)
{
	pid_t pid = vfork();

	if (!pid) {
		if (call_all() != 7)
			_exit(8);
		execl("/bin/sh", "sh", "-c", "exit 7", (char *)NULL);
		_exit(127);
	}
	return wait_code(pid);
}

static int by_vfork_and_exit(void)
{
	pid_t pid = vfork();

	if (!pid)
		_exit(call_all());
	return wait_code(pid);
}

static int by_spawn(void)
{
	char *argv[] = {(char[]){"sh"}, (char[]){"-c"}, (char[]){"exit 7"}, NULL};
	pid_t pid;

	if (posix_spawn(&pid, "/bin/sh", NULL, NULL, argv, environ))
		return -1;
	return wait_code(pid);
}

PLAIN static int clone_body(void *unused)
{
	(void)unused;
	return call_all();
}

/* Another process in the same memory, which runs on beside its parent. */
static int by_clone(int flags)
{
	size_t size = 256 << 10;
	char *stack = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int code = wait_code(clone(clone_body, stack + size, flags, NULL));

	munmap(stack, size);
	return code;
}

static int by_clone_vm(void)
{
	return by_clone(CLONE_VM | SIGCHLD);
}

static int by_clone_vm_silent(void)
{
	return by_clone(CLONE_VM);
}

static int by_clone_silent(void)
{
	return by_clone(0);
}

static void *thread_body(void *result)
{
	*(int *)result = call_all();
	return NULL;
}

static int by_thread(void)
{
	pthread_t thread;
	int result = 0;

	if (pthread_create(&thread, NULL, thread_body, &result))
		return -1;
	pthread_join(thread, NULL);
	return result;
}

static int (*const ways[])(void) = {
	by_fork,
	by_two_forks,
	by_vfork_and_exec,
	by_vfork_and_exit,
	by_spawn,
	by_clone_vm,
	by_clone_vm_silent,
	by_clone_silent,
	by_thread,
};
#define WAYS (sizeof(ways) / sizeof(*ways))

static void try_all_ways(void *unused)
{
	(void)unused;
	shared->ready = 1;
	while (!shared->state)
		usleep(100);
	for (int i = 0; i < ROUNDS; i++)
		for (size_t k = 0; k < WAYS; k++) {
			int code = ways[k]();

			if (code != 7) {
				fprintf(stderr, "way %zu: %d\n", k, code);
				shared->wrong++;
			}
			shared->rounds++;
		}
	while (!shared->end)
		usleep(100);
}

static void test_every_kind_of_child(void **state)
{
	pid_t pid = child_start(try_all_ways, NULL);
	struct tracing t = tracing_of_code(pid);

	(void)state;
	wait_until(shared->ready);
	tracing_begin(&t);
	assert_no_error(t.armed);
	shared->state = 1;
	wait_until(shared->rounds == ROUNDS * WAYS);
	tracing_end(&t);
	assert_traced(&t);
	assert_int_equal(shared->wrong, 0);
	/* Those that share the memory are seen: vfork twice, clone twice, a thread. */
	assert_int_equal(t.hits[0], 5 * ROUNDS * 3);
	assert_int_equal(count_areas(pid), 0);
	assert_text_clean(pid, code_push);
	shared->end = 1;
	assert_int_equal(child_end(pid), 0);
	tracing_free(&t);
}

/* --- children that come while we come and go ---------------------------- */

static void *storm_body(void *unused)
{
	(void)unused;
	while (!shared->end) {
		unsigned way = (unsigned)shared->rounds % WAYS;
		int code = ways[way]();

		if (code != 7 && !shared->end) {
			fprintf(stderr, "storm: way %u: %d\n", way, code);
			shared->wrong++;
		}
		shared->rounds++;
	}
	return NULL;
}

static void storm(void *unused)
{
	pthread_t threads[STORM_THREADS];

	(void)unused;
	for (int i = 0; i < STORM_THREADS; i++)
		pthread_create(&threads[i], NULL, storm_body, NULL);
	for (int i = 0; i < STORM_THREADS; i++)
		pthread_join(threads[i], NULL);
}

static void test_storm_of_children(void **state)
{
	pid_t pid = child_start(storm, NULL);

	(void)state;
	for (int i = 0; i < 25; i++) {
		struct tracing t = tracing_of_code(pid);
		int before;

		tracing_begin(&t);
		before = shared->rounds;
		wait_until(shared->rounds > before + i % 5);
		tracing_end(&t);
		assert_traced(&t);
		assert_int_equal(count_areas(pid), 0);
		assert_text_clean(pid, code_push);
		assert_text_clean(pid, code_vector);
		tracing_free(&t);
		before = shared->rounds;
		wait_until(shared->rounds > before + 3);
		assert_int_equal(shared->wrong, 0);
	}
	shared->end = 1;
	assert_int_equal(child_end(pid), 0);
}

static void *come_and_go(void *unused)
{
	(void)unused;
	if (code_checked_call(code_push))
		shared->wrong++;
	return NULL;
}

/* Many threads, none of which is there for long. */
static void thread_storm(void *unused)
{
	pthread_t threads[64];

	(void)unused;
	while (!shared->end) {
		for (int i = 0; i < 64; i++)
			if (pthread_create(&threads[i], NULL, come_and_go, NULL))
				shared->wrong++;
		for (int i = 0; i < 64; i++)
			pthread_join(threads[i], NULL);
		shared->rounds++;
	}
}

static void test_storm_of_threads(void **state)
{
	pid_t pid = child_start(thread_storm, NULL);

	(void)state;
	for (int i = 0; i < 10; i++) {
		struct tracing t = tracing_of_code(pid);
		int before;

		tracing_begin(&t);
		before = shared->rounds;
		/* A whole one. */
		wait_until(shared->rounds > before + 1);
		tracing_end(&t);
		assert_traced(&t);
		assert_true(t.hits[0] >= 64);
		assert_int_equal(count_areas(pid), 0);
		tracing_free(&t);
	}
	assert_int_equal(shared->wrong, 0);
	shared->end = 1;
	assert_int_equal(child_end(pid), 0);
}

/* --- the end ------------------------------------------------------------ */

static void become_other(void)
{
	execl("/bin/sh", "sh", "-c", "exit 7", (char *)NULL);
	_exit(127);
}

static void *exec_body(void *unused)
{
	(void)unused;
	become_other();
	return NULL;
}

static void exec_by_leader(void)
{
	become_other();
}

static void exec_by_thread(void)
{
	pthread_t thread;

	pthread_create(&thread, NULL, exec_body, NULL);
	pthread_join(thread, NULL);
}

static void *call_without_end(void *unused)
{
	(void)unused;
	for (;;)
		if (call_all() != 7)
			_exit(8);
	return NULL;
}

/* The others are in the middle of hits. */
static void exec_among_threads(void)
{
	pthread_t thread;

	for (int i = 0; i < 3; i++)
		pthread_create(&thread, NULL, call_without_end, NULL);
	for (int i = 0; i < 3; i++)
		if (call_all() != 7)
			_exit(8);
	exec_by_thread();
}

static void exit_with_seven(void)
{
	_exit(call_all());
}

static void exit_among_threads(void)
{
	pthread_t thread;

	for (int i = 0; i < 3; i++)
		pthread_create(&thread, NULL, call_without_end, NULL);
	_exit(call_all());
}

static void *exit_body(void *unused)
{
	(void)unused;
	_exit(call_all());
}

static void exit_after_leader(void)
{
	pthread_t thread;

	pthread_create(&thread, NULL, exit_body, NULL);
	pthread_exit(NULL);
}

static void abort_by_signal(void)
{
	call_all();
	raise(SIGABRT);
}

static const struct ending {
	void (*end)(void);
	bool exec;
	int code;
} endings[] = {
	{exec_by_leader, true, 7},
	{exec_by_thread, true, 7},
	{exec_among_threads, true, 7},
	{exit_with_seven, false, 7},
	{exit_among_threads, false, 7},
	{exit_after_leader, false, 7},
	{abort_by_signal, false, 128 + SIGABRT},
};

static void end_soon(void *context)
{
	const struct ending *ending = context;

	shared->ready = 1;
	while (!shared->state)
		usleep(100);
	ending->end();
}

static void test_endings(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(endings) / sizeof(*endings); i++) {
		pid_t pid;
		struct tracing t;

		memset(shared, 0, sizeof(*shared));
		pid = child_start(end_soon, (void *)&endings[i]);
		t = tracing_of_code(pid);
		wait_until(shared->ready);
		tracing_begin(&t);
		assert_no_error(t.armed);
		shared->state = 1;
		tracing_wait_for_exit(&t);
		assert_traced(&t);
		assert_int_equal(t.execs, endings[i].exec);
		assert_int_equal(tracing_child_end(&t), endings[i].code);
		tracing_free(&t);
	}
}

static void test_killed(void **state)
{
	pid_t pid = child_start(storm, NULL);
	struct tracing t = tracing_of_code(pid);

	(void)state;
	tracing_begin(&t);
	wait_until(shared->rounds > 5);
	kill(pid, SIGKILL);
	tracing_wait_for_exit(&t);
	assert_traced(&t);
	assert_int_equal(tracing_child_end(&t), 128 + SIGKILL);
	tracing_free(&t);
}

/* Killed at any moment of our leaving. */
static void test_killed_while_we_leave(void **state)
{
	(void)state;
	for (int i = 0; i < 10; i++) {
		pid_t pid = child_start(thread_storm, NULL);
		struct tracing t = tracing_of_code(pid);

		shared->rounds = 0;
		tracing_begin(&t);
		wait_until(shared->rounds > 0);
		atomic_store(&t.stop, true);
		tap_target_kick(t.tid);
		kill(pid, SIGKILL);
		tracing_end(&t);
		assert_no_error(t.attached);
		if (t.exit_code < 0) {
			/* Reaped by the tracer while it left, or not. */
			int status;

			waitpid(pid, &status, 0);
		}
		tracing_free(&t);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_every_kind_of_child, setup, teardown),
		cmocka_unit_test_setup_teardown(test_storm_of_children, setup, teardown),
		cmocka_unit_test_setup_teardown(test_storm_of_threads, setup, teardown),
		cmocka_unit_test_setup_teardown(test_endings, setup, teardown),
		cmocka_unit_test_setup_teardown(test_killed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_killed_while_we_leave, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
