/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <time.h>
#include "heaptap/base/clock.h"

#define NS_PER_S UINT64_C(1000000000)

static uint64_t read_clock(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

uint64_t tap_clock_ns(void)
{
	return read_clock(CLOCK_MONOTONIC);
}

uint64_t tap_clock_wall_ns(void)
{
	return read_clock(CLOCK_REALTIME);
}

char *tap_clock_iso(char buf[TAP_CLOCK_TEXT], uint64_t wall_ns)
{
	time_t seconds = (time_t)(wall_ns / NS_PER_S);
	struct tm tm;
	size_t n;

	gmtime_r(&seconds, &tm);
	n = strftime(buf, TAP_CLOCK_TEXT, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(buf + n, TAP_CLOCK_TEXT - n, ".%03uZ", (unsigned)(wall_ns % NS_PER_S / 1000000));
	return buf;
}
