/* SPDX-License-Identifier: Apache-2.0 */
/* A blocked system call returns what it would have returned, at the time it
 * would have, through attach, plant, injected calls, lift and release. */
#include "target_trace.h"
#include "target_code.h"

#include <linux/aio_abi.h>
#include <linux/futex.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include "target/internal.h"

#define TIMEOUT_MS 1500
#define TIMEOUT_S 1
#define TIMEOUT_NS 500000000

/* What a machine with other things to do may be late. A call that ended at
 * the stop, or began afresh half way, is off by more. */
#define LATE_NS UINT64_C(400000000)

static const struct timespec timeout = {TIMEOUT_S, TIMEOUT_NS};

static long call_epoll_wait(void)
{
	struct epoll_event event;

	return epoll_wait(epoll_create1(0), &event, 1, TIMEOUT_MS);
}

static long call_epoll_pwait(void)
{
	struct epoll_event event;
	sigset_t mask;

	sigemptyset(&mask);
	return epoll_pwait(epoll_create1(0), &event, 1, TIMEOUT_MS, &mask);
}

static long call_poll(void)
{
	return poll(NULL, 0, TIMEOUT_MS);
}

static long call_select(void)
{
	struct timeval left = {TIMEOUT_S, TIMEOUT_NS / 1000};

	return select(0, NULL, NULL, NULL, &left);
}

static long call_nanosleep(void)
{
	return nanosleep(&timeout, NULL);
}

static long call_futex(void)
{
	static int word;

	return syscall(SYS_futex, &word, FUTEX_WAIT, 0, &timeout, NULL, 0);
}

static long call_semtimedop(void)
{
	struct sembuf down = {0, -1, 0};
	int id = semget(IPC_PRIVATE, 1, 0600);
	long ret = semtimedop(id, &down, 1, &timeout);
	int errnum = errno;

	semctl(id, 0, IPC_RMID);
	errno = errnum;
	return ret;
}

static long call_sigtimedwait(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	sigprocmask(SIG_BLOCK, &set, NULL);
	return sigtimedwait(&set, NULL, &timeout);
}

static long call_io_getevents(void)
{
	aio_context_t context = 0;
	struct timespec left = timeout;
	struct io_event event;

	syscall(SYS_io_setup, 4, &context);
	return syscall(SYS_io_getevents, context, 1, 1, &event, &left);
}

static long call_recv_timeout(void)
{
	struct timeval limit = {TIMEOUT_S, TIMEOUT_NS / 1000};
	int pair[2];
	char byte;

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
		return -1;
	setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	return recv(pair[0], &byte, 1, 0);
}

/* These end by what a helper does after the time. */
static void after_the_time(void (*act)(int id), int id)
{
	if (fork())
		return;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	nanosleep(&timeout, NULL);
	act(id);
	_exit(0);
}

static void act_write(int fd)
{
	if (write(fd, "x", 1) < 0)
		_exit(1);
}

static void act_send(int id)
{
	struct msgbuf message = {1, "x"};

	msgsnd(id, &message, 1, 0);
}

static long call_read(void)
{
	int ends[2];
	char byte;

	if (pipe(ends))
		return -1;
	after_the_time(act_write, ends[1]);
	return read(ends[0], &byte, 1);
}

static long call_msgrcv(void)
{
	struct msgbuf message;
	int id = msgget(IPC_PRIVATE, 0600), errnum;
	long ret;

	after_the_time(act_send, id);
	ret = msgrcv(id, &message, 1, 0, 0);
	errnum = errno;
	msgctl(id, IPC_RMID, NULL);
	errno = errnum;
	return ret;
}

static const struct blocking {
	const char *name;
	long (*call)(void);
	bool never; /* no stop can be made good: nothing may be injected */
} calls[] = {
	{"epoll_wait", call_epoll_wait},
	{"epoll_pwait", call_epoll_pwait},
	{"poll", call_poll},
	{"select", call_select},
	{"nanosleep", call_nanosleep},
	{"futex", call_futex},
	{"semtimedop", call_semtimedop},
	{"sigtimedwait", call_sigtimedwait},
	{"io_getevents", call_io_getevents},
	{"recv with SO_RCVTIMEO", call_recv_timeout, true},
	{"read", call_read},
	{"msgrcv", call_msgrcv},
};
#define CALLS (sizeof(calls) / sizeof(*calls))

