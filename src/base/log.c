/* SPDX-License-Identifier: Apache-2.0 */
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "heaptap/base/alloc.h"
#include "heaptap/base/log.h"
#include "heaptap/base/text.h"

#define RING_LINES 256

static enum tap_log_level level = TAP_LOG_NORMAL;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char *ring[RING_LINES];
static size_t ring_count, ring_lost;
static __thread bool deferred;

void tap_log_set_level(enum tap_log_level wanted)
{
	level = wanted;
}

enum tap_log_level tap_log_level(void)
{
	return level;
}

static void put(const char *format, va_list args)
{
	char *raw, *line;

	if (vasprintf(&raw, format, args) < 0)
		return;
	line = tap_text_clean_copy(raw);
	free(raw);
	if (!deferred) {
		fprintf(stderr, "heaptap: %s\n", line);
		free(line);
		return;
	}
	pthread_mutex_lock(&lock);
	if (ring_count < RING_LINES) {
		ring[ring_count++] = line;
		line = NULL;
	} else {
		ring_lost++;
	}
	pthread_mutex_unlock(&lock);
	free(line);
}

void tap_log_warn(const char *format, ...)
{
	va_list args;

	if (level < TAP_LOG_NORMAL)
		return;
	va_start(args, format);
	put(format, args);
	va_end(args);
}

void tap_log_detail(const char *format, ...)
{
	va_list args;

	if (level < TAP_LOG_VERBOSE)
		return;
	va_start(args, format);
	put(format, args);
	va_end(args);
}

void tap_log_defer(void)
{
	deferred = true;
}

/* The oldest line, the caller's to free; NULL: none is left. */
static char *take(void)
{
	char *line = NULL;

	pthread_mutex_lock(&lock);
	if (ring_count) {
		line = ring[0];
		ring_count--;
		memmove(ring, ring + 1, ring_count * sizeof(*ring));
	} else if (ring_lost) {
		line = tap_format("%zu more lines were dropped", ring_lost);
		ring_lost = 0;
	}
	pthread_mutex_unlock(&lock);
	return line;
}

/* Printed outside of the lock: a terminal that stands still must not hold the
 * thread that adds to the ring. */
static void flush(int patience_ms)
{
	struct pollfd out = {.fd = STDERR_FILENO, .events = POLLOUT};
	char *line;

	while (poll(&out, 1, patience_ms) > 0 && (line = take())) {
		fprintf(stderr, "heaptap: %s\n", line);
		free(line);
	}
}

void tap_log_flush(void)
{
	flush(-1);
}

void tap_log_try_flush(void)
{
	flush(0);
}
