/* SPDX-License-Identifier: Apache-2.0 */
/*
 * storm_forks [--vfork | --handler]
 *
 * 200 children a second that compute and say by their exit status whether it
 * came out right. With --vfork they are vforked, allocate in the parent's
 * memory, and then run this program again, which computes; with --handler
 * they are forked by a signal's handler, wherever the program was.
 */
#include <sys/syscall.h>
#include <sys/wait.h>
#include "storm.h"

#define RIGHT 7

static const char *self;
static pid_t parent, forked[64];
static volatile sig_atomic_t forked_count;

static void child(void)
{
	for (int i = 0; i < 3; i++)
		if (storm_compute() != storm.right)
			_exit(1);
	_exit(RIGHT);
}

static void settle(pid_t pid)
{
	int status = 0;

	if (pid < 0)
		return;
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	storm_expect(WIFEXITED(status) && WEXITSTATUS(status) == RIGHT);
}

static void fork_once(void)
{
	pid_t pid = fork();

	if (!pid)
		child();
	settle(pid);
}

static NOINLINE void vfork_once(void)
{
	pid_t pid = vfork();

	if (!pid) {
		free(malloc(1000));
		execl(self, self, "--child", (char *)NULL);
		_exit(1);
	}
	settle(pid);
}

/* Not by fork(), which would wait for locks of the allocator that this very
 * thread holds: what it does in the child is nothing that the child needs. */
static void on_alarm(int sig)
{
	pid_t pid;

	(void)sig;
	if (forked_count >= 64)
		return;
	pid = (pid_t)syscall(SYS_fork);
	if (pid > 0)
		forked[forked_count++] = pid;
}

/* Alarms come while it computes alone. A child goes on after the handler where
 * the parent was, and ends when that is done. */
static void compute_and_fork(void)
{
	sigset_t alarm;

	sigemptyset(&alarm);
	sigaddset(&alarm, SIGUSR1);
	pthread_sigmask(SIG_UNBLOCK, &alarm, NULL);
	for (int i = 0; i < 20; i++) {
		int right = storm_compute() == storm.right;

		if (getpid() != parent)
			_exit(right ? RIGHT : 1);
		storm_expect(right);
	}
	pthread_sigmask(SIG_BLOCK, &alarm, NULL);
	if (getpid() != parent)
		_exit(RIGHT);
	for (int i = 0; i < forked_count; i++)
		settle(forked[i]);
	forked_count = 0;
}

static void start_alarms(void)
{
	struct sigevent event = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR1 };
	struct itimerspec spec = { { 0, 5000000 }, { 0, 5000000 } };
	struct sigaction action = { .sa_handler = on_alarm, .sa_flags = SA_RESTART };
	sigset_t alarm;
	timer_t timer;

	sigemptyset(&alarm);
	sigaddset(&alarm, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &alarm, NULL);
	parent = getpid();
	sigaction(SIGUSR1, &action, NULL);
	event._sigev_un._tid = getpid();
	timer_create(CLOCK_MONOTONIC, &event, &timer);
	timer_settime(timer, 0, &spec, NULL);
}

int main(int argc, char **argv)
{
	int vforks = has_option(argc, argv, "--vfork"), handler = has_option(argc, argv, "--handler");
	struct timespec next;

	if (has_option(argc, argv, "--child"))
		return storm_compute() ? RIGHT : 1;
	self = argv[0];
	storm_begin();
	if (handler)
		start_alarms();
	say("{\"ready\": true, \"pid\": %d}\n", getpid());
	clock_gettime(CLOCK_MONOTONIC, &next);
	do {
		if (handler)
			compute_and_fork();
		else if (vforks)
			vfork_once();
		else
			fork_once();
		add_ns(&next, 5000000);
	} while (wait_until(&next));
	return storm_finish();
}