enum way {
	UNTOUCHED,
	PLANTED,        /* breakpoints and nothing else */
	INJECTED,       /* and memory mapped and unmapped, by the blocked thread */
	INJECTED_OFTEN, /* five calls more */
	WAYS,
};

struct outcome {
	atomic_int blocking;
	atomic_int done;
	long ret;
	int errnum;
	uint64_t took_ns;
};

static struct outcome (*outcomes)[WAYS];

struct job {
	const struct blocking *blocking;
	struct outcome *outcome;
};

static void make_call(void *context)
{
	const struct job *job = context;
	struct outcome *outcome = job->outcome;
	uint64_t begin = tap_clock_ns();

	outcome->blocking = 1;
	errno = 0;
	outcome->ret = job->blocking->call();
	outcome->errnum = outcome->ret < 0 ? errno : 0;
	outcome->took_ns = tap_clock_ns() - begin;
	outcome->done = 1;
}

static bool is_blocked(pid_t pid)
{
	struct tap_task_syscall call;

	return tap_task_try_syscall(pid, pid, &call) && call.blocked && call.number >= 0;
}

static void inject_often(struct tracing *t)
{
	for (int i = 0; i < 5; i++) {
		int64_t pid = 0;
		struct tap_error *err = remote_call_anywhere(
			t->target, SYS_getpid, (uint64_t[6]){0}, &pid);

		if (!err && pid != t->pid)
			err = tap_error_new(TAP_ERR_BAD_DATA, "getpid gave %d", (int)pid);
		if (err && !t->armed)
			t->armed = err;
		else
			tap_error_free(err);
	}
}

static void disturb(const struct blocking *blocking, enum way way, pid_t pid)
{
	struct tracing t = {.pid = pid, .points = {code_push}};

	if (way >= INJECTED)
		t.points[1] = code_vector;
	if (way == INJECTED_OFTEN)
		t.once_planted = inject_often;
	tracing_begin(&t);
	tracing_end(&t);
	assert_no_error(t.attached);
	if (way >= INJECTED && blocking->never) {
		assert_non_null(t.armed);
		assert_int_equal(t.armed->code, TAP_ERR_TIMEOUT);
	} else if (t.armed) {
		fail_msg("%s: %s", blocking->name, t.armed->message);
	}
	assert_no_error(t.released);
	assert_int_equal(count_areas(pid), 0);
	assert_text_clean(pid, code_push);
	tracing_free(&t);
}

static void compare(const struct blocking *blocking, enum way way, const struct outcome *wanted,
	const struct outcome *got)
{
	uint64_t difference = got->took_ns > wanted->took_ns ? got->took_ns - wanted->took_ns :
							       wanted->took_ns - got->took_ns;

	if (got->ret != wanted->ret || got->errnum != wanted->errnum || difference > LATE_NS)
		fail_msg("%s, way %d: %ld (%s) after %.3f s instead of %ld (%s) after %.3f s",
			blocking->name, way, got->ret, strerror(got->errnum),
			(double)got->took_ns * 1e-9, wanted->ret, strerror(wanted->errnum),
			(double)wanted->took_ns * 1e-9);
}

static void test_blocked_calls_go_on(void **state)
{
	pid_t pids[CALLS][WAYS];
	struct job jobs[CALLS][WAYS];

	(void)state;
	outcomes = shared_memory(CALLS * sizeof(*outcomes));
	/* Those that were disturbed wait while the next are. */
	for (size_t i = 0; i < CALLS; i++)
		for (int way = 0; way < WAYS; way++) {
			jobs[i][way] = (struct job){&calls[i], &outcomes[i][way]};
			pids[i][way] = child_start(make_call, &jobs[i][way]);
			wait_until(outcomes[i][way].blocking && is_blocked(pids[i][way]));
			if (way != UNTOUCHED)
				disturb(&calls[i], way, pids[i][way]);
		}
	for (size_t i = 0; i < CALLS; i++)
		for (int way = 0; way < WAYS; way++)
			assert_int_equal(child_end(pids[i][way]), 0);
	for (size_t i = 0; i < CALLS; i++)
		for (int way = PLANTED; way < WAYS; way++)
			compare(&calls[i], way, &outcomes[i][UNTOUCHED], &outcomes[i][way]);
	munmap(outcomes, CALLS * sizeof(*outcomes));
}

