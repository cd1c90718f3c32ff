/* SPDX-License-Identifier: Apache-2.0 */
/* A tracer that is killed at any point of an injected call: the thread that
 * carried it goes on with its own registers, mask and system call. */
#include "target_trace.h"
#include "target_code.h"

#include <poll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <xmmintrin.h>
#include "target/internal.h"

/* More than one call makes. */
#define REQUESTS_MAX 60

/* Every ptrace request of this program comes by here (-Wl,--wrap=ptrace). */
long __real_ptrace(long request, pid_t pid, void *addr, void *data);
long __wrap_ptrace(long request, pid_t pid, void *addr, void *data);

static int requests, killed_at;

long __wrap_ptrace(long request, pid_t pid, void *addr, void *data)
{
	if (killed_at && ++requests == killed_at)
		kill(getpid(), SIGKILL);
	return __real_ptrace(request, pid, addr, data);
}

struct shared {
	atomic_int ready, wrong, rounds, end, done;
	long ret;
	int errnum;
};

static void *trace_once(void *context)
{
	pid_t pid = *(pid_t *)context;
	struct tap_process process = {0};
	struct tap_target *target;
	struct tap_error *err = tap_process_read(pid, &process);
	int64_t at = 0, result = 0;

	if (!err)
		err = tap_target_attach(&process, &target);
	if (err)
		_exit(2);
	/* The attach is another matter. */
	requests = 0;
	killed_at = killed_at < 0 ? -killed_at : 0;
	err = remote_call_anywhere(target, SYS_mmap,
		(uint64_t[6]){0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, UINT64_MAX, 0}, &at);
	if (!err)
		err = remote_call_anywhere(
			target, SYS_munmap, (uint64_t[6]){(uint64_t)at, 4096}, &result);
	if (err || result || at <= 0)
		_exit(3);
	killed_at = 0;
	err = tap_target_release(target, NULL);
	tap_process_deinit(&process);
	if (err)
		_exit(4);
	return NULL;
}

/* A tracer that gets as far as its n-th request. True: it got through. */
static bool trace_until(pid_t pid, int n)
{
	pid_t tracer = fork();
	int code;

	if (!tracer) {
		pthread_t thread;

		killed_at = -n;
		pthread_create(&thread, NULL, trace_once, &pid);
		pthread_join(thread, NULL);
		_exit(0);
	}
	code = child_end(tracer);
	if (code != 128 + SIGKILL)
		assert_int_equal(code, 0);
	return code == 0;
}

/* --- a thread that runs -------------------------------------------------- */

/* Control of the vector unit and the signal mask are part of the thread. */
PLAIN static void check_for_ever(void *context)
{
	struct shared *shared = context;
	sigset_t mask, now;
	unsigned control;

	sigemptyset(&mask);
	sigaddset(&mask, SIGUSR1);
	sigaddset(&mask, SIGRTMAX);
	sigprocmask(SIG_SETMASK, &mask, NULL);
	control = _mm_getcsr() ^ 0x6000; /* rounding towards zero */
	_mm_setcsr(control);
	while (!shared->end) {
		shared->wrong += code_checked_call(code_push) != 0;
		shared->wrong += (_mm_getcsr() & ~0x3fu) != (control & ~0x3fu);
		sigprocmask(SIG_SETMASK, NULL, &now);
		shared->wrong += !sigismember(&now, SIGUSR1) || !sigismember(&now, SIGRTMAX) ||
			sigismember(&now, SIGUSR2) || sigismember(&now, SIGTERM);
		shared->rounds++;
	}
}

static void test_a_running_thread_survives(void **state)
{
	struct shared *shared = shared_memory(sizeof(*shared));
	pid_t pid = child_start(check_for_ever, shared);
	bool through = false;

	(void)state;
	for (int n = 1; n < REQUESTS_MAX && !through; n++) {
		int before;

		through = trace_until(pid, n);
		before = shared->rounds;
		wait_until(shared->rounds > before + 10);
		assert_int_equal(shared->wrong, 0);
	}
	assert_true(through);
	shared->end = 1;
	assert_int_equal(child_end(pid), 0);
	munmap(shared, sizeof(*shared));
}

/* --- a thread that is blocked -------------------------------------------- */

/* Each ends by itself, later than the tracer comes and goes, unless something
 * went wrong: then it is EINTR or worse. */
#define BLOCKED_MS 700

static long blocked_poll(void)
{
	return poll(NULL, 0, BLOCKED_MS);
}

static long blocked_nanosleep(void)
{
	struct timespec left = {0, BLOCKED_MS * 1000000L};

	return nanosleep(&left, NULL);
}

static long blocked_read(void)
{
	int ends[2];
	char byte;

	if (pipe(ends))
		return -1;
	if (!fork()) {
		blocked_poll();
		_exit(write(ends[1], "x", 1) != 1);
	}
	return read(ends[0], &byte, 1) - 1;
}

static long (*const blocked_calls[])(void) = {blocked_poll, blocked_nanosleep, blocked_read};
#define BLOCKED_CALLS (sizeof(blocked_calls) / sizeof(*blocked_calls))

