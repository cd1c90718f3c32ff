/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
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

void tap_log_flush(void)
{
	char *lines[RING_LINES];
	size_t count, lost;

	/* Printed outside of the lock: a terminal that stands still must not
	 * hold the thread that adds to the ring. */
	pthread_mutex_lock(&lock);
	count = ring_count;
	lost = ring_lost;
	for (size_t i = 0; i < count; i++)
		lines[i] = ring[i];
	ring_count = ring_lost = 0;
	pthread_mutex_unlock(&lock);
	for (size_t i = 0; i < count; i++) {
		fprintf(stderr, "heaptap: %s\n", lines[i]);
		free(lines[i]);
	}
	if (lost)
		fprintf(stderr, "heaptap: %zu more lines were dropped\n", lost);
}