/* --- signals that a program ignores ------------------------------------- */

static void test_ignored_signals_do_not_end_a_call(void **state)
{
	struct outcome *outcome = shared_memory(sizeof(*outcome));
	struct job job = {&calls[0], outcome};
	pid_t pid = child_start(make_call, &job);
	struct tracing t = {.pid = pid, .points = {code_push}};

	(void)state;
	wait_until(outcome->blocking && is_blocked(pid));
	tracing_begin(&t);
	while (!outcome->done) {
		struct timespec pause = {0, 20000000};

		kill(pid, SIGCHLD);
		kill(pid, SIGWINCH);
		nanosleep(&pause, NULL);
	}
	/* It ends now, and the tracer is told. */
	tracing_wait_for_exit(&t);
	assert_traced(&t);
	assert_int_equal(tracing_child_end(&t), 0);
	assert_int_equal(outcome->ret, 0);
	/* Not known when it began, it may get its whole time once more. */
	assert_in_range(outcome->took_ns, TIMEOUT_MS * UINT64_C(1000000),
		2 * TIMEOUT_MS * UINT64_C(1000000) + LATE_NS);
	tracing_free(&t);
	munmap(outcome, sizeof(*outcome));
}

/* --- whom one cannot attach to ------------------------------------------ */

static void wait_for_ever(void *unused)
{
	(void)unused;
	for (;;)
		pause();
}

static void test_second_tracer_is_refused(void **state)
{
	pid_t pid = child_start(wait_for_ever, NULL);
	struct tracing first = {.pid = pid}, second = {.pid = pid};

	(void)state;
	tracing_begin(&first);
	tracing_begin(&second);
	tracing_end(&second);
	assert_non_null(second.attached);
	tracing_end(&first);
	assert_traced(&first);
	tracing_free(&first);
	tracing_free(&second);
	child_kill(pid);
}

static void *attach_to_another(void *context)
{
	struct tap_process *process = context;
	struct tap_target *target = NULL;

	process->start_ticks++;
	return tap_target_attach(process, &target);
}

static void test_another_of_the_same_number_is_refused(void **state)
{
	pid_t pid = child_start(wait_for_ever, NULL);
	struct tap_process process = {0};
	pthread_t thread;
	void *err;

	(void)state;
	assert_ok(tap_process_read(pid, &process));
	pthread_create(&thread, NULL, attach_to_another, &process);
	pthread_join(thread, &err);
	assert_code((struct tap_error *)err, TAP_ERR_GONE);
	tap_process_deinit(&process);
	child_kill(pid);
}

/* --- a program that is started ------------------------------------------ */

static void *spawn(void *context)
{
	char *const *argv = context;
	struct tap_target *target = NULL;
	struct tap_error *err = tap_target_spawn(argv, &target);
	int64_t pid = 0;
	struct tap_event event = {0};

	if (err)
		return err;
	/* A call can be injected before the first instruction. */
	err = remote_call_anywhere(target, SYS_getpid, (uint64_t[6]){0}, &pid);
	if (!err && pid != tap_target_pid(target))
		err = tap_error_new(TAP_ERR_BAD_DATA, "getpid gave %d", (int)pid);
	while (!err && event.kind != TAP_EVENT_EXIT) {
		err = tap_target_next(target, &event);
		tap_target_go(target, &event);
	}
	if (!err && event.exit_code != 7)
		err = tap_error_new(TAP_ERR_BAD_DATA, "exit code %d", event.exit_code);
	tap_error_free(tap_target_release(target, NULL));
	return err;
}

static struct tap_error *run_spawn(const char *const argv[])
{
	pthread_t thread;
	void *err;

	pthread_create(&thread, NULL, spawn, (void *)argv);
	pthread_join(thread, &err);
	return err;
}

static void test_spawn(void **state)
{
	(void)state;
	assert_ok(run_spawn((const char *[]){"sh", "-c", "exit 7", NULL}));
	assert_code(run_spawn((const char *[]){"/nothing/there", NULL}), TAP_ERR_GONE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_blocked_calls_go_on),
		cmocka_unit_test(test_ignored_signals_do_not_end_a_call),
		cmocka_unit_test(test_second_tracer_is_refused),
		cmocka_unit_test(test_another_of_the_same_number_is_refused),
		cmocka_unit_test(test_spawn),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
