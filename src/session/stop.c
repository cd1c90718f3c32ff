/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>
#include "heaptap/base/clock.h"
#include "heaptap/session/stop.h"

/* A handler writes a byte into the pipe, so that a sleeper wakes up even where
 * another thread took the signal, or where it came just before the sleep. */
static int wake_pipe[2] = {-1, -1};
static atomic_int requests;
static atomic_bool suspend_wanted;

static void wake(void)
{
	int saved_errno = errno;
	ssize_t ignored = write(wake_pipe[1], "", 1); /* full: it is awake already */

	(void)ignored;
	errno = saved_errno;
}

void tap_stop_request(void)
{
	atomic_fetch_add(&requests, 1);
	wake();
}

static void on_end(int signal_number)
{
	(void)signal_number;
	tap_stop_request();
}

static void on_suspend(int signal_number)
{
	(void)signal_number;
	atomic_store(&suspend_wanted, true);
	wake();
}

/* What the parent chose to have ignored (nohup; a shell without job control,
 * for Ctrl-Z) stays ignored. */
static bool is_ignored(int signal_number)
{
	struct sigaction action;

	return !sigaction(signal_number, NULL, &action) && action.sa_handler == SIG_IGN;
}

static void handle(int signal_number, void (*handler)(int))
{
	struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};

	sigemptyset(&action.sa_mask);
	sigaction(signal_number, &action, NULL);
}

/* Every stop of a tracee would be a SIGCHLD for the main thread, a wake-up as
 * dear as the stop itself. And a parent may have it ignored, with which the
 * kernel reaps what is to be waited for. */
static void keep_stops_quiet(void)
{
	struct sigaction action = {.sa_handler = SIG_DFL, .sa_flags = SA_NOCLDSTOP};

	sigaction(SIGCHLD, &action, NULL);
}

void tap_stop_install(void)
{
	if (pipe2(wake_pipe, O_CLOEXEC | O_NONBLOCK))
		wake_pipe[0] = wake_pipe[1] = -1;
	/* SIGINT and SIGQUIT are ignored in what a script starts with '&'; a
	 * script that sends one all the same means it. */
	handle(SIGINT, on_end);
	handle(SIGQUIT, on_end);
	handle(SIGTERM, on_end);
	if (!is_ignored(SIGHUP))
		handle(SIGHUP, on_end);
	if (!is_ignored(SIGTSTP))
		handle(SIGTSTP, on_suspend);
	handle(SIGPIPE, SIG_IGN);
	/* A limit of file sizes is an error like others. */
	handle(SIGXFSZ, SIG_IGN);
	keep_stops_quiet();
}

int tap_stop_requested(void)
{
	return atomic_load(&requests);
}

bool tap_stop_suspend_requested(void)
{
	return atomic_load(&suspend_wanted);
}

void tap_stop_suspend(void)
{
	atomic_store(&suspend_wanted, false);
	/* SIGSTOP, as SIGTSTP has our handler; the whole process stops here. */
	kill(getpid(), SIGSTOP);
}

static void drain(void)
{
	char bytes[64];

	while (read(wake_pipe[0], bytes, sizeof(bytes)) > 0)
		continue;
}

bool tap_stop_sleep_until(unsigned long long monotonic_ns)
{
	for (;;) {
		uint64_t now = tap_clock_ns();
		struct pollfd wait = {.fd = wake_pipe[0], .events = POLLIN};
		struct timespec left;

		if (tap_stop_requested() || tap_stop_suspend_requested())
			return false;
		if (now >= monotonic_ns)
			return true;
		left.tv_sec = (time_t)((monotonic_ns - now) / 1000000000);
		left.tv_nsec = (long)((monotonic_ns - now) % 1000000000);
		if (ppoll(&wait, 1, &left, NULL) > 0)
			drain();
	}
}
