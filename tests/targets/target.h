/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_TESTS_TARGET_H
#define HEAPTAP_TESTS_TARGET_H

/*
 * What the test programs share. A program says on standard output, one JSON
 * object a line, when it is ready and what it knows about itself; a leaking
 * one also logs each leak to a file: "<CLOCK_REALTIME seconds after it> <blocks so
 * far> <bytes so far> 0 <seconds before it>". Nothing here allocates, so that the
 * log does not disturb what is measured.
 */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline))

static inline double now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

static inline void write_all(int fd, const char *text, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, text, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return;
		text += n;
		len -= (size_t)n;
	}
}

__attribute__((format(printf, 1, 2))) static inline void say(const char *format, ...)
{
	char line[1024];
	va_list args;
	int len;

	va_start(args, format);
	len = vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	if (len > 0 && (size_t)len < sizeof(line))
		write_all(STDOUT_FILENO, line, (size_t)len);
}

/* The log of leaks; several threads may write. */
struct leak_log {
	int fd;
	pthread_mutex_t lock;
	uint64_t blocks;
	uint64_t bytes;
};

#define LEAK_LOG_INIT { -1, PTHREAD_MUTEX_INITIALIZER, 0, 0 }

static inline void leak_log_open(struct leak_log *log, const char *path)
{
	log->fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (log->fd < 0) {
		perror(path);
		exit(2);
	}
}

/* Called right before a leak; what it returns goes to leak_log_add(). */
static inline struct timespec leak_log_begin(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return ts;
}

/* Called right after a leak of so many bytes. */
static inline void leak_log_add(struct leak_log *log, struct timespec before, uint64_t bytes)
{
	struct timespec ts;
	char line[128];
	int len;

	pthread_mutex_lock(&log->lock);
	clock_gettime(CLOCK_REALTIME, &ts);
	log->blocks++;
	log->bytes += bytes;
	len = snprintf(line, sizeof(line), "%lld.%09ld %llu %llu 0 %lld.%09ld\n",
		       (long long)ts.tv_sec, ts.tv_nsec, (unsigned long long)log->blocks,
		       (unsigned long long)log->bytes, (long long)before.tv_sec, before.tv_nsec);
	write_all(log->fd, line, (size_t)len);
	pthread_mutex_unlock(&log->lock);
}

static volatile sig_atomic_t target_stop;

static inline void on_terminate(int sig)
{
	(void)sig;
	target_stop = 1;
}

static inline void catch_terminate(void)
{
	struct sigaction action;

	memset(&action, 0, sizeof(action));
	action.sa_handler = on_terminate;
	sigaction(SIGTERM, &action, NULL);
}

/* Adds to a CLOCK_MONOTONIC time. */
static inline void add_ns(struct timespec *ts, long ns)
{
	ts->tv_nsec += ns % 1000000000L;
	ts->tv_sec += ns / 1000000000L + ts->tv_nsec / 1000000000L;
	ts->tv_nsec %= 1000000000L;
}

/*
 * Waits until the absolute CLOCK_MONOTONIC time, and until then for the end of
 * standard input. False when the program shall end.
 */
static inline int wait_until(const struct timespec *when)
{
	for (;;) {
		struct pollfd in = { STDIN_FILENO, POLLIN, 0 };
		struct timespec now, left;
		char drop[64];
		int n;

		if (target_stop)
			return 0;
		clock_gettime(CLOCK_MONOTONIC, &now);
		left.tv_sec = when->tv_sec - now.tv_sec;
		left.tv_nsec = when->tv_nsec - now.tv_nsec;
		if (left.tv_nsec < 0) {
			left.tv_sec--;
			left.tv_nsec += 1000000000L;
		}
		if (left.tv_sec < 0)
			left.tv_sec = left.tv_nsec = 0;
		n = ppoll(&in, 1, &left, NULL);
		if (n == 0)
			return 1;
		if (n > 0 && read(STDIN_FILENO, drop, sizeof(drop)) <= 0)
			return 0;
	}
}

/* Waits for the end of standard input or SIGTERM. */
static inline void wait_for_end(void)
{
	char drop[64];

	while (!target_stop) {
		ssize_t n = read(STDIN_FILENO, drop, sizeof(drop));

		if (n == 0 || (n < 0 && errno != EINTR))
			return;
	}
}

static inline const char *option(int argc, char **argv, const char *name, const char *fallback)
{
	for (int i = 1; i + 1 < argc; i++) {
		if (strcmp(argv[i], name) == 0)
			return argv[i + 1];
	}
	return fallback;
}

static inline int has_option(int argc, char **argv, const char *name)
{
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], name) == 0)
			return 1;
	}
	return 0;
}

#endif
