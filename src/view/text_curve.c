/* SPDX-License-Identifier: Apache-2.0 */
/* Curves drawn with characters: one column per cell, filled from below. */
#include <math.h>
#include <stdlib.h>
#include "heaptap/base/alloc.h"
#include "heaptap/base/cleanup.h"
#include "view/text.h"

#define LABEL_WIDTH 10
#define MAX_COLUMNS 72
#define LEVELS 8 /* eighths of a cell that a block character can show */

/* The value in each column: the last one seen at its time. Points at the very
 * end belong to the last column. */
static void spread(
	const double *times, const double *values, size_t count, double *columns, int column_count)
{
	double start = times[0], span = times[count - 1] - times[0];
	size_t point = 0;

	for (int i = 0; i < column_count; i++) {
		double until = start + span * (i + 1) / column_count;

		while (point + 1 < count && times[point + 1] <= until)
			point++;
		columns[i] = values[point];
	}
}

static void extremes(const double *values, size_t count, double *min_ret, double *max_ret)
{
	*min_ret = *max_ret = values[0];
	for (size_t i = 1; i < count; i++) {
		*min_ret = fmin(*min_ret, values[i]);
		*max_ret = fmax(*max_ret, values[i]);
	}
}

/* How many levels of a column are filled, at least one. */
static int fill(double value, double min, double max, int levels)
{
	if (!(max > min))
		return 1;
	return 1 + (int)floor((value - min) / (max - min) * (levels - 1) + 0.5);
}

static void show_cell(const struct tap_page *page, int level)
{
	static const char *const blocks[LEVELS + 1] = {" ", "\xe2\x96\x81", "\xe2\x96\x82",
		"\xe2\x96\x83", "\xe2\x96\x84", "\xe2\x96\x85", "\xe2\x96\x86", "\xe2\x96\x87",
		"\xe2\x96\x88"};
	static const char *const ascii[LEVELS + 1] = {" ", "_", "_", ".", ".", "-", "=", "#", "#"};

	level = level < 0 ? 0 : level > LEVELS ? LEVELS : level;
	fputs(page->options->utf8 ? blocks[level] : ascii[level], page->out);
}

static void show_label(const struct tap_page *page, int row, int rows, double min, double max)
{
	char size[TAP_SIZE_TEXT];
	const char *label = "";

	if (row == rows - 1)
		label = tap_text_size(size, (int64_t)max);
	else if (row == 0)
		label = tap_text_size(size, (int64_t)min);
	fprintf(page->out, "  %*s %s", LABEL_WIDTH, label,
		page->options->utf8 ? "\xe2\x94\x82" : "|");
}

void tap_page_curve(const struct tap_page *page, const double *times, const double *values,
	size_t count, int rows)
{
	int columns = page->options->width - LABEL_WIDTH - 6;
	_cleanup_free_ double *column = tap_alloc(MAX_COLUMNS * sizeof(*column));
	char from[TAP_SIZE_TEXT], to[TAP_SIZE_TEXT];
	double min, max;

	if (count < 2)
		return;
	columns = columns < 10 ? 10 : columns > MAX_COLUMNS ? MAX_COLUMNS : columns;
	spread(times, values, count, column, columns);
	extremes(values, count, &min, &max);
	rows = max > min ? rows : 1;
	for (int row = rows - 1; row >= 0; row--) {
		show_label(page, row, rows, min, max);
		for (int i = 0; i < columns; i++)
			show_cell(page, fill(column[i], min, max, rows * LEVELS) - row * LEVELS);
		fputc('\n', page->out);
	}
	tap_text_duration(from, times[0]);
	tap_text_duration(to, times[count - 1]);
	fprintf(page->out, "  %*s %s%*s\n", LABEL_WIDTH, "", from,
		columns + 1 - (int)tap_text_width(from), to);
}

void tap_page_sparkline(const struct tap_page *page, const double *times, const double *values,
	size_t count, int cells)
{
	_cleanup_free_ double *column = tap_alloc((size_t)cells * sizeof(*column));
	double min, max;

	if (!count)
		return;
	spread(times, values, count, column, cells);
	extremes(values, count, &min, &max);
	for (int i = 0; i < cells; i++)
		show_cell(page, fill(column[i], min, max, LEVELS));
}
