/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "heaptap/base/clock.h"
#include "heaptap/base/log.h"
#include "heaptap/base/progress.h"
#include "heaptap/base/text.h"

#define SHOW_AFTER_NS 500000000ull
#define SHOW_EVERY_NS 100000000ull
#define LINE_MAX_BYTES 512

void tap_progress_start(struct tap_progress *progress)
{
	progress->start_ns = tap_clock_ns();
	progress->shown_ns = 0;
	progress->enabled = tap_log_level() > TAP_LOG_QUIET && isatty(STDERR_FILENO);
	progress->visible = 0;
}

static size_t terminal_width(void)
{
	struct winsize size;

	if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) || size.ws_col < 20)
		return 80;
	return size.ws_col;
}

void tap_progress_show(struct tap_progress *progress, const char *format, ...)
{
	char raw[LINE_MAX_BYTES], line[LINE_MAX_BYTES];
	unsigned long long now = tap_clock_ns();
	va_list args;

	if (!progress->enabled || now - progress->start_ns < SHOW_AFTER_NS ||
		now - progress->shown_ns < SHOW_EVERY_NS)
		return;
	va_start(args, format);
	vsnprintf(raw, sizeof(raw), format, args);
	va_end(args);
	tap_text_clean(line, sizeof(line), raw);
	fprintf(stderr, "\r%.*s\033[K", (int)terminal_width() - 1, line);
	fflush(stderr);
	progress->shown_ns = now;
	progress->visible = 1;
}

void tap_progress_end(struct tap_progress *progress)
{
	if (progress->visible)
		fputs("\r\033[K", stderr);
	progress->visible = 0;
}