struct job {
	struct shared *shared;
	long (*call)(void);
};

static void block_once(void *context)
{
	struct job *job = context;
	uint64_t begin = tap_clock_ns();
	sigset_t now;

	job->shared->ready = 1;
	errno = 0;
	job->shared->ret = job->call();
	job->shared->errnum = errno;
	sigprocmask(SIG_SETMASK, NULL, &now);
	for (int i = 1; i < 32; i++)
		job->shared->wrong += sigismember(&now, i);
	job->shared->wrong += tap_clock_ns() - begin < BLOCKED_MS * UINT64_C(1000000) - 1000000;
	job->shared->done = 1;
}

static bool is_blocked(pid_t pid)
{
	struct tap_task_syscall call;

	return tap_task_try_syscall(pid, pid, &call) && call.blocked && call.number >= 0;
}

static void test_a_blocked_thread_survives(void **state)
{
	static struct job jobs[BLOCKED_CALLS][REQUESTS_MAX];
	pid_t pids[BLOCKED_CALLS][REQUESTS_MAX];
	int count[BLOCKED_CALLS] = {0};

	(void)state;
	for (size_t k = 0; k < BLOCKED_CALLS; k++) {
		bool through = false;

		for (int n = 1; n < REQUESTS_MAX && !through; n++) {
			struct job *job = &jobs[k][count[k]];
			pid_t pid;

			*job = (struct job){shared_memory(sizeof(struct shared)), blocked_calls[k]};
			pid = pids[k][count[k]++] = child_start(block_once, job);
			wait_until(job->shared->ready && is_blocked(pid));
			through = trace_until(pid, n);
		}
		assert_true(through);
	}
	for (size_t k = 0; k < BLOCKED_CALLS; k++)
		for (int i = 0; i < count[k]; i++) {
			struct shared *shared = jobs[k][i].shared;

			assert_int_equal(child_end(pids[k][i]), 0);
			if (!shared->done || shared->ret || shared->wrong)
				fail_msg("call %zu, killed at request %d: %ld (%s), %d wrong", k, i + 1,
					shared->ret, strerror(shared->errnum), shared->wrong);
			munmap(shared, sizeof(*shared));
		}
}

/* --- small stacks -------------------------------------------------------- */

#define SMALL_STACK_BYTES (16 << 10)

/* Nothing beyond the stack's end is written to. */
static void *check_on_small_stack(void *context)
{
	check_for_ever(context);
	return NULL;
}

static void run_on_small_stack(void *context)
{
	struct shared *shared = context;
	uint8_t *memory = mmap(NULL, 3 * SMALL_STACK_BYTES, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	pthread_attr_t attr;
	pthread_t thread;

	memset(memory, 0x5a, SMALL_STACK_BYTES);
	pthread_attr_init(&attr);
	pthread_attr_setstack(&attr, memory + SMALL_STACK_BYTES, SMALL_STACK_BYTES);
	if (pthread_create(&thread, &attr, check_on_small_stack, shared))
		_exit(2);
	pthread_join(thread, NULL);
	for (int i = 0; i < SMALL_STACK_BYTES; i++)
		shared->wrong += memory[i] != 0x5a;
}

static void *call_in_each_thread(void *context)
{
	pid_t pid = *(pid_t *)context;
	struct tap_process process = {0};
	struct tap_target *target;
	struct tap_map_slot *slot;
	struct tap_error *err = tap_process_read(pid, &process);
	int64_t result;

	if (!err)
		err = tap_target_attach(&process, &target);
	tap_process_deinit(&process);
	if (err)
		return err;
	for (size_t i = 0; tap_map_next(&target->tracees, &i, &slot) && !err;) {
		struct tracee *tracee = (struct tracee *)slot->value;

		if (tracee->public.tid == pid ||
			tracee_stop(target, tracee, tap_clock_ns() + UINT64_C(10000000000)) != 1)
			continue;
		for (int k = 0; k < 20 && !err; k++)
			err = remote_call(target, tracee->public.tid, target->memory,
				&tracee->public.regs, SYS_getpid, (uint64_t[6]){0}, &result);
		tracee_continue(target, tracee, 0);
	}
	tap_error_free(tap_target_release(target, NULL));
	return err;
}

static void test_a_small_stack_is_not_overrun(void **state)
{
	struct shared *shared = shared_memory(sizeof(*shared));
	pid_t pid = child_start(run_on_small_stack, shared);
	pthread_t thread;
	void *err;

	(void)state;
	wait_until(shared->rounds > 10);
	pthread_create(&thread, NULL, call_in_each_thread, &pid);
	pthread_join(thread, &err);
	assert_ok((struct tap_error *)err);
	shared->end = 1;
	assert_int_equal(child_end(pid), 0);
	assert_int_equal(shared->wrong, 0);
	munmap(shared, sizeof(*shared));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_running_thread_survives),
		cmocka_unit_test(test_a_blocked_thread_survives),
		cmocka_unit_test(test_a_small_stack_is_not_overrun),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
